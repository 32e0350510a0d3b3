"""The registry: which rule class an operation has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from deconvviz.engine.rules.rule import Rule

OpOverload = torch._ops.OpOverload

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
    """Return the rule class for an operation, or None."""
    return _registry.get(op)
