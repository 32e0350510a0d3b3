"""A forward pass, written down: every ATen call that took part, and what its mirror needs of it.

The tape sees calls, not modules: it makes no difference whether an author wrote ``nn.ReLU``, ``F.relu`` or
``x.relu_()``, used one module four times, or branched in Python. Values are numbered as they come into being:
an in-place call overwrites a tensor, and gives a new value. A tensor that is overwritten through another
view of its memory is noticed, and refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvviz.engine.layout import Form
from deconvviz.engine.preservation import fingerprint
from deconvviz.engine.rules import Rule
from deconvviz.errors import RefusedOp, StaleRecording

PICTURE = 0  # the number of the first value


@dataclass(frozen=True, repr=False)
class Step:
    """One output of an ATen call that took part in the forward pass."""

    op: torch._ops.OpOverload
    module: str  # dotted name of the innermost module it stands in
    arguments: tuple[int | None, ...]  # the values of its tensor arguments; None: not from the picture
    inputs: tuple[
        int | None, ...
    ]  # those among them into which the signal goes down; None: not into this one
    output: int
    rule: Rule | None  # None: the operation has no rule
    obstacle: str  # why no rule could be right here; empty if one could

    def __repr__(self) -> str:
        return f"<Step {self.op} in {self.module or 'the network'}: {self.inputs} -> {self.output}>"

    @property
    def carries(self) -> bool:
        """Whether any signal goes down through it; a gate, say, is held constant."""
        return bool(self.obstacle) or any(below is not None for below in self.inputs)

    def reason(self) -> str:
        """Why the way down cannot pass here, as a clause; empty if it can."""
        if self.obstacle or not self.carries:
            return self.obstacle
        if self.rule is None:
            return f"it has no rule: deconvviz.rule(torch.ops.{self.op}) registers one"
        return self.rule.refuses()

    def refusal(self) -> str:
        """Why the way down cannot pass here, as a sentence; empty if it can."""
        reason = self.reason()
        if not reason:
            return ""
        where = f"{self.op} (in module {self.module!r})" if self.module else f"{self.op}"
        if self.rule is None and not self.obstacle:
            return f"{where} has no rule; register one with deconvviz.rule(torch.ops.{self.op})"
        return f"{where} is refused: {reason}"


@dataclass(frozen=True)
class Output:
    """What one call of a module gave."""

    module: str  # dotted name
    call: int  # 1 for the module's first call in this pass
    kind: str  # class name of the module
    value: int | None  # None: does not come from the picture
    shape: tuple[int, ...]  # with the batch


class Tape:
    """The calls of one forward pass, from the picture (value 0) upwards."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.steps: list[Step] = []
        self.forms: dict[int, Form] = {}  # of each value
        self.outputs: list[Output] = []  # of modules, in the order in which they were there
        self.others: dict[str, str] = {}  # modules that gave something else than a tensor, and its type
        self.carrying: set[int] = set()  # values from which a signal goes down
        self.beside: dict[int, int] = {}  # a value that a call gave beside another: indices, statistics
        self._constants: dict[int, tuple[Tensor, tuple[object, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Tape of {len(self.steps)} calls, {len(self.outputs)} module outputs>"

    def new_value(self, form: Form, *, carries: bool) -> int:
        value = len(self.forms)
        self.forms[value] = form
        if carries:
            self.carrying.add(value)
        return value

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def seal(self) -> None:
        """Remember what the constants are now, so that a later change of them is noticed."""
        for step in self.steps:
            for tensor in step.rule.constants if step.rule and step.carries else ():
                if id(tensor) not in self._constants:
                    self._constants[id(tensor)] = (tensor, fingerprint(tensor))

    def path(self, value: int) -> list[Step]:
        """The steps through which a signal goes from a value down to the picture, in forward order."""
        wanted, path = {value}, []
        for step in reversed(self.steps):
            if step.output in wanted and step.carries:
                path.append(step)
                wanted.update(below for below in step.inputs if below is not None)
        return path[::-1]

    def refusals(self) -> dict[int, str]:
        """For every value from which the way down is refused, the refusal that is nearest to the picture."""
        found: dict[int, str] = {}
        for step in self.steps:
            below = next((found[value] for value in step.inputs if value in found), "")
            if refusal := below or step.refusal():
                found[step.output] = refusal
        return found

    def keep_only(self, values: Iterable[int]) -> None:
        """Forget every call through which no signal goes from one of these values; its memory is free."""
        kept = {id(step) for value in values for step in self.path(value)}
        self.steps = [step for step in self.steps if id(step) in kept]

    def require(self, path: list[Step]) -> None:
        """Raise RefusedOp if a step has no mirror, StaleRecording if a weight is no longer what it was."""
        refusals = [refusal for step in path if (refusal := step.refusal())]
        if refusals:
            more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
            raise RefusedOp(refusals[0] + more)
        for tensor, state in self._constants.values():
            if fingerprint(tensor) != state:
                raise StaleRecording(
                    f"a weight of shape {tuple(tensor.shape)} has changed since the forward pass was "
                    "recorded; record it again"
                )
