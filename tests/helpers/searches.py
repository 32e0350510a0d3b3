"""Small networks and sources for searches, and a reference search with a plain loop and a full sort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.image_sources import Source
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import InputImage
from deconvviz.scenes import scene


class Noise(Source):
    """Source of `count` noise images in memory. `copies` are pairs (image, image that it copies)."""

    kind = "noise"

    def __init__(self, count: int, size: int = 16, copies: Sequence[tuple[int, int]] = ()) -> None:
        self.size, self.copies = size, dict(copies)
        super().__init__("noise", Names(f"noise-{number:04d}" for number in range(count)))

    def read(self, number: int) -> InputImage:
        random = np.random.default_rng(self.copies.get(number, number))
        return InputImage(random.integers(0, 256, (self.size, self.size, 3), dtype=np.uint8))


def small(module: nn.Module | None = None, size: int = 16, seed: int = 0, **more: Any) -> dv.Network:
    """Wrap a module as a network for `Noise`; without one, build a small module with seeded weights."""
    if module is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 5, 3),
                nn.ReLU(inplace=True),
                nn.Flatten(),
                nn.Linear(5 * 6 * 6, 4),
            )
    return dv.Network(module, size=size, mean=(0.5,) * 3, std=(0.25,) * 3, **more)


def scenes_folder(folder: Path, count: int, first: int = 0) -> Path:
    """Write drawn scenes as PNG files into two subfolders, and return the folder."""
    for seed in range(first, first + count):
        path = folder / ("even" if seed % 2 == 0 else "odd") / f"{seed:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(seed).image).save(path)
    return folder


class Row(NamedTuple):
    """One row of the search index, without its receptive field."""

    layer: str
    channel: int
    rank: int
    activation: float
    image: str
    y: int | None
    x: int | None


def brute_force(
    net: dv.Network, source: Source, layers: Sequence[str], k: int, *, batch: int = 1
) -> tuple[list[Row], dict[str, Tensor]]:
    """Return the index from recordings of all images, and the peaks (images, channels) of each layer.

    Batches are padded with empty images, as in the search, because rounding depends on the batch size.
    """
    peaks: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    places: dict[str, list[list[tuple[int | None, int | None]]]] = {layer: [] for layer in layers}
    for first in range(0, len(source), batch):
        numbers = range(first, min(first + batch, len(source)))
        inputs = torch.zeros(batch, *net.preprocessing.shape)
        for row, number in enumerate(numbers):
            inputs[row] = net.preprocessing.apply(source.image(number).rgb)
        recording = net.record(inputs, layers)
        for layer in layers:
            for activations in recording.activations(layer)[: len(numbers)]:
                high = activations.amax((1, 2)) if activations.dim() == 3 else activations
                peaks[layer].append(high)
                places[layer].append(_first_positions(activations, high))
    rows = []
    for layer in layers:
        of_layer = torch.stack(peaks[layer])
        for channel in range(of_layer.shape[1]):
            column = of_layer[:, channel].tolist()
            order = sorted(range(len(source)), key=lambda number: (-column[number], source.names[number]))
            for rank, number in enumerate(order[:k], 1):
                y, x = places[layer][number][channel]
                rows.append(Row(layer, channel, rank, column[number], source.names[number], y, x))
    return rows, {layer: torch.stack(of_layer) for layer, of_layer in peaks.items()}


def _first_positions(activations: Tensor, top: Tensor) -> list[tuple[int | None, int | None]]:
    """Return the first position (y, x) of the maximum of each channel, in row order."""
    if activations.dim() == 1:
        return [(None, None)] * len(activations)
    flat, count = activations.flatten(1), activations[0].numel()
    places = torch.where(flat == top[:, None], torch.arange(count), count).amin(1)
    return [divmod(int(place), activations.shape[2]) for place in places]


def rows_of(search: Search) -> list[Row]:
    """Return the rows of the index table, without using `Search.top`."""
    table = search.peaks.select(list(Row._fields)).to_pylist()
    return [Row(**one) for one in table]


def channel_statistics(search: Search) -> dict[str, tuple[float, float, float, bool]]:
    """Return (mean, density, maximum, dead) of each channel, by "layer/channel"."""
    return {
        f"{row['layer']}/{row['channel']}": (row["mean"], row["density"], row["maximum"], row["dead"])
        for row in search.channels.to_pylist()
    }


def same(one: Search, other: Search) -> bool:
    """Return True if the tables of two searches are identical."""
    names = ("peaks", "channels", "statistics", "images")
    return all(bool(getattr(one, name).equals(getattr(other, name))) for name in names)


def junk(folder: Path, expected: Iterable[str] = ()) -> set[str]:
    """Return the names of unexpected files in the folder of a search."""
    tables = {f"{name}.parquet" for name in ("top", "channels", "statistics", "images")}
    whole = tables | {"skipped.csv", "manifest.json", *expected}
    return {path.name for path in folder.iterdir()} - whole


def minivgg_field(layer: str, y: int, x: int) -> tuple[int, int, int, int]:
    """Return the receptive field (x0, y0, x1, y1) of a unit of minivgg, not cut at the border.

    minivgg has 3x3 convolutions with padding and 2x2 pooling.
    """
    stages = ["conv", "conv", "pool"] * (int(layer[4]) - 1)
    stages += ["conv", "conv", "pool"] if layer.startswith("pool") else ["conv"] * int(layer[6])
    (y0, y1), (x0, x1) = (y, y), (x, x)
    for stage in reversed(stages):
        if stage == "pool":
            y0, y1, x0, x1 = y0 * 2, y1 * 2 + 1, x0 * 2, x1 * 2 + 1
        else:
            y0, y1, x0, x1 = y0 - 1, y1 + 1, x0 - 1, x1 + 1
    return x0, y0, x1 + 1, y1 + 1
