"""The tape: every ATen call of a forward pass that took part, with what its projection needs.

The tape sees calls, not modules: it makes no difference whether an author wrote ``nn.ReLU``, ``F.relu`` or
``x.relu_()``, used one module four times, or branched in Python. Values are numbered in the order in which
they are computed: an in-place call overwrites a tensor, and gives a new value. A tensor that is overwritten
through another view of its memory is noticed, and unsupported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.preservation import fingerprint
from deconvviz.engine.rules import Rule
from deconvviz.errors import RefusedOp, StaleRecording

PICTURE = 0  # the number of the first value


@dataclass(frozen=True, repr=False)
class Step:
    """One output of an ATen call that took part in the forward pass."""

    op: torch._ops.OpOverload
    module: str  # dotted name of the innermost module it was called in
    arguments: tuple[
        int | None, ...
    ]  # the values of its tensor arguments; None: does not depend on the image
    inputs: tuple[int | None, ...]  # those among them into which a signal flows; None: not into this one
    output: int
    rule: Rule | None  # None: the operation has no rule
    refusal_reason: str  # why no rule could be right here; empty if one could

    def __repr__(self) -> str:
        return f"<Step {self.op} in {self.module or 'the network'}: {self.inputs} -> {self.output}>"

    @property
    def carries(self) -> bool:
        """Whether any signal flows through it; a gate, say, is held constant."""
        return bool(self.refusal_reason) or any(below is not None for below in self.inputs)

    def reason(self) -> str:
        """Return why no signal can be projected through this call, as a clause; empty if one can."""
        if self.refusal_reason or not self.carries:
            return self.refusal_reason
        if self.rule is None:
            return f"it has no rule: deconvviz.rule(torch.ops.{self.op}) registers one"
        return self.rule.unsupported()

    def refusal(self) -> str:
        """Return the same as a sentence."""
        reason = self.reason()
        if not reason:
            return ""
        where = f"{self.op} (in module {self.module!r})" if self.module else f"{self.op}"
        if self.rule is None and not self.refusal_reason:
            return f"{where} has no rule; register one with deconvviz.rule(torch.ops.{self.op})"
        return f"{where} is refused: {reason}"


@dataclass(frozen=True)
class Output:
    """The output of one call of a module."""

    module: str  # dotted name
    call: int  # 1 for the module's first call in this pass
    kind: str  # class name of the module
    value: int | None  # None: does not depend on the image
    shape: tuple[int, ...]  # with the batch

    @property
    def name(self) -> str:
        """The module's dotted name; ``name:2`` for its second call."""
        return self.module if self.call == 1 else f"{self.module}:{self.call}"


class Tape:
    """The calls of one forward pass, from the image (value 0) upwards."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.steps: list[Step] = []
        self.layouts: dict[int, TensorLayout] = {}  # of each value
        self.outputs: list[Output] = []  # of modules, in the order in which they returned
        self.others: dict[str, str] = {}  # modules that returned something other than a tensor: its type
        self.signal_values: set[int] = set()  # values from which a signal reaches the image
        self.secondary_outputs: dict[int, int] = {}  # indices or statistics: the first output of their call
        self._constants: dict[int, tuple[Tensor, tuple[object, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Tape of {len(self.steps)} calls, {len(self.outputs)} module outputs>"

    def new_value(self, layout: TensorLayout, *, carries: bool) -> int:
        value = len(self.layouts)
        self.layouts[value] = layout
        if carries:
            self.signal_values.add(value)
        return value

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def seal(self) -> None:
        """Remember what the constants are now, so that a later change of them is noticed."""
        for step in self.steps:
            for tensor in step.rule.constants if step.rule and step.carries else ():
                if id(tensor) not in self._constants:
                    self._constants[id(tensor)] = (tensor, fingerprint(tensor))

    def fingerprints(self) -> dict[int, tuple[object, ...]]:
        """Return the fingerprint of every constant that was sealed, by the id of its tensor."""
        return {id(tensor): state for tensor, state in self._constants.values()}

    def path(self, value: int) -> list[Step]:
        """Return the steps through which a signal flows from a value to the image, in forward order."""
        wanted, path = {value}, []
        for step in reversed(self.steps):
            if step.output in wanted and step.carries:
                path.append(step)
                wanted.update(below for below in step.inputs if below is not None)
        return path[::-1]

    def refusals(self) -> dict[int, str]:
        """Return, for every value that cannot be projected, the refusal that is nearest to the image."""
        found: dict[int, str] = {}
        for step in self.steps:
            below = next((found[value] for value in step.inputs if value in found), "")
            if refusal := below or step.refusal():
                found[step.output] = refusal
        return found

    def keep_only(self, values: Iterable[int]) -> None:
        """Forget every call through which no signal of these values flows, and free its memory."""
        kept = {id(step) for value in values for step in self.path(value)}
        self.steps = [step for step in self.steps if id(step) in kept]

    def require(self, path: list[Step]) -> None:
        """Raise RefusedOp if a step is unsupported, StaleRecording if a weight has changed."""
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
