"""Memory and speed of a search over many images: does memory stay constant?

The search runs minivgg with all layers on generated scenes. It prints the resident memory of this
process and of its worker processes. Where the system supports it, this is the proportional set size
(PSS), in which shared pages count in part for each process. Use `--scenes 100000` for a long run.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import psutil
import torch

import deconvviz as dv
from deconvviz.dataset_search.progress import Progress
from deconvviz.dataset_search.search import search

MIB = 2**20


class Curve:
    """Progress callback that prints a row of the table at regular intervals."""

    def __init__(self, total: int, rows: int) -> None:
        self.step, self.next = max(1, total // rows), 0
        self.start = self.last = time.monotonic()
        self.done, self.rows = 0, list[tuple[int, float, float]]()

    def __call__(self, progress: Progress) -> None:
        if progress.done < self.next and progress.done < progress.total:
            return
        now = time.monotonic()
        rate = (progress.done - self.done) / (now - self.last)
        own, workers = memory()
        self.rows.append((progress.done, own, workers))
        print(
            f"{progress.done:>9,} {own:>11.1f} {workers:>13.1f} {own + workers:>9.1f} {rate:>11.1f} "
            f"{progress.reading_rate:>9.1f} {progress.network_rate:>9.1f}",
            flush=True,
        )
        self.done, self.last, self.next = progress.done, now, progress.done + self.step


def memory() -> tuple[float, float]:
    """Return the memory of this process and of all its children, in MiB."""
    me = psutil.Process()
    return resident(me), sum(resident(child) for child in me.children(recursive=True))


def resident(process: psutil.Process) -> float:
    try:
        info = process.memory_full_info()
        return float(getattr(info, "pss", info.rss)) / MIB
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=20, help="rows of the table")
    parser.add_argument("--out", type=Path, help="folder for the index; an interrupted search is resumed")
    parser.add_argument("--figure", type=Path, help="file for the top nine of the last convolution")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net = dv.load("minivgg")
    print(
        f"minivgg, all layers, {options.scenes:,} scenes, batches of {options.batch}, "
        f"{options.workers} workers, {options.threads} threads; memory in MiB, rates in images per second"
    )
    print(
        f"{'images':>9} {'this process':>11} {'workers':>13} {'together':>9} {'rate':>11} {'reading':>9} "
        f"{'network':>9}"
    )
    curve = Curve(options.scenes, options.rows)
    found = search(
        net,
        f"scenes:{options.scenes}",
        "all",
        batch_size=options.batch,
        workers=options.workers,
        out=options.out,
        resume=options.out is not None,
        report=curve,
    )
    seconds = time.monotonic() - curve.start
    print(
        f"{found.image_count:,} images in {seconds:.1f} s: "
        f"{found.image_count / seconds:.1f} per second on average"
    )
    dead = sum(len(found.dead(layer)) for layer in found.layers)
    print(f"dead channels: {dead} of {found.channels.num_rows:,}")
    if options.figure is not None:
        layer = [layer.name for layer in net.layers if layer.kind == "Conv2d"][-1]
        print(f"{layer}: {found.topnine(layer, count=16).save(options.figure, force=True)[0]}")
    print_growth(curve.rows)


def print_growth(rows: list[tuple[int, float, float]]) -> None:
    """Print the peaks of the last two quarters; peaks are compared because memory varies within a batch."""
    end = rows[-1][0]
    third, last = (
        [own + workers for done, own, workers in rows if low * end < done <= high * end]
        for low, high in ((0.5, 0.75), (0.75, 1))
    )
    if not third or not last:
        sys.exit("too few rows to see whether memory grows: use more --scenes or --rows")
    print(f"peak memory: {max(third):.1f} MiB in the third quarter, {max(last):.1f} MiB in the last")


if __name__ == "__main__":
    main()
