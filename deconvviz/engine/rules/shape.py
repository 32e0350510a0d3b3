"""Calls that move numbers about, join branches, or scale by a constant: the mirror undoes the move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.rules.base import Call, Rule, Slide, rule
from deconvviz.engine.windows import Window

aten = torch.ops.aten


@rule(
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
    aten._to_copy.default,
    aten.lift_fresh.default,
)
class Same(Rule):
    """The same numbers, in another place of the memory or another type."""

    windowed = True

    def __init__(self, call: Call) -> None:
        self.dtype: torch.dtype = call["self"].dtype

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.to(self.dtype)]


@rule(aten.view.default, aten._unsafe_view.default, aten.reshape.default)
class View(Rule):
    """The same numbers in another shape; mirror: back to the old shape, picture by picture."""

    def __init__(self, call: Call) -> None:
        self.shape = call["self"].shape
        self.output = call.output.shape

    def refuses(self) -> str:
        if self.output[:1] == self.shape[:1]:
            return ""
        return f"it mixes the pictures of a batch: {tuple(self.shape)} to {tuple(self.output)}"

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.reshape(-1, *self.shape[1:])]  # (K, C * H * W) -> (K, C, H, W)

    def _keeps_map(self) -> bool:
        return len(self.shape) == len(self.output) == 4 and self.shape[2:] == self.output[2:]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return None if self._keeps_map() else super().reach(argument, axis, n_out, n_in)

    def slide(self, argument: int, axis: int) -> Slide | None:
        return Slide() if self._keeps_map() else None


@rule(aten.cat.default)
class Concat(Rule):
    """Several maps, one behind the other; mirror: each gets its part of the signal."""

    def __init__(self, call: Call) -> None:
        tensors = [t for t in call["tensors"] if t.shape != (0,)]  # PyTorch skips such empty ones
        self.skipped = [t.shape == (0,) for t in call["tensors"]]
        self.dim: int = call["dim"] % call.output.dim()
        self.lengths = [t.shape[self.dim] for t in tensors]
        self.windowed = self.dim == 1
        self.axis = self.dim - 2 if call.output.dim() == 4 else None  # of a map: rows 0, columns 1

    def refuses(self) -> str:
        return "it joins pictures into one batch" if self.dim == 0 else ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        parts = iter(signal.split(self.lengths, dim=self.dim))
        return [None if skipped else next(parts) for skipped in self.skipped]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.axis != axis:
            return None
        before = sum(self.lengths[: argument - sum(self.skipped[:argument])])
        return torch.eye(n_out, dtype=torch.bool)[:, before : before + n_in]

    def slide(self, argument: int, axis: int) -> Slide | None:
        return Slide() if self.axis != axis else None


class Elementwise(Rule):
    """Two terms of one shape, or stretched to one; a term's signal is summed over its stretch."""

    def __init__(self, call: Call) -> None:
        terms = [call.arguments[name] for name in ("self", "other")]
        self.shapes = [t.shape for t in terms if isinstance(t, Tensor)]
        self.derived = call.derived
        self.whole = call.output.shape
        self.windowed = all(shape == self.whole for shape in self._derived_shapes())

    def _derived_shapes(self) -> list[torch.Size]:
        return [shape for shape, derived in zip(self.shapes, self.derived, strict=True) if derived]

    def refuses(self) -> str:
        for shape in self._derived_shapes():
            if len(shape) != len(self.whole) or shape[0] != self.whole[0]:
                return f"it stretches over the pictures of a batch: {tuple(shape)} to {tuple(self.whole)}"
        return ""

    def _keeps(self, argument: int, axis: int) -> bool:
        """Whether rows (columns) of a term are those of the whole: it is not stretched along them."""
        shape = self.shapes[argument]
        return len(shape) == len(self.whole) == 4 and shape[2 + axis] == self.whole[2 + axis]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return None if self._keeps(argument, axis) else super().reach(argument, axis, n_out, n_in)

    def slide(self, argument: int, axis: int) -> Slide | None:
        return Slide() if self._keeps(argument, axis) else None


@rule(aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor, aten.sub_.Tensor, aten.add.Scalar, aten.sub.Scalar)
class Sum(Elementwise):
    """y = a + factor * b; mirror: both get the signal, b times its factor."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        sign = -1 if call.op.overloadpacket in (aten.sub, aten.sub_) else 1
        self.factors = [1, sign * call["alpha"]]

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        terms = zip(self.shapes, self.derived, self.factors, strict=False)
        return [
            unstretch(signal if factor == 1 else signal * factor, shape) if derived else None
            for shape, derived, factor in terms
        ]


def unstretch(signal: Tensor, shape: torch.Size) -> Tensor:
    """Sum a signal (K, ...) over the dimensions in which a term (B, *shape[1:]) was stretched."""
    dims = [dim for dim in range(1, len(shape)) if shape[dim] == 1 and signal.shape[dim] > 1]
    return signal.sum(dims, keepdim=True) if dims else signal
