"""Scaled decoding of JPEGs in a search: its effect on activations, and its speed.

    python benchmarks/scaled_decoding.py margin
    python benchmarks/scaled_decoding.py effect
    python benchmarks/scaled_decoding.py speed

Photographs and the weights of SqueezeNet are in the folder that DECONVVIZ_REAL_DATA names. A mosaic has N x N
photographs in their own size, so that it is larger and has the detail of a photograph at every pixel. Mosaics
are written into a temporary folder.

`margin` searches with several values of `MARGIN`, on every second photograph. `effect` searches with the
chosen value, on the other photographs. Columns: how many images were decoded at 1/2, 1/4 and 1/8; the share
of channels whose nine strongest images are other images; and the relative change of peaks above zero of the
images that were reduced and are among the nine strongest in both searches (median, 95th percentile, maximum).

`speed` reads and searches batches with and without scaled decoding, alternately, and prints the median of the
ratios over the batches.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image, ImageOps

import deconvviz as dv
from deconvviz.dataset_search.peak_finder import find_peaks, open_finder
from deconvviz.dataset_search.plan import plan
from deconvviz.dataset_search.result import Search
from deconvviz.image_sources import open_source
from deconvviz.images import preprocessing

CELL = 480, 360  # pixels of a photograph in a mosaic; multiples of 8, so that blocks stay blocks
MARGINS = (1, 1.5, 2, 3, 4)


@dataclass(frozen=True)
class Case:
    """A network with an input size, and the number of photographs on a side of an image."""

    network: str
    resize: int
    crop: int
    across: int

    def load(self, data: Path) -> dv.Network:
        if self.network == "minivgg":
            return dv.load("minivgg")
        net = dv.load(self.network, weights=str(data / f"{self.network}.pth"))
        sized = replace(net.preprocessing, resize=self.resize, crop=self.crop)
        return dv.Network(net.module, preprocessing=sized, name=self.network)

    def __str__(self) -> str:
        images = "photographs" if self.across == 1 else f"mosaics {self.across} x {self.across}"
        return f"{self.network}, {self.resize}/{self.crop} px, {images}"


EFFECT = (
    Case("minivgg", 96, 96, 1),
    Case("minivgg", 96, 96, 2),
    Case("squeezenet1_0", 80, 72, 1),
    Case("squeezenet1_0", 44, 40, 1),
    Case("squeezenet1_0", 256, 224, 3),
)
SPEED = (
    Case("minivgg", 96, 96, 4),
    Case("minivgg", 96, 96, 8),
    Case("squeezenet1_0", 256, 224, 4),
    Case("squeezenet1_0", 256, 224, 8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["margin", "effect", "speed"])
    parser.add_argument("--data", type=Path, default=os.environ.get("DECONVVIZ_REAL_DATA"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=16, help="images of `speed`")
    options = parser.parse_args()
    if options.data is None:
        raise SystemExit("no photographs: set DECONVVIZ_REAL_DATA or --data")
    torch.set_num_threads(options.threads)
    photographs = sorted((options.data / "imagenet-sample").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "speed":
            speed(options.data, photographs, options.images, Path(folder))
        else:
            half = photographs[0::2] if options.what == "margin" else photographs[1::2]
            margins = MARGINS if options.what == "margin" else (preprocessing.MARGIN,)
            effect(options.data, half, margins, Path(folder))


def effect(data: Path, photographs: Sequence[Path], margins: Sequence[float], folder: Path) -> None:
    """Print the effect on the top nine and on the peaks."""
    print(
        f"{'network and images':<46} {'margin':>6} {'1/2':>4} {'1/4':>4} {'1/8':>4} "
        f"{'other nine':>10} {'median':>8} {'95 %':>8} {'max':>8}"
    )
    for case in EFFECT:
        net, source = case.load(data), images_of(case, photographs, len(photographs), folder)
        whole = dv.search(net, source, "all", workers=0)
        for margin in margins:
            with patch.object(preprocessing, "MARGIN", margin):
                scaled = dv.search(net, source, "all", workers=0, scaled_decoding=True)
                reductions = {name: net.preprocessing.reduction(size) for name, size in sizes(source)}
            by = Counter(reductions.values())
            reduced = {name for name, one in reductions.items() if one > 1}
            other, changes = differences(whole, scaled, reduced)
            changes = changes if len(changes) else np.zeros(1)
            middle, high = np.quantile(changes, [0.5, 0.95])
            print(
                f"{case!s:<46} {margin:>6} {by[2]:>4} {by[4]:>4} {by[8]:>4} {other:>10.1%} "
                f"{middle:>8.2%} {high:>8.2%} {changes.max():>8.1%}",
                flush=True,
            )


def differences(one: Search, other: Search, reduced: Container[str]) -> tuple[float, np.ndarray]:
    """Return the share of channels with other images in their top nine, and the changes of common peaks.

    The changes are those of the images in `reduced`.
    """
    before, after = peaks_of(one), peaks_of(other)
    channels = before.keys() | after.keys()
    changed = sum(before.get(channel, {}).keys() != after.get(channel, {}).keys() for channel in channels)
    changes = [
        abs(after[channel][image] - peak) / peak
        for channel, peaks in before.items()
        for image, peak in peaks.items()
        if peak > 0 and image in reduced and image in after.get(channel, {})
    ]
    return changed / len(channels), np.array(changes)


def peaks_of(found: Search) -> dict[tuple[str, int], dict[str, float]]:
    """Return the activation of each image in the top nine of each channel."""
    peaks: dict[tuple[str, int], dict[str, float]] = {}
    for row in found.peaks.to_pylist():
        peaks.setdefault((row["layer"], row["channel"]), {})[row["image"]] = row["activation"]
    return peaks


def speed(data: Path, photographs: Sequence[Path], count: int, folder: Path) -> None:
    """Print the speed of reading, and of reading and searching."""
    print(
        f"{'network and images':<46} {'decoded':>8} {'read whole':>11} {'scaled':>8} {'ratio':>6} "
        f"{'search whole':>13} {'scaled':>8} {'ratio':>6}   (images/s)"
    )
    for case in SPEED:
        net, source = case.load(data), open_source(images_of(case, photographs, count, folder))
        plans = [plan(net, source, "all", batch_size=4, scaled_decoding=scaled) for scaled in (False, True)]
        reads: tuple[list[float], list[float]] = [], []
        searches: tuple[list[float], list[float]] = [], []
        with open_finder(net, plans[0].layers) as find:
            for index in range(len(plans[0].batches)):
                for way in (0, 1) if index % 2 else (1, 0):
                    times = steps(plans[way].batches.__getitem__, find, plans[way].layers, index)
                    reads[way].append(times[0])
                    searches[way].append(times[1])
        by = [net.preprocessing.reduction(size) for _, size in sizes(source.place)]
        columns = []
        for whole, scaled in (reads, searches):
            ratio = median(a / b for a, b in zip(whole[1:], scaled[1:], strict=True))  # the first warms up
            columns += [4 / median(whole[1:]), 4 / median(scaled[1:]), ratio]
        print(
            f"{case!s:<46} {f'1/{max(by)}':>8} {columns[0]:>11.1f} {columns[1]:>8.1f} {columns[2]:>6.2f} "
            f"{columns[3]:>13.1f} {columns[4]:>8.1f} {columns[5]:>6.2f}",
            flush=True,
        )


def steps(read: Callable, find: Callable, layers: Sequence[dv.Layer], index: int) -> tuple[float, float]:
    """Return the seconds for reading a batch, and for reading it and finding its peaks."""
    start = perf_counter()
    batch = read(index)
    middle = perf_counter()
    find_peaks(find, layers, batch, 4)
    return middle - start, perf_counter() - start


def images_of(case: Case, photographs: Sequence[Path], count: int, folder: Path) -> str:
    """Return a list of photographs, or a folder of mosaics."""
    place = folder / f"{case.across}-{count}"
    if case.across == 1:
        text = "\n".join(str(path.resolve()) for path in photographs)
        (folder / "photographs.txt").write_text(text, encoding="utf-8")
        return str(folder / "photographs.txt")
    if not place.exists():
        place.mkdir()
        for number, mosaic in enumerate(mosaics(photographs, case.across, count)):
            mosaic.save(place / f"{number:04d}.jpg", quality=90)
    return str(place)


def mosaics(photographs: Sequence[Path], across: int, count: int) -> Iterator[Image.Image]:
    """Yield mosaics of photographs that are drawn with a fixed seed. Small photographs are enlarged."""
    dice = np.random.default_rng(0)
    edges = [[number * side for number in range(across + 1)] for side in CELL]
    for _ in range(count):
        whole = Image.new("RGB", (CELL[0] * across, CELL[1] * across))
        for top, _ in pairwise(edges[1]):
            for left, _ in pairwise(edges[0]):
                with Image.open(photographs[int(dice.integers(len(photographs)))]) as file:
                    photograph = file.convert("RGB")
                if photograph.width < CELL[0] or photograph.height < CELL[1]:
                    photograph = ImageOps.cover(photograph, CELL)
                whole.paste(photograph.crop((0, 0, *CELL)), (left, top))
        yield whole


def sizes(place: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the id and the size of the JPEGs of a list or a folder."""
    for name in open_source(place).names:
        with Image.open(Path(place).parent / name if place.endswith(".txt") else Path(place) / name) as file:
            yield name, file.size


if __name__ == "__main__":
    main()
