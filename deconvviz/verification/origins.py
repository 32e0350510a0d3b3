"""Tracking of element-wise functions between tensors, to recognise activations composed of simple calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_T = torch.Tensor


def forms(*names: str) -> list[Any]:
    """Return all PyTorch functions and methods with one of these names, including in-place forms."""
    namespaces = (torch, F, torch.Tensor, torch.special, torch.linalg, torch._C._nn)
    found = [getattr(space, n, None) for space in namespaces for name in names for n in (name, f"{name}_")]
    return [call for call in found if callable(call)]


def overwrites(call: Any) -> bool:
    """Return True if a call works in place."""
    name = getattr(call, "__name__", "")
    if name.startswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name != "__invert__")
    return name.endswith("_")


def is_zero(number: Any) -> bool:
    """Return True for 0, or for a tensor of zeros that does not depend on the image."""
    if isinstance(number, Tensor):
        return not number.requires_grad and not bool(number.any())
    return isinstance(number, int | float) and number == 0


RELU6 = forms("relu6")
SOFTPLUS = forms("softplus")
GATES = forms("sigmoid", "hardsigmoid", "tanh", "expit")
DIVISION = [*forms("div", "divide", "true_divide"), _T.__truediv__, _T.__itruediv__]
TIMES = [*forms("mul", "multiply"), _T.__mul__, _T.__rmul__, _T.__imul__]
PLUS = [*forms("add"), _T.__add__, _T.__radd__, _T.__iadd__]
MINUS = [*forms("sub", "subtract"), _T.__sub__, _T.__isub__]
REVERSED_MINUS = [torch.rsub, _T.__rsub__]
ABOVE = [*forms("gt", "ge", "greater", "greater_equal"), _T.__gt__, _T.__ge__]
BELOW = [*forms("lt", "le", "less", "less_equal"), _T.__lt__, _T.__le__]
NOT = [*forms("logical_not", "bitwise_not"), _T.__invert__]
SAME = forms(
    "clone", "contiguous", "alias", "to", "type", "type_as", "float", "double", "int", "long", "bool"
)


@dataclass(frozen=True)
class Origin:
    """Relation between a tensor and its source: the tensor is an element-wise function of the source."""

    how: str  # multiple (factor * x + shift), scaled (one factor per channel), above, below, softplus, gate
    source: Tensor
    written: int  # version of the source at that time
    factor: float = 1.0  # for a gate: its upper limit
    shift: float = 0.0

    @property
    def itself(self) -> bool:
        """True if the tensor equals its source."""
        return (self.how, self.factor, self.shift) == ("multiple", 1, 0)

    @property
    def hard(self) -> bool:
        """True if relu6 of the tensor is a multiple of a hard sigmoid of the source."""
        return (self.how, self.shift) == ("multiple", 3)

    def then(self, call: Any, args: Any) -> Origin | None:
        """Return the origin of the result of a call with this tensor, or None if it is not known."""
        if call in SAME:
            return self
        if call in NOT and self.how in ("above", "below"):
            return replace(self, how="below" if self.how == "above" else "above")
        if call in ABOVE + BELOW:
            sign = "above" if call in ABOVE else "below"
            return replace(self, how=sign) if self.itself and is_zero(args[1]) else None
        number = _number(args[1]) if len(args) > 1 else None
        if isinstance(number, Tensor):
            scaled = self.how == "multiple" and self.shift == 0 and self.factor > 0
            return replace(self, how="scaled") if scaled and call in (*TIMES, *DIVISION) else None
        if number is not None:
            return self._and_a_number(call, number)
        height = self._height(call)
        if height:
            return replace(self, how="gate", factor=height)
        return replace(self, how="softplus") if call in SOFTPLUS and self.itself else None

    def _and_a_number(self, call: Any, number: float) -> Origin | None:
        if self.how not in ("multiple", "gate"):
            return None
        if call in (*TIMES, *DIVISION):
            factor = number if call in TIMES else 1 / number
            return replace(self, factor=self.factor * factor, shift=self.shift * factor)
        if self.how == "gate":
            return None
        if call in REVERSED_MINUS:
            return replace(self, factor=-self.factor, shift=number - self.shift)
        if call in PLUS + MINUS:
            return replace(self, shift=self.shift + (number if call in PLUS else -number))
        return None

    def _height(self, call: Any) -> float:
        """Return the upper limit of the gate that a call computes, or 0 if the result is not a gate."""
        rising = self.how == "scaled" or (self.how == "multiple" and self.factor > 0)
        if call in RELU6:
            return 6.0 if rising and self.hard else 0.0
        if call not in GATES:
            return 0.0
        name = call.__name__.strip("_")
        if name == "tanh":
            return float(self.how == "softplus")
        return float(self.itself if name == "hardsigmoid" else rising)


def _number(argument: Any) -> float | Tensor | None:
    """Return a number, or a tensor with one positive number per channel, or None for anything else."""
    if isinstance(argument, int | float):
        return argument
    if not isinstance(argument, Tensor) or argument.requires_grad or not argument.is_floating_point():
        return None
    if sum(length > 1 for length in argument.shape) > 1:
        return None
    if not argument.numel():
        return None
    low, high = argument.aminmax()
    if low == high:
        return float(low)
    return argument if low > 0 else None


class Origins:
    """Origins of all tensors in a forward pass: one for each tensor of which a tensor is a function."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Tensor, int, list[Origin]]] = {}

    def of(self, tensor: Any) -> list[Origin]:
        """Return the origins of a tensor whose sources have not been overwritten since."""
        if not isinstance(tensor, Tensor):
            return []
        found, version, origins = self._known.get(id(tensor), (None, 0, []))
        alive = found is tensor and version == tensor._version
        sources = [one for one in origins if alive and one.source._version == one.written]
        return [Origin("multiple", tensor, tensor._version), *sources]

    def after(self, call: Any, args: Any, kwargs: Any) -> list[Origin]:
        """Return the origins of the result of a call. Must run before the call, which may work in place."""
        x = args[0] if args else kwargs.get("input")
        if overwrites(call):
            return []
        if call in (*TIMES, *PLUS) and len(args) > 1 and _number(x) is not None:
            x, args = args[1], (args[1], x)
        return [then for one in self.of(x) if (then := one.then(call, args)) is not None]

    def note(self, result: Any, origins: list[Origin]) -> None:
        """Store the origins of the result of a call."""
        if not isinstance(result, Tensor):
            return
        signs = ("above", "below")  # conversion to integers changes other values
        kept = [
            one
            for one in origins
            if one.source is not result and (result.is_floating_point() or one.how in signs)
        ]
        if kept:
            self._known[id(result)] = (result, result._version, kept)

    def _pairs(self, one: Any, other: Any) -> Iterator[tuple[Origin, Origin]]:
        """Yield pairs of origins of two tensors that have the same source."""
        others = self.of(other)
        return ((a, b) for a in self.of(one) for b in others if a.source is b.source)

    def sign(self, mask: Any, x: Any) -> str:
        """Return "above" or "below" if a mask selects one side of zero of `x`, else an empty string."""
        found = (a.how for a, b in self._pairs(mask, x) if a.how in ("above", "below") and b.itself)
        return next(found, "")

    def multiple(self, x: Any, other: Any) -> float | None:
        """Return the factor by which the other tensor is a multiple of `x`, or None."""
        found = (
            b.factor for a, b in self._pairs(x, other) if a.itself and (b.how, b.shift) == ("multiple", 0)
        )
        return next(found, None)

    def gate(self, x: Any, gate: Any) -> float:
        """Return the upper limit of `gate` if x * gate is an activation, such as x * sigmoid(x); else 0."""
        if self.sign(gate, x) == "above":
            return 1.0
        found = (
            b.factor
            for a, b in self._pairs(x, gate)
            if b.how == "gate" and (a.how, a.shift) == ("multiple", 0) and a.factor > 0
        )
        return next(found, 0.0)

    def hard(self, x: Tensor) -> bool:
        """Return True if relu6 of `x` is a multiple of a hard sigmoid."""
        return any(one.hard for one in self.of(x))
