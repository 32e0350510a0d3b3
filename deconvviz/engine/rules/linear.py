"""Fully connected layers: linear maps, whose projection is the transposed map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import IndexMap
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule

aten = torch.ops.aten


class Weighted(Rule):
    """A weight applied along the last dimension, independently at each position."""

    handles_folded_batch = True
    weight: Tensor  # (in, out)

    def __init__(self, call: Call, argument: int) -> None:
        self.constants = (self.weight,)
        self.derived = call.derived
        self.below = call.layouts[argument]
        self.over = frozenset() if self.below is None else self.below.positions & {len(self.below.shape)}
        self.supports_windows = not self.over

    def output_layout(self, call: Call) -> TensorLayout:
        if self.below is None:
            return super().output_layout(call)
        last = len(self.below.shape)
        kept = self.below.moved(lambda dim: None if dim == last else dim)
        return replace(kept, shape=(*self.below.shape[:-1], self.weight.shape[-1]))

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return not self.over

    def index_map(self, argument: int, axis: int) -> IndexMap:
        whole = self.below is not None and self.over == self.below.positions
        return None if self.over and whole else super().index_map(argument, axis)


@rule(aten.addmm.default, aten.mm.default)
class Linear(Weighted):
    """y = x W + b with W of shape (in, out); projection: signal W^T, without the bias.

    A channels-last map arrives here with rows and columns folded into the batch.
    """

    @classmethod
    def of(cls, call: Call) -> Rule:
        return LinearAnywhere(call) if LinearAnywhere.applies(call) else cls(call)

    def __init__(self, call: Call) -> None:
        self.before = 1 if "mat1" in call.arguments else 0  # the bias
        self.weight = call["mat2"]
        self.scale: float = call["alpha"] if self.before else 1
        self.per_image = call.layouts[-1] is not None and call.batch > 1
        super().__init__(call, self.before)

    def unsupported(self) -> str:
        if self.derived[self.before :] != (True, False) or self.per_image:
            return "it multiplies by something other than a weight"
        return "its bias is computed from the image" if self.before and self.derived[0] else ""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = signal @ self.weight.T.to(signal.dtype) * self.scale  # (K, ..., out) -> (K, ..., in)
        return [None] * self.before + [x, None]


class LinearAnywhere(Weighted):
    """A product with one constant matrix whose rows or columns run over the batch (einsum, tensordot).

    y = x W for x of shape (N, in) or (1, N, in), and y = W x for x of shape (in, N) or (1, in, N); N is the
    number of positions in all images.
    """

    any_batch_axis = True

    @staticmethod
    def applies(call: Call) -> bool:
        names = LinearAnywhere._names(call)
        if (
            names is None
            or sum(layout is not None for layout in call.layouts[-2:]) != 1
            or len(call.layouts) != 2
        ):
            return False
        number = 0 if call.layouts[0] is not None else 1
        rank = call[names[0]].dim()
        layout = call.layouts[number]
        assert layout is not None
        if rank == 3 and call[names[0]].shape[0] != 1:
            return False
        return layout.batch_at == rank - 2 + number and (layout.batch_at, rank) != (0, 2)

    @staticmethod
    def _names(call: Call) -> tuple[str, str] | None:
        return ("self", "mat2") if "mat2" in call.arguments and "self" in call.arguments else None

    def __init__(self, call: Call) -> None:
        number = 0 if call.layouts[0] is not None else 1
        matrix: Tensor = call[("mat2", "self")[number]]
        matrix = matrix[0] if matrix.dim() == 3 else matrix
        self.weight = matrix if number == 0 else matrix.T  # (in, out)
        self.number = number
        super().__init__(call, number)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = signal @ self.weight.T.to(signal.dtype)  # (K, ..., out) -> (K, ..., in)
        return [x, None] if self.number == 0 else [None, x]


@rule(aten.linear.default)
class LinearModule(Weighted):
    """y = x W^T + b with W of shape (out, in), if it is not decomposed; projection: signal W."""

    def __init__(self, call: Call) -> None:
        self.weight = call["weight"].T  # (in, out)
        super().__init__(call, 0)

    def unsupported(self) -> str:
        return "its weight or bias is computed from the image" if any(self.derived[1:]) else ""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal @ self.weight.T.to(signal.dtype)] + [None] * (
            len(self.derived) - 1
        )  # (K, ..., out) -> (K, ..., in)
