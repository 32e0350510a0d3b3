"""Activation functions written out in several calls, such as ``x * torch.sigmoid(x)``.

A chain of calls that computes each position from the same position of one map is a function of one number.
The recorder keeps such chains. If a chain ends in a product, a maximum or a selection, the function is
evaluated at some probe values. If it behaves like an activation function, it gets the projection rule of
the corresponding module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

_words = str.split


def _overloads(names: str) -> frozenset[Any]:
    """Return all overloads of the operations with these names."""
    packets = [getattr(aten, name) for name in _words(names) if hasattr(aten, name)]
    return frozenset(getattr(packet, overload) for packet in packets for overload in packet.overloads())


_POINTWISE = _overloads("""
    relu relu_ hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ celu celu_ silu silu_ gelu hardswish
    hardswish_ mish mish_ softplus clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_ threshold threshold_
    sigmoid sigmoid_ hardsigmoid hardsigmoid_ tanh tanh_ neg neg_ add add_ sub sub_ rsub mul mul_ div div_
    pow pow_ exp exp_ expm1 erf erf_ abs abs_ sign sgn sqrt rsqrt reciprocal log log1p heaviside signbit
    gt ge lt le eq ne gt_ ge_ lt_ le_ logical_not bitwise_not logical_and bitwise_and maximum minimum
    fmax fmin _to_copy clone detach alias where masked_fill masked_fill_ index_put_ index_put addcmul
""")
_JOINING = _overloads("""
    mul mul_ maximum minimum fmax where masked_fill masked_fill_ index_put_ index_put clamp clamp_ clamp_min
    clamp_min_
""")
_PRODUCTS = _overloads("mul mul_")
_SATURATING = _overloads("hardtanh hardtanh_ clamp clamp_")

_SPREAD = [10 ** (k / 4) for k in range(-24, 8)]  # also close to zero, where masks have their thresholds
_PROBES = torch.tensor(
    sorted([0.0, *(sign * n for n in (*_SPREAD, 3.0, 4.0, 8.0, 40.0, 1e4) for sign in (-1, 1))]),
    dtype=torch.float64,
)
_LONGEST = 24  # calls in a chain
_SMALL = 4096  # constants with more elements must have equal elements
_ROUNDING = 1e-5  # relative tolerance: constants are often in single precision


@dataclass(frozen=True)
class Activation:
    """Elementwise function of one value that behaves like an activation function."""

    root: int  # the value
    gain: float  # slope far above zero
    is_relu: bool


@dataclass(frozen=True)
class Roles:
    """Roles of an operation in a chain."""

    is_link: bool  # it computes each position from the same position of its arguments
    completes: bool  # it can be the last call of a chain
    saturates: bool  # it clamps large and small numbers

    @classmethod
    def of(cls, op: Any) -> Roles:
        return cls(op in _POINTWISE, op in _JOINING, op in _SATURATING)


@dataclass(frozen=True)
class Link:
    """One call of a chain. Tensors that depend on the image are replaced by `_Value`."""

    op: Any
    arguments: dict[str, Any]
    root: int


@dataclass(frozen=True)
class _Value:
    number: int


class _NotAFunction(Exception):
    """Raised if a chain is not a function of one number, for example because a constant varies."""


class Spellings:
    """Chains of one forward pass."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}  # by the value that the call returned

    def note(
        self,
        op: Any,
        named: Mapping[str, Any],
        values: Sequence[int | None],
        output: int,
    ) -> None:
        """Store a call that may be part of a chain: its operation is a link, and all shapes are equal."""
        root = self._root(values)
        if root is not None:
            self.links[output] = Link(op, _with_values(named, values), root)

    def related(self, values: Sequence[int | None]) -> bool:
        """Return whether all arguments that depend on the image are elementwise functions of one map."""
        return self._root(values) is not None

    def activation(
        self, op: Any, named: Mapping[str, Any], values: Sequence[int | None]
    ) -> Activation | None:
        """Return the activation function that this call completes, or None."""
        product = op in _PRODUCTS
        count = sum(value is not None for value in values)
        if count < 1 + product or len(values) < 2 or (root := self._root(values)) is None:
            return None
        if product and not any(self._is_multiple(value, root) for value in values):
            return None  # neither factor is a multiple of the map itself
        numbers = self._evaluated(Link(op, _with_values(named, values), root), root)
        return None if numbers is None else _activation(numbers, root)

    def _is_multiple(self, value: int | None, root: int) -> bool:
        """Return whether a value is the root times a positive number."""
        if value is None or value == root:
            return value == root
        numbers = self._evaluated(self.links[value], root)
        if numbers is None:
            return False
        probes = _PROBES.reshape(-1, *[1] * (numbers.dim() - 1))
        gain = numbers[-1:] / probes[-1]
        rounding = _ROUNDING * gain * probes.abs()
        return bool((gain > 0).all()) and bool(((numbers - gain * probes).abs() <= rounding).all())

    def is_gate(self, op: Any, named: Mapping[str, Any], values: Sequence[int | None]) -> bool:
        """Return whether a call that saturates is a hard sigmoid, such as ``relu6(x + 3)``."""
        if len(values) != 1 or values[0] is None:
            return False
        if (link := self.links.get(values[0])) is None:
            return False
        low, high = (named.get(n, named.get(m)) for n, m in (("min_val", "min"), ("max_val", "max")))
        if low != 0 or not isinstance(high, (int, float)):
            return False
        for root in self._above(link.root):
            numbers = self._evaluated(Link(op, _with_values(named, values), root), root)
            if numbers is None:
                return False
            middle = numbers[_PROBES == 0]
            if bool(((middle - high / 2).abs() < _ROUNDING * high).all()):
                return True
        return False

    def _above(self, value: int) -> list[int]:
        """Return a value followed by the chain of values from which it was computed."""
        found = [value]
        while found[-1] in self.links and len(found) < _LONGEST:
            found.append(self.links[found[-1]].root)
        return found

    def _root(self, values: Sequence[int | None]) -> int | None:
        """Return the nearest value of which all these values are functions, or None."""
        own = [value for value in values if value is not None]
        if not own:
            return None
        if len(own) == 1:
            return own[0]
        lines = [self._above(value) for value in own]
        return next((value for value in lines[0] if all(value in line for line in lines[1:])), None)

    def _evaluated(self, link: Link, root: int) -> Tensor | None:
        """Return the results of a chain at the probes, (P, ...), or None if it is not such a function."""
        rank = max((_rank(argument) for argument in link.arguments.values()), default=0)
        probes = _PROBES.reshape(-1, *[1] * max(rank, 4))
        try:
            found: Tensor = self._call(link, root, probes, {})
        except (_NotAFunction, RuntimeError, TypeError, ValueError):
            return None
        if found.dim() != probes.dim() or len(found) != len(_PROBES) or found.is_complex():
            return None
        return found.double()

    def _call(self, link: Link, root: int, probes: Tensor, known: dict[int, Tensor]) -> Any:
        arguments = {
            name: self._argument(argument, root, probes, known) for name, argument in link.arguments.items()
        }
        name = link.op.overloadpacket.__name__
        if name in ("index_put_", "index_put"):
            return _masked_write(arguments)
        if name in ("_to_copy", "clone", "detach", "alias"):
            dtype = arguments.get("dtype")
            return arguments["self"].clone() if dtype is None else arguments["self"].to(dtype)
        op = link.op
        if name.endswith("_"):  # an in-place call cannot broadcast the probes over the constants
            arguments["self"] = arguments["self"].clone()
            op = getattr(getattr(aten, name[:-1]), op._overloadname, op)
        positional = [argument.name for argument in op._schema.arguments if not argument.kwarg_only]
        keywords = {key: value for key, value in arguments.items() if key not in positional}
        return op(*(arguments[key] for key in positional), **keywords)

    def _argument(self, argument: Any, root: int, probes: Tensor, known: dict[int, Tensor]) -> Any:
        if isinstance(argument, (list, tuple)):
            return [self._argument(one, root, probes, known) for one in argument]
        if isinstance(argument, Tensor):
            return _constant(argument)
        if not isinstance(argument, _Value):
            return argument
        if argument.number == root:
            return probes
        if argument.number not in known:
            if argument.number not in self.links:
                raise _NotAFunction
            known[argument.number] = self._call(self.links[argument.number], root, probes, known)
        return known[argument.number]


def _masked_write(arguments: dict[str, Any]) -> Tensor:
    """Return the result of ``x[mask] = number``."""
    indices, number = arguments["indices"], arguments["values"]
    if len(indices) != 1 or indices[0].dtype != torch.bool or number.numel() != 1 or arguments["accumulate"]:
        raise _NotAFunction
    return torch.where(indices[0], number.to(arguments["self"]), arguments["self"])


def _with_values(named: Mapping[str, Any], values: Sequence[int | None]) -> dict[str, Any]:
    """Return the arguments of a call with `_Value` in place of tensors that depend on the image."""
    waiting = iter(values)
    return {name: _with_value(argument, waiting) for name, argument in named.items()}


def _with_value(argument: Any, waiting: Iterator[int | None]) -> Any:
    if isinstance(argument, Tensor):
        value = next(waiting)
        return argument if value is None else _Value(value)
    if isinstance(argument, (list, tuple)):
        return [_with_value(one, waiting) for one in argument]
    return argument


def _rank(argument: Any) -> int:
    return argument.dim() if isinstance(argument, Tensor) else 0


def _constant(tensor: Tensor) -> Tensor:
    """Return a small constant as it is, and a large one as a number. Raise _NotAFunction if it varies."""
    if tensor.is_meta:
        raise _NotAFunction
    if tensor.numel() == 1:
        return tensor.detach().reshape(()).cpu()
    if tensor.numel() > _SMALL:
        low, high = tensor.detach().aminmax() if tensor.dtype != torch.bool else (tensor.all(), tensor.any())
        if not bool(low == high):
            raise _NotAFunction
        return low.cpu()
    return tensor.detach().cpu()


def _activation(numbers: Tensor, root: int) -> Activation | None:
    """Return the activation function with these results (P, ...) at the probes, or None."""
    probes = _PROBES.reshape(-1, *[1] * (numbers.dim() - 1))
    if not bool(numbers.isfinite().all()):
        return None
    gains, slopes = numbers[-1] / _PROBES[-1], numbers[0] / _PROBES[0]  # far above and far below zero
    gain = float(gains.flatten()[0])
    if gain <= _ROUNDING or bool(((gains - gain).abs() > _ROUNDING * gain).any()):
        return None
    if bool(((numbers - gain * probes.clamp_min(0)).abs() <= _ROUNDING * gain * probes.abs()).all()):
        return Activation(root, _rounded(gain), is_relu=True)
    rising = bool((slopes >= -_ROUNDING).all()) and bool((slopes < gain * (1 - _ROUNDING)).all())
    straight = bool(((numbers[-2] / _PROBES[-2] - gain).abs() < 0.05 * gain).all())
    return Activation(root, _rounded(gain), is_relu=False) if rising and straight else None


def _rounded(gain: float) -> float:
    """Return a gain without the rounding errors of the probes."""
    nearest = round(gain, 4)
    return nearest if abs(nearest - gain) <= _ROUNDING * gain else gain
