"""Writes to lists of positions; the projection sends the signal at these positions to what was written.

The rest of the signal goes to the map that was there before. Positions are constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.arithmetic import Blank
from deconvviz.engine.rules.indexing import (
    DIFFERENT,
    OVER_IMAGES,
    by_dimension,
    gathered,
    of_units,
    places_of,
    positions_in,
)
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten

SEVERAL = "it writes several values to one position"
COMPUTED = "the positions of a write that are computed from the image are treated as constants"


class Written(Rule):
    """y = x, but y[positions[n]] = values[n]; projection: to the values from there, and to x from elsewhere.

    If the call `adds` the values instead, x receives the whole signal.
    """

    needs_input_values = True
    adds = False
    factor: float = 1.0

    def __init__(self, call: Call) -> None:
        self.below = call.layouts[0] or self._of_constant(call)
        self.count = len(call.layouts)
        values = [call.arguments.get(name) for name in ("values", "source", "src", "value")]
        has_values = any(isinstance(one, Tensor) for one in values)
        self.source = call.layouts[-1] if has_values else None
        self.receives = has_values and call.derived[-1]
        self.computed = any(layout is not None for layout in call.layouts[1 : self.count - has_values])
        if self.computed:
            self.support, self.note = Support.APPROXIMATE, COMPUTED
        same = tuple(call["self"].shape) == self.below.network_shape(call.batch)
        self.fault = "" if same else "it writes maps into a tensor without a batch"

    def _of_constant(self, call: Call) -> TensorLayout:
        """Return the layout of a tensor that did not depend on the image."""
        shape = tuple(call["self"].shape)
        return (
            call.layout.like(shape[1:]) if shape[0] == call.batch else call.layout.unplaced(shape, folded=1)
        )

    def settle(self, call: Call, positions: Tensor, covered: Sequence[int]) -> None:
        """Store the positions of the values, (B, ...) or, if they are equal for all images, (1, ...).

        With a single image, they are (..., ), because the first dimension need not be the batch.
        `covered` are the dimensions of the map along which the positions select.
        """
        of_one = call.batch == 1
        self.shape = tuple(positions.shape) if of_one else (1, *positions.shape[1:])  # for one image
        self.positions = positions.reshape(1, -1) if of_one else positions.flatten(1)  # (B or 1, N)
        source, below = self.source, self.below
        self.tracked = (
            source is not None
            and (source.place, source.lengths) == (below.place, below.lengths)
            and below.positions.isdisjoint(covered)
        )
        if source is not None:
            own = source.network_shape(1)
            if source.batch_at or len(own) > len(self.shape) or (not of_one and len(own) != len(self.shape)):
                self.fault = self.fault or "it writes the images of a batch to other images"
        if self.receives and not self.adds and not positions.is_meta and _repeats(self.positions):
            self.fault = self.fault or SEVERAL

    def unsupported(self) -> str:
        return self.fault

    def flows(self, argument: int) -> bool:
        return argument == 0 or (argument == self.count - 1 and self.receives)

    def output_layout(self, call: Call) -> TensorLayout:
        return self.below

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return argument == 0 or (not self.fault and self.tracked)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        flat, places = signal.flatten(1), of_units(self.positions, window)
        rest = signal if self.adds else flat.scatter(1, places, 0).reshape(signal.shape)
        found: list[Tensor | None] = [rest] + [None] * (self.count - 1)
        if self.receives and self.source is not None:
            values = flat.gather(1, places).unflatten(1, self.shape) * self.factor
            found[-1] = self.to_source(values, self.source).reshape(len(signal), *self.source.shape)
        return found

    def to_source(self, values: Tensor, source: TensorLayout) -> Tensor:
        """Return the signals of written values, summed over dimensions along which they were broadcast."""
        own = source.network_shape(1)
        own = (*[1] * (len(self.shape) - len(own)), *own)
        dims = [d for d, (few, many) in enumerate(zip(own, self.shape, strict=True), 1) if few != many]
        return values.sum(dims, keepdim=True) if dims else values


def _repeats(flat: Tensor) -> bool:
    """Return whether a position occurs twice in a row of (B, N)."""
    ordered = flat.sort(1).values
    return bool((ordered[:, 1:] == ordered[:, :-1]).any())


@rule(aten.index_put.default, aten.index_put_.default, aten._unsafe_index_put.default)
class IndexPut(Written):
    """``x[:, [0, 2]] = values``, and with `accumulate` ``x[:, [0, 2]] += values``."""

    handles_folded_batch = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        lists = call["indices"]
        mask = len(lists) == 1 and lists[0].dtype in (torch.bool, torch.uint8)
        return MaskedPut(call) if mask and call.layouts[-1] is None else cls(call)

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.adds = bool(call["accumulate"])
        lists = by_dimension(call["indices"])
        lists += [None] * (call["self"].dim() - len(lists))
        if lists[0] is not None and call.batch > 1:
            self.fault = OVER_IMAGES
        elif self.computed and call.batch > 1:
            self.fault = DIFFERENT
        elif lists[0] is None and places_of(lists)[0] != 0:
            self.fault = "its lists of positions are apart"
        if not self.fault:
            covered = [self.below.dim(dim) for dim, one in enumerate(lists) if one is not None]
            self.settle(call, positions_in(self.below, lists), covered)


class MaskedPut(Blank):
    """``x[mask] = number``: the signal goes where the mask is False."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.adds = bool(call["accumulate"])

    def mask_of(self, call: Call) -> Tensor:
        mask: Tensor = call["indices"][0].bool()
        return mask.reshape(*mask.shape, *[1] * (call["self"].dim() - mask.dim()))

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        found = super().project(signal, window, input_windows)
        return [signal, *found[1:]] if self.adds else found


@rule(
    aten.index_copy.default, aten.index_copy_.default, aten.index_add.default, aten.index_add_.default,
    aten.index_fill.int_Scalar, aten.index_fill_.int_Scalar,
    aten.index_fill.int_Tensor, aten.index_fill_.int_Tensor,
)  # fmt: skip
class DimensionWritten(Written):
    """`index_copy`, `index_add`, `index_fill`: positions of one dimension."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.adds = call.op.overloadpacket in (aten.index_add, aten.index_add_)
        self.factor = float(call.arguments.get("alpha", 1))
        dim = call["dim"] % call["self"].dim()
        if dim == 0:
            self.fault = OVER_IMAGES
        elif self.computed and call.batch > 1:
            self.fault = DIFFERENT
        if not self.fault:
            places = call["index"].reshape(-1).long()
            flat = torch.arange(math.prod(self.below.shape), device=places.device)
            self.settle(call, flat.reshape(1, *self.below.shape).index_select(dim, places), [dim])


@rule(
    aten.scatter.src, aten.scatter_.src, aten.scatter.value, aten.scatter_.value,
    aten.scatter_add.default, aten.scatter_add_.default,
)  # fmt: skip
class Scattered(Written):
    """`scatter`, `scatter_add`: one position of a dimension for each value."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.adds = call.op.overloadpacket in (aten.scatter_add, aten.scatter_add_)
        places: Tensor = call["index"]
        if call["dim"] % call["self"].dim() == 0:
            self.fault = OVER_IMAGES
        elif len(places) != call.batch:
            self.fault = "it leaves out some of the images of a batch"
        if not self.fault:
            flat = gathered(self.below.shape, call["dim"], places)
            partial = places.shape[1:] != call["self"].shape[1:]
            covered = range(1, places.dim()) if partial else [call["dim"] % places.dim()]
            self.settle(call, flat.unflatten(1, places.shape[1:]), covered)

    def to_source(self, values: Tensor, source: TensorLayout) -> Tensor:
        """Return the signals in the shape of the source, of which `scatter` may use only the first part."""
        pads: list[int] = []
        for own, n in zip(source.network_shape(1)[::-1], self.shape[::-1], strict=True):
            pads += [0, own - n]
        return torch.nn.functional.pad(values, pads) if any(pads) else values
