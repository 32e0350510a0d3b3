"""Fully connected layers: linear maps, whose mirror is the transposed map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.rules.base import Call, Rule, rule
from deconvviz.engine.windows import Form, Window

aten = torch.ops.aten


class Weighted(Rule):
    """A weight applied along the last dimension, at each position of a map for itself."""

    folds = True
    weight: Tensor  # (in, out)

    def __init__(self, call: Call, argument: int) -> None:
        self.constants = (self.weight,)
        self.derived = call.derived
        self.below = call.forms[argument]
        mixed = self.below is not None and len(self.below.shape) in (self.below.axes or ())
        self.windowed = not mixed  # rows or columns lie along the last dimension

    def form(self, call: Call) -> Form:
        if self.below is None:
            return super().form(call)
        axes = self.below.axes if self.windowed else None
        return Form((*self.below.shape[:-1], call.output.shape[-1]), axes, self.below.folded)


@rule(aten.addmm.default, aten.mm.default)
class Linear(Weighted):
    """y = x W + b with W of shape (in, out); mirror: signal W^T, the bias never added.

    A map with its channels last comes here with rows and columns folded into the batch.
    """

    def __init__(self, call: Call) -> None:
        self.before = 1 if "mat1" in call.arguments else 0  # the bias
        self.weight = call["mat2"]
        self.scale: float = call["alpha"] if self.before else 1
        self.per_picture = call.forms[-1] is not None and call.batch > 1
        super().__init__(call, self.before)

    def refuses(self) -> str:
        if self.derived[self.before :] != (True, False) or self.per_picture:
            return "it multiplies by something other than a weight"
        return "its bias comes from the picture" if self.before and self.derived[0] else ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        x = signal @ self.weight.T * self.scale  # (K, ..., out) -> (K, ..., in)
        return [None] * self.before + [x, None]


@rule(aten.linear.default)
class LinearModule(Weighted):
    """y = x W^T + b with W of shape (out, in), where the dispatcher leaves it whole; mirror: signal W."""

    def __init__(self, call: Call) -> None:
        self.weight = call["weight"]
        super().__init__(call, 0)

    def refuses(self) -> str:
        return "its weight or bias comes from the picture" if any(self.derived[1:]) else ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal @ self.weight] + [None] * (len(self.derived) - 1)  # (K, ..., out) -> (K, ..., in)
