"""The shape of a rule, and the registry that finds one for an operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deconvviz.engine.windows import Window

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
    output: Any  # a tensor, or a tuple or list of tensors
    derived: tuple[bool, ...]  # for each tensor argument in order: does it come from the picture?

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


class Rule:
    """One call of one operation: what was kept of it, and its mirror.

    Subclass it, and register the class with ``deconvviz.rule(torch.ops.aten....)``. The simplest whole rule::

        @dv.rule(torch.ops.aten.neg.default)
        class Negation(dv.Rule):
            windowed = True                              # position for position: works on any window

            def down(self, signal, at, into):
                return [-signal]
    """

    verdict: ClassVar[Verdict] = Verdict.EXACT
    how: ClassVar[str] = ""
    """For a rule by analogy: one clause that says what is done."""

    windowed: bool = False
    """True if `down` can work on windows of a map; else it gets, and gives, whole maps."""

    constants: tuple[Tensor, ...] = ()
    """Weights the mirror refers to without a copy; a recording is stale once one of them has changed."""

    def __init__(self, call: Call) -> None:
        """The way up. `call.output` is there already; inputs of in-place calls are overwritten."""

    def refuses(self) -> str:
        """Why this very call has no mirror, as a clause; empty if it has one."""
        return ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        """The way down: (K, *output shape in the window `at`) to one signal for each tensor argument.

        `into[i]` is the window that argument i's signal must fill; a rule that maps position to position
        leaves its signal in `at`. None: nothing flows into that argument.
        """
        raise NotImplementedError

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        """(n_out, n_in) bool: the rows (axis 0) or columns (axis 1) of an argument that each output row sees.

        None: each position sees only itself. Unless a rule says otherwise, a windowed rule maps
        position to position, and any other sees everything.
        """
        return None if self.windowed else torch.ones(n_out, n_in, dtype=torch.bool)

    def slide(self, argument: int, axis: int) -> Slide | None:
        """The unclipped form of `reach` for a sliding window; None where the whole axis is seen."""
        return Slide() if self.windowed else None


@dataclass(frozen=True)
class Slide:
    """Output position o sees positions ``o * stride - padding + dilation * t`` for t in 0 .. kernel - 1."""

    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Positions from the first that is seen to the last, both counted."""
        return self.dilation * (self.kernel - 1) + 1

    def reach(self, n_out: int, n_in: int) -> Tensor:
        """(n_out, n_in) bool; what lies in the padding is not there. Shared: not to be written to."""
        return _reach(self, n_out, n_in)


@lru_cache(maxsize=128)  # each step of each way down asks, for the same few shapes
def _reach(slide: Slide, n_out: int, n_in: int) -> Tensor:
    o = torch.arange(n_out, device="cpu")[:, None]
    t = torch.arange(slide.kernel, device="cpu")
    seen = o * slide.stride - slide.padding + slide.dilation * t  # (n_out, kernel)
    inside = (seen >= 0) & (seen < n_in)
    matrix = torch.zeros(n_out, n_in, dtype=torch.bool, device="cpu")
    matrix[o.expand_as(seen)[inside], seen[inside]] = True
    return matrix


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
