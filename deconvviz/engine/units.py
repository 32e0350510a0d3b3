"""Signals at a layer: selected activations, with all others set to zero (paper, section 2.1).

The signal of a unit is its own activation; that of a whole channel is its map. Any tensor with the shape of
the layer can be a signal too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvviz.engine.layout import Seen, TensorLayout, Window, signal_dtype, zeros
from deconvviz.errors import UnitError
from deconvviz.wording import missing_number


@dataclass(frozen=True, repr=False)
class Unit:
    """One position of one channel in one image of a recording, with its activation.

    `y` and `x` are the row and column in the layer's map. Both are None for a unit of a fully connected
    layer, which has no position, and for a whole channel. A map (C, T), as of a signal, has only `x`; a map
    (C, D, H, W), as of a volume or a video, also has `z`, the number of the slice or frame. The `activation`
    of a whole channel is the maximum of its map. It may be left out when a unit is created: methods of
    `Recording` read it from the recording.
    """

    image: int
    channel: int
    y: int | None = None
    x: int | None = None
    activation: float = math.nan
    z: int | None = None

    def __repr__(self) -> str:
        fields = [f"{name}={value!r}" for name, value in self.to_json().items()]
        return f"{type(self).__name__}({', '.join(fields)})"

    @property
    def position(self) -> tuple[int, ...]:
        """Place in the layer's map: (y, x), (x,) or (z, y, x); () for a unit without position."""
        return tuple([n for n in (self.z, self.y, self.x) if n is not None])

    @property
    def place(self) -> tuple[int, ...]:
        """Index in the activations: (image, channel, *position)."""
        return (self.image, self.channel, *self.position)

    @property
    def position_text(self) -> str:
        """The position in words, ``(3, 9)`` or ``17``; an empty string for a unit without position."""
        place = self.position
        if not place or (self.y is None and self.z is None):
            return ", ".join(map(str, place))
        slices = () if self.z is None else (self.z,)
        return f"({', '.join(map(str, (*slices, self.y, self.x)))})"

    def to_json(self) -> dict[str, Any]:
        """Return the unit as a plain dictionary, without `z` if it has none."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("z", None)}

    def __str__(self) -> str:
        position = f" at {self.position_text}" if self.position else ""
        activation = "" if math.isnan(self.activation) else f" = {self.activation:.4g}"
        return f"image {self.image}, channel {self.channel}{position}{activation}"


class Seed:
    """Signals of K units at a layer. They are created in windows, because (K, *layer) would be large."""

    def __init__(self, seen: Seen, image_indices: Tensor) -> None:
        self.seen = seen  # for each axis (K, n) bool: positions of the layer's map with a signal
        self.image_indices = image_indices  # (K,) int64

    def __len__(self) -> int:
        return len(self.image_indices)

    def check(self) -> None:
        """Raise UnitError if a signal would not be finite."""

    def everywhere(self) -> Seed:
        """Return a copy that is projected at full size, without windows."""
        other = copy(self)
        other.seen = tuple([torch.ones_like(axis) for axis in self.seen])
        return other

    def signal(self, part: Tensor, window: Window) -> Tensor:
        """Return the signals of the units with the indices `part` (k,), in their windows.

        The result is (k, C, *positions), or (k, F) for a fully connected layer.
        """
        raise NotImplementedError


def _of_activations(activations: Tensor) -> TensorLayout:
    """Return the layout of activations (B, C, *positions), or of (B, F) in a network for images."""
    axes = activations.dim() - 2
    return TensorLayout.of(activations.shape[1:], axes or 2)


class UnitSeed(Seed):
    """Signals of single units or whole channels: their recorded activations.

    `layout` is that of the layer. It states which axes of the network's input the map has, if it has fewer.
    """

    def __init__(
        self, activations: Tensor, units: Sequence[Unit], layout: TensorLayout | None = None
    ) -> None:
        self.activations, self.units = activations, units
        layout = layout or _of_activations(activations)
        self.tracked = layout.tracked if layout.is_map else ()
        seen = [torch.ones(len(units), length, dtype=torch.bool) for length in layout.lengths]
        for number, axis in enumerate(self.tracked):
            length = activations.shape[2 + number]
            seen[axis] = _masks([unit.position[number] if unit.position else None for unit in units], length)
        super().__init__(tuple(seen), torch.tensor([unit.image for unit in units]))

    def check(self) -> None:
        for unit, value in zip(self.units, _single_values(self.activations, self.units), strict=True):
            if value is None:
                finite = bool(self.activations[unit.place].isfinite().all())
            else:
                finite = math.isfinite(value)
            if not finite:
                raise UnitError(
                    f"unit ({unit}) cannot be projected: its activation is not finite "
                    f"(the layer's dtype is {str(self.activations.dtype).removeprefix('torch.')})"
                )

    def signal(self, part: Tensor, window: Window) -> Tensor:
        tracked = self.tracked
        lengths = window.size if window.layout.axes else tuple([axis.shape[1] for axis in self.seen])
        like = self.activations.new_empty(0, dtype=signal_dtype(self.activations.dtype))
        x = zeros(like, (len(part), self.activations.shape[1], *[lengths[axis] for axis in tracked]))
        single: list[tuple[int, ...]] = []  # for each unit: its number, its place, and that in the window
        for k, (number, first) in enumerate(zip(part.tolist(), window.start.tolist(), strict=True)):
            unit = self.units[number]
            if _is_single(self.activations, unit):
                places = zip(unit.position, tracked, strict=True)
                single.append((k, *unit.place, *[place - first[axis] for place, axis in places]))
                continue
            channel = self.activations[unit.image, unit.channel]
            for axis_of_map, axis in enumerate(tracked):
                channel = channel.narrow(axis_of_map, first[axis], lengths[axis])
            x[k, unit.channel] = channel
        if single:
            numbers, images, channels, *positions = torch.tensor(single).unbind(1)
            from_place = (images, channels, *positions[: len(tracked)])
            to_place = (numbers, channels, *positions[len(tracked) :])
            x[to_place] = self.activations[from_place].to(x.dtype)
        return x


class TensorSeed(Seed):
    """K tensors with the shape of the layer as signals, each for one image of the recording.

    `layout` is as for `UnitSeed`.
    """

    def __init__(
        self,
        activations: Tensor,
        signals: Tensor,
        image_indices: Sequence[int],
        layer: str,
        layout: TensorLayout | None = None,
    ) -> None:
        if signals.shape[1:] != activations.shape[1:] or len(signals) != len(image_indices):
            raise UnitError(
                f"a tensor of shape {tuple(signals.shape)} does not fit {layer}: the shape must be "
                f"({len(image_indices)}, {', '.join(map(str, activations.shape[1:]))})"
            )
        self.signals = signals.detach().to(activations.device, signal_dtype(activations.dtype))
        layout = layout or _of_activations(activations)
        tracked = layout.tracked if layout.is_map else ()
        # of the signals, which have channels first
        axes = tuple([2 + tracked.index(axis) if axis in tracked else None for axis in range(layout.spatial)])
        self.layout = layout.unplaced(signals.shape[1:]).with_axes(axes)
        seen = [torch.ones(len(signals), length, dtype=torch.bool) for length in layout.lengths]
        if tracked:
            some = (self.signals != 0).any(1).cpu()  # (K, *positions)
            for number, axis in enumerate(tracked, 1):
                others = [dim for dim in range(1, some.dim()) if dim != number]
                seen[axis] = some.any(others) if others else some
        super().__init__(tuple(seen), torch.tensor(list(image_indices), dtype=torch.long))

    def check(self) -> None:
        if not bool(self.signals.isfinite().all()):
            raise UnitError("the tensor to be projected contains NaN or infinity")

    def signal(self, part: Tensor, window: Window) -> Tensor:
        x = self.signals[part.to(self.signals.device)]
        here = Window(window.start, window.size, self.layout, torch.arange(len(part)))
        return here.cut(x) if window.layout.axes else x


def checked(activations: Tensor, units: Sequence[Unit], layer: str) -> list[Unit]:
    """Return the units with their recorded activations. Raise UnitError if a unit does not exist."""
    for unit in units:
        _in_range("image", unit.image, activations.shape[0], layer)
        _in_range("channel", unit.channel, activations.shape[1], layer)
        _check_position(unit, activations, layer)
    return _recorded(activations, units)


_COORDINATES = (("z", "slice"), ("y", "row"), ("x", "column"))


def _check_position(unit: Unit, activations: Tensor, layer: str) -> None:
    """Raise UnitError if the map of a layer has no such position, or the unit has a part of one only."""
    lengths = activations.shape[2:]
    named = _COORDINATES[len(_COORDINATES) - len(lengths) :] if len(lengths) else ()
    given = [name for name, _ in _COORDINATES if getattr(unit, name) is not None]
    names = [name for name, _ in named]
    if given and given != names:
        if not names or set(names) < set(given):
            own = "none" if not names else f"only {_and(names)}"
            raise UnitError(f"unit ({unit}) has a position, but the units of {layer} have {own}")
        half = ", ".join(str(getattr(unit, name)) for name in names)
        here = f"image {unit.image}, channel {unit.channel} at ({half})"
        give = "both y and x, or neither" if names == ["y", "x"] else f"{_and(names)}, or none of them"
        raise UnitError(f"unit ({here}) has only half a position. Give {give}")
    for (_, noun), place, length in zip(named, unit.position, lengths, strict=False):
        _in_range("position" if len(lengths) == 1 else noun, place, length, layer)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def strongest(activations: Tensor, k: int, layer: str, channel: int | None = None) -> list[Unit]:
    """Return the k strongest units of activations (B, C, *positions) or (B, C), strongest first.

    With a channel, return its k highest positions in all images. Without one, return the peaks of the k
    channels with the highest peaks: one unit per channel, the highest in all images. Ties go to the lower
    channel, image, row and column. Raise UnitError if there are fewer than k units.
    """
    places = ranked(activations, k, layer, channel).places[:k]
    return units_at(activations, places.tolist())


def strongest_others(activations: Tensor, unit: Unit, count: int) -> list[Unit]:
    """Return the strongest units above zero at the place of a unit, without its own channel.

    There are at most `count`, strongest first; ties go to the lower channel.
    """
    here = activations[unit.image].movedim(0, -1)[unit.position]  # (C,)
    order = torch.sort(here, descending=True, stable=True).indices[: count + 1].tolist()
    found = [channel for channel in order if channel != unit.channel and float(here[channel]) > 0]
    return [replace(unit, channel=channel, activation=float(here[channel])) for channel in found[:count]]


class Ranking(NamedTuple):
    """Candidates for the strongest units of a layer, strongest first."""

    values: Tensor  # (N,) activations
    places: Tensor  # (N, 4): image, channel, row, column; (N, 2 + axes) for a map with other axes


def ranked(activations: Tensor, k: int, layer: str, channel: int | None = None) -> Ranking:
    """Return all candidates of `strongest`, in its order. Raise UnitError if there are fewer than k."""
    if channel is not None:
        _in_range("channel", channel, activations.shape[1], layer)
    some = activations if channel is None else activations[:, channel : channel + 1]
    values = some.transpose(0, 1).flatten(1)  # (channels, B * positions)
    if channel is None:
        flat = values.argmax(dim=1)  # the first position of each peak
        peaks = values.gather(1, flat[:, None])[:, 0]
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


def units_at(activations: Tensor, places: Iterable[Sequence[int]]) -> list[Unit]:
    """Return the units at places (image, channel, *position), or (image, channel), with activations."""
    units = []
    for image, channel, *position in places:
        named = dict(zip(("x", "y", "z"), reversed(position), strict=False))
        units.append(Unit(image, channel, **named))
    return _recorded(activations, units)


def _order(values: Tensor, k: int, there: str, what: str) -> Tensor:
    """Return the positions of the values from the highest to the lowest. Ties go to the lower position."""
    if k < 1:
        raise UnitError(f"{k} units were requested. Request 1 or more")
    if k > len(values):
        raise UnitError(f"{k} units were requested, but {there} {len(values)} {what}")
    if bool(values.isnan().any()):
        raise UnitError("the layer's activations contain NaN: there is no strongest unit")
    return torch.sort(values, descending=True, stable=True).indices


def _recorded(activations: Tensor, units: Sequence[Unit]) -> list[Unit]:
    """Return the units with their activations; that of a whole channel is the maximum of its map."""
    found = []
    for unit, value in zip(units, _single_values(activations, units), strict=True):
        activation = float(activations[unit.place].max()) if value is None else value
        found.append(unit if unit.activation == activation else replace(unit, activation=activation))
    return found


def _single_values(activations: Tensor, units: Sequence[Unit]) -> list[float | None]:
    """Return the activation of each unit, read at once; None for a whole channel."""
    single = [unit.place for unit in units if _is_single(activations, unit)]
    numbers = iter(activations[torch.tensor(single).unbind(1)].tolist() if single else ())
    return [next(numbers) if _is_single(activations, unit) else None for unit in units]


def _is_single(activations: Tensor, unit: Unit) -> bool:
    """Return whether a unit is one position of a map, or one of a fully connected layer."""
    return len(unit.place) == activations.dim()


def _masks(places: Sequence[int | None], length: int) -> Tensor:
    """Return masks (K, length) bool with one position each, or all positions for None."""
    whole = torch.tensor([place is None for place in places])
    masks = whole[:, None].repeat(1, length)
    masks[torch.arange(len(places)), torch.tensor([0 if place is None else place for place in places])] = True
    return masks


def _in_range(noun: str, number: int, count: int, layer: str) -> None:
    if not 0 <= number < count:
        raise UnitError(missing_number(noun, number, layer, count))
