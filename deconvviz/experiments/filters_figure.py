"""Figure of `Filters`: filters of each network above projections of the second layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.experiments.filters_bank import Bank
from deconvviz.figures.spec.colour import limit_of, to_rgb
from deconvviz.figures.spec.style import FiltersStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.printable_names import printable
from deconvviz.wording import counted

SEPARATION = 0.08
"""Width of the white lines between tiles, as a share of a tile."""
LEAST = 24
"""Smallest side of a tile in pixels. Smaller tiles are enlarged by a whole number."""


def grid_of(banks: Sequence[Bank], by_size: bool, place: str, style: FiltersStyle) -> TileGrid:
    """Return the content of the figure."""
    tiles = [np.moveaxis(bank.weights, 1, -1) for bank in banks]  # (F, h, w, C)
    limit = limit_of(tiles, percentile=style.percentile, what="filters")
    rows: list[tuple[GridTile | None, ...]] = [
        tuple(_filters(bank, own, limit.value, by_size) for bank, own in zip(banks, tiles, strict=True))
    ]
    labels = [f"filters of\n{banks[0].layer.name}\n{_size(banks[0])}"]
    if any(bank.seen is not None for bank in banks):
        rows.append(tuple(_projections(bank, style.percentile) for bank in banks))
        second = banks[0].second
        labels.append(f"projections of\n{'' if second is None else second.name}")
    names = [_named(bank) for bank in banks]
    order = " by descending size" if by_size else ""
    return TileGrid(
        title=(
            f"{banks[0].network.name} · filters of {banks[0].layer.name}{order}",
            " · ".join([f"weights: {' and '.join(names)}", *filter(None, [_place(place)])]),
        ),
        tiles=tuple(rows),
        row_labels=tuple(labels),
        column_labels=tuple(names) if len(banks) > 1 else (),
        style=TileGridStyle("tile", 100.0, style.medium),
        footer=_footer(banks, limit.value),
    )


def _place(place: str) -> str:
    """Return the last part of a path; scenes and datasets are named whole."""
    return printable(place if ":" in place else Path(place).name)


def _size(bank: Bank) -> str:
    height, width = bank.weights.shape[2:]
    return f"{height} x {width}, stride {max(bank.stride)}"


def _named(bank: Bank) -> str:
    return printable(bank.network.origin.short)


def _footer(banks: Sequence[Bank], limit: float) -> str:
    parts = [f"filters share one scale: grey is zero, full colour is ±{limit:.3g}"]
    if any(bank.seen is not None for bank in banks):
        parts.append(
            "projections: the strongest unit of each channel in these images, each with its own scale; "
            "grey is zero"
        )
    return " · ".join(parts)


def _filters(bank: Bank, own: npt.NDArray[Any], limit: float, by_size: bool) -> GridTile:
    order = bank.order(by_size)
    return GridTile(mosaic([to_rgb(own[n], limit) for n in order]), "image", tuple(_facts(bank)))


def _facts(bank: Bank) -> list[str]:
    numbers = bank.to_json()
    parts = [f"RMS: median {numbers['median_rms']:.3g}, largest {numbers['largest_rms']:.3g}"]
    for name in ("dominant", "dead", "aliased"):
        parts.append(f"{len(numbers[name])} {name}")
    parts.append(counted(len(numbers["doubles"]), "double"))
    if numbers["silent"] is not None:
        parts.append(f"{len(numbers['silent'])} never above zero")
    bands = numbers["bands"]
    shares = ", ".join(f"{name} {100 * bands[name]:.0f}" for name in ("low", "middle", "high"))
    lines = [
        f"{len(bank.weights)} filters · {parts[0]}",
        " · ".join(parts[1:]),
        f"energy by frequency (%): {shares}",
    ]
    if max(bank.stride) > 1:
        lines.append(f"energy above Nyquist (%): {100 * numbers['energy_above_nyquist']:.0f}")
    return lines


def _projections(bank: Bank, percentile: float) -> GridTile | None:
    if bank.seen is None:
        return None
    shown = []
    for one in bank.seen.projections:
        shown.append(to_rgb(one, limit_of([one], percentile=percentile).value))
    peak = bank.peak
    second = "" if bank.second is None else bank.second.name
    lines = [f"{counted(len(shown), 'channel')} of {second}"]
    if peak is not None:
        lines.append(f"peak at the frequency of the stride: {peak:.2g}")
    return GridTile(mosaic(shown), "image", tuple(lines))


def mosaic(tiles: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return tiles (h, w, 3) as one image, row by row, with white lines between them."""
    count = len(tiles)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    zoom = math.ceil(LEAST / max(height, width))
    tiles = [tile.repeat(zoom, 0).repeat(zoom, 1) for tile in tiles]
    height, width = zoom * height, zoom * width
    gap = max(1, round(SEPARATION * max(height, width)))
    found = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        found[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return found
