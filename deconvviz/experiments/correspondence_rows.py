"""Rows of the table of `correspondence`, as numbers, text and sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RANDOM = "random"
"""Name of the row of random places."""
LEVEL = 0.05
"""A part differs from random places if its p-value is below this number (ours)."""

NUMBERS = (
    "p_value", "low", "high", "changed", "mean_of_changed", "cosine", "cosine_p_value", "random_mean",
    "random_cosine",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Numbers of one part at one layer.

    Attributes:
        layer: Name of the layer.
        part: Name of the part, or ``random``.
        mean: Delta: mean over ordered pairs of images of the share of entries whose signs differ.
        std: Standard deviation over these pairs.
        images: Number of images.
        p_value: Two-sided p-value of the difference from random places; None for ``random``.
        low: Lower end of the 95 % interval of the mean over images; None for fewer than 3 images.
        high: Upper end.
        changed: Share of entries that change when the part is hidden.
        mean_of_changed: Delta among the entries that change in at least one of the two images.
        cosine: Mean cosine of the changes of two images.
        cosine_p_value: Two-sided p-value of the difference of the cosine from that of random places.
        random_mean: Delta of random places of the same size as the part.
        random_cosine: Cosine of random places of the same size as the part.
    """

    layer: str
    part: str
    mean: float
    std: float
    images: int
    p_value: float | None
    low: float | None
    high: float | None
    changed: float
    mean_of_changed: float
    cosine: float
    cosine_p_value: float | None
    random_mean: float
    random_cosine: float


@dataclass(frozen=True, eq=False)
class HiddenImage:
    """One image, and the same with each part hidden, (H, W, 3) in [0, 1]."""

    name: str
    shown: npt.NDArray[np.float32]
    hidden: dict[str, npt.NDArray[np.float32]]


def text_of(rows: Sequence[Row]) -> str:
    """Return the paper's table as lines of text, with a column for each layer, and a table of cosines."""
    return "\n\n".join([_text(rows, "sign change", _delta), _text(rows, "cosine of changes", _cosine)])


def _text(rows: Sequence[Row], title: str, cell: Callable[[Row], str]) -> str:
    layers = list(dict.fromkeys(row.layer for row in rows))
    found = {(row.layer, row.part): cell(row) for row in rows}
    cells = [(title, *layers)]
    for part in dict.fromkeys(row.part for row in rows):
        cells.append((part, *(found[layer, part] for layer in layers)))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def sentence_of(layer: str, rows: Sequence[Row]) -> str:
    """Return which parts differ from random places at a layer, in Delta and in the cosine."""
    parts = [row for row in rows if row.layer == layer and row.part != RANDOM]
    delta = _verdict([(row.part, row.mean - row.random_mean, row.p_value) for row in parts])
    cosine = _verdict([(row.part, row.cosine - row.random_cosine, row.cosine_p_value) for row in parts])
    return f"{layer}, against random places (p < {LEVEL:g}): sign change {delta}; cosine {cosine}"


def _verdict(parts: list[tuple[str, float, float | None]]) -> str:
    """Return which parts are lower, higher or not different."""
    named: dict[str, list[str]] = {"lower": [], "higher": [], "not different": []}
    for part, difference, p in parts:
        sure = p is not None and p < LEVEL
        named["not different" if not sure else "lower" if difference < 0 else "higher"].append(part)
    return ", ".join(f"{what} for {', '.join(names)}" for what, names in named.items() if names)


def _delta(row: Row) -> str:
    return f"{row.mean:.3f} ± {row.std:.3f}{_p(row.p_value)}"


def _cosine(row: Row) -> str:
    return f"{row.cosine:.3f}{_p(row.cosine_p_value)}"


def _p(value: float | None) -> str:
    return "" if value is None else f" (p {value:.2g})"
