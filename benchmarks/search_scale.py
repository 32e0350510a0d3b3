"""Does memory stay flat, however many pictures are searched? A curve of it, and of the rate.

Generated scenes in minivgg, all layers. Memory is what is resident: of this process, and of those that read;
of pages that several share each counts a part (PSS), where the system tells it. `--scenes 100000` is the real
thing.
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
    """A row of the table now and then."""

    def __init__(self, total: int, rows: int) -> None:
        self.step, self.next = max(1, total // rows), 0
        self.begun = self.last = time.monotonic()
        self.done, self.rows = 0, list[tuple[int, float, float]]()

    def __call__(self, progress: Progress) -> None:
        if progress.done < self.next and progress.done < progress.total:
            return
        now = time.monotonic()
        rate = (progress.done - self.done) / (now - self.last)
        own, readers = memory()
        self.rows.append((progress.done, own, readers))
        print(
            f"{progress.done:>9,} {own:>11.1f} {readers:>13.1f} {own + readers:>9.1f} {rate:>11.1f} "
            f"{progress.reading_rate:>9.1f} {progress.network_rate:>9.1f}",
            flush=True,
        )
        self.done, self.last, self.next = progress.done, now, progress.done + self.step


def memory() -> tuple[float, float]:
    """MiB of this process and of its children together."""
    me = psutil.Process()
    return resident(me), sum(resident(child) for child in me.children(recursive=True))


def resident(process: psutil.Process) -> float:
    try:
        told = process.memory_full_info()
        return float(getattr(told, "pss", told.rss)) / MIB
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=20, help="of the curve")
    parser.add_argument("--out", type=Path, help="folder for the index; a search that was killed goes on")
    parser.add_argument("--figure", type=Path, help="draw the last convolution's top nine, 16 channels")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    net = dv.load("minivgg")
    print(
        f"minivgg, all layers, {asked.scenes:,} scenes, batches of {asked.batch}, {asked.workers} workers, "
        f"{asked.threads} threads; memory in MiB, rates in pictures a second"
    )
    print(
        f"{'pictures':>9} {'this process':>11} {'readers':>13} {'together':>9} {'rate':>11} {'reading':>9} "
        f"{'network':>9}"
    )
    curve = Curve(asked.scenes, asked.rows)
    found = search(
        net,
        f"scenes:{asked.scenes}",
        "all",
        batch_size=asked.batch,
        workers=asked.workers,
        out=asked.out,
        resume=asked.out is not None,
        report=curve,
    )
    seconds = time.monotonic() - curve.begun
    print(
        f"{found.pictures:,} pictures in {seconds:.1f} s: {found.pictures / seconds:.1f} a second, all in all"
    )
    dead = sum(len(found.dead(layer)) for layer in found.layers)
    print(f"dead channels: {dead} of {found.channels.num_rows:,}")
    if asked.figure is not None:
        layer = [layer.name for layer in net.layers if layer.kind == "Conv2d"][-1]
        print(f"{layer}: {found.topnine(layer, count=16).save(asked.figure, force=True)[0]}")
    tell_growth(curve.rows)


def tell_growth(rows: list[tuple[int, float, float]]) -> None:
    """The most in the last quarter against the most in the one before: it goes up and down within a batch."""
    end = rows[-1][0]
    third, last = (
        [own + readers for done, own, readers in rows if low * end < done <= high * end]
        for low, high in ((0.5, 0.75), (0.75, 1))
    )
    if not third or not last:
        sys.exit("too few rows to tell whether memory grows: more --scenes or --rows")
    print(f"at most {max(third):.1f} MiB in the third quarter, {max(last):.1f} MiB in the last")


if __name__ == "__main__":
    main()
