"""Small networks and sources for searches, and the same index by a plain loop and a full sort."""

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
from deconvviz.images.image import Picture
from deconvviz.scenes import scene


class Noise(Source):
    """`count` pictures of noise in memory; some of them copies of others."""

    kind = "noise"

    def __init__(self, count: int, size: int = 16, copies: Sequence[tuple[int, int]] = ()) -> None:
        self.size, self.copies = size, dict(copies)
        super().__init__("noise", Names(f"noise-{number:04d}" for number in range(count)))

    def read(self, number: int) -> Picture:
        dice = np.random.default_rng(self.copies.get(number, number))
        return Picture(dice.integers(0, 256, (self.size, self.size, 3), dtype=np.uint8))


def small(module: nn.Module | None = None, size: int = 16, seed: int = 0, **more: Any) -> dv.Network:
    """A network for noise, with the same weights each time if it is made here."""
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
    """Scenes as files, in two folders."""
    for seed in range(first, first + count):
        path = folder / ("even" if seed % 2 == 0 else "odd") / f"{seed:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(seed).image).save(path)
    return folder


class Row(NamedTuple):
    """One row of the index, without its receptive field."""

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
    """The index by recording everything, and the peaks (pictures, channels) of each layer.

    Batches are filled with empty pictures, as the search fills them: the last digits depend on their size.
    """
    peaks: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    places: dict[str, list[list[tuple[int | None, int | None]]]] = {layer: [] for layer in layers}
    for first in range(0, len(source), batch):
        numbers = range(first, min(first + batch, len(source)))
        inputs = torch.zeros(batch, *net.preprocessing.shape)
        for row, number in enumerate(numbers):
            inputs[row] = net.preprocessing.apply(source.picture(number).rgb)
        recording = net.record(inputs, layers)
        for layer in layers:
            for said in recording.activations(layer)[: len(numbers)]:
                high = said.amax((1, 2)) if said.dim() == 3 else said
                peaks[layer].append(high)
                places[layer].append(_first_of(said, high))
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


def _first_of(said: Tensor, top: Tensor) -> list[tuple[int | None, int | None]]:
    """Of each channel, row by row, the first position that has the maximum."""
    if said.dim() == 1:
        return [(None, None)] * len(said)
    flat, count = said.flatten(1), said[0].numel()
    places = torch.where(flat == top[:, None], torch.arange(count), count).amin(1)
    return [divmod(int(place), said.shape[2]) for place in places]


def rows_of(search: Search) -> list[Row]:
    """The index as it stands in the table, not by way of `Search.top`."""
    table = search.peaks.select(list(Row._fields)).to_pylist()
    return [Row(**one) for one in table]


def told(search: Search) -> dict[str, tuple[float, float, float, bool]]:
    """Mean, density, maximum and dead of each channel: "layer/channel"."""
    return {
        f"{row['layer']}/{row['channel']}": (row["mean"], row["density"], row["maximum"], row["dead"])
        for row in search.channels.to_pylist()
    }


def same(one: Search, other: Search) -> bool:
    """Row for row, to the last bit."""
    return bool(one.peaks.equals(other.peaks) and one.channels.equals(other.channels))


def junk(folder: Path, expected: Iterable[str] = ()) -> set[str]:
    """What is in a search's folder beside its four files."""
    whole = {"top.parquet", "channels.parquet", "skipped.csv", "manifest.json", *expected}
    return {path.name for path in folder.iterdir()} - whole


def minivgg_field(layer: str, y: int, x: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a unit of minivgg by arithmetic, not cut: 3x3 convolutions, pools by two."""
    stages = ["conv", "conv", "pool"] * (int(layer[4]) - 1)
    stages += ["conv", "conv", "pool"] if layer.startswith("pool") else ["conv"] * int(layer[6])
    (y0, y1), (x0, x1) = (y, y), (x, x)
    for stage in reversed(stages):
        if stage == "pool":
            y0, y1, x0, x1 = y0 * 2, y1 * 2 + 1, x0 * 2, x1 * 2 + 1
        else:
            y0, y1, x0, x1 = y0 - 1, y1 + 1, x0 - 1, x1 + 1
    return x0, y0, x1 + 1, y1 + 1
