"""Activation functions: the projection rectifies the signal itself (paper, section 2.1, "Rectification").

The paper uses only ReLU. Similar functions are rectified approximately in the same way. A function that
saturates (sigmoid, tanh, softmax) acts as a gate or a weight and is treated as a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.index_maps import IndexMap
from deconvviz.engine.layout import Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support
from deconvviz.engine.rules.slopes import STATISTIC, Limited
from deconvviz.engine.spellings import Activation

aten = torch.ops.aten


@rule(aten.relu.default, aten.relu_.default)
class ReLU(Rule):
    """y = max(x, 0); projection: max(signal, 0). Nothing is recorded: the sign of x is not used."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True
    is_gradient = False
    repeats = True
    returns_new = True

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.clamp_min(0)]

    def project_over(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.clamp_min_(0)]


@rule(
    aten.hardtanh.default,  # ReLU6 is a hardtanh from 0 to 6
    aten.hardtanh_.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten._prelu_kernel.default,
    aten.elu.default,
    aten.elu_.default,
    aten.celu.default,
    aten.celu_.default,
    aten.silu.default,
    aten.silu_.default,
    aten.gelu.default,
    aten.gelu_.default,
    aten.hardswish.default,
    aten.hardswish_.default,
    aten.mish.default,
    aten.mish_.default,
    aten.softplus.default,
)
class RectifiedLikeReLU(ReLU):
    """ReLU6, LeakyReLU, PReLU, ELU, CELU, SELU, SiLU, GELU, Hardswish, Mish, Softplus."""

    support = Support.APPROXIMATE
    note = "the signal is rectified, as the paper does for ReLU"
    repeats = True

    def __init__(self, call: Call) -> None:
        self.derived = call.derived  # of x, and of the slope if it is learned

    def unsupported(self) -> str:
        return "its slope is computed from the image" if any(self.derived[1:]) else ""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.clamp_min(0)] + [None] * (len(self.derived) - 1)


@rule(
    aten.clamp.default, aten.clamp_.default, aten.clamp_min.default, aten.clamp_min_.default,
    aten.threshold.default, aten.threshold_.default,
)  # fmt: skip
class Clamp(ReLU):
    """min(max(x, 0), b): a ReLU or ReLU6 written as a clamp."""

    @classmethod
    def of(cls, call: Call) -> Rule:
        clamp = cls(call)
        return Limited(call) if clamp.unsupported() else clamp

    def __init__(self, call: Call) -> None:
        self.low = call["threshold"] if "threshold" in call.arguments else call["min"]
        self.high = call.arguments.get("max")
        self.other = call.arguments.get("value", 0)
        if self.high is not None:
            self.support, self.note = RectifiedLikeReLU.support, RectifiedLikeReLU.note

    def unsupported(self) -> str:
        return "" if self.low == 0 == self.other else "it clamps at a value other than 0"


class Spelled(ReLU):
    """An activation function written as several calls (see `spellings`).

    The signal goes directly from the last call to the input of the first: rectified, and multiplied by the
    slope of the function for large positive numbers.
    """

    def __init__(self, call: Call, activation: Activation) -> None:
        self.root = activation.root  # the value that the first call reads
        self.gain, self.is_relu = activation.gain, activation.is_relu
        self.count = len(call.derived)
        if not activation.is_relu:
            self.support, self.note = RectifiedLikeReLU.support, RectifiedLikeReLU.note

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = signal.clamp_min(0)
        return [x if self.gain == 1 else x * self.gain] + [None] * (self.count - 1)


class Constant(Rule):
    """Operation that the projection treats as a constant: its inputs receive no signal."""

    support = Support.APPROXIMATE
    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def flows(self, argument: int) -> bool:
        return False


@rule(
    aten.sigmoid.default,
    aten.sigmoid_.default,
    aten.hardsigmoid.default,
    aten.hardsigmoid_.default,
    aten.tanh.default,
    aten.tanh_.default,
)
class Gate(Constant):
    """Sigmoid, hardsigmoid, tanh."""

    note = "treated as a constant at its recorded value"


@rule(aten._softmax.default, aten._safe_softmax.default)
class Softmax(Constant):
    """Weights that sum to 1 along a dimension: attention, routing, class probabilities."""

    note = Gate.note

    def __init__(self, call: Call) -> None:
        layout = call.layout
        dim = layout.dim(call["dim"])
        self.axis = layout.axes.index(dim) if layout.axes and dim in layout.axes else None
        self.over_all = layout.positions == {dim}

    def dependency_map(self, argument: int, axis: int) -> IndexMap:
        return None if axis == self.axis or self.over_all else super().dependency_map(argument, axis)


@rule(aten.reciprocal.default, aten.rsqrt.default)
class Inverse(Constant):
    """1 / x and 1 / sqrt(x), which normalise by a statistic."""

    note = STATISTIC
