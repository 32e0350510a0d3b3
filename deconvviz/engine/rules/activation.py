"""Activation functions: on the way down the signal itself is rectified (paper, section 2.1, "Rectification").

The paper knows only ReLU. The other members of its family are rectified by analogy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.rules.base import Rule, Verdict, rule
from deconvviz.engine.windows import Window

aten = torch.ops.aten


@rule(aten.relu.default, aten.relu_.default)
class ReLU(Rule):
    """y = max(x, 0); mirror: max(signal, 0). Nothing is kept: the recorded sign of x plays no part."""

    windowed = True

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.clamp_min(0)]


@rule(
    aten.hardtanh.default,  # ReLU6 is a hardtanh from 0 to 6
    aten.hardtanh_.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten.elu.default,
    aten.elu_.default,
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
class RectifiedByAnalogy(ReLU):
    """ReLU6, LeakyReLU, ELU, SiLU, GELU, Hardswish, Mish, Softplus."""

    verdict = Verdict.ANALOGY
    how = "the signal is rectified, as the paper does for ReLU"
