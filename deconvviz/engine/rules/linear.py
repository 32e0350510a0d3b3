"""Fully connected layers: linear maps, whose projection is the transposed map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import IndexMap
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.arithmetic import OF_BRANCHES
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten

WITH_CONSTANTS = "a product with weights that are treated as constants"


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
        if LinearAnywhere.applies(call):
            return LinearAnywhere(call)
        return ProductOfOneImage(call) if ProductOfOneImage.applies(call) else cls(call)

    def __init__(self, call: Call) -> None:
        self.before = 1 if "mat1" in call.arguments else 0  # the bias
        self.weight = call["mat2"]
        self.scale: float = call["alpha"] if self.before else 1
        self.both = None not in call.layouts[self.before :]
        super().__init__(call, self.before)

    def unsupported(self) -> str:
        if self.both:
            return "it multiplies the images of a batch with one another"
        if self.derived[self.before :] != (True, False):
            return "it multiplies by something other than a weight"
        return "its bias is computed from the image" if self.before and self.derived[0] else ""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = signal @ self.weight.mH.to(signal.dtype) * self.scale  # (K, ..., out) -> (K, ..., in)
        return [None] * self.before + [x, None]


class ProductOfOneImage(Rule):
    """y = a b + c for a single image, where both may depend on it; projection: as for a batch of products."""

    handles_folded_batch = True
    any_batch_axis = True

    @staticmethod
    def applies(call: Call) -> bool:
        return call.batch == 1 and call.layouts[-1] is not None

    def __init__(self, call: Call) -> None:
        self.before = len(call.layouts) - 2  # the summand
        self.layouts = call.layouts
        self.derived = call.derived
        names = ("mat1", "mat2") if "mat1" in call.arguments else ("self", "mat2")
        pairs = zip(names, call.layouts[-2:], strict=True)
        self.a, self.b = (call[name] if layout is None else call[name].clone() for name, layout in pairs)
        self.constants = tuple(
            t for t, own in zip((self.a, self.b), call.layouts[-2:], strict=True) if own is None
        )
        self.scale: float = call.arguments.get("alpha", 1)
        if None not in call.layouts[-2:]:
            self.support = Support.APPROXIMATE
            self.note = OF_BRANCHES if all(call.derived[-2:]) else WITH_CONSTANTS

    def unsupported(self) -> str:
        return "its bias is computed from the image" if self.before and self.derived[0] else ""

    def output_layout(self, call: Call) -> TensorLayout:
        return call.layout.unplaced(call.output.shape, folded=1)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = signal * self.scale  # (K, n, m)
        found = (x @ self.b.mH.to(x.dtype), self.a.mH.to(x.dtype) @ x)
        pairs = zip(found, self.layouts[-2:], self.derived[-2:], strict=True)
        return [None] * self.before + [_laid(one, layout) if own else None for one, layout, own in pairs]


def _laid(x: Tensor, layout: TensorLayout | None) -> Tensor:
    """Return the signal of a matrix (K, n, m) in the layout of its argument."""
    assert layout is not None
    return x.movedim(1 + layout.batch_at, 1).reshape(len(x), *layout.shape)


class LinearAnywhere(Weighted):
    """A product with constant matrices whose rows or columns run over the batch (einsum, tensordot).

    y = x W for x of shape (N, in) or (M, N, in), and y = W x for x of shape (in, N) or (M, in, N); N is the
    number of positions in all images, and there are M matrices.
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
        return layout.batch_at == rank - 2 + number and (layout.batch_at, rank) != (0, 2)

    @staticmethod
    def _names(call: Call) -> tuple[str, str] | None:
        return ("self", "mat2") if "mat2" in call.arguments and "self" in call.arguments else None

    def __init__(self, call: Call) -> None:
        number = 0 if call.layouts[0] is not None else 1
        matrix: Tensor = call[("mat2", "self")[number]]
        matrix = matrix[0] if len(matrix) == 1 and matrix.dim() == 3 else matrix
        self.weight = matrix if number == 0 else matrix.mT  # (in, out) or (M, in, out)
        self.number = number
        super().__init__(call, number)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        back = self.weight.mH.to(signal.dtype)
        each = back.dim() == 3  # (K, ..., M, out) -> (K, ..., M, in)
        x = (signal.unsqueeze(-2) @ back).squeeze(-2) if each else signal @ back
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
        return [signal @ self.weight.mH.to(signal.dtype)] + [None] * (
            len(self.derived) - 1
        )  # (K, ..., out) -> (K, ..., in)
