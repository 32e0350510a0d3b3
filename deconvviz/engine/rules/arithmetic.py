"""Sums and products, number by number; a term may be stretched to the shape of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.layout import Form, Window
from deconvviz.engine.rules.rule import Call, Rule, Verdict, rule

aten = torch.ops.aten


class Elementwise(Rule):
    """Terms of one shape, or stretched to one; a term's signal is summed over its stretch."""

    windowed = True
    folds = True
    anywhere = True

    def __init__(self, call: Call) -> None:
        self.derived = call.derived
        self.forms = call.forms
        self.whole = self.form(call)
        self.mixes = tuple(call.output.shape) != self.whole.real(call.batch) or any(
            form is not None and len(form.shape) != len(self.whole.shape) for form in call.forms
        )
        tensors = [t for t in call.arguments.values() if isinstance(t, Tensor)]
        self.shape = tuple(call.output.shape)
        self.shapes = [tuple(t.shape) for t in tensors]

    def form(self, call: Call) -> Form:
        """That of the argument that has its shape: the others are stretched."""
        real = tuple(call.output.shape)
        forms = [form for form in call.forms if form is not None]
        for form in forms:
            if form.real(call.batch) == real:
                return form
        widest = forms[0]
        return Form.of(real[1:]) if not widest.folded else Form(real[1:], None)

    def refuses(self) -> str:
        if self.mixes:
            some = next((s for s in self.shapes if s != self.shape), self.shape)
            return f"it stretches over the pictures of a batch: {some} to {self.shape}"
        return ""

    def straight(self, argument: int, axis: int) -> bool:
        """Not where a term has one row (column) for all, or has its rows and columns elsewhere."""
        form, whole = self.forms[argument], self.whole
        if form is None or form.lengths[axis] != whole.lengths[axis]:
            return False
        return (form.axes, form.joint) == (whole.axes, whole.joint)

    def share(self, signal: Tensor, argument: int) -> Tensor:
        """A signal (K, ...) summed over the dimensions in which an argument was stretched."""
        form = self.forms[argument]
        assert form is not None
        dims = [
            dim
            for dim, (own, whole) in enumerate(zip(form.shape, self.whole.shape, strict=True), 1)
            if own == 1 and whole > 1
        ]
        return signal.sum(dims, keepdim=True) if dims else signal


@rule(
    aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor, aten.sub_.Tensor,
    aten.add.Scalar, aten.add_.Scalar, aten.sub.Scalar, aten.sub_.Scalar,
    aten.rsub.Scalar, aten.rsub.Tensor,
)  # fmt: skip
class Sum(Elementwise):
    """y = a + factor * b; mirror: both get the signal, b times its factor."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        kind = call.op.overloadpacket
        factors = [1, call["alpha"] if kind in (aten.add, aten.add_) else -call["alpha"]]
        if kind is aten.rsub:
            factors = [-call["alpha"], 1]
        terms = zip(factors, (call["self"], call["other"]), strict=True)
        self.factors = [factor for factor, term in terms if isinstance(term, Tensor)]

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [
            self.share(signal if factor == 1 else signal * factor, argument) if derived else None
            for argument, (derived, factor) in enumerate(zip(self.derived, self.factors, strict=True))
        ]


@rule(aten.neg.default, aten.neg_.default)
class Negation(Elementwise):
    """y = -x; mirror: -signal."""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [-signal]


OF_BRANCHES = "a product of two branches: each gets the signal times the other's recorded value"
OF_A_GATE = "a product with a gate: the signal times the gate's recorded value"


class Factors(Elementwise):
    """What products share: the recorded numbers that a signal is multiplied by."""

    keeps_inputs = True

    def keep(self, call: Call, factor: Any, form: Form | None) -> Tensor | float:
        """A factor as (B, *whole.shape), or with 1 in place of any of these; a weight is referred to."""
        if not isinstance(factor, Tensor):
            return float(factor)
        if form is not None:
            return call.by_picture(factor, form).clone()
        self.constants = (*self.constants, factor)
        rank = call.output.dim()
        laid = factor.reshape(*[1] * (rank - factor.dim()), *factor.shape).movedim(self.whole.batch_at, 0)
        pieces = self.whole.shape[: self.whole.folded]
        if len(laid) == 1:
            return laid.reshape(1, *[1] * len(pieces), *laid.shape[1:])
        return laid.reshape(call.batch, *pieces, *laid.shape[1:])  # it has a part for each picture

    def times(self, signal: Tensor, factor: Tensor | float, at: Window) -> Tensor:
        if isinstance(factor, Tensor):
            return signal * at.cut(factor).to(signal.dtype)
        return signal if factor == 1 else signal * factor

    def say(self, call: Call) -> None:
        """How far this product is what the paper describes."""
        others = [form is not None for form in call.forms]
        if sum(call.derived) > 1:
            self.verdict, self.how = Verdict.ANALOGY, OF_BRANCHES
        elif sum(others) > 1:
            self.verdict, self.how = Verdict.ANALOGY, OF_A_GATE


@rule(aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar, aten.mul_.Scalar)
class Product(Factors):
    """y = a * b; mirror: each gets the signal times the other's recorded value."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        terms = [call["self"], call["other"]]
        others = [terms[1 - n] for n, term in enumerate(terms) if isinstance(term, Tensor)]
        forms = list(self.forms[::-1]) if len(self.forms) == 2 else [None]
        self.others = [
            self.keep(call, other, form) if derived else 1.0
            for other, form, derived in zip(others, forms, self.derived, strict=True)
        ]
        self.say(call)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [
            self.share(self.times(signal, other, at), argument) if derived else None
            for argument, (derived, other) in enumerate(zip(self.derived, self.others, strict=True))
        ]


@rule(aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar, aten.div_.Scalar)
class Quotient(Factors):
    """y = a / b; mirror: a gets the signal / b, and b, what something is measured by, is held constant."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        form = self.forms[1] if len(self.forms) == 2 else None
        self.divisor = self.keep(call, call["other"], form)
        if form is not None:
            self.verdict = Verdict.ANALOGY
            self.how = "what it divides by is held constant at its recorded value"

    def flows(self, argument: int) -> bool:
        return argument == 0

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        if isinstance(self.divisor, Tensor):
            x = signal / at.cut(self.divisor).to(signal.dtype)
        else:
            x = signal / self.divisor
        return [self.share(x, 0)] + [None] * (len(self.derived) - 1)


@rule(aten.pow.Tensor_Scalar, aten.pow_.Scalar)
class Power(Factors):
    """y = x * x * ... * x; mirror: each factor gets the signal times the others' recorded values."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.exponent: float = call["exponent"]
        if not self.refuses() and self.exponent > 1:
            self.verdict, self.how = Verdict.ANALOGY, OF_BRANCHES
            self.kept = self.keep(call, call["self"], call.form)

    def refuses(self) -> str:
        if self.exponent not in (1, 2, 3, 4):
            return f"the power {self.exponent} is no product"
        return super().refuses()

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        if self.exponent == 1:
            return [signal]
        assert isinstance(self.kept, Tensor)
        return [signal * self.exponent * at.cut(self.kept) ** (self.exponent - 1)]


@rule(aten.addcmul.default, aten.addcmul_.default)
class SumOfProduct(Factors):
    """y = a + factor * b * c: a sum, and a product."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.value: float = call["value"]
        first, second = call["tensor1"], call["tensor2"]
        self.others = [
            self.keep(call, other, form) if derived else 1.0
            for other, form, derived in zip(
                (second, first), (self.forms[2], self.forms[1]), self.derived[1:], strict=True
            )
        ]
        self.say(call)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        first = self.share(signal, 0) if self.derived[0] else None
        return [first] + [
            self.share(self.times(signal * self.value, other, at), argument) if derived else None
            for argument, (derived, other) in enumerate(zip(self.derived[1:], self.others, strict=True), 1)
        ]


@rule(aten.where.self)
class Choice(Factors):
    """y = a where a condition holds, else b; mirror: each gets its part of the signal."""

    verdict = Verdict.ANALOGY
    how = "the condition is held constant: the signal goes to what was chosen"

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.condition = self.keep(call, call["condition"], self.forms[0])

    def flows(self, argument: int) -> bool:
        return argument > 0

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        assert isinstance(self.condition, Tensor)
        chosen = at.cut(self.condition)
        parts = (signal * chosen, signal * ~chosen)
        return [None] + [
            self.share(part, argument) if self.derived[argument] else None
            for argument, part in enumerate(parts, 1)
        ]


@rule(aten.masked_fill.Scalar, aten.masked_fill_.Scalar)
class Blank(Factors):
    """y = x where a mask is not set; mirror: the signal there."""

    verdict, how = Choice.verdict, Choice.how

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.mask = self.keep(call, call["mask"], self.forms[1])

    def flows(self, argument: int) -> bool:
        return argument == 0

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        assert isinstance(self.mask, Tensor)
        return [self.share(signal * ~at.cut(self.mask), 0), None]


@rule(aten.maximum.default, aten.fmax.default)
class Larger(Factors):
    """y = max(a, b), number by number; mirror: the signal goes to the larger, to a where both are one.

    A maximum with 0, or of a map and a multiple of it, is an activation function (see `spellings`).
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if sum(call.derived) < 2 or call.related:
            self.verdict = Verdict.ANALOGY
            self.how = "the signal goes to the larger of the two"
        larger = call["self"] >= call["other"]
        self.first = call.by_picture(larger, self.whole) if larger.shape == call.output.shape else larger

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        first = at.cut(self.first)
        parts = (signal * first, signal * ~first)
        return [
            self.share(part, argument) if derived else None
            for argument, (part, derived) in enumerate(zip(parts, self.derived, strict=True))
        ]
