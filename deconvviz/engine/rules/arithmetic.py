"""Elementwise sums and products, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten


class Elementwise(Rule):
    """Elementwise operation; the signal of a broadcast term is summed over its broadcast dimensions."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.derived = call.derived
        self.layouts = call.layouts
        self.whole = self.output_layout(call)
        self.mixes = tuple(call.output.shape) != self.whole.network_shape(call.batch) or any(
            layout is not None and len(layout.shape) != len(self.whole.shape) for layout in call.layouts
        )
        tensors = [t for t in call.arguments.values() if isinstance(t, Tensor)]
        self.shape = tuple(call.output.shape)
        self.shapes = [tuple(t.shape) for t in tensors]
        self.real = [not t.is_complex() for t in tensors]

    def output_layout(self, call: Call) -> TensorLayout:
        """Return the layout of the argument that has the shape of the output; the others are broadcast."""
        real = tuple(call.output.shape)
        layouts = [layout for layout in call.layouts if layout is not None]
        for layout in layouts:
            if layout.network_shape(call.batch) == real:
                return layout
        widest = layouts[0]
        return self._widened(call, layouts) or widest.like(real[1:])

    @staticmethod
    def _widened(call: Call, layouts: Sequence[TensorLayout]) -> TensorLayout | None:
        """Return the layout of an output that is larger than all arguments, (C, 1) + (1, W)."""
        real = tuple(call.output.shape)
        for layout in layouts:
            own, at = layout.network_shape(call.batch), layout.batch_at
            if len(own) == len(real) and own[at] == real[at] and (layout.folded or at):
                rest = [n for dim, n in enumerate(real) if dim != at]
                same = {layout.dim(dim): layout.dim(dim) for dim, n in enumerate(own) if n == real[dim]}
                same |= {dim: dim for dim in range(1, layout.folded + 1)}
                return replace(layout.moved(same.get), shape=(*layout.shape[: layout.folded], *rest))
        return None

    def unsupported(self) -> str:
        if self.mixes:
            some = next((s for s in self.shapes if s != self.shape), self.shape)
            return f"it broadcasts across the images of a batch: {some} to {self.shape}"
        return ""

    def is_elementwise(self, argument: int, axis: int) -> bool:
        """Return False if the term is broadcast along the axis, or has its rows and columns elsewhere."""
        layout, whole = self.layouts[argument], self.whole
        if layout is None or layout.lengths[axis] != whole.lengths[axis]:
            return False
        return self._is_broadcast(layout) or (layout.axes, layout.joint) == (whole.axes, whole.joint)

    def _is_broadcast(self, layout: TensorLayout) -> bool:
        """Return whether a term differs only in axes that it lacks, such as the mean of a video over time."""
        if layout.axes is None or self.whole.axes is None or layout.axes == self.whole.axes:
            return False
        pairs = zip(layout.axes, self.whole.axes, strict=True)
        return all([
            own == dim or (own is None and dim is not None and layout.shape[dim - 1] == 1)
            for own, dim in pairs
        ])  # fmt: skip

    def share(self, signal: Tensor, argument: int) -> Tensor:
        """Return a signal (K, ...) summed over the dimensions along which an argument is broadcast.

        Of a complex signal, a real argument receives the real part.
        """
        layout = self.layouts[argument]
        assert layout is not None
        if signal.is_complex() and self.real[argument]:
            signal = torch.real(signal)
        dims = [
            dim
            for dim, (own, whole) in enumerate(zip(layout.shape, self.whole.shape, strict=True), 1)
            if own == 1 and whole > 1
        ]
        return signal.sum(dims, keepdim=True) if dims else signal


@rule(
    aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor, aten.sub_.Tensor,
    aten.add.Scalar, aten.add_.Scalar, aten.sub.Scalar, aten.sub_.Scalar,
    aten.rsub.Scalar, aten.rsub.Tensor,
)  # fmt: skip
class Sum(Elementwise):
    """y = a + factor * b; projection: a receives the signal, b the signal times its factor."""

    repeats = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        kind = call.op.overloadpacket
        factors = [1, call["alpha"] if kind in (aten.add, aten.add_) else -call["alpha"]]
        if kind is aten.rsub:
            factors = [-call["alpha"], 1]
        terms = zip(factors, (call["self"], call["other"]), strict=True)
        self.factors = [factor for factor, term in terms if isinstance(term, Tensor)]

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [
            self.share(signal if factor == 1 else signal * factor, argument) if derived else None
            for argument, (derived, factor) in enumerate(zip(self.derived, self.factors, strict=True))
        ]


@rule(aten.neg.default, aten.neg_.default)
class Negation(Elementwise):
    """y = -x; projection: -signal."""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [-signal]


OF_BRANCHES = "a product of two branches: each receives the signal times the recorded value of the other"
OF_A_GATE = "a product with a gate: the signal times the recorded value of the gate"


class Factors(Elementwise):
    """Operation that multiplies signals by recorded values."""

    needs_input_values = True

    def keep(self, call: Call, factor: Any, layout: TensorLayout | None) -> Tensor | complex:
        """Return a factor as (B, *whole.shape); any dimension may be 1. Weights are not copied."""
        if not isinstance(factor, Tensor):
            return factor if isinstance(factor, complex) else float(factor)
        if layout is not None:
            return call.by_image(factor, layout).clone()
        self.constants = (*self.constants, factor)
        rank = call.output.dim()
        laid = factor.reshape(*[1] * (rank - factor.dim()), *factor.shape).movedim(self.whole.batch_at, 0)
        pieces = self.whole.shape[: self.whole.folded]
        if len(laid) == 1:
            return laid.reshape(1, *[1] * len(pieces), *laid.shape[1:])
        return laid.reshape(call.batch, *pieces, *laid.shape[1:])  # one part for each image

    def times(self, signal: Tensor, factor: Tensor | complex, window: Window) -> Tensor:
        """Return the signal times a factor, or times its conjugate if it is complex (see `fourier`)."""
        if isinstance(factor, Tensor):
            return signal * window.cut(factor).conj().to(signal.dtype)
        return signal if factor == 1 else signal * factor.conjugate()

    def set_support(self, call: Call) -> None:
        """Set support and note, by how many factors depend on the image."""
        others = [layout is not None for layout in call.layouts]
        if sum(call.derived) > 1:
            self.support, self.note = Support.APPROXIMATE, OF_BRANCHES
        elif sum(others) > 1:
            self.support, self.note = Support.APPROXIMATE, OF_A_GATE


@rule(aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar, aten.mul_.Scalar)
class Product(Factors):
    """y = a * b; projection: each receives the signal times the recorded value of the other."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        terms = [call["self"], call["other"]]
        others = [terms[1 - n] for n, term in enumerate(terms) if isinstance(term, Tensor)]
        layouts = list(self.layouts[::-1]) if len(self.layouts) == 2 else [None]
        self.others = [
            self.keep(call, other, layout) if derived else 1.0
            for other, layout, derived in zip(others, layouts, self.derived, strict=True)
        ]
        self.set_support(call)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [
            self.share(self.times(signal, other, window), argument) if derived else None
            for argument, (derived, other) in enumerate(zip(self.derived, self.others, strict=True))
        ]


@rule(aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar, aten.div_.Scalar)
class Quotient(Factors):
    """y = a / b; projection: a receives signal / b; the divisor b is a constant."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        layout = self.layouts[1] if len(self.layouts) == 2 else None
        self.divisor = self.keep(call, call["other"], layout)
        if layout is not None:
            self.support = Support.APPROXIMATE
            self.note = "its divisor is treated as a constant at its recorded value"

    def flows(self, argument: int) -> bool:
        return argument == 0

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        if isinstance(self.divisor, Tensor):
            x = signal / window.cut(self.divisor).conj().to(signal.dtype)
        else:
            x = signal / self.divisor.conjugate()
        return [self.share(x, 0)] + [None] * (len(self.derived) - 1)


@rule(aten.addcmul.default, aten.addcmul_.default)
class SumOfProduct(Factors):
    """y = a + factor * b * c: a sum and a product."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.value: float = call["value"]
        first, second = call["tensor1"], call["tensor2"]
        self.others = [
            self.keep(call, other, layout) if derived else 1.0
            for other, layout, derived in zip(
                (second, first), (self.layouts[2], self.layouts[1]), self.derived[1:], strict=True
            )
        ]
        self.set_support(call)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        first = self.share(signal, 0) if self.derived[0] else None
        return [first] + [
            self.share(self.times(signal * self.value, other, window), argument) if derived else None
            for argument, (derived, other) in enumerate(zip(self.derived[1:], self.others, strict=True), 1)
        ]


@rule(aten.where.self)
class Choice(Factors):
    """y = a where a condition is true, else b; projection: each receives its part of the signal."""

    support = Support.APPROXIMATE
    note = "the condition is treated as a constant: the signal goes to the chosen values"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.condition = self.keep(call, call["condition"], self.layouts[0])

    def flows(self, argument: int) -> bool:
        return argument > 0

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        assert isinstance(self.condition, Tensor)
        chosen = window.cut(self.condition)
        parts = (signal * chosen, signal * ~chosen)
        return [None] + [
            self.share(part, argument) if self.derived[argument] else None
            for argument, part in enumerate(parts, 1)
        ]


@rule(
    aten.masked_fill.Scalar, aten.masked_fill_.Scalar, aten.masked_fill.Tensor, aten.masked_fill_.Tensor,
)  # fmt: skip
class Blank(Factors):
    """y = x where a mask is False, else a number; projection: the signal where the mask is False."""

    support, note = Choice.support, Choice.note

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.mask = self.keep(call, self.mask_of(call), self.layouts[1])

    def mask_of(self, call: Call) -> Tensor:
        """Return the mask among the arguments of a call."""
        mask: Tensor = call["mask"]
        return mask

    def flows(self, argument: int) -> bool:
        return argument == 0

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        assert isinstance(self.mask, Tensor)
        return [self.share(signal * ~window.cut(self.mask), 0)] + [None] * (len(self.derived) - 1)


@rule(aten.maximum.default, aten.fmax.default)
class Larger(Factors):
    """y = max(a, b), elementwise; projection: the signal goes to the larger value, to a if both are equal.

    A maximum with 0, or of a map and a multiple of itself, is an activation function (see `spellings`).
    """

    SIDE = "larger"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if sum(call.derived) < 2 or call.related:
            self.support = Support.APPROXIMATE
            self.note = f"the signal goes to the {self.SIDE} of the two"
        larger = self.is_first(call["self"], call["other"])
        self.first = call.by_image(larger, self.whole) if larger.shape == call.output.shape else larger

    @staticmethod
    def is_first(one: Tensor, other: Tensor) -> Tensor:
        return one >= other

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        first = window.cut(self.first)
        parts = (signal * first, signal * ~first)
        return [
            self.share(part, argument) if derived else None
            for argument, (part, derived) in enumerate(zip(parts, self.derived, strict=True))
        ]


@rule(aten.minimum.default, aten.fmin.default)
class Smaller(Larger):
    """y = min(a, b), elementwise; projection: the signal goes to the smaller value, or to a."""

    SIDE = "smaller"

    @staticmethod
    def is_first(one: Tensor, other: Tensor) -> Tensor:
        return one <= other
