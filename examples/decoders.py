"""Train three small decoders on drawn scenes, and project their units to their inputs.

    python examples/decoders.py --out decoders            # some minutes
    python examples/decoders.py --out try --quick         # a few seconds, to see that it runs
    python examples/decoders.py --out one --only depth

super-resolution  twice as many rows and columns, by a transposed convolution that starts as bilinear
generator         faces from 32 numbers: the decoder of a variational auto-encoder
depth             how near each pixel is, by an encoder and a decoder of transposed convolutions

Figures and decoders.json are written into the folder --out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from stories import decoders_depth, decoders_generator, decoders_super_resolution

from deconvviz.errors import DeconvvizError, OutputError
from deconvviz.files import write_text

NUMBERS = "decoders.json"
JOBS = {
    "super-resolution": decoders_super_resolution.run,
    "generator": decoders_generator.run,
    "depth": decoders_depth.run,
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train three small decoders, and project their units.")
    parser.add_argument("--out", type=Path, default=Path("decoders"), help="folder for all files")
    parser.add_argument("--only", choices=JOBS, help="make one decoder again instead of all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="few pictures and epochs, to see that it runs")
    parser.add_argument("--force", action="store_true", help="overwrite the files of an earlier run")
    return parser.parse_args()


def run(given: argparse.Namespace) -> None:
    if (given.out / NUMBERS).exists() and not given.force:
        raise OutputError(f"{given.out} has a result already: choose another --out, or give --force")
    torch.set_num_threads(given.threads)
    file = given.out / NUMBERS
    numbers: dict[str, Any] = json.loads(file.read_text("utf-8")) if given.only and file.exists() else {}
    for name in [given.only] if given.only else JOBS:
        began = time.process_time()
        numbers[name] = JOBS[name](given.out, given.quick)
        numbers[name]["processor seconds"] = time.process_time() - began
    write_text(file, json.dumps(numbers, indent=2) + "\n", force=True)
    for name, one in numbers.items():
        shown = {key: value for key, value in one.items() if key != "losses"}
        print(f"{name}: {json.dumps(shown, indent=2)}")
    print(f"written: {file}")


def main() -> int:
    try:
        run(options())
    except DeconvvizError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
