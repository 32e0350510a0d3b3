"""The tape: the ATen calls of one forward pass, each with the data that its projection needs.

The tape contains calls, not modules: it makes no difference whether a model uses ``nn.ReLU``, ``F.relu`` or
``x.relu_()``, calls one module four times, or branches in Python. Values are numbered in the order in which
they are computed. An in-place call overwrites a tensor and defines a new value, also for all other tensors
that share its memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.output_parts import with_keys
from deconvviz.engine.preservation import fingerprints
from deconvviz.engine.rules import Rule, Support
from deconvviz.errors import RefusedOp, StaleRecording

IMAGE = 0  # the value that is the network's input, or the first of several


@dataclass(frozen=True, repr=False)
class Step:
    """One output of an ATen call that took part in the forward pass."""

    op: torch._ops.OpOverload
    module: str  # dotted name of the innermost module it was called in
    # Values of the tensor arguments. None: the argument does not depend on the image.
    arguments: tuple[int | None, ...]
    # The same, but None also for arguments that receive no signal.
    inputs: tuple[int | None, ...]
    output: int
    rule: Rule | None  # None: the operation has no rule
    no_rule_reason: str  # why no rule can be right for this call; empty if a rule can

    def __repr__(self) -> str:
        return f"<Step {self.op} in {self.module or 'the network'}: {self.inputs} -> {self.output}>"

    @cached_property
    def receives_signal(self) -> bool:
        """Whether any input receives a signal. A gate, for example, is treated as a constant."""
        return bool(self.no_rule_reason) or self.inputs.count(None) < len(self.inputs)

    @cached_property
    def verdict(self) -> tuple[Support, str]:
        """Whether its rule is exact, approximate or missing, and what the rule does or why it is missing."""
        if reason := self.unsupported_reason():
            return Support.UNSUPPORTED, reason
        if self.rule is None:
            return Support.EXACT, ""  # its output is a mask or indices, which receive no signal
        return self.rule.support, self.rule.note if self.rule.support is Support.APPROXIMATE else ""

    def unsupported_reason(self) -> str:
        """Return why this call cannot be projected, as a clause; an empty string if it can."""
        if self.no_rule_reason or not self.receives_signal:
            return self.no_rule_reason
        if self.rule is None:
            return f"it has no rule: deconvviz.rule(torch.ops.{self.op}) registers one"
        return self.rule.unsupported()

    def unsupported_message(self) -> str:
        """Return why this call cannot be projected, with its name; an empty string if it can."""
        reason = self.unsupported_reason()
        if not reason:
            return ""
        where = f"{self.op} (in module {self.module!r})" if self.module else f"{self.op}"
        if self.rule is None and not self.no_rule_reason:
            return f"{where} has no rule; register a rule with deconvviz.rule(torch.ops.{self.op})"
        return f"{where} is unsupported: {reason}"


@dataclass(frozen=True)
class Output:
    """The output of one call of a module, or one tensor of it."""

    module: str  # dotted name
    call: int  # 1 for the module's first call in this pass
    kind: str  # class name of the module
    value: int | None  # None: does not depend on the image
    shape: tuple[int, ...]  # with the batch
    keys: tuple[str, ...] = ()  # where the tensor is in the output, if the output is not a single tensor

    @property
    def name(self) -> str:
        """The module's dotted name; ``name:2`` for its second call; ``name[key]`` for a part of an output."""
        return with_keys(self.module if self.call == 1 else f"{self.module}:{self.call}", self.keys)


class Tape:
    """The calls of one forward pass, starting from the image (value 0)."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.inputs: list[int] = []  # values of the network's inputs; IMAGE is the first
        self.input_names: list[str] = []
        self.steps: list[Step] = []
        self.layouts: dict[int, TensorLayout] = {}  # by value
        self.outputs: list[Output] = []  # outputs of modules, in the order in which the modules returned
        self.others: dict[str, str] = {}  # modules that returned another type than a tensor: its name
        self.lacking: frozenset[str] = frozenset()  # names of outputs that depend on missing weights
        self.variants: dict[str, Tape] = {}  # tapes of other methods ("gradient", "guided"), by name
        self.signal_values: set[int] = set()  # values from which a signal reaches the image
        # Further outputs of a call (indices, statistics), each with the first output of the same call.
        self.secondary_outputs: dict[int, int] = {}
        self._constants: dict[int, tuple[Tensor, tuple[object, ...]]] = {}

    def __repr__(self) -> str:
        return f"<Tape of {len(self.steps)} calls, {len(self.outputs)} module outputs>"

    def variant(self) -> Tape:
        """Return a tape without steps that has the same values and module outputs."""
        other = Tape(self.batch)
        other.inputs, other.input_names = self.inputs, self.input_names
        other.layouts, other.outputs, other.others = self.layouts, self.outputs, self.others
        return other

    def new_value(self, layout: TensorLayout, *, receives_signal: bool) -> int:
        value = len(self.layouts)
        self.layouts[value] = layout
        if receives_signal:
            self.signal_values.add(value)
        return value

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def seal(self) -> None:
        """Store the fingerprints of all constants, so that `require` notices a later change."""
        constants = {
            id(tensor): tensor
            for step in self.steps
            if step.rule is not None and step.rule.constants and step.receives_signal
            for tensor in step.rule.constants
            if id(tensor) not in self._constants
        }
        states = fingerprints(list(constants.values()))
        self._constants.update(zip(constants, zip(constants.values(), states, strict=True), strict=True))

    def fingerprints(self) -> dict[int, tuple[object, ...]]:
        """Return the stored fingerprint of every constant, by the id of its tensor."""
        return {id(tensor): state for tensor, state in self._constants.values()}

    def path(self, value: int) -> list[Step]:
        """Return the steps through which a signal flows from a value to the image, in forward order."""
        wanted, path = {value}, []
        for step in reversed(self.steps):
            if step.output in wanted and step.receives_signal:
                path.append(step)
                wanted.update(below for below in step.inputs if below is not None)
        return path[::-1]

    def inputs_of(self, value: int) -> list[int]:
        """Return the inputs of the network that a signal reaches from a value."""
        reached = {value, *(below for step in self.path(value) for below in step.inputs)}
        return [one for one in self.inputs if one in reached]

    def unsupported_messages(self) -> dict[int, str]:
        """Return, for each value that cannot be projected, the message of the call nearest to the image."""
        found: dict[int, str] = {}
        for step in self.steps:
            below = next((found[value] for value in step.inputs if value in found), "")
            if message := below or step.unsupported_message():
                found[step.output] = message
        return found

    def keep_only(self, values: Iterable[int]) -> None:
        """Remove every call that is not on the path from one of these values, to free memory."""
        wanted = list(values)
        kept = {id(step) for value in wanted for step in self.path(value)}
        self.steps = [step for step in self.steps if id(step) in kept]
        for tape in self.variants.values():
            tape.keep_only(wanted)

    def require(self, path: list[Step]) -> None:
        """Raise RefusedOp if a step of a path is unsupported, StaleRecording if a weight has changed."""
        self.require_rules(path)
        constants = list(self._constants.values())
        states = fingerprints([tensor for tensor, _ in constants])
        for (tensor, state), now in zip(constants, states, strict=True):
            if now != state:
                raise StaleRecording(
                    f"a weight of shape {tuple(tensor.shape)} has changed since the forward pass was "
                    "recorded; record it again"
                )

    def require_rules(self, path: list[Step]) -> None:
        """Raise RefusedOp if a step of a path is unsupported."""
        messages = [message for step in path if (message := step.unsupported_message())]
        if messages:
            more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
            raise RefusedOp(messages[0] + more)
