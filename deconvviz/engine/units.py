"""What is kept of a layer, everything else set to zero: the signal that goes down (paper, section 2.1).

A unit keeps its own activation; a whole channel keeps its map; any tensor shaped like the layer keeps itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deconvviz.engine.windows import Seen, at_position
from deconvviz.errors import UnitError


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
        where = "" if self.y is None else f" at ({self.y}, {self.x})"
        said = "" if math.isnan(self.activation) else f" = {self.activation:.4g}"
        return f"picture {self.image}, channel {self.channel}{where}{said}"


@dataclass(frozen=True)
class Seed:
    """The signals of K units at their layer, and the rows and columns of its map that they fill."""

    signal: Tensor  # (K, *layer)
    seen: Seen  # (K, H) and (K, W) bool
    images: Tensor  # (K,) int64


def of_units(activations: Tensor, units: Sequence[Unit], layer: str) -> tuple[Seed, list[Unit]]:
    """Each unit alone, at the activation that was recorded; and the units with that activation.

    `activations` is the layer's (B, C, H, W) or (B, C). Raises UnitError for a unit outside of it.
    """
    found, signal = [], activations.new_zeros(len(units), *activations.shape[1:])
    rows, columns = [], []
    for k, unit in enumerate(units):
        found.append(_checked(activations, unit, layer))
        image, *place = _place(found[-1])
        index = tuple(place)
        signal[k][index] = activations[image][index]
        if activations.dim() == 4:
            rows.append(_mask(unit.y, activations.shape[2]))
            columns.append(_mask(unit.x, activations.shape[3]))
        else:
            rows.append(torch.ones(1, dtype=torch.bool))
            columns.append(torch.ones(1, dtype=torch.bool))
    images = torch.tensor([unit.image for unit in units])
    return Seed(signal, (torch.stack(rows), torch.stack(columns)), images), found


def of_tensor(activations: Tensor, signal: Tensor, images: Sequence[int], layer: str) -> Seed:
    """Any K tensors shaped like the layer, each for one picture of the recording."""
    if signal.shape[1:] != activations.shape[1:]:
        raise UnitError(
            f"a tensor of shape {tuple(signal.shape)} does not fit {layer}: "
            f"(K, {', '.join(map(str, activations.shape[1:]))}) is needed"
        )
    signal = signal.to(activations)
    if signal.dim() == 4:
        seen = ((signal != 0).any(3).any(1).cpu(), (signal != 0).any(2).any(1).cpu())
    else:
        one = at_position((), None, None)
        seen = (one[0].expand(len(signal), 1), one[1].expand(len(signal), 1))
    return Seed(signal, seen, torch.tensor(list(images), dtype=torch.long))


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


def whole_channel(activations: Tensor, image: int, channel: int, layer: str) -> tuple[Seed, Unit]:
    """Every position of one channel's map, for one picture."""
    _in_range("picture", image, activations.shape[0], layer)
    _in_range("channel", channel, activations.shape[1], layer)
    signal = torch.zeros_like(activations[image : image + 1])  # (1, C, H, W)
    signal[:, channel] = activations[image, channel]
    peak = float(activations[image, channel].max())
    return of_tensor(activations, signal, [image], layer), Unit(image, channel, activation=peak)


def join(seeds: Sequence[Seed]) -> Seed:
    """Several seeds of one layer as one batch."""
    return Seed(
        torch.cat([seed.signal for seed in seeds]),
        (torch.cat([seed.seen[0] for seed in seeds]), torch.cat([seed.seen[1] for seed in seeds])),
        torch.cat([seed.images for seed in seeds]),
    )


def _checked(activations: Tensor, unit: Unit, layer: str) -> Unit:
    _in_range("picture", unit.image, activations.shape[0], layer)
    _in_range("channel", unit.channel, activations.shape[1], layer)
    if activations.dim() == 4:
        if unit.y is None or unit.x is None:
            raise UnitError(f"{unit} has no position; {layer} is a map of {_size(activations)} positions")
        _in_range("row", unit.y, activations.shape[2], layer)
        _in_range("column", unit.x, activations.shape[3], layer)
    elif unit.y is not None or unit.x is not None:
        raise UnitError(f"{unit}: the units of {layer} have no position")
    return _recorded(activations, unit)


def _recorded(activations: Tensor, unit: Unit) -> Unit:
    return replace(unit, activation=float(activations[_place(unit)]))


def _place(unit: Unit) -> tuple[int, ...]:
    return tuple(n for n in (unit.image, unit.channel, unit.y, unit.x) if n is not None)


def _mask(place: int | None, length: int) -> Tensor:
    mask = torch.zeros(length, dtype=torch.bool)
    mask[place] = True
    return mask


def _size(activations: Tensor) -> str:
    return " x ".join(str(n) for n in activations.shape[2:])


def _in_range(what: str, asked: int, count: int, layer: str) -> None:
    if not 0 <= asked < count:
        there = f"there are 0 to {count - 1}" if count > 1 else "there is only 0"
        raise UnitError(f"no {what} {asked} in {layer}: {there}")
