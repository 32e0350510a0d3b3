"""Fourier transforms and complex numbers: linear maps, whose projection is the adjoint.

The signal of a complex value is complex. Its real and imaginary parts are the signals of the real and
imaginary part of the value, as in PyTorch's gradients. The adjoint of a product with a complex number is
therefore the product with its conjugate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import UNKNOWN, IndexMap
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.arithmetic import Elementwise
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule

aten = torch.ops.aten


class Transform(Rule):
    """A discrete Fourier transform over some dimensions."""

    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.dims = [self.below.dim(int(dim)) for dim in call["dim"]]
        self.scaling: int = call[
            "normalization"
        ]  # 0: none, 1: by the square root of the length, 2: by the length
        self.length = self.below.shape[self.dims[-1] - 1]  # of the last dimension
        self.over = {axis for axis in map(self.below.axis_of, self.dims) if axis is not None}
        self.joined = not self.below.positions.isdisjoint(self.dims) and not self.over

    def unsupported(self) -> str:
        return "it transforms the images of a batch" if 0 in self.dims else ""

    def output_layout(self, call: Call) -> TensorLayout:
        if 0 in self.dims:
            return self.below.like(call.output.shape[1:])
        shape = list(self.below.shape)
        last = int(call["dim"][-1])
        shape[self.dims[-1] - 1] = call.output.shape[last]
        return replace(self.below.without(self.dims, keep=True), shape=tuple(shape))

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return axis not in self.over and not self.joined

    def index_map(self, argument: int, axis: int) -> IndexMap:
        if axis in self.over:
            return None  # each frequency depends on all positions
        return UNKNOWN if self.joined else super().index_map(argument, axis)


@rule(aten._fft_c2c.default)
class ComplexTransform(Transform):
    """Complex to complex, or back; projection: the transform in the other direction."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.forward: bool = call["forward"]

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [aten._fft_c2c(signal, self.dims, self.scaling, not self.forward)]


@rule(aten._fft_r2c.default)
class RealTransform(Transform):
    """Real to complex, often only the half of the frequencies that determines the others.

    Projection: the real part of the transform in the other direction, with zeros for the other half.
    """

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        dim = self.dims[-1]
        pads = [0, 0] * (signal.dim() - 1 - dim) + [0, self.length - signal.shape[dim]]
        whole = torch.nn.functional.pad(signal, pads)
        return [torch.real(aten._fft_c2c(whole, self.dims, self.scaling, False))]


@rule(aten._fft_c2r.default)
class RealInverse(Transform):
    """Half of the frequencies to real values. Projection: `RealTransform`; the other half counts too.

    The frequencies of the other half are the conjugates of those from 1 on, which therefore count twice.
    """

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        dim = self.dims[-1]
        x: Tensor = aten._fft_r2c(signal, self.dims, self.scaling, True)
        x.narrow(dim, 1, signal.shape[dim] - x.shape[dim]).mul_(2)
        return [x]


@rule(aten.view_as_real.default)
class RealParts(Rule):
    """Complex values as pairs of real ones, (..., 2); projection: the pairs as complex signals."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def output_layout(self, call: Call) -> TensorLayout:
        return replace(call.layout, shape=(*call.layout.shape, 2))

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [torch.view_as_complex(signal.contiguous())]


@rule(aten.view_as_complex.default)
class ComplexPairs(Rule):
    """Pairs of real values, (..., 2), as complex ones; projection: real and imaginary part of the signal."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def output_layout(self, call: Call) -> TensorLayout:
        last = len(call.layout.shape)
        kept = call.layout.moved(lambda dim: None if dim == last else dim)
        return replace(kept, shape=call.layout.shape[:-1])

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [torch.view_as_real(signal.resolve_conj())]


@rule(aten.complex.default)
class ComplexSum(Elementwise):
    """y = a + i b; projection: a receives the real part of the signal, and b the imaginary part."""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        parts = (torch.real(signal), torch.imag(signal))
        pairs = enumerate(zip(self.derived, parts, strict=True))
        return [self.share(part, argument) if derived else None for argument, (derived, part) in pairs]


@rule(aten._conj.default, aten._conj_physical.default)
class Conjugate(Elementwise):
    """The complex conjugate; projection: the conjugate of the signal."""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.conj_physical()]
