"""Selection by lists of positions; the projection adds each signal to the position that was selected.

Positions are constants, also if they are computed from the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.activation import Constant
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten

COMPUTED = "positions that are computed from the image are treated as constants"
OVER_IMAGES = "its positions select images of the batch"
DIFFERENT = "its positions may differ between the images of a batch"


@rule(aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_select.default)
class Selection(Rule):
    """Positions of one dimension in any order, ``x[:, [2, 1, 0]]``; projection: each back to its position."""

    handles_folded_batch = True
    any_batch_axis = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        if call.layouts[0] is None:
            return TableLookup(call)
        if "dim" in call.arguments:
            return cls(call, call["dim"], call["index"])
        lists = [(dim, one) for dim, one in enumerate(call["indices"]) if one is not None]
        if len(lists) == 1 and lists[0][1].dim() == 1:
            return cls(call, *lists[0])
        return IndexedMap(call)

    def __init__(self, call: Call, dim: int, positions: Tensor) -> None:
        self.below = call.layout
        self.dim = self.below.dim(dim)
        self.alone = self.dim == 0 and only_image(call)
        self.positions = numbers(positions)
        self.count = call.output.shape[dim]
        self.axis = self.below.axis_of(self.dim)
        self.joined = self.dim == self.below.joint
        self.supports_windows = self.axis is None and not self.joined and not self.alone
        self.arguments = len(call.layouts)
        self.fault = _fault(call)
        self.support, self.note = _support(call)

    def unsupported(self) -> str:
        return OVER_IMAGES if self.dim == 0 and not self.alone else self.fault

    def flows(self, argument: int) -> bool:
        return argument == 0

    def output_layout(self, call: Call) -> TensorLayout:
        if self.dim == 0:
            return self.below.unplaced(call.output.shape, folded=1)
        shape = list(self.below.shape)
        shape[self.dim - 1] = self.count
        return replace(self.below.without([self.dim], keep=True), shape=tuple(shape))

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return axis != self.axis and not self.joined and not self.alone

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if axis != self.axis or self.positions.is_meta:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return torch.eye(n_in, dtype=torch.bool)[self.positions.cpu()]

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        shape, dim = list(signal.shape), self.dim or 1
        shape[dim] = self.below.network_shape(1)[0] if self.alone else self.below.shape[dim - 1]
        x = signal.new_zeros(shape).index_add_(dim, self.positions, signal)
        x = x.reshape(len(x), *self.below.shape) if self.alone else x
        return [x] + [None] * (self.arguments - 1)


class TableLookup(Constant):
    """Entries of a table of weights, at positions that are computed from the image."""

    note = COMPUTED


class Taken(Rule):
    """Any values of a map: y[n] = x[positions[n]]; projection: the signals are added at the positions."""

    below: TensorLayout
    positions: Tensor  # (B, N) or, equal for all images, (1, N): flat positions in a map
    above: TensorLayout
    tracked: bool  # whether each row and column depends only on the same one
    fault: str

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.arguments = len(call.layouts)
        self.support, self.note = _support(call)

    def unsupported(self) -> str:
        return self.fault

    def flows(self, argument: int) -> bool:
        return argument == 0

    def output_layout(self, call: Call) -> TensorLayout:
        return self.above

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return self.tracked

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = signal.new_zeros(len(signal), math.prod(self.below.shape))
        x.scatter_add_(1, of_units(self.positions, window), signal.flatten(1))
        return [x.unflatten(1, self.below.shape)] + [None] * (self.arguments - 1)


class IndexedMap(Taken):
    """Lists for several dimensions, ``x[:, :, rows, columns]``."""

    any_batch_axis = True
    handles_folded_batch = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        lists = by_dimension(call["indices"])
        lists += [None] * (call["self"].dim() - len(lists))
        batch = places_of(lists)[self.below.batch_at]
        self.fault = OVER_IMAGES if batch is None and not only_image(call) else _fault(call)
        self.above, self.tracked = self.below.unplaced(call.output.shape, folded=1), False
        if not self.fault:
            self.positions = positions_in(self.below, lists).movedim(batch or 0, 0).reshape(1, -1)
            if batch is not None:
                self.above, self.tracked = self._layout(call, lists, batch)

    def _layout(self, call: Call, lists: list[Tensor | None], batch: int) -> tuple[TensorLayout, bool]:
        """Return the layout of the output. Positions are tracked if no list selects among them."""
        lead = self.below.shape[: self.below.folded]
        rest = [n for dim, n in enumerate(call.output.shape) if dim != batch]
        above = self.below.unplaced((*lead, *rest), folded=len(lead), batch_at=batch)
        guess = above if lead or batch else above.like(above.shape)
        pairs = enumerate(places_of(lists))
        found = {
            self.below.dim(dim): above.dim(new) for dim, new in pairs if new is not None and new != batch
        }
        found |= {dim: dim for dim in range(1, len(lead) + 1)}
        if not self.below.positions or any(dim not in found for dim in self.below.positions):
            return guess, False
        return replace(self.below.moved(found.get), shape=above.shape, batch_at=batch), True


@rule(aten.gather.default)
class Gathered(Taken):
    """One position of a dimension for each output, ``torch.gather``, ``torch.take_along_dim``."""

    @classmethod
    def of(cls, call: Call) -> Rule:
        return TableLookup(call) if call.layouts[0] is None else cls(call)

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        places: Tensor = call["index"]
        dim = self.below.dim(call["dim"])
        shape = tuple(places.shape[1:])
        others = [n for n in range(1, places.dim()) if n != dim]
        same = all(shape[n - 1] == self.below.shape[n - 1] for n in others)
        self.tracked = same and dim not in self.below.positions
        self.above = replace(self.below, shape=shape) if self.tracked else self.below.like(shape)
        self.fault = OVER_IMAGES if dim == 0 else ""
        if len(places) != call.batch:
            self.fault = "it leaves out some of the images of a batch"
        if not self.fault:
            self.positions = gathered(self.below.shape, call["dim"], places)


def gathered(shape: Sequence[int], dim: int, places: Tensor) -> Tensor:
    """Return the flat positions (B, N) in maps (B, *shape) that `torch.gather` reads."""
    flat = torch.arange(math.prod(shape), device=places.device).reshape(1, *shape)
    return flat.expand(len(places), *shape).gather(dim, places).flatten(1)


def of_units(positions: Tensor, window: Window) -> Tensor:
    """Return the positions (K, N) for the image of each unit."""
    if len(positions) == 1:
        return positions.expand(len(window.image_indices), -1)
    return positions[window.image_indices.to(positions.device)]


def numbers(places: Tensor) -> Tensor:
    """Return a list of positions as integers. A mask states which positions are selected."""
    return places.nonzero()[:, 0] if places.dtype in (torch.bool, torch.uint8) else places.long()


def by_dimension(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return one list of positions for each dimension. A mask covers as many dimensions as it has."""
    found: list[Tensor | None] = []
    for one in indices:
        if one is not None and one.dtype in (torch.bool, torch.uint8):
            found += one.nonzero().unbind(1)
        else:
            found.append(one)
    return found


def positions_in(layout: TensorLayout, lists: Sequence[Tensor | None]) -> Tensor:
    """Return the flat positions of the selected values of one map, in the shape that one image would have."""
    device = next(one.device for one in lists if one is not None)
    flat = torch.arange(math.prod(layout.shape), device=device)
    pieces = math.prod(layout.shape[: layout.folded])
    in_map = flat.reshape(pieces, *layout.shape[layout.folded :]).movedim(0, layout.batch_at)
    return aten.index.Tensor(in_map, list(lists))  # type: ignore[no-any-return]


def only_image(call: Call) -> bool:
    """Return whether all values of the first argument belong to one image, with the batch first."""
    return call.batch == 1 and (call.layouts[0] is None or call.layouts[0].batch_at == 0)


def places_of(lists: Sequence[Tensor | None]) -> list[int | None]:
    """Return where each dimension is in the result of indexing; None for those that a list selects from.

    The dimensions of the lists are in the place of the first list, or come first if the lists are apart.
    """
    listed = [dim for dim, one in enumerate(lists) if one is not None]
    rank = max(one.dim() for one in lists if one is not None)
    together = listed == list(range(listed[0], listed[0] + len(listed)))
    first = listed[0] if together else 0
    places: list[int | None] = []
    for dim, one in enumerate(lists):
        before = sum(other < dim for other in listed)
        kept = dim - before  # its number among the other dimensions
        places.append(None if one is not None else kept + (rank if kept >= first else 0))
    return places


def _fault(call: Call) -> str:
    """Return why positions that are computed from the image are not equal for all images of a batch."""
    several = call.batch > 1 and any(layout is not None for layout in call.layouts[1:])
    return DIFFERENT if several else ""


def _support(call: Call) -> tuple[Support, str]:
    computed = any(layout is not None for layout in call.layouts[1:])
    return (Support.APPROXIMATE, COMPUTED) if computed else (Support.EXACT, "")
