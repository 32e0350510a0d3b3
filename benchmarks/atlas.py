"""Speed of an atlas. First table: projecting the peaks of all channels, relative to units of one image.

Second table (`--pages`): making the whole atlas of the same layers, with its pages.

The two ways to project are measured in one process with one thread, in process time:

    one image  As in `benchmarks/units.py`: the strongest units of 64 channels of one image, with its
               recording and the choice of the units. Median over several images.
    stream     `stream_peaks` with the peaks of all channels of all layers, as an atlas projects them. The
               time of a layer is that of projecting and cropping its peaks, and its share of reading and
               recording the images, in proportion to its peaks.
    alone      The same with the peaks of this layer only (with `--alone`). Almost as many images are
               recorded, for fewer peaks.

Second table, in wall-clock time with one process (`--jobs`: with several):

    other      Share of the time that is not spent on reading images, recording and projecting.
    KB a unit  Size of the whole atlas, divided by its units; then that of page, numbers and tiles of a unit.
    memory     Resident memory of this process at a quarter, half, three quarters and the end of the time, and
               its maximum (MiB). The search that is made before is part of it.

Rates are projections per second. The last columns are the shares of the stream's time. SqueezeNet and its
photographs are in the folder that the environment variable DECONVVIZ_REAL_DATA names; without it, its rows
are left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

import psutil
import torch

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.image_sources import Source
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.peak_stream import stream_peaks

UNITS = 64
LEAST_RATIO = 0.7
COLUMNS = (
    "network", "layer", "peaks", "images", "one image (1/s)", "stream (1/s)", "ratio", "alone (1/s)",
    "reading", "recording", "projecting", "cropping",
)  # fmt: skip

PAGES_COLUMNS = (
    "network", "units", "seconds", "units (1/s)", "projections (1/s)", "other", "KB a unit", "page",
    "numbers", "tiles", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A network with its weights, some of its layers, and images."""

    network: str
    weights: str
    layers: tuple[str, ...]
    images: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", metavar="NETWORK", help="measure this network only")
    parser.add_argument("--top", type=int, default=9, metavar="K", help="peaks of each channel (default: 9)")
    parser.add_argument("--others", type=int, default=0, help="other channels for each strongest peak")
    parser.add_argument("--repeat", type=int, default=5, help="images for the first way (default: 5)")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N images only")
    parser.add_argument("--alone", action="store_true", help="also measure each layer alone")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--pages", action="store_true", help="print the second table instead")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes for the second table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print_row = markdown_row if given.markdown else plain_row
    if given.pages:
        print_pages(given)
        return
    print(f"projections of the {given.top} strongest peaks of every channel, float32, 1 thread")
    print(print_row(COLUMNS))
    if given.markdown:
        print(f"|{'---|' * len(COLUMNS)}")
    for case in cases(given.only):
        for row in projection_rows(case, given):
            print(print_row(row), flush=True)


def cases(only: str | None) -> Iterator[Case]:
    """Yield the cases that can be measured here."""
    found = []
    if (folder := os.environ.get("DECONVVIZ_REAL_DATA")) is not None:
        layers = tuple(f"features.{number}" for number in (3, 5, 7, 8, 10, 12))
        place = Path(folder)
        weights, photographs = str(place / "squeezenet1_0.pth"), str(place / "imagenet-sample")
        found.append(Case("squeezenet1_0", weights, layers, photographs))
    convolutions = tuple(f"conv{block}_2" for block in (1, 2, 3, 4))
    found.append(Case("minivgg", "default", convolutions, "scenes:600"))
    yield from (case for case in found if only in (None, case.network))


def plain_row(cells: Sequence[str]) -> str:
    widths = (14, 12, 8, 8, 17, 14, 8, 13, 9, 11, 12, 10)
    return "".join(
        cell.ljust(width) if number < 2 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


@dataclass
class Spent:
    """Seconds of a stream, by layer where the work belongs to one."""

    total: float = 0.0
    reading: float = 0.0
    recording: float = 0.0
    projecting: Counter[str] = field(default_factory=Counter)
    cropping: Counter[str] = field(default_factory=Counter)
    projections: Counter[str] = field(default_factory=Counter)

    @property
    def inside(self) -> float:
        """Seconds without cropping."""
        return self.reading + self.recording + self.projecting.total()

    def of(self, layer: str) -> tuple[float, float, float, float]:
        """Return the seconds of reading, recording, projecting and cropping for the peaks of a layer."""
        share = self.projections[layer] / self.projections.total()
        shared = self.reading * share, self.recording * share
        return *shared, self.projecting[layer], self.cropping[layer]


def projection_rows(case: Case, given: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a network: one for each layer, and one for all."""
    network = dv.load(case.network, weights=case.weights)
    found = dv.search(network, case.images, case.layers, workers=0, limit=given.limit)
    source = found.source
    peaks = {layer: peaks_of(found, layer, given.top) for layer in found.layers}
    every = [peak for of_layer in peaks.values() for peak in of_layer]
    project(network, source, found, every[:1], 0)  # what is computed once
    spent = project(network, source, found, every, given.others)
    needed = 0.0  # seconds of the first way for as many projections
    for layer, of_layer in peaks.items():
        rate = median(
            rate_of_one_image(network, source, number * len(source) // given.repeat, layer)
            for number in range(given.repeat)
        )
        needed += spent.projections[layer] / rate
        alone = ""
        if given.alone:
            seconds = project(network, source, found, of_layer, given.others).total
            alone = f"{spent.projections[layer] / seconds:.0f}"
        parts = spent.of(layer)
        yield cells(case.network, layer, of_layer, rate, spent.projections[layer] / sum(parts), alone, parts)
    sums = spent.reading, spent.recording, spent.projecting.total(), spent.cropping.total()
    count = spent.projections.total()
    yield cells(case.network, "all", every, count / needed, count / spent.total, "", sums)


def cells(
    network: str,
    layer: str,
    peaks: Sequence[Peak],
    one_image: float,
    stream: float,
    alone: str,
    parts: Sequence[float],
) -> tuple[str, ...]:
    images = len({peak.image_id for peak in peaks})
    ratio = f"{stream / one_image:.0%}{'' if stream >= LEAST_RATIO * one_image else ' (!)'}"
    shares = (f"{part / sum(parts):.0%}" for part in parts)
    counts = f"{len(peaks):,}", f"{images:,}"
    return network, layer, *counts, f"{one_image:.0f}", f"{stream:.0f}", ratio, alone, *shares


def peaks_of(found: Search, layer: str, k: int) -> list[Peak]:
    return [peak for channel in range(found.layers[layer]) for peak in found.top(layer, channel, k)]


def rate_of_one_image(network: dv.Network, source: Source, number: int, layer: str) -> float:
    """Return the projections per second of the strongest units of one image, with its recording."""
    image = source.image(number)
    network.record([image], layer)  # what is computed once
    start = process_time()
    recording = network.record([image], layer)
    units = recording.strongest(layer, min(UNITS, network.layers[layer].shape[0]))
    recording.project(layer, units)
    return len(units) / (process_time() - start)


def project(network: dv.Network, source: Source, found: Search, peaks: Sequence[Peak], others: int) -> Spent:
    """Consume a stream of peaks without keeping any, and return what it spent."""
    largest = {layer: found.largest(layer) for layer in found.layers}
    spent = Spent()
    with measured(spent):
        start = last = process_time()
        inside = 0.0
        for one in stream_peaks(network, source, peaks, largest, others=others):
            now = process_time()
            spent.cropping[one.shown.peak.layer] += now - last - (spent.inside - inside)
            last, inside = now, spent.inside
        spent.total = process_time() - start
    return spent


@contextmanager
def measured(spent: Spent) -> Iterator[None]:
    """Measure the methods that read, record and project."""

    def reading(seconds: float, result: Any) -> None:
        spent.reading += seconds

    def recording(seconds: float, result: Any) -> None:
        spent.recording += seconds

    def projecting(seconds: float, result: Any) -> None:
        layer = result.layer.name
        spent.projecting[layer] += seconds
        spent.projections[layer] += len(result)

    with ExitStack() as patches:
        for owner, name, note in (
            (Source, "image", reading),
            (dv.Network, "record", recording),
            (Preprocessing, "view", recording),  # of the recorded images, for patches
            (dv.Recording, "project", projecting),
        ):
            patches.enter_context(patch.object(owner, name, timed(getattr(owner, name), note)))
        yield


def timed(method: Callable[..., Any], note: Callable[[float, Any], None]) -> Callable[..., Any]:
    """Return a method that also passes its seconds and its result to `note`."""

    def call(*given: Any, **named: Any) -> Any:
        start = process_time()
        result = method(*given, **named)
        note(process_time() - start, result)
        return result

    return call


def print_pages(given: argparse.Namespace) -> None:
    """Print the second table."""
    print(f"atlas with the {given.top} strongest images of every channel, {given.jobs} process(es)")
    rows = [PAGES_COLUMNS]
    for case in cases(given.only):
        rows.append(pages_row(case, given))
    if given.markdown:
        rows.insert(1, ("---",) * len(PAGES_COLUMNS))
    for row in rows:
        print(markdown_row(row) if given.markdown else "  ".join(cell.rjust(9) for cell in row))


def pages_row(case: Case, given: argparse.Namespace) -> tuple[str, ...]:
    """Make the atlas of a case in a temporary folder, and return its row."""
    network = dv.load(case.network, weights=case.weights)
    found = dv.search(network, case.images, case.layers, workers=0, limit=given.limit)
    shown = sum(len(peaks_of(found, layer, given.top)) for layer in found.layers)
    reports: list[tuple[float, float]] = []

    def note(progress: dv.AtlasProgress) -> None:
        reports.append((progress.projecting, progress.other))

    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        start = perf_counter()
        made = dv.atlas(found, folder, top=given.top, jobs=given.jobs, network=network, report=note)
        seconds = perf_counter() - start
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        sizes = {path: path.stat().st_size for path in files}
    units = sum(made.layers.values())
    projecting, other = reports[-1]
    of_kind = {kind: sum(sizes[path] for path in files if path.suffix == kind and path.stem.isdigit())
               for kind in (".html", ".json", ".webp")}  # fmt: skip
    per_unit = [f"{size / units / 1000:.1f}" for size in (sum(sizes.values()), *of_kind.values())]
    return (
        case.network,
        f"{units:,}",
        f"{seconds:.0f}",
        f"{units / seconds:.1f}",
        f"{shown / seconds:.0f}",
        f"{other / (projecting + other):.0%}",
        *per_unit,
        str(memory),
    )


class Memory:
    """Resident memory of this process and its children, sampled in a thread."""

    EVERY = 0.25

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        own = psutil.Process()
        while not self._end.wait(self.EVERY):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self._samples.append(total / 2**20)

    def __str__(self) -> str:
        last = len(self._samples) - 1
        quarters = [self._samples[last * quarter // 4] for quarter in (1, 2, 3, 4)]
        return " ".join(f"{one:.0f}" for one in (*quarters, max(self._samples)))


if __name__ == "__main__":
    main()
