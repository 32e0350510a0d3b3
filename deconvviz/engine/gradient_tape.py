"""Tapes for gradients and guided backpropagation, recorded together with the tape of the projection.

They have the same values and layouts. Their steps have other rules, and more arguments receive a signal:
gates and statistics, which the projection treats as constants, have gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.rules import Call, Rule
from deconvviz.engine.rules.activation import ReLU, Spelled
from deconvviz.engine.rules.gradient import (
    POINTWISE,
    PointwiseGradient,
    ReLUGradient,
    SpelledReLU,
    gradient_rule,
)
from deconvviz.engine.tape import Step, Tape
from deconvviz.errors import MethodError

GRADIENT, GUIDED = "gradient", "guided"
DECONVNET, INPUT_X_GRADIENT = "deconvnet", "input_x_gradient"

_TAPES = {DECONVNET: None, GUIDED: GUIDED, GRADIENT: GRADIENT, INPUT_X_GRADIENT: GRADIENT}
"""The methods of the engine, and the name of the tape that each needs besides that of the projection."""


def tape_of(method: str) -> str | None:
    """Return the name of the tape that a method needs; None for the deconvnet. Raise MethodError."""
    if method not in _TAPES:
        raise MethodError(f"no method {method!r} in a recording: there is {', '.join(_TAPES)}")
    return _TAPES[method]


def tapes_of(methods: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the tapes that methods need besides that of the projection. Raise MethodError."""
    needed = (tape_of(method) for method in methods)
    return tuple(dict.fromkeys(name for name in needed if name is not None))


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """One call of a forward pass, for all of its results."""

    op: Any
    cls: type[Rule] | None  # the projection rule of the operation
    named: dict[str, Any]
    values: tuple[int | None, ...]
    results: tuple[Tensor, ...]
    layouts: tuple[TensorLayout | None, ...]
    makers: tuple[Rule | None, ...]
    module: str


class GradientTapes:
    """The gradient and the guided tape of one forward pass."""

    def __init__(self, tape: Tape, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._tape = tape
        self._gradient, self._guided = tape.variant(), tape.variant()
        self._gradient.signal_values.update(tape.inputs)
        self._guided.signal_values = self._gradient.signal_values

    def finish(self) -> dict[str, Tape]:
        """Return the requested tapes by name. Later changes of weights make them stale."""
        tapes = {GRADIENT: self._gradient, GUIDED: self._guided}
        for name in self.names:
            tapes[name].seal()
        return {name: tapes[name] for name in self.names}

    @staticmethod
    def needs_values(cls: type[Rule] | None) -> bool:
        """Return whether a call that overwrites its arguments must copy them first."""
        return cls is not None and cls is not ReLU and issubclass(cls, POINTWISE)

    def add(self, call: RecordedCall, number: int, output: int, step: Step | None) -> Rule | None:
        """Add the steps for one result of a call, and return the rule of the gradient.

        Args:
            call: The call.
            number: Index of the result.
            output: The value of the result.
            step: The projection step of the result; None for results that receive no signal in a projection,
                such as the mean that `torch.var_mean` also returns.
        """
        gradient, result = self._gradient, call.results[number]
        derived = tuple([value in gradient.signal_values for value in call.values])
        why = "" if step is None else step.no_rule_reason
        numeric = result.is_floating_point() or result.is_complex()
        if call.op is torch.ops.aten.detach.default or not numeric or not (any(derived) or why):
            return None
        pointwise = call.cls is None and self._is_pointwise(call, output)
        if call.cls is None and not pointwise and not why:
            why = f"it has no rule: deconvviz.rule(torch.ops.{call.op}) registers one"
        inputs, rule = (
            tuple([v if some else None for v, some in zip(call.values, derived, strict=True)]),
            None,
        )
        if not why:
            here = Call(
                call.op, call.named, call.results, number, derived, call.layouts, call.makers, gradient.batch
            )
            try:
                rule = (
                    PointwiseGradient(here)
                    if call.cls is None
                    else gradient_rule(here, call.cls, self._shared(step, call, derived))
                )
                inputs = tuple([None if v is None or not rule.flows(n) else v for n, v in enumerate(inputs)])
            except Exception as reason:  # a user's rule may raise anything
                why, rule = f"its rule failed with {type(reason).__name__}: {_one_line(reason)}", None
        gradient.signal_values.add(output)
        added = Step(call.op, call.module, call.values, inputs, output, rule, why)
        gradient.add(added)
        self._guided.add(self._as_guided(added, step, call, number))
        return rule

    def _is_pointwise(self, call: RecordedCall, output: int) -> bool:
        """Return whether a call without a rule computes each position from the same one of its arguments."""
        layout = self._tape.layouts[output]
        same = all([one is None or one == layout for one in call.layouts])
        return torch.Tag.pointwise in call.op.tags and len(call.results) == 1 and same

    def _shared(self, step: Step | None, call: RecordedCall, derived: tuple[bool, ...]) -> Rule | None:
        """Return the projection rule of a result if it can also be the rule of the gradient."""
        if step is None or step.rule is None or isinstance(step.rule, Spelled):
            return None
        projected = tuple([value in self._tape.signal_values for value in call.values])
        return step.rule if projected == derived else None

    def _as_guided(self, added: Step, step: Step | None, call: RecordedCall, number: int) -> Step:
        """Return the step of guided backpropagation: that of the gradient, but ReLU is also rectified."""
        if isinstance(added.rule, ReLUGradient):
            return replace(added, rule=added.rule.as_guided())
        spelled = step.rule if step is not None else None
        if step is None or not isinstance(spelled, Spelled) or not spelled.is_relu or added.no_rule_reason:
            return added
        derived, layout = tuple([True for _ in call.values]), self._tape.layouts[added.output]
        layouts = tuple([layout for _ in call.values])
        here = Call(
            call.op, call.named, call.results, number, derived, layouts, call.makers, self._tape.batch
        )
        root = spelled.root if spelled.root in self._gradient.signal_values else None
        inputs = (root, *[None] * (len(call.values) - 1))
        return replace(added, rule=SpelledReLU(here, spelled), inputs=inputs)


def _one_line(reason: Exception) -> str:
    return " ".join(str(reason).split())
