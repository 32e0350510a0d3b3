"""The shape of a rule, and the registry that finds one for an operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, Sight
from deconvviz.engine.layout import Form, Window
from deconvviz.engine.preservation import memory_of

OpOverload = torch._ops.OpOverload


class Verdict(Enum):
    """How far a mirror can be trusted."""

    EXACT = "exact"  # the operation the paper describes, or a linear one and its adjoint
    ANALOGY = "by analogy"  # the paper is silent; the rule's `how` says what is done instead
    REFUSED = "refused"  # no rule: nothing is drawn


@dataclass(frozen=True)
class Call:
    """One call of an ATen operation, its arguments under the names of the operation's schema."""

    op: OpOverload
    arguments: dict[str, Any]  # defaults filled in
    outputs: tuple[Tensor, ...]
    number: int  # which of the outputs this is about: the first, unless the rule has `each_output`
    derived: tuple[bool, ...]  # for each tensor argument in order: can a signal go down into it?
    forms: tuple[Form | None, ...]  # likewise; None for a tensor that does not come from the picture
    makers: tuple[Rule | None, ...]  # likewise: the call that gave it
    batch: int  # how many pictures
    related: bool = False  # do all arguments come from one map, position by position?

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def output(self) -> Tensor:
        return self.outputs[self.number]

    @property
    def form(self) -> Form:
        """Of the first argument that comes from the picture."""
        return next(form for form in self.forms if form is not None)

    def by_picture(self, tensor: Tensor, form: Form) -> Tensor:
        """A recorded tensor as (B, *form.shape), whatever the network had folded into its batch."""
        tensor = tensor.movedim(form.batch_at, 0)
        return tensor.reshape(self.batch, *form.shape) if form.folded else tensor


class Rule:
    """One call of one operation: what was kept of it, and its mirror.

    Subclass it, and register the class with ``deconvviz.rule(torch.ops.aten....)``. The simplest whole rule::

        @dv.rule(torch.ops.aten.cumsum.default)
        class RunningSum(dv.Rule):
            def __init__(self, call):
                self.dim = call["dim"]

            def down(self, signal, at, into):
                return [signal.flip(self.dim).cumsum(self.dim).flip(self.dim)]
    """

    verdict: Verdict = Verdict.EXACT
    how: str = ""
    """For a rule by analogy: one clause that says what is done."""

    windowed: bool = False
    """True if `down` can work on windows of a map; else it gets, and gives, whole maps."""

    constants: tuple[Tensor, ...] = ()
    """Weights the mirror refers to without a copy; a recording is stale once one of them has changed."""

    each_output: ClassVar[bool] = False
    """True if a signal comes down through each of several outputs; else only through the first."""

    keeps_inputs: ClassVar[bool] = False
    """True if the mirror needs numbers of its arguments: those of in-place calls are then copied before."""

    folds: ClassVar[bool] = False
    """True if `down` works on (K, *form.shape) also where the network folded some of it into its batch."""

    @classmethod
    def of(cls, call: Call) -> Rule:
        """The rule for one call; another class, where an operation does several things."""
        return cls(call)

    anywhere: ClassVar[bool] = False
    """True if it makes no difference to the rule which dimension of the network's tensors is the batch."""

    def __init__(self, call: Call) -> None:
        """The way up. The outputs are there already; inputs of in-place calls are overwritten."""

    def keep_copies(self, memory: int) -> None:
        """Copy the constants that lie in some memory, because it is about to be overwritten."""
        copies: dict[int, Tensor] = {}

        def kept(value: Any) -> Any:
            if isinstance(value, Tensor) and memory_of(value) == memory:
                return copies.setdefault(id(value), value.detach().clone())
            if type(value) in (list, tuple):
                return type(value)(kept(one) for one in value)
            return value

        for name, value in list(vars(self).items()):
            setattr(self, name, kept(value))

    def refuses(self) -> str:
        """Why this very call has no mirror, as a clause; empty if it has one."""
        return ""

    def flows(self, argument: int) -> bool:
        """Whether a signal goes down into a tensor argument; where not, it is held constant."""
        return True

    def form(self, call: Call) -> Form:
        """Where the output has its rows and columns: where the argument had them, if it has its shape."""
        if call.output.shape == call.form.real(call.batch):
            return call.form
        return Form.of(call.output.shape[1:])

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        """The way down: (K, *output shape in the window `at`) to one signal for each tensor argument.

        `into[i]` is the window that argument i's signal must fill; a rule that maps position to position
        leaves its signal in `at`. None: nothing flows into that argument.
        """
        raise NotImplementedError

    def straight(self, argument: int, axis: int) -> bool:
        """Whether each row (column) of the output sees the same one of an argument, and no other.

        Unless a rule says otherwise, a windowed rule maps position to position.
        """
        return self.windowed

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        """(n_out, n_in) bool: the rows (axis 0) or columns (axis 1) of an argument that each output row sees.

        None: each position sees only itself. Unless a rule says otherwise, one that is not `straight` sees
        everything.
        """
        return None if self.straight(argument, axis) else torch.ones(n_out, n_in, dtype=torch.bool)

    def band(self, argument: int, axis: int) -> Sight:
        """The form of `reach` without borders; None where the whole axis is seen, `UNKNOWN` if it varies."""
        return SAME if self.straight(argument, axis) else UNKNOWN

    def depends(self, argument: int, axis: int) -> Sight:
        """Like `band`, but for all that can change the output, also by way of what is held constant."""
        return self.band(argument, axis)


class Spatial(Rule):
    """A rule whose operation slides over the last two dimensions of (B, C, H, W)."""

    def __init__(self, call: Call) -> None:
        self.below = Form.of(call.form.shape)
        self.windowed = call.form.axes == self.below.axes == (2, 3)

    def form(self, call: Call) -> Form:
        return Form.of(call.output.shape[1:])

    def frame(self, into: Window) -> Window:
        """The window to be filled; all of it, where the network has its rows and columns elsewhere."""
        if self.windowed:
            return into
        return Window(torch.zeros_like(into.start), self.below.lengths, self.below, into.images)


_registry: dict[OpOverload, type[Rule]] = {}
R = TypeVar("R", bound=type[Rule])


def rule(*ops: OpOverload) -> Callable[[R], R]:
    """Register a `Rule` class for ATen operations, in place of any rule they had.

    >>> @rule(torch.ops.aten.neg.default)
    ... class Negation(Rule): ...

    Raises TypeError for anything but an overload: ``torch.ops.aten.neg.default``, not ``torch.ops.aten.neg``.
    """
    for op in ops:
        if not isinstance(op, OpOverload):
            raise TypeError(f"{op} is no overload of an operation; did you mean {op}.default?")

    def register(cls: R) -> R:
        for op in ops:
            _registry[op] = cls
        return cls

    return register


def lookup(op: OpOverload) -> type[Rule] | None:
    """The rule class for an operation, or None."""
    return _registry.get(op)
