"""Forward pass whose gradient is non-zero for every input that can change a unit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.origins import overwrites
from helpers.semantics import Semantics, dimensions, interpolation

_T = torch.Tensor
DIFFERENCE = [torch.neg, _T.neg, _T.__neg__, torch.sub, torch.rsub, _T.sub, _T.__sub__, _T.__rsub__]


class EverythingCounts(Semantics):
    """Mode without rectification, with sums instead of maxima and absolute interpolation weights."""

    def __init__(self) -> None:
        super().__init__()
        for calls, replacement in (
            ([F.max_pool2d, torch.max_pool2d, F.max_pool2d_with_indices], self._max_pool),
            ([F.adaptive_max_pool2d], self._adaptive_max_pool),
            ([F.max_unpool2d], self._spread),
            ([F.interpolate], self._interpolate),
            (DIFFERENCE, self._difference),
        ):
            for call in calls:
                self.replaced[call] = replacement

    def rectify(self, x: Tensor, value: Tensor, gain: float = 1.0) -> Tensor:
        return x

    def _multiply(self, call: Any, input: Any, other: Any) -> Tensor:
        """Add the factors instead of multiplying them, so that a factor of zero does not hide the other."""
        both = all(isinstance(n, Tensor) and n.requires_grad for n in (input, other))
        if "mul" not in call.__name__ or "mat" in call.__name__:
            return super()._multiply(call, input, other)
        if not both:
            return super()._multiply(call, _open(input), _open(other))
        total = input.clone() + other.clone()
        return input.copy_(total) if overwrites(call) else total

    def _difference(self, call: Any, input: Tensor, *other: Any, **options: Any) -> Tensor:
        """Add instead of subtracting, so that inputs cannot cancel."""
        if not other:
            return input.clone()
        assert not overwrites(call)
        return torch.add(input, *other, **options)

    def amax(self, input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
        return input.sum(dimensions(dim, input.dim()), keepdim)

    def _max_pool(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        given = dict(zip(names, args, strict=False)) | kwargs
        indices = given.pop("return_indices", False) or call is F.max_pool2d_with_indices
        summed = _sum_pool(**given)
        return (summed, call(*args, **kwargs)[1]) if indices else summed

    def _adaptive_max_pool(
        self, call: Any, input: Tensor, output_size: Any, *rest: Any, **more: Any
    ) -> Tensor:
        return F.adaptive_avg_pool2d(input, output_size)

    def _spread(
        self,
        call: Any,
        input: Tensor,
        indices: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Tensor:
        size = call(input.detach(), indices, kernel_size, stride, padding, output_size).shape[2:]
        channels = input.shape[1]
        ones = input.new_ones(channels, 1, *_pair(kernel_size))
        step, pad = _pair(stride or kernel_size), _pair(padding)
        spread = F.conv_transpose2d(input, ones, stride=step, groups=channels)[:, :, pad[0] :, pad[1] :]
        more = [n - m for n, m in zip(size, spread.shape[2:], strict=True)]
        return F.pad(spread, (0, more[1], 0, more[0]))  # negative padding crops

    def _interpolate(self, call: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        for dim, taps in interpolation(call, input, args, kwargs).items():
            taps = taps.abs()
            taps[taps < 1e-9] = 0  # a weight of zero, apart from rounding
            input = torch.tensordot(input, taps, dims=([dim], [0])).movedim(-1, dim)
        return input


def _sum_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the sum over each window of a max-pooling."""
    size = F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode).shape[2:]
    kernel, step, pad, apart = (_pair(n) for n in (kernel_size, stride or kernel_size, padding, dilation))
    needed = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, step, kernel, apart, strict=True)]
    after = [max(0, n - m - p) for n, m, p in zip(needed, input.shape[2:], pad, strict=True)]
    wide = F.pad(input, (pad[1], after[1], pad[0], after[0]))
    channels = input.shape[1]
    ones = input.new_ones(channels, 1, *kernel)
    summed = F.conv2d(wide, ones, stride=step, dilation=apart, groups=channels)
    return summed[:, :, : size[0], : size[1]]


def _open(factor: Any) -> Any:
    """Replace zeros of a gate by ones, because the gate may be open for another image."""
    if not isinstance(factor, Tensor) or factor.requires_grad:
        return factor
    return factor.masked_fill(factor == 0, 1)


def _pair(n: Any) -> tuple[int, int]:
    return (n, n) if isinstance(n, int) else (int(n[0]), int(n[-1]))
