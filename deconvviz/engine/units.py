"""Signals at a layer: what is kept of its activations, with everything else set to zero (paper, section 2.1).

A unit keeps its own activation; a whole channel keeps its map; any tensor shaped like the layer keeps itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deconvviz.engine.layout import Seen, TensorLayout, Window, signal_dtype, zeros
from deconvviz.errors import UnitError
from deconvviz.wording import missing_number


@dataclass(frozen=True)
class Unit:
    """One position of one channel, for one picture of a recording, and what it said.

    `y` and `x` are row and column of the layer's map. Both are None for a fully connected unit, which has no
    position, and for a whole channel, every position of which is kept. `activation` is that of the unit; of a
    whole channel the highest of its map. A unit made by hand may leave it out: the recording knows it.
    """

    image: int
    channel: int
    y: int | None = None
    x: int | None = None
    activation: float = math.nan

    def __str__(self) -> str:
        where = "" if self.y is None and self.x is None else f" at ({self.y}, {self.x})"
        said = "" if math.isnan(self.activation) else f" = {self.activation:.4g}"
        return f"picture {self.image}, channel {self.channel}{where}{said}"


class Seed:
    """The signals of K units, cut to size only when they are projected: (K, *layer) would be large."""

    def __init__(self, seen: Seen, images: Tensor) -> None:
        self.seen = seen  # (K, H) and (K, W) bool: the rows and columns of the layer's map that are filled
        self.images = images  # (K,) int64

    def __len__(self) -> int:
        return len(self.images)

    def check(self) -> None:
        """Raise UnitError if a signal would not be finite."""

    def everywhere(self) -> Seed:
        """Return the same, taken to fill its whole map: it is projected at full size, without windows."""
        other = copy(self)
        other.seen = (torch.ones_like(self.seen[0]), torch.ones_like(self.seen[1]))
        return other

    def signal(self, part: Tensor, window: Window) -> Tensor:
        """The signals of the units numbered `part` (k,), in their windows: (k, C, h, w) or (k, F)."""
        raise NotImplementedError


class UnitSeed(Seed):
    """Each unit alone, or each channel alone, at the activation that was recorded."""

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
                    f"the unit of {unit} cannot be projected: its activation is not finite "
                    f"(the layer holds {str(self.activations.dtype).removeprefix('torch.')} numbers)"
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
    """Any K tensors shaped like the layer, each for one picture of the recording."""

    def __init__(self, activations: Tensor, signals: Tensor, images: Sequence[int], layer: str) -> None:
        if signals.shape[1:] != activations.shape[1:] or len(signals) != len(images):
            raise UnitError(
                f"a tensor of shape {tuple(signals.shape)} does not fit {layer}: "
                f"({len(images)}, {', '.join(map(str, activations.shape[1:]))}) is needed"
            )
        self.signals = signals.detach().to(activations.device, signal_dtype(activations.dtype))
        if signals.dim() == 4:
            some = (self.signals != 0).any(1).cpu()  # (K, H, W)
            seen = (some.any(2), some.any(1))
        else:
            seen = (torch.ones(len(signals), 1, dtype=torch.bool),) * 2
        super().__init__(seen, torch.tensor(list(images), dtype=torch.long))

    def check(self) -> None:
        if not bool(self.signals.isfinite().all()):
            raise UnitError("the tensor to be projected holds NaN or infinity")

    def signal(self, part: Tensor, window: Window) -> Tensor:
        x = self.signals[part.to(self.signals.device)]
        here = Window(window.start, window.size, TensorLayout.of(x.shape[1:]), torch.arange(len(part)))
        return here.cut(x) if window.layout.axes else x


def checked(activations: Tensor, units: Sequence[Unit], layer: str) -> list[Unit]:
    """The same units with the activations that were recorded. Raises UnitError for one outside."""
    for unit in units:
        _in_range("picture", unit.image, activations.shape[0], layer)
        _in_range("channel", unit.channel, activations.shape[1], layer)
        if (unit.y is None) != (unit.x is None):
            raise UnitError(f"unit ({unit}) has half a position: give both y and x, or neither")
        if unit.y is None or unit.x is None:
            continue
        if activations.dim() != 4:
            raise UnitError(f"unit ({unit}) has a position, but the units of {layer} have none")
        _in_range("row", unit.y, activations.shape[2], layer)
        _in_range("column", unit.x, activations.shape[3], layer)
    return [_recorded(activations, unit) for unit in units]


def strongest(activations: Tensor, k: int, layer: str, channel: int | None = None) -> list[Unit]:
    """The k strongest units of (B, C, H, W) or (B, C), strongest first.

    With a channel: its k highest positions, of all pictures. Without: the peak of each of the k channels
    whose peak is highest, one unit for each channel (its highest in all pictures). Ties go to the lower
    channel, picture, row, column. Raises UnitError if there are not k.
    """
    if channel is not None:
        _in_range("channel", channel, activations.shape[1], layer)
    channels = list(range(activations.shape[1])) if channel is None else [channel]
    values = activations[:, channels].transpose(0, 1).flatten(1)  # (channels, B * H * W)
    if channel is None:
        peaks = values.amax(dim=1)
        places = (values == peaks[:, None]).int().argmax(dim=1)  # the first place of each peak
        order = _top(peaks, k, f"{layer} has", "channels")
        chosen = [(int(c), int(places[c])) for c in order]
    else:
        order = _top(values[0], k, f"channel {channel} of {layer} has", "positions")
        chosen = [(channel, int(place)) for place in order]
    shape = (activations.shape[0], *activations.shape[2:])
    units = []
    for c, place in chosen:
        image, *position = (int(n) for n in torch.unravel_index(torch.tensor(place), shape))
        y, x = position or (None, None)
        units.append(_recorded(activations, Unit(image, c, y, x)))
    return units


def _top(values: Tensor, k: int, there: str, what: str) -> Tensor:
    """Places of the k highest values, the lower place first among equals."""
    if k < 1:
        raise UnitError(f"{k} units were asked for; ask for 1 or more")
    if k > len(values):
        raise UnitError(f"{k} units were asked for; {there} {len(values)} {what}")
    if bool(values.isnan().any()):
        raise UnitError("the layer holds NaN: there is no strongest unit")
    return torch.sort(values, descending=True, stable=True).indices[:k]


def _recorded(activations: Tensor, unit: Unit) -> Unit:
    place = tuple(n for n in (unit.image, unit.channel, unit.y, unit.x) if n is not None)
    return replace(unit, activation=float(activations[place].max()))


def _masks(places: Sequence[int | None], length: int) -> Tensor:
    """(K, length) bool: one place each, or all of them."""
    masks = torch.zeros(len(places), length, dtype=torch.bool)
    for k, place in enumerate(places):
        masks[k, slice(None) if place is None else place] = True
    return masks


def _in_range(what: str, asked: int, count: int, layer: str) -> None:
    if not 0 <= asked < count:
        raise UnitError(missing_number(what, asked, layer, count))
