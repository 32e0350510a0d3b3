"""Pooling: a maximum remembers its place, a mean spreads evenly (paper, section 2.1, "Unpooling")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, PeriodicIntervals, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window, zeros
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Spatial
from deconvviz.engine.rules.separable import Separable
from deconvviz.engine.rules.verification import mismatch

aten = torch.ops.aten


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (int(value[0]), int(value[-1]))


def slides(call: Call) -> tuple[SlidingWindow, SlidingWindow]:
    kernel, padding = _pair(call["kernel_size"]), _pair(call["padding"])
    stride = _pair(call["stride"] or kernel)
    dilation = _pair(call.arguments.get("dilation", [1]))
    return tuple(SlidingWindow(*numbers) for numbers in zip(kernel, stride, padding, dilation, strict=True))  # type: ignore[return-value]


@rule(aten.max_pool2d_with_indices.default)
class MaxPool(Spatial):
    """y = max over each window; mirror: the signal goes to the place of the maximum, its switch.

    Where windows overlap and share a maximum their signals add up (``MaxUnpool2d`` overwrites: it
    loses a quarter of them on 3x3 windows with stride 2).
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.rows, self.columns = slides(call)
        indices: Tensor = call.outputs[1]  # (B, C, h, w) int64: row * width + column, in the input map
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

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        switches = _laid_out(window.cut(self.switches), signal)  # (K, C, h, w)
        rows, columns = self.rows, self.columns
        (k, c), (h, w) = signal.shape[:2], window.size
        high, wide = (h - 1) * rows.stride + rows.extent, (w - 1) * columns.stride + columns.extent
        x = zeros(signal, (k, c, high, wide))
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
        return [
            self.frame(input_windows[0]).place(x, window.start * stride - padding)
        ]  # (K, C, h, w) -> (K, C, h', w')

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slide(axis).index_map if self.supports_windows else UNKNOWN

    def slide(self, axis: int) -> SlidingWindow:
        return (self.rows, self.columns)[axis]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return (
            self.slide(axis).visible_inputs(n_out, n_in)
            if self.supports_windows
            else super().visible_inputs(argument, axis, n_out, n_in)
        )


def _laid_out(switches: Tensor, like: Tensor) -> Tensor:
    """In the order of a signal's numbers."""
    alike = like.is_contiguous(memory_format=torch.channels_last)
    return switches.contiguous(memory_format=torch.channels_last) if alike else switches


def _first(slide: SlidingWindow, n_out: int, device: torch.device) -> Tensor:
    """(n_out,) int32: where each window begins; negative in the padding."""
    return torch.arange(n_out, device=device, dtype=torch.int32) * slide.stride - slide.padding


@rule(aten.avg_pool2d.default)
class AveragePool(Separable):
    """y = mean over each window; mirror: every position of the window gets its share."""

    def __init__(self, call: Call) -> None:
        count_padding, divisor = call["count_include_pad"], call["divisor_override"]
        super().__init__(call)
        self.slides = slides(call)
        sizes = zip(call.output.shape[-2:], call["self"].shape[-2:], self.slides, strict=True)
        rows, columns = (
            slide.visible_inputs(n_out, n_in).double()
            / (1 if divisor else _counted(slide, n_out, n_in, count_padding))
            for n_out, n_in, slide in sizes
        )
        self.settle(call, rows / (divisor or 1), columns)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slides[axis].index_map if self.supports_windows else UNKNOWN


def _counted(slide: SlidingWindow, n_out: int, n_in: int, count_padding: bool) -> Tensor:
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
        super().__init__(call)
        rows, columns = (
            _adaptive(n_out, n_in)
            for n_out, n_in in zip(call.output.shape[-2:], call["self"].shape[-2:], strict=True)
        )
        self.settle(call, rows, columns)
        self.of_all = call.layout.positions == {2, 3} and tuple(call.output.shape[-2:]) == (1, 1)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        if not self.supports_windows:
            return None if self.of_all else UNKNOWN
        return adaptive_band(*self.matrices[axis].shape)


def adaptive_band(n_out: int, n_in: int) -> IndexMap:
    """The windows of an adaptive pool: they come round again; a single one sees everything there is."""
    if n_out == 1:
        return None if n_in > 1 else SAME
    period = n_out // gcd(n_out, n_in)
    bounds = tuple((o * n_in // n_out, -((o + 1) * n_in // -n_out)) for o in range(period))
    return PeriodicIntervals(bounds, period * n_in // n_out)


def _adaptive(n_out: int, n_in: int) -> Tensor:
    """(n_out, n_in): window o goes from floor(o * n_in / n_out) to ceil((o + 1) * n_in / n_out)."""
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    for o in range(n_out):
        first, last = o * n_in // n_out, -((o + 1) * n_in // -n_out)
        matrix[o, first:last] = 1 / (last - first)
    return matrix


class PlacedMaximum(Spatial):
    """Maxima whose places in their maps PyTorch tells; mirror: each signal to its place, adding up."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.places: Tensor = call.outputs[1]  # (B, C, ...) int64: place in the map laid out in a row
        self.shape = call.layout.shape
        self.supports_windows = False

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        places = self.places[window.images.to(self.places.device)].flatten(2)
        x = signal.new_zeros(len(signal), self.shape[0], math.prod(self.shape[1:]))
        return [x.scatter_add_(2, places, signal.flatten(2)).unflatten(2, self.shape[1:])]


class OverVolume(Rule):
    """An operation that slides over depth, rows and columns of (B, C, D, H, W), where they lie last.

    It works on whole maps, and its positions are followed along rows and columns.
    """

    slides: Sequence[SlidingWindow]

    def last(self, layout: TensorLayout) -> bool:
        return layout.axes == (3, 4) and len(layout.shape) == 4

    def output_layout(self, call: Call) -> TensorLayout:
        shape = tuple(call.output.shape[1:])
        return TensorLayout(shape, call.layout.axes if self.last(call.layout) else None)

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.mapped:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[1 + axis].visible_inputs(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slides[1 + axis].index_map if self.mapped else UNKNOWN

    @property
    def mapped(self) -> bool:
        raise NotImplementedError


def _triple(value: Sequence[int]) -> list[int]:
    return [int(n) for n in value] * (3 if len(value) == 1 else 1)


def volume_slides(call: Call) -> list[SlidingWindow]:
    kernel, padding = _triple(call["kernel_size"]), _triple(call["padding"])
    stride = _triple(call["stride"] or kernel)
    dilation = _triple(call.arguments.get("dilation", [1]))
    return [SlidingWindow(*numbers) for numbers in zip(kernel, stride, padding, dilation, strict=True)]


@rule(aten.max_pool3d_with_indices.default)
class MaxPool3d(OverVolume, PlacedMaximum):
    """y = max over each window of a volume."""

    def __init__(self, call: Call) -> None:
        PlacedMaximum.__init__(self, call)
        self.slides = volume_slides(call)
        self.over_map = self.last(call.layout)

    @property
    def mapped(self) -> bool:
        return self.over_map


@rule(aten.avg_pool3d.default)
class AveragePool3d(OverVolume):
    """y = mean over each window of a volume; mirror: every position of the window gets its share."""

    def __init__(self, call: Call) -> None:
        self.slides = volume_slides(call)
        self.over_map = self.last(call.layout)
        self.below = call.layout
        count_padding, divisor = call["count_include_pad"], call["divisor_override"]
        sizes = list(zip(call.output.shape[-3:], call["self"].shape[-3:], self.slides, strict=True))
        self.matrices = [slide.visible_inputs(n_out, n_in).double() for n_out, n_in, slide in sizes]
        counts = [_counted(slide, n_out, n_in, count_padding) for n_out, n_in, slide in sizes]
        depth, rows, columns = (count[:, 0].double() for count in counts)
        many = depth[:, None, None] * rows[:, None] * columns  # (d, h, w) how many each mean divides by
        self.divisor = torch.full_like(many, divisor) if divisor else many
        self.fault = "" if call.output.is_meta else mismatch(
            torch.einsum(
                "...dhw,Dd,Hh,Ww->...DHW", call["self"].double().cpu(), *self.matrices
            ) / self.divisor,
            call.output.cpu(),
        )  # fmt: skip

    def unsupported(self) -> str:
        return self.fault

    @property
    def mapped(self) -> bool:
        return self.over_map

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        matrices = [matrix.to(signal) for matrix in self.matrices]
        shared = signal / self.divisor.to(signal)
        return [torch.einsum("...DHW,Dd,Hh,Ww->...dhw", shared, *matrices)]


@rule(aten.adaptive_max_pool2d.default)
class AdaptiveMaxPool(PlacedMaximum):
    """y = max over windows chosen to give a fixed output size."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.mapped = call.layout.axes == (2, 3)
        self.lengths = call.output.shape[-2:]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return (
            _adaptive(n_out, n_in) > 0 if self.mapped else super().visible_inputs(argument, axis, n_out, n_in)
        )

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return adaptive_band(self.lengths[axis], self.below.lengths[axis]) if self.mapped else UNKNOWN


@rule(aten.max_unpool2d.default)
class MaxUnpool(Spatial):
    """Each number goes to where its maximum was, the rest is zero; mirror: the signal is fetched from there.

    Where several have one place, the network kept one of them, and that one alone gets the signal.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.supports_windows = False
        self.places: Tensor = call["indices"]  # (B, C, h, w) int64: row * width + column, in the output map
        self.arrived = self._arrived(call)
        self.fault = self._fault(call)
        maker = call.makers[1]
        self.pool = maker if isinstance(maker, MaxPool) and call.layout.axes == (2, 3) else None

    def _arrived(self, call: Call) -> Tensor:
        """Which numbers were not overwritten by another; all, where there are no numbers (shapes alone)."""
        if self.places.is_meta:
            return torch.ones_like(self.places, dtype=torch.bool)
        names = torch.arange(self.places.numel(), dtype=torch.float64, device=self.places.device)
        names = names.view_as(self.places)
        there: Tensor = call.op(names, self.places, call["output_size"])
        return there.flatten(2).gather(2, self.places.flatten(2)).view_as(names) == names

    def _fault(self, call: Call) -> str:
        """Why the numbers that should have arrived are not those of the output; empty if they are."""
        if self.places.is_meta:
            return ""
        there = call.output.flatten(2).gather(2, self.places.flatten(2)).view_as(self.places)
        return mismatch(torch.where(self.arrived, call["self"], 0), torch.where(self.arrived, there, 0))

    def unsupported(self) -> str:
        return self.fault

    def flows(self, argument: int) -> bool:
        return argument == 0

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        images = window.images.to(self.places.device)
        places, arrived = self.places[images], self.arrived[images]
        x = signal.flatten(2).gather(2, places.flatten(2)).view_as(places)  # (K, C, H, W) -> (K, C, h, w)
        return [x * arrived, None]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.pool is None:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.pool.slide(axis).visible_inputs(n_in, n_out).T

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return UNKNOWN if self.pool is None else self.pool.slide(axis).transposed
