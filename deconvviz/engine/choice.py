"""Choose the strongest units of a layer, optionally with receptive fields that are apart or not cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.units import Unit, ranked, units_at
from deconvviz.wording import counted

Lengths = tuple[float, ...]
"""For each axis of a map, in pixels of the network's input: (rows, columns)."""


@dataclass(frozen=True)
class FieldGrid:
    """Receptive fields of the units of a map, ignoring borders: a common size at equal distances."""

    size: Lengths
    stride: Lengths  # distance between the fields of neighbouring units
    offset: Lengths  # start of the field of unit (0, 0); negative in the padding
    image: tuple[int, ...]  # rows and columns of the image

    def near(self, places: Tensor, place: Tensor) -> Tensor:
        """Return which units (N, axes) have the centre of their field within half a field of another's."""
        distance = (places - place).abs().double() * torch.tensor(self.stride, dtype=torch.float64).abs()
        return (distance < torch.tensor(self.size, dtype=torch.float64) / 2).all(dim=1)

    def is_cut(self, *position: int) -> bool:
        """Return whether the border of the image cuts the field of the unit at a position, (y, x)."""
        return not all(self._is_inside(axis, place) for axis, place in enumerate(position))

    def inside(self, axis: int, length: int) -> range:
        """Return the positions along an axis of a map (0: rows, 1: columns) with fields inside the image."""
        found = [place for place in range(length) if self._is_inside(axis, place)]
        return range(found[0], found[-1] + 1) if found else range(0)

    def _is_inside(self, axis: int, place: int) -> bool:
        first = self.offset[axis] + place * self.stride[axis]
        return first >= 0 and first + self.size[axis] <= self.image[axis]


@dataclass(frozen=True)
class UnitChoice(Sequence[Unit]):
    """Sequence of the strongest units of a layer, strongest first, with the number of units left out.

    `passed_over` counts the units that were left out because the centre of their receptive field is within
    half a field of that of a stronger unit. It is None if neighbours were kept, or if they cannot be found
    because the units have no position or no known field. `silent` counts the units with activation 0 that
    were left out because their position has no meaning. It is 0 unless fewer units were found than `asked`.
    """

    units: tuple[Unit, ...]
    asked: int  # number of requested units
    passed_over: int | None = None
    silent: int = 0
    whole_fields: bool = False  # whether units with a field that is cut by the border were left out

    def __getitem__(self, key: Any) -> Any:
        return self.units[key]

    def __len__(self) -> int:
        return len(self.units)

    def __repr__(self) -> str:
        passed = "" if self.passed_over is None else f", {self.passed_over} left out"
        return f"<UnitChoice of {len(self)} of {self.asked} units{passed}>"

    @classmethod
    def together(cls, choices: Iterable[UnitChoice]) -> UnitChoice:
        """Concatenate several choices."""
        every = list(choices)
        counts = [one.passed_over for one in every if one.passed_over is not None]
        return cls(
            tuple(unit for one in every for unit in one),
            sum(one.asked for one in every),
            sum(counts) if counts else None,
            sum(one.silent for one in every),
            any(one.whole_fields for one in every),
        )

    @property
    def note(self) -> str:
        """Line for a figure that states which units were left out; empty if there are none."""
        notes = ["units whose receptive field is cut by the border are left out"] if self.whole_fields else []
        near, shown = "half a receptive field of a stronger one", len(self)
        if shown < self.asked:
            reasons = [f"lie within {near} ({self.passed_over})"] if self.passed_over else []
            reasons += [f"are silent ({self.silent})"] if self.silent else []
            units = counted(shown, "unit")
            notes.append(f"{units} instead of {self.asked}: the others {' or '.join(reasons)}")
        elif self.passed_over == 1:
            notes.append(f"1 unit left out: it lies within {near}")
        elif self.passed_over:
            notes.append(f"{self.passed_over} units left out: each lies within {near}")
        return " · ".join(notes)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the units as plain JSON values."""
        return {
            "asked": self.asked,
            "apart": self.passed_over is not None,
            "passed_over": self.passed_over,
            "silent": self.silent,
            "whole_fields": self.whole_fields,
        }

    @classmethod
    def from_json(cls, stored: Any, units: Sequence[Unit]) -> UnitChoice:
        """Create a choice from the result of `to_json`. Raise KeyError, TypeError or ValueError otherwise."""
        passed, whole = stored["passed_over"], stored["whole_fields"]
        counts = [stored["asked"], stored["silent"], *([] if passed is None else [passed])]
        if not isinstance(whole, bool) or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"not a choice of units: {stored!r}")
        return cls(tuple(units), stored["asked"], passed, stored["silent"], whole)


def choose(
    activations: Tensor,
    k: int,
    layer: str,
    channel: int | None = None,
    *,
    apart: FieldGrid | None = None,
    inside: tuple[range, ...] | None = None,
) -> UnitChoice:
    """Return the k strongest units of activations (B, C, *positions) or (B, C).

    The candidates are those of `strongest`: the peak of each channel, or the positions of one channel.
    `inside` limits them to ranges of positions along each axis of the map. With `apart`, a candidate is left
    out if the centre of its field is within half a field of that of a stronger chosen unit in the same image;
    fewer than k units may remain. Raise UnitError as `strongest` does.
    """
    first = [axis.start for axis in inside or ()]
    part = activations
    for dim, axis in enumerate(inside or (), 2):
        part = part.narrow(dim, axis.start, len(axis))
    ranking = ranked(part, k, layer, channel)
    places, passed_over, silent = ranking.places[:k], None, 0
    if apart is not None:
        active = ranking.values != 0
        active[0] = True  # keep one unit if all are silent
        places, passed_over = _apart(ranking.places[active], k, apart)
        silent = int((~active).sum()) if len(places) < k else 0
    in_map = [
        (image, number, *map(sum, zip_longest(position, first, fillvalue=0)))
        for image, number, *position in places.tolist()
    ]
    units = tuple(units_at(activations, in_map))
    return UnitChoice(units, k, passed_over, silent, whole_fields=inside is not None)


def _apart(places: Tensor, k: int, grid: FieldGrid) -> tuple[Tensor, int]:
    """Choose up to k of the units (N, 2 + axes), strongest first. Return them, and how many were left out."""
    image, position = places[:, 0], places[:, 2:]
    free = torch.ones(len(places), dtype=torch.bool)
    kept: list[int] = []
    while len(kept) < k and bool(free.any()):
        n = int(free.int().argmax())
        kept.append(n)
        free &= ~((image == image[n]) & grid.near(position, position[n]))
        free[n] = False
    considered = kept[-1] + 1 if len(kept) == k else len(places)
    return places[kept], considered - len(kept)
