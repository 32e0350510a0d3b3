"""How long does a user wait for `--help` and for `import deconvviz`, over Python's own start?

Each line is a fresh process, in turns; and it is checked that neither torch nor matplotlib was imported.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median
from time import perf_counter

CASES = {
    "python -c pass": ["-c", "pass"],
    "import deconvviz": ["-c", "import deconvviz"],
    "deconvviz --help": ["-m", "deconvviz", "--help"],
    "deconvviz project --help": ["-m", "deconvviz", "project", "--help"],
    "import torch": ["-c", "import torch"],
}
HEAVY = {"torch", "torchvision", "matplotlib", "numpy"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="turns")
    asked = parser.parse_args()
    for name, arguments in CASES.items():
        heavy = imported(arguments) & HEAVY
        if heavy and name != "import torch":
            raise SystemExit(f"{name} imports {', '.join(sorted(heavy))}")
    turns = [{name: clock(arguments) for name, arguments in CASES.items()} for _ in range(asked.repeat)]
    print(f"median of {asked.repeat} fresh processes")
    print(f"{'':<26} {'seconds':>8} {'over bare Python':>17}")
    for name in CASES:
        over = median(turn[name] - turn["python -c pass"] for turn in turns)
        print(f"{name:<26} {median(turn[name] for turn in turns):>8.3f} {over:>17.3f}")


def clock(arguments: list[str]) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - start


def imported(arguments: list[str]) -> set[str]:
    """Every module that a fresh process imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}


if __name__ == "__main__":
    main()
