"""Normalisation: subtract a mean, divide by a standard deviation, scale.

Batch norm in evaluation mode has fixed statistics, so it is linear. The statistics of layer, group and
instance norm are computed from the image and treated as constants (approximate).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.index_maps import IndexMap
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.reduction import Reduction
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support
from deconvviz.engine.rules.slopes import STATISTIC

aten = torch.ops.aten
CONSTANT_STATISTICS = "mean and variance are treated as constants at their recorded values"


class Normalisation(Rule):
    """y = (x - mean) / std * scale + shift; projection: signal * scale / std."""

    supports_windows = True
    support: Support
    returns_new = True

    def __init__(self, call: Call) -> None:
        self.scale: Tensor | None = call["weight"]
        self.constants = () if self.scale is None else (self.scale,)
        self.derived = call.derived
        self.below = call.layout

    def unsupported(self) -> str:
        return "its scale, shift or statistics are computed from the image" if any(self.derived[1:]) else ""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal * self.factor(window).to(signal.dtype)] + [None] * (len(self.derived) - 1)

    def factor(self, window: Window) -> Tensor:
        """Return scale / std, which broadcasts with signals (K, *window.shape)."""
        raise NotImplementedError


def _wide(numbers: Tensor) -> Tensor:
    """Return numbers in single precision or better."""
    return numbers if numbers.dtype == torch.float64 else numbers.float()


def _by_channel(numbers: Tensor, layout: TensorLayout) -> Tensor:
    """Reshape (C,) or (B, C) to (..., C, 1, 1)."""
    return numbers.reshape(*numbers.shape, *[1] * (len(layout.shape) - 1))


@rule(
    aten.native_batch_norm.default,
    aten.cudnn_batch_norm.default,
    aten.miopen_batch_norm.default,
    aten._native_batch_norm_legit_no_training.default,
    aten._native_batch_norm_legit.default,
    aten._native_batch_norm_legit.no_stats,
)
class BatchNorm(Normalisation):
    """Batch norm in evaluation mode, with stored statistics."""

    repeats = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        if InstanceNorm.applies(call):
            return InstanceNorm(call)
        by_batch = call.arguments.get("training", False) or call.arguments.get("running_var") is None
        return BatchStatistics(call) if by_batch else cls(call)

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.variance: Tensor = call["running_var"]
        self.epsilon: float = call.arguments["eps" if "eps" in call.arguments else "epsilon"]
        self.constants = (*self.constants, self.variance)

    def factor(self, window: Window) -> Tensor:
        return _by_channel(self.of_channels(), self.below)

    def of_channels(self) -> Tensor:
        """Return scale / std of each channel, (C,)."""
        factor = (_wide(self.variance) + self.epsilon).rsqrt()
        return factor if self.scale is None else factor * _wide(self.scale)


class BatchStatistics(Normalisation):
    """Batch norm by the statistics of the batch, which is supported for a batch of one image."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.several = call.batch > 1
        if not self.several:
            self.support, self.note = Support.APPROXIMATE, CONSTANT_STATISTICS
            self.kept = call.outputs[2].clone()  # (C,): 1 / std

    def unsupported(self) -> str:
        if self.several:
            return "it normalises by the statistics of the batch, not by stored ones"
        return super().unsupported()

    def factor(self, window: Window) -> Tensor:
        factor = _wide(self.kept)
        return _by_channel(factor if self.scale is None else factor * _wide(self.scale), self.below)

    def dependency_map(self, argument: int, axis: int) -> IndexMap:
        return None


class InstanceNorm(Normalisation):
    """Instance norm: PyTorch calls batch norm with the channels of all images, (1, B * C, H, W)."""

    handles_folded_batch = True
    any_batch_axis = True

    @staticmethod
    def applies(call: Call) -> bool:
        layout = call.layouts[0]
        return layout is not None and layout.batch_at == 1 and layout.shape[layout.folded] == 1

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        variance: Tensor | None = call.arguments.get("running_var")
        self.of_the_image = bool(call.arguments.get("training", False)) or variance is None
        if self.of_the_image or variance is None:
            self.support, self.note = Support.APPROXIMATE, CONSTANT_STATISTICS
            inverse = call.outputs[2]  # (B * C,): 1 / std
        else:
            epsilon = call.arguments["eps" if "eps" in call.arguments else "epsilon"]
            inverse = (_wide(variance) + epsilon).rsqrt()
        if self.scale is not None:  # that of each channel, once for each image
            inverse = _wide(inverse) * _wide(self.scale)
        lead = self.below.shape[: self.below.folded]
        inverse = inverse.reshape(call.batch, *lead)
        self.kept = inverse.reshape(*inverse.shape, *[1] * (len(self.below.shape) - len(lead))).clone()

    def factor(self, window: Window) -> Tensor:
        return window.cut(self.kept)

    def dependency_map(self, argument: int, axis: int) -> IndexMap:
        return None if self.of_the_image else super().dependency_map(argument, axis)


@rule(aten.native_layer_norm.default)
class LayerNorm(Normalisation):
    """Layer norm: mean and standard deviation over the last dimensions of one image."""

    support = Support.APPROXIMATE
    note = CONSTANT_STATISTICS
    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        rank, over = len(self.below.shape), len(call["normalized_shape"])
        self.over_images = self.below.batch_at >= call["input"].dim() - over
        self.shape = (*self.below.shape[: rank - over], *[1] * over)
        inverse = call.outputs[2]  # 1 / std
        if not self.over_images:
            inverse = inverse.movedim(self.below.batch_at, 0).reshape(call.batch, *self.shape)
        self.kept = inverse.clone()
        self.mixed = [dim for dim in self.below.dims if dim > rank - over]
        self.over_all = bool(self.below.positions) and min(self.below.positions) > rank - over

    def unsupported(self) -> str:
        return "it normalises over the images of a batch" if self.over_images else super().unsupported()

    def factor(self, window: Window) -> Tensor:
        factor = window.cut(_wide(self.kept))
        if self.scale is not None:
            whole = self.scale.reshape(
                *[1] * (len(self.below.shape) + 1 - self.scale.dim()), *self.scale.shape
            )
            factor = factor * window.cut(_wide(whole))
        return factor

    def dependency_map(self, argument: int, axis: int) -> IndexMap:
        mixed = self.over_all or (self.below.axes is not None and self.below.axes[axis] in self.mixed)
        return None if mixed else super().dependency_map(argument, axis)


@rule(aten.native_group_norm.default)
class GroupNorm(Normalisation):
    """Group norm: mean and standard deviation over groups of channels of one image."""

    support = Support.APPROXIMATE
    note = CONSTANT_STATISTICS

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        groups = int(call["group"])
        self.kept = call.outputs[2].reshape(call.batch, groups).clone()  # 1 / std
        self.each = self.below.shape[0] // groups  # channels

    def factor(self, window: Window) -> Tensor:
        images = window.image_indices.to(self.kept.device)
        factor = _wide(self.kept)[images].repeat_interleave(self.each, dim=1)  # (K, C)
        if self.scale is not None:
            factor = factor * _wide(self.scale)
        return _by_channel(factor, self.below)

    def dependency_map(self, argument: int, axis: int) -> IndexMap:
        return None


@rule(
    aten.linalg_vector_norm.default,
    aten.norm.ScalarOpt_dim,
    aten.var.correction,
    aten.std.correction,
    aten.var_mean.correction,
    aten.std_mean.correction,
)
class Spread(Reduction):
    """Norm, variance or standard deviation, by which something is divided later."""

    support = Support.APPROXIMATE
    note = STATISTIC

    def flows(self, argument: int) -> bool:
        return False
