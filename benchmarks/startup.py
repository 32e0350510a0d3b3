"""Measure the run time of commands relative to a bare `import torch, torchvision`.

Each case runs in a new process. The cases take turns, so that other work on the machine slows all of them,
and each ratio is the median over the turns. Before that, the benchmark checks that light commands and error
messages do not import torch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

BARE = "import torch, torchvision"
PROJECT = "project an image, minivgg"
MISTAKE = 2  # exit code of a command that reports an error

UNITS = ["--model", "minivgg", "--layer", "conv4_2"]
HEAVY = {
    BARE: ["-c", BARE],
    "import torch": ["-c", "import torch"],
    PROJECT: ["-m", "deconvviz", "project", "scene.png", *UNITS, "--force", "--quiet"],
}
LIGHT = {
    "python -c pass": ["-c", "pass"],
    "import deconvviz": ["-c", "import deconvviz"],
    "--help": ["-m", "deconvviz", "--help"],
    "project --help": ["-m", "deconvviz", "project", "--help"],
}
MISTAKES = {
    "project: missing image": ["project", "scenes.png", *UNITS],
    "project: no image in a folder": ["project", "empty", *UNITS],
    "project: unknown layer": ["project", "scene.png", "--model", "minivgg", "--layer", "conv9_1"],
    "project: unknown network": ["project", "scene.png", "--model", "vgg91", "--layer", "conv1_1"],
    "project: missing weights file": ["project", "scene.png", *UNITS, "--weights", "gone.pth"],
    "project: missing Python file": ["project", "scene.png", "--model", "gone.py:make", "--layer", "a"],
    "project: unknown device": ["project", "scene.png", *UNITS, "--device", "tpu"],
    "project: unknown format": ["project", "scene.png", *UNITS, "--format", "gif"],
    "project: wrong unit": ["project", "scene.png", *UNITS, "--unit", "1,2"],
    "project: figure exists": ["project", "scene.png", *UNITS],
    "project: missing manifest": ["project", "--from", "gone.json"],
    "search: missing source": ["search", "gone", *UNITS],
    "search: no image in the source": ["search", "empty", *UNITS],
    "topnine: missing search": ["topnine", "gone", "--layer", "conv4_2"],
    "layers: unknown network": ["layers", "--model", "vgg91"],
    "check: unknown network": ["check", "vgg91"],
    "demo: a file as folder": ["demo", "--out", "scene.png"],
}
CASES = {**HEAVY, **LIGHT, **{name: ["-m", "deconvviz", *words] for name, words in MISTAKES.items()}}
SLOW_IMPORTS = {"torch", "torchvision", "matplotlib"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="number of turns")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for case, arguments in CASES.items():
            slow = set() if case in HEAVY else imported(arguments, folder) & SLOW_IMPORTS
            if slow:
                raise SystemExit(f"{case} imports {', '.join(sorted(slow))}")
        turns = [{case: clock(case, folder) for case in CASES} for _ in range(options.repeat)]
    print(f"medians of {options.repeat} processes; ratio to: {BARE}")
    print(f"{'':<32} {'seconds':>8} {'ratio':>8}")
    for case in CASES:
        ratio = median(turn[case] / turn[BARE] for turn in turns)
        print(f"{case:<32} {median(turn[case] for turn in turns):>8.3f} {ratio:>8.3f}")


def prepare(folder: Path) -> None:
    """Write an image, an empty folder and a figure into a folder."""
    from PIL import Image

    from deconvviz.scenes import scene

    Image.fromarray(scene(7).image).save(folder / "scene.png")
    (folder / "empty").mkdir()
    subprocess.run([sys.executable, *HEAVY[PROJECT]], cwd=folder, stdout=subprocess.DEVNULL, check=True)


def clock(case: str, folder: Path) -> float:
    """Return the seconds that a case takes. Exit if its exit code is unexpected."""
    start = perf_counter()
    done = subprocess.run([sys.executable, *CASES[case]], cwd=folder, capture_output=True, text=True)
    seconds = perf_counter() - start
    if done.returncode != (MISTAKE if case in MISTAKES else 0):
        raise SystemExit(f"{case} exited with code {done.returncode}: {done.stderr}")
    return seconds


def imported(arguments: list[str], folder: Path) -> set[str]:
    """Return the names of all modules that a new process imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    stderr = subprocess.run(command, cwd=folder, capture_output=True, text=True).stderr
    return {
        line.rpartition("|")[2].strip() for line in stderr.splitlines() if line.startswith("import time:")
    }


if __name__ == "__main__":
    main()
