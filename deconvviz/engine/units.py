"""Signals at a layer: selected activations, with all others set to zero (paper, section 2.1).

The signal of a unit is its own activation; that of a whole channel is its map. Any tensor with the shape of
the layer can be a signal too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from deconvviz.engine.layout import Seen, TensorLayout, Window, signal_dtype, zeros
from deconvviz.errors import UnitError
from deconvviz.wording import missing_number


@dataclass(frozen=True)
class Unit:
    """One position of one channel in one image of a recording, with its activation.

    `y` and `x` are the row and column in the layer's map. Both are None for a unit of a fully connected
    layer, which has no position, and for a whole channel. The `activation` of a whole channel is the maximum
    of its map. It may be left out when a unit is created: methods of `Recording` read it from the recording.
    """

    image: int
    channel: int
    y: int | None = None
    x: int | None = None
    activation: float = math.nan

    def __str__(self) -> str:
        position = "" if self.y is None and self.x is None else f" at ({self.y}, {self.x})"
        activation = "" if math.isnan(self.activation) else f" = {self.activation:.4g}"
        return f"image {self.image}, channel {self.channel}{position}{activation}"


class Seed:
    """Signals of K units at a layer. They are created in windows, because (K, *layer) would be large."""

    def __init__(self, seen: Seen, image_indices: Tensor) -> None:
        self.seen = seen  # (K, H) and (K, W) bool: rows and columns of the layer's map with a signal
        self.image_indices = image_indices  # (K,) int64

    def __len__(self) -> int:
        return len(self.image_indices)

    def check(self) -> None:
        """Raise UnitError if a signal would not be finite."""

    def everywhere(self) -> Seed:
        """Return a copy that is projected at full size, without windows."""
        other = copy(self)
        other.seen = (torch.ones_like(self.seen[0]), torch.ones_like(self.seen[1]))
        return other

    def signal(self, part: Tensor, window: Window) -> Tensor:
        """Return the signals of the units with the indices `part` (k,), in their windows.

        The result is (k, C, h, w), or (k, F) for a fully connected layer.
        """
        raise NotImplementedError


class UnitSeed(Seed):
    """Signals of single units or whole channels: their recorded activations."""

    def __init__(self, activations: Tensor, units: Sequence[Unit]) -> None:
        lengths = activations.shape[2:] if activations.dim() == 4 else (1, 1)
        self.activations, self.units = activations, units
        rows = _masks([unit.y for unit in units], lengths[0])
        columns = _masks([unit.x for unit in units], lengths[1])
        super().__init__((rows, columns), torch.tensor([unit.image for unit in units]))

    def check(self) -> None:
        for unit in self.units:
            place = tuple(n for n in (unit.image, unit.channel, unit.y, unit.x) if n is not None)
            if not bool(self.activations[place].isfinite().all()):
                raise UnitError(
                    f"unit ({unit}) cannot be projected: its activation is not finite "
                    f"(the layer's dtype is {str(self.activations.dtype).removeprefix('torch.')})"
                )

    def signal(self, part: Tensor, window: Window) -> Tensor:
        own = self.activations.dim() == 4
        (h, w) = window.size if window.layout.axes else self.seen[0].shape[1:] + self.seen[1].shape[1:]
        like = self.activations.new_empty(0, dtype=signal_dtype(self.activations.dtype))
        x = zeros(like, (len(part), self.activations.shape[1], *((h, w) if own else ())))
        for k, (number, (row, column)) in enumerate(zip(part.tolist(), window.start.tolist(), strict=True)):
            unit = self.units[number]
            channel = self.activations[unit.image, unit.channel]
            if not own:
                x[k, unit.channel] = channel
            elif unit.y is None or unit.x is None:
                x[k, unit.channel] = channel[row : row + h, column : column + w]
            else:
                x[k, unit.channel, unit.y - row, unit.x - column] = channel[unit.y, unit.x]
        return x


class TensorSeed(Seed):
    """K tensors with the shape of the layer as signals, each for one image of the recording."""

    def __init__(
        self, activations: Tensor, signals: Tensor, image_indices: Sequence[int], layer: str
    ) -> None:
        if signals.shape[1:] != activations.shape[1:] or len(signals) != len(image_indices):
            raise UnitError(
                f"a tensor of shape {tuple(signals.shape)} does not fit {layer}: the shape must be "
                f"({len(image_indices)}, {', '.join(map(str, activations.shape[1:]))})"
            )
        self.signals = signals.detach().to(activations.device, signal_dtype(activations.dtype))
        if signals.dim() == 4:
            some = (self.signals != 0).any(1).cpu()  # (K, H, W)
            seen = (some.any(2), some.any(1))
        else:
            seen = (torch.ones(len(signals), 1, dtype=torch.bool),) * 2
        super().__init__(seen, torch.tensor(list(image_indices), dtype=torch.long))

    def check(self) -> None:
        if not bool(self.signals.isfinite().all()):
            raise UnitError("the tensor to be projected contains NaN or infinity")

    def signal(self, part: Tensor, window: Window) -> Tensor:
        x = self.signals[part.to(self.signals.device)]
        here = Window(window.start, window.size, TensorLayout.of(x.shape[1:]), torch.arange(len(part)))
        return here.cut(x) if window.layout.axes else x


def checked(activations: Tensor, units: Sequence[Unit], layer: str) -> list[Unit]:
    """Return the units with their recorded activations. Raise UnitError if a unit does not exist."""
    for unit in units:
        _in_range("image", unit.image, activations.shape[0], layer)
        _in_range("channel", unit.channel, activations.shape[1], layer)
        if (unit.y is None) != (unit.x is None):
            raise UnitError(f"unit ({unit}) has only half a position. Give both y and x, or neither")
        if unit.y is None or unit.x is None:
            continue
        if activations.dim() != 4:
            raise UnitError(f"unit ({unit}) has a position, but the units of {layer} have none")
        _in_range("row", unit.y, activations.shape[2], layer)
        _in_range("column", unit.x, activations.shape[3], layer)
    return [_recorded(activations, unit) for unit in units]


def strongest(activations: Tensor, k: int, layer: str, channel: int | None = None) -> list[Unit]:
    """Return the k strongest units of activations (B, C, H, W) or (B, C), strongest first.

    With a channel, return its k highest positions in all images. Without one, return the peaks of the k
    channels with the highest peaks: one unit per channel, the highest in all images. Ties go to the lower
    channel, image, row and column. Raise UnitError if there are fewer than k units.
    """
    places = ranked(activations, k, layer, channel).places[:k]
    return [unit_at(activations, place) for place in places.tolist()]


def strongest_others(activations: Tensor, unit: Unit, count: int) -> list[Unit]:
    """Return the strongest units above zero at the place of a unit, without its own channel.

    There are at most `count`, strongest first; ties go to the lower channel.
    """
    here = activations[unit.image]  # (C, H, W) or (C,)
    if unit.y is not None and unit.x is not None:
        here = here[:, unit.y, unit.x]
    order = torch.sort(here, descending=True, stable=True).indices[: count + 1].tolist()
    found = [channel for channel in order if channel != unit.channel and float(here[channel]) > 0]
    return [Unit(unit.image, channel, unit.y, unit.x, float(here[channel])) for channel in found[:count]]


class Ranking(NamedTuple):
    """Candidates for the strongest units of a layer, strongest first."""

    values: Tensor  # (N,) activations
    places: Tensor  # (N, 4): image, channel, row, column; (N, 2) if the units have no position


def ranked(activations: Tensor, k: int, layer: str, channel: int | None = None) -> Ranking:
    """Return all candidates of `strongest`, in its order. Raise UnitError if there are fewer than k."""
    if channel is not None:
        _in_range("channel", channel, activations.shape[1], layer)
    channels = list(range(activations.shape[1])) if channel is None else [channel]
    values = activations[:, channels].transpose(0, 1).flatten(1)  # (channels, B * H * W)
    if channel is None:
        peaks = values.amax(dim=1)
        flat = (values == peaks[:, None]).int().argmax(dim=1)  # the first position of each peak
        order = _order(peaks, k, f"{layer} has", "channels")
        found, flat, numbers = peaks[order], flat[order], order
    else:
        flat = _order(values[0], k, f"channel {channel} of {layer} has", "positions")
        found, numbers = values[0][flat], torch.full_like(flat, channel)
    image, *position = _unravelled(flat, activations.shape[2:])
    return Ranking(found.cpu(), torch.stack([image, numbers, *position], dim=1).cpu())


def _unravelled(flat: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Return the indices of flat positions in (number of images, *lengths).

    `torch.unravel_index` does the same, but imports sympy, which takes a second.
    """
    found: list[Tensor] = []
    for length in reversed(lengths):
        found.append(flat % length)
        flat = flat // length
    return [flat, *reversed(found)]


def unit_at(activations: Tensor, place: Sequence[int]) -> Unit:
    """Return the unit at a place (image, channel, row, column), or (image, channel), with its activation."""
    image, channel, *position = place
    y, x = position or (None, None)
    return _recorded(activations, Unit(image, channel, y, x))


def _order(values: Tensor, k: int, there: str, what: str) -> Tensor:
    """Return the positions of the values from the highest to the lowest. Ties go to the lower position."""
    if k < 1:
        raise UnitError(f"{k} units were requested. Request 1 or more")
    if k > len(values):
        raise UnitError(f"{k} units were requested, but {there} {len(values)} {what}")
    if bool(values.isnan().any()):
        raise UnitError("the layer's activations contain NaN: there is no strongest unit")
    return torch.sort(values, descending=True, stable=True).indices


def _recorded(activations: Tensor, unit: Unit) -> Unit:
    place = tuple(n for n in (unit.image, unit.channel, unit.y, unit.x) if n is not None)
    return replace(unit, activation=float(activations[place].max()))


def _masks(places: Sequence[int | None], length: int) -> Tensor:
    """Return masks (K, length) bool with one position each, or all positions for None."""
    masks = torch.zeros(len(places), length, dtype=torch.bool)
    for k, place in enumerate(places):
        masks[k, slice(None) if place is None else place] = True
    return masks


def _in_range(noun: str, number: int, count: int, layer: str) -> None:
    if not 0 <= number < count:
        raise UnitError(missing_number(noun, number, layer, count))
