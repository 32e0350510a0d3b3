"""Pooling: a maximum remembers its place, a mean spreads evenly (paper, section 2.1, "Unpooling")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.rules.base import Call, Rule, Slide, rule
from deconvviz.engine.windows import Window

aten = torch.ops.aten


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (int(value[0]), int(value[-1]))


def _slides(call: Call) -> tuple[Slide, Slide]:
    kernel, padding = _pair(call["kernel_size"]), _pair(call["padding"])
    stride = _pair(call["stride"] or kernel)
    dilation = _pair(call.arguments.get("dilation", [1]))
    return tuple(Slide(*numbers) for numbers in zip(kernel, stride, padding, dilation, strict=True))  # type: ignore[return-value]


@rule(aten.max_pool2d_with_indices.default)
class MaxPool(Rule):
    """y = max over each window; mirror: the signal goes to the place of the maximum, its switch.

    Where windows overlap and share a maximum their signals add up (``MaxUnpool2d`` overwrites: it
    loses a quarter of them on 3x3 windows with stride 2).
    """

    windowed = True

    def __init__(self, call: Call) -> None:
        self.rows, self.columns = _slides(call)
        indices: Tensor = call.output[1]  # (B, C, h, w) int64: row * width + column, in the input map
        self.switches = self._switches(indices, width=call["self"].shape[-1])

    def _switches(self, indices: Tensor, width: int) -> Tensor:
        """The places of the maxima inside their windows, t_row * kernel width + t_column: one byte a unit."""
        rows, columns = self.rows, self.columns
        h, w = indices.shape[-2:]
        first_row, first_column = _first(rows, h, indices.device)[:, None], _first(columns, w, indices.device)
        below = rows.dilation * width  # from one row of a window to the next
        if rows.kernel <= 4 and columns.kernel <= min(below, 64) and columns.dilation == 1:
            step = indices.to(torch.int32).sub_(first_row * width + first_column)  # t_row * below + t_column
            taps = step.to(torch.uint8)  # counted modulo 256 from here on: much quicker than a division
            for row in range(1, rows.kernel):
                taps.sub_((step >= row * below).view(torch.uint8), alpha=(below - columns.kernel) % 256)
            return taps
        places = indices.to(torch.int32)
        row_of = torch.div(places, width, rounding_mode="floor")
        tap_row, tap_column = row_of - first_row, places.sub_(row_of, alpha=width) - first_column
        for slide, tap in ((rows, tap_row), (columns, tap_column)):
            if slide.dilation > 1:
                tap.div_(slide.dilation, rounding_mode="floor")
        narrow = torch.uint8 if rows.kernel * columns.kernel <= 256 else torch.int32
        return tap_row.mul_(columns.kernel).add_(tap_column).to(narrow)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        switches = at.cut(self.switches)  # (K, C, h, w)
        rows, columns = self.rows, self.columns
        (k, c), (h, w) = signal.shape[:2], at.size
        high, wide = (h - 1) * rows.stride + rows.extent, (w - 1) * columns.stride + columns.extent
        x = signal.new_zeros(k, c, high, wide)
        for tap in range(rows.kernel * columns.kernel):
            row, column = divmod(tap, columns.kernel)
            row, column = row * rows.dilation, column * columns.dilation
            x[
                :, :,
                row : row + (h - 1) * rows.stride + 1 : rows.stride,
                column : column + (w - 1) * columns.stride + 1 : columns.stride,
            ] += signal * (switches == tap)  # fmt: skip
        stride = torch.tensor([rows.stride, columns.stride])
        padding = torch.tensor([rows.padding, columns.padding])
        return [into[0].place(x, at.start * stride - padding)]  # (K, C, h, w) -> (K, C, h', w')

    def slide(self, argument: int, axis: int) -> Slide:
        return (self.rows, self.columns)[axis]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return self.slide(argument, axis).reach(n_out, n_in)


def _first(slide: Slide, n_out: int, device: torch.device) -> Tensor:
    """(n_out,) int32: where each window begins; negative in the padding."""
    return torch.arange(n_out, device=device, dtype=torch.int32) * slide.stride - slide.padding


class Separable(Rule):
    """y = R x C^T, one matrix along the rows and one along the columns; mirror: R^T signal C."""

    windowed = True
    matrices: tuple[Tensor, Tensor]  # (h, H) and (w, W), float64

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        x, here = signal, at
        for axis, matrix in enumerate(self.matrices):
            there = _moved(here, into[0], axis)
            if matrix.shape[0] == matrix.shape[1] and torch.equal(
                matrix, torch.eye(len(matrix), dtype=matrix.dtype)
            ):
                x = there.place(x, here.start)
            else:
                rows = here.start[:, axis, None] + torch.arange(here.size[axis])  # (K, n)
                columns = there.start[:, axis, None] + torch.arange(there.size[axis])  # (K, m)
                part = matrix[rows[:, :, None], columns[:, None, :]].to(signal)[:, None]  # (K, 1, n, m)
                x = part.mT @ x if axis == 0 else x @ part  # (K, C, n, w) -> (K, C, m, w); then the columns
            here = there
        return [x]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return self.matrices[axis] != 0


def _moved(here: Window, into: Window, axis: int) -> Window:
    """A window that lies like `into` along one axis, and like `here` along the other."""
    start, size = here.start.clone(), list(here.size)
    start[:, axis], size[axis] = into.start[:, axis], into.size[axis]
    return Window(start, (size[0], size[1]), into.shape, here.images)


@rule(aten.avg_pool2d.default)
class AveragePool(Separable):
    """y = mean over each window; mirror: every position of the window gets its share."""

    def __init__(self, call: Call) -> None:
        count_padding, divisor = call["count_include_pad"], call["divisor_override"]
        self.slides = _slides(call)
        sizes = zip(call.output.shape[-2:], call["self"].shape[-2:], self.slides, strict=True)
        rows, columns = (
            slide.reach(n_out, n_in).double()
            / (1 if divisor else _counted(slide, n_out, n_in, count_padding))
            for n_out, n_in, slide in sizes
        )
        self.matrices = (rows / (divisor or 1), columns)

    def slide(self, argument: int, axis: int) -> Slide:
        return self.slides[axis]


def _counted(slide: Slide, n_out: int, n_in: int, count_padding: bool) -> Tensor:
    """(n_out, 1): how many positions each mean divides by along one axis, as PyTorch counts them."""
    first = torch.arange(n_out) * slide.stride - slide.padding
    last = (first + slide.kernel).clamp(max=n_in + slide.padding)  # what ceil mode adds is never counted
    if not count_padding:
        first, last = first.clamp(min=0), last.clamp(max=n_in)
    return (last - first)[:, None]


@rule(aten._adaptive_avg_pool2d.default)
class AdaptiveAveragePool(Separable):
    """y = mean over windows chosen to give a fixed output size."""

    def __init__(self, call: Call) -> None:
        rows, columns = (
            _adaptive(n_out, n_in)
            for n_out, n_in in zip(call.output.shape[-2:], call["self"].shape[-2:], strict=True)
        )
        self.matrices = (rows, columns)

    def slide(self, argument: int, axis: int) -> Slide | None:
        n_out, n_in = self.matrices[axis].shape
        if n_in % n_out:
            return None  # windows of unequal size
        return Slide(n_in // n_out, n_in // n_out)


def _adaptive(n_out: int, n_in: int) -> Tensor:
    """(n_out, n_in): window o goes from floor(o * n_in / n_out) to ceil((o + 1) * n_in / n_out)."""
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    for o in range(n_out):
        first, last = o * n_in // n_out, -((o + 1) * n_in // -n_out)
        matrix[o, first:last] = 1 / (last - first)
    return matrix


@rule(aten.mean.dim)
class Mean(Rule):
    """y = mean over some dimensions; mirror: the signal, shared out evenly."""

    def __init__(self, call: Call) -> None:
        shape = call["self"].shape
        dims = sorted(dim % len(shape) for dim in (call["dim"] or range(len(shape))))
        self.kept_batch = 0 not in dims
        self.shape = shape[1:]
        self.dims = dims if self.kept_batch else []
        self.keepdim: bool = call["keepdim"]
        self.count = 1
        for dim in dims:
            self.count *= shape[dim]

    def refuses(self) -> str:
        return "" if self.kept_batch else "it averages over the pictures of a batch"

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        if not self.keepdim:
            for dim in self.dims:
                signal = signal.unsqueeze(dim)
        return [(signal / self.count).expand(-1, *self.shape)]  # (K, C) -> (K, C, H, W)

    def _keeps(self, axis: int) -> bool:
        """Whether rows (columns) stay what they are: a mean over channels, or over the other axis."""
        return self.keepdim and len(self.shape) == 3 and 2 + axis not in self.dims

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return None if self._keeps(axis) else super().reach(argument, axis, n_out, n_in)

    def slide(self, argument: int, axis: int) -> Slide | None:
        return Slide() if self._keeps(axis) else None
