"""Fully connected layers and batch norm: linear maps, whose mirror is the transposed map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.rules.base import Call, Rule, rule
from deconvviz.engine.windows import Window

aten = torch.ops.aten


@rule(aten.addmm.default, aten.mm.default)
class Linear(Rule):
    """y = x W + b with W of shape (in, out); mirror: signal W^T, the bias never added."""

    def __init__(self, call: Call) -> None:
        biased = "mat1" in call.arguments
        self.weight: Tensor = call["mat2"]
        self.constants = (self.weight,)
        self.scale: float = call["alpha"] if biased else 1
        self.before = 1 if biased else 0
        self.derived = call.derived

    def refuses(self) -> str:
        if self.derived[self.before :] != (True, False):
            return "it multiplies by something other than a weight"
        return "its bias comes from the picture" if self.before and self.derived[0] else ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        x = signal @ self.weight.T * self.scale  # (K, out) -> (K, in)
        return [None] * self.before + [x, None]


@rule(aten.linear.default)
class LinearModule(Rule):
    """y = x W^T + b with W of shape (out, in), where the dispatcher leaves it whole; mirror: signal W."""

    def __init__(self, call: Call) -> None:
        self.weight: Tensor = call["weight"]
        self.constants = (self.weight,)
        self.derived = call.derived  # of what goes in, weight, and bias if there is one

    def refuses(self) -> str:
        return "its weight or bias comes from the picture" if any(self.derived[1:]) else ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal @ self.weight] + [None] * (len(self.derived) - 1)  # (K, ..., out) -> (K, ..., in)


@rule(
    aten.native_batch_norm.default,
    aten.cudnn_batch_norm.default,
    aten.miopen_batch_norm.default,
    aten._native_batch_norm_legit_no_training.default,
)
class BatchNorm(Rule):
    """y = (x - mean) / std * scale + shift with recorded statistics; mirror: signal * scale / std."""

    windowed = True

    def __init__(self, call: Call) -> None:
        self.training = bool(call.arguments.get("training", False))
        self.scale: Tensor | None = call["weight"]
        self.variance: Tensor | None = call["running_var"]
        self.epsilon: float = call.arguments["eps" if "eps" in call.arguments else "epsilon"]
        self.constants = tuple(t for t in (self.scale, self.variance) if t is not None)
        self.derived = call.derived

    def refuses(self) -> str:
        if any(self.derived[1:]):
            return "its scale, shift or statistics come from the picture"
        if self.training or self.variance is None:
            return "it normalises by the statistics of the batch, not by recorded ones"
        return ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        assert self.variance is not None  # else refused
        factor = (self.variance + self.epsilon).rsqrt()
        if self.scale is not None:
            factor = factor * self.scale
        x = signal * factor.to(signal.dtype).reshape(-1, *[1] * (signal.dim() - 2))  # by channel
        return [x] + [None] * (len(self.derived) - 1)
