"""Registry of rule classes, by ATen operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from deconvviz.engine.rules.rule import Rule

OpOverload = torch._ops.OpOverload

_registry: dict[OpOverload, type[Rule]] = {}
_by_name: dict[str, type[Rule]] = {}  # of operations whose library may not be imported yet
R = TypeVar("R", bound=type[Rule])


def rule(*ops: OpOverload) -> Callable[[R], R]:
    """Register a `Rule` class for ATen operations, replacing any previous rule.

    >>> @rule(torch.ops.aten.neg.default)
    ... class Negation(Rule): ...

    Raises:
        TypeError: If an argument is not an overload (``torch.ops.aten.neg.default``, not
        ``torch.ops.aten.neg``).
    """
    for op in ops:
        if not isinstance(op, OpOverload):
            raise TypeError(f"{op} is not an overload of an operation; did you mean {op}.default?")

    def register(cls: R) -> R:
        for op in ops:
            _registry[op] = cls
        return cls

    return register


def rule_named(*names: str) -> Callable[[R], R]:
    """Register a `Rule` class for operations of a library without importing it.

    >>> @rule_named("torchvision.roi_align.default")
    ... class BoxAlignment(Rule): ...
    """

    def register(cls: R) -> R:
        _by_name.update(dict.fromkeys(names, cls))
        return cls

    return register


def lookup(op: OpOverload) -> type[Rule] | None:
    """Return the rule class for an operation, or None."""
    return _registry.get(op) or _by_name.get(str(op))
