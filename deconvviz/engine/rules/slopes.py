"""Functions of one number whose signal is multiplied by the slope at the recorded value.

Powers, logarithms, absolute values, and clamps at other values than 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.layout import Window
from deconvviz.engine.rules.arithmetic import OF_BRANCHES, Elementwise, Factors
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Support

aten = torch.ops.aten

SLOPE = "a power: the signal times the slope at the recorded value"
STATISTIC = "a statistic, treated as a constant at its recorded value"


@rule(
    aten.pow.Tensor_Scalar, aten.pow_.Scalar, aten.pow.Tensor_Tensor, aten.pow_.Tensor,
    aten.sqrt.default, aten.sqrt_.default,
)  # fmt: skip
class Power(Factors):
    """y = x ** n; projection: the signal times n * x ** (n - 1), as if x were a product of n factors.

    A negative power divides by a statistic: it is a constant.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        exponent = call.arguments.get("exponent", 0.5)
        self.computed = len(self.layouts) > 1 and self.layouts[1] is not None
        self.divides = not self.computed and _is_negative(exponent)
        self.is_number = not isinstance(exponent, Tensor)
        self.kept: Tensor | complex = 1.0
        if self.computed or self.mixes or (self.is_number and exponent == 1):
            return
        self.support = Support.APPROXIMATE
        is_product = self.is_number and exponent in (2, 3, 4)
        self.note = STATISTIC if self.divides else OF_BRANCHES if is_product else SLOPE
        if not self.divides:
            self.exponent = self.keep(call, exponent, None)
            self.kept = self.keep(call, call["self"], call.layout)

    def unsupported(self) -> str:
        return "its exponent is computed from the image" if self.computed else super().unsupported()

    def flows(self, argument: int) -> bool:
        return argument == 0 and not self.divides

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        rest = [None] * (len(self.derived) - 1)
        if not isinstance(self.kept, Tensor):
            return [signal, *rest]
        n = window.cut(self.exponent) if isinstance(self.exponent, Tensor) else self.exponent
        slope = n * window.cut(self.kept) ** (n - 1)
        slope = slope.masked_fill(slope.isinf(), 0)  # of a root at 0
        return [self.share(signal * slope.conj(), 0), *rest]


def _is_negative(exponent: Tensor | float) -> bool:
    if isinstance(exponent, Tensor):
        return not exponent.is_meta and bool((exponent < 0).any())
    return exponent < 0


_BASES = {aten.log2: 2.0, aten.log2_: 2.0, aten.log10: 10.0, aten.log10_: 10.0}


@rule(
    aten.log.default, aten.log_.default, aten.log2.default, aten.log2_.default,
    aten.log10.default, aten.log10_.default, aten.log1p.default, aten.log1p_.default,
)  # fmt: skip
class Logarithm(Factors):
    """y = log(x); projection: the signal / x, divided by the logarithm of the base."""

    support = Support.APPROXIMATE
    note = "a logarithm: the signal times the slope at the recorded value"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        kind = call.op.overloadpacket
        self.scale = 1 / math.log(_BASES.get(kind, math.e))
        self.shift = 1 if kind in (aten.log1p, aten.log1p_) else 0
        self.kept = call.by_image(call["self"], self.whole).clone()

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        slope = self.scale / (window.cut(self.kept) + self.shift)
        return [signal * slope.masked_fill(slope.isinf(), 0).conj()]  # infinite at 0


@rule(aten.abs.default, aten.abs_.default)
class Magnitude(Factors):
    """y = |x|; projection: the signal times the sign of x; of a complex number, times x / |x|."""

    support = Support.APPROXIMATE
    note = "an absolute value: the signal times the sign of the recorded value, as for the larger of x and -x"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        sign = torch.sgn(call["self"])
        self.sign = call.by_image(sign if sign.is_complex() else sign.to(torch.int8), self.whole)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal * window.cut(self.sign)]


@rule(
    aten.clamp.Tensor, aten.clamp_.Tensor, aten.clamp_min.Tensor, aten.clamp_min_.Tensor,
    aten.clamp_max.default, aten.clamp_max_.default, aten.clamp_max.Tensor, aten.clamp_max_.Tensor,
)  # fmt: skip
class Limited(Elementwise):
    """A clamp at other values than 0; projection: the signal where the value is within the bounds."""

    support = Support.APPROXIMATE
    note = "the signal passes where the value is not clamped"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        y, limits = call.output, (call.arguments.get("min"), call.arguments.get("max"))
        if "threshold" in call.arguments:
            inside = y != call["value"]
        else:
            inside = torch.ones_like(y, dtype=torch.bool)
            for limit in limits:  # an in-place call has overwritten its argument, so that the output decides
                inside = inside if limit is None else inside & (y != limit)
        self.inside = call.by_image(inside, self.whole)

    def unsupported(self) -> str:
        computed = any(layout is not None for layout in self.layouts[1:])
        return "its bounds are computed from the image" if computed else super().unsupported()

    def flows(self, argument: int) -> bool:
        return argument == 0

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = self.share(signal * window.cut(self.inside), 0)
        return [x] + [None] * (len(self.derived) - 1)
