"""Regions: positions of one channel that are projected together, such as the score of a class in a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, signal_dtype
from deconvviz.engine.units import Seed, TensorSeed, Unit, UnitSeed, checked
from deconvviz.errors import UnitError

Run = tuple[int, int, int]
"""Row, first column, and one past the last column."""


@dataclass(frozen=True)
class Region(Unit):
    """Some positions of one channel in one image, projected together. `activation` is their sum.

    `runs` are the positions: row, first column and one past the last column of each stretch. `name` says
    where they come from, for figures. `Region.of` makes a region from a mask.
    """

    runs: tuple[Run, ...] = ()
    name: str = ""

    @classmethod
    def of(cls, image: int, channel: int, mask: Any, *, name: str = "") -> Region:
        """Return the region of the positions where a mask (rows, columns), an array or a tensor, is not 0.

        Raises:
            UnitError: If the mask has another number of dimensions, or is 0 everywhere.
        """
        inside = torch.as_tensor(mask, device="cpu") != 0
        if inside.dim() != 2:
            raise UnitError(f"a mask has rows and columns, not the shape {tuple(inside.shape)}")
        if not bool(inside.any()):
            raise UnitError("the mask is 0 everywhere: mark at least one position")
        runs = tuple(run for row in inside.any(1).nonzero().flatten().tolist() for run in _runs(row, inside))
        return cls(image, channel, runs=runs, name=name)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Unit:
        """Return the region, or the plain unit, that a manifest describes."""
        if "runs" not in stored:
            return Unit(**stored)
        return cls(**{**stored, "runs": tuple(tuple(run) for run in stored["runs"])})

    @property
    def count(self) -> int:
        """Number of positions."""
        return sum(past - first for _, first, past in self.runs)

    def mask(self, rows: int, columns: int) -> Tensor:
        """Return the positions as a mask (rows, columns) bool. Raise UnitError if the map is smaller."""
        high, wide = (1 + max(row for row, _, _ in self.runs), max(past for _, _, past in self.runs))
        if high > rows or wide > columns:
            raise UnitError(
                f"a region with positions up to ({high - 1}, {wide - 1}) does not fit a map of "
                f"{rows} x {columns}"
            )
        found = torch.zeros(rows, columns, dtype=torch.bool)
        for row, first, past in self.runs:
            found[row, first:past] = True
        return found

    def places(self) -> tuple[list[int], list[int]]:
        """Return the rows and the columns of all positions."""
        pairs = [(row, column) for row, first, past in self.runs for column in range(first, past)]
        return [row for row, _ in pairs], [column for _, column in pairs]

    def __str__(self) -> str:
        activation = "" if math.isnan(self.activation) else f" = {self.activation:.4g}"
        return f"image {self.image}, channel {self.channel}, sum over {self.count:,} positions{activation}"


def _runs(row: int, inside: Tensor) -> list[Run]:
    columns = inside[row].nonzero().flatten().tolist()
    stretches = (
        [column for _, column in stretch]
        for _, stretch in groupby(enumerate(columns), key=lambda pair: pair[1] - pair[0])
    )
    return [(row, stretch[0], stretch[-1] + 1) for stretch in stretches]


def recorded(activations: Tensor, units: Sequence[Unit], layer: str) -> list[Unit]:
    """Return units and regions with their recorded activations. Raise UnitError if one does not exist."""
    plain = iter(checked(activations, [one for one in units if not isinstance(one, Region)], layer))
    return [_recorded(activations, one, layer) if isinstance(one, Region) else next(plain) for one in units]


def seed_of(
    activations: Tensor, units: Sequence[Unit], layer: str, layout: TensorLayout | None = None
) -> Seed:
    """Return the signals of units and regions: their recorded activations, with zeros elsewhere.

    `layout` is that of the layer, as for `UnitSeed`.
    """
    if not any(isinstance(unit, Region) for unit in units):
        return UnitSeed(activations, units, layout)
    shape = len(units), *activations.shape[1:]
    signals = activations.new_zeros(shape, dtype=signal_dtype(activations.dtype))
    for signal, unit in zip(signals, units, strict=True):
        channel = activations[unit.image, unit.channel]
        if isinstance(unit, Region):
            mask = unit.mask(*channel.shape).to(channel.device)
            signal[unit.channel][mask] = channel[mask].to(signal.dtype)
        else:
            place = (unit.channel, *unit.position)
            signal[place] = activations[unit.image][place]
    return TensorSeed(activations, signals, [unit.image for unit in units], layer, layout)


def _recorded(activations: Tensor, region: Region, layer: str) -> Region:
    checked(activations, [Unit(region.image, region.channel)], layer)
    if activations.dim() != 4:
        raise UnitError(f"a region has positions, but the units of {layer} have none")
    channel = activations[region.image, region.channel]
    mask = region.mask(*channel.shape).to(channel.device)
    return replace(region, activation=float(channel[mask].double().sum()))
