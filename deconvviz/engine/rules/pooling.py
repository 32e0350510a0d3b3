"""Pooling: maxima are unpooled at their switches, means spread evenly (paper, section 2.1, "Unpooling")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, PeriodicIntervals, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Spatial
from deconvviz.engine.rules.separable import Separable
from deconvviz.engine.rules.unpooling import unpooled
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
    """y = max over each window; projection: the signal goes to the position of the maximum, the switch.

    Where overlapping windows share a maximum, their signals are summed. (``MaxUnpool2d`` overwrites and loses
    a quarter of them on 3x3 windows with stride 2.)
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.rows, self.columns = slides(call)
        self.width: int = call["self"].shape[-1]
        indices: Tensor = call.outputs[1]  # (B, C, h, w) int64: row * width + column, in the input map
        self._indices: Tensor | None = None
        self._switches: Tensor | None = None
        if self._by_clamping and self._narrow == torch.uint8:
            self._indices = indices.to(torch.uint8)  # this is enough, and only a projection needs the rest
        else:
            self._switches = self._in_windows(indices)

    @property
    def switches(self) -> Tensor:
        """The switches inside their windows, t_row * kernel width + t_column: one byte a unit."""
        indices = self._indices
        if indices is not None:
            found = self._in_windows(indices)
            on_cpu = found.device.type == "cpu"  # signals there are in channels-last format
            self._switches = found.contiguous(memory_format=torch.channels_last) if on_cpu else found
            self._indices = None  # last, because another thread may ask at the same time
        assert self._switches is not None
        return self._switches

    @property
    def _step(self) -> int:
        """Difference between the indices of two rows of a window."""
        return self.rows.dilation * self.width

    @property
    def _by_clamping(self) -> bool:
        rows, columns = self.rows, self.columns
        return rows.kernel <= 4 and columns.kernel <= min(self._step, 64) and columns.dilation == 1

    @property
    def _narrow(self) -> torch.dtype:
        """The narrowest type in which the switches of a small window can be computed."""
        kernel = self.rows.kernel
        if (kernel - 1) * self._step + self.columns.kernel <= 2**8:
            return torch.uint8
        return torch.int16 if kernel**2 * self._step < 2**15 else torch.int32

    def _in_windows(self, indices: Tensor) -> Tensor:
        if self._by_clamping:
            return self._in_small_windows(indices)
        rows, columns, width = self.rows, self.columns, self.width
        h, w = indices.shape[-2:]
        first_row, first_column = _first(rows, h, indices.device)[:, None], _first(columns, w, indices.device)
        places = indices.to(torch.int32)
        row_of = torch.div(places, width, rounding_mode="floor")
        tap_row, tap_column = row_of - first_row, places.sub_(row_of, alpha=width) - first_column
        for slide, tap in ((rows, tap_row), (columns, tap_column)):
            if slide.dilation > 1:
                tap.div_(slide.dilation, rounding_mode="floor")
        narrow = torch.uint8 if rows.kernel * columns.kernel <= 256 else torch.int32
        return tap_row.mul_(columns.kernel).add_(tap_column).to(narrow)

    def _in_small_windows(self, indices: Tensor) -> Tensor:
        """Return the same for small windows, in the narrowest type in which it can be computed.

        Each row that a switch lies below the first is found with `clamp`, which is faster than a division or
        a comparison. Indices too large for the type wrap around, and the subtraction wraps them back.
        """
        below, narrow = self._step, self._narrow
        steps = [row * below for row in range(1, self.rows.kernel)]
        first = _first_indices(self.rows, self.columns, self.width, indices, narrow)
        step = indices.to(narrow) - first  # t_row * below + t_column
        if steps:
            tap_row = step.clamp(steps[0] - 1, steps[0])
            for one in steps[1:]:
                tap_row.add_(step.clamp(one - 1, one))
            tap_row.sub_((sum(steps) - len(steps)) % 2 ** torch.iinfo(narrow).bits)
            step.sub_(tap_row, alpha=below - self.columns.kernel)
        return step.to(torch.uint8)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        switches = _in_memory_format_of(window.cut(self.switches), signal)  # (K, C, h, w)
        rows, columns = self.rows, self.columns
        x = unpooled(signal, switches, rows, columns)
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


def _in_memory_format_of(switches: Tensor, like: Tensor) -> Tensor:
    """Return the switches in the memory format of a signal."""
    alike = like.is_contiguous(memory_format=torch.channels_last)
    return switches.contiguous(memory_format=torch.channels_last) if alike else switches


def _first(slide: SlidingWindow, n_out: int, device: torch.device) -> Tensor:
    """Return the first position of each window, (n_out,) int32; negative in the padding."""
    return torch.arange(n_out, device=device, dtype=torch.int32) * slide.stride - slide.padding


def _first_indices(
    rows: SlidingWindow, columns: SlidingWindow, width: int, like: Tensor, dtype: torch.dtype
) -> Tensor:
    """(h, w): the index in a map of that width at which each window begins; kept for CPU maps of usual size.

    To compute it takes as long as the rest of a small map's switches.
    """
    h, w = like.shape[-2:]
    key = (rows, columns, width, h, w, dtype)
    if like.device.type != "cpu" or (found := _kept_indices.get(key)) is None:
        first_row, first_column = _first(rows, h, like.device)[:, None], _first(columns, w, like.device)
        found = (first_row * width + first_column).to(dtype)
        plain = type(found) is Tensor and found.device.type == "cpu" and not found.is_inference()
        if plain and h * w <= _USUAL_SIZE and len(_kept_indices) < _KEPT_AT_MOST:
            _kept_indices[key] = found
    return found


_kept_indices: dict[tuple[SlidingWindow, SlidingWindow, int, int, int, torch.dtype], Tensor] = {}
_USUAL_SIZE = 2**16  # positions of a map
_KEPT_AT_MOST = 64


@rule(aten.avg_pool2d.default)
class AveragePool(Separable):
    """y = mean over each window; projection: the signal, divided evenly among the positions of the window."""

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
    """Return the number of positions that each mean divides by along one axis, (n_out, 1)."""
    first = torch.arange(n_out) * slide.stride - slide.padding
    last = (first + slide.kernel).clamp(max=n_in + slide.padding)  # without what ceil mode adds
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
    """Return the index map of an adaptive pool: periodic windows, or one window that is the whole map."""
    if n_out == 1:
        return None if n_in > 1 else SAME
    period = n_out // gcd(n_out, n_in)
    bounds = tuple((o * n_in // n_out, -((o + 1) * n_in // -n_out)) for o in range(period))
    return PeriodicIntervals(bounds, period * n_in // n_out)


def _adaptive(n_out: int, n_in: int) -> Tensor:
    """Return the averaging matrix (n_out, n_in).

    Window o covers floor(o * n_in / n_out) to ceil((o + 1) * n_in / n_out).
    """
    matrix = torch.zeros(n_out, n_in, dtype=torch.float64)
    for o in range(n_out):
        first, last = o * n_in // n_out, -((o + 1) * n_in // -n_out)
        matrix[o, first:last] = 1 / (last - first)
    return matrix


class PlacedMaximum(Spatial):
    """Maxima with indices from PyTorch; projection: each signal goes to its index, duplicates are summed."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.places: Tensor = call.outputs[1]  # (B, C, ...) int64: index into the flattened map
        self.shape = call.layout.shape
        self.supports_windows = False

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        places = self.places[window.image_indices.to(self.places.device)].flatten(2)
        x = signal.new_zeros(len(signal), self.shape[0], math.prod(self.shape[1:]))
        return [x.scatter_add_(2, places, signal.flatten(2)).unflatten(2, self.shape[1:])]


class OverVolume(Rule):
    """An operation that slides over depth, rows and columns of (B, C, D, H, W).

    It is projected on whole maps. Positions are tracked along rows and columns.
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
    """y = mean over each window of a volume; projection: the signal, divided evenly among its positions."""

    def __init__(self, call: Call) -> None:
        self.slides = volume_slides(call)
        self.over_map = self.last(call.layout)
        self.below = call.layout
        count_padding, divisor = call["count_include_pad"], call["divisor_override"]
        sizes = list(zip(call.output.shape[-3:], call["self"].shape[-3:], self.slides, strict=True))
        self.matrices = [slide.visible_inputs(n_out, n_in).double() for n_out, n_in, slide in sizes]
        counts = [_counted(slide, n_out, n_in, count_padding) for n_out, n_in, slide in sizes]
        depth, rows, columns = (count[:, 0].double() for count in counts)
        many = depth[:, None, None] * rows[:, None] * columns  # (d, h, w): number of positions
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
    """Unpooling: each value goes to the index of its maximum; projection: the signal at that index.

    Where several values have one index, the network kept one of them, and only that one receives the signal.
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
        """Return which values were not overwritten by another; all of them for meta tensors."""
        if self.places.is_meta:
            return torch.ones_like(self.places, dtype=torch.bool)
        names = torch.arange(self.places.numel(), dtype=torch.float64, device=self.places.device)
        names = names.view_as(self.places)
        there: Tensor = call.op(names, self.places, call["output_size"])
        return there.flatten(2).gather(2, self.places.flatten(2)).view_as(names) == names

    def _fault(self, call: Call) -> str:
        """Return why the output does not hold the expected values; an empty string if it does."""
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
        images = window.image_indices.to(self.places.device)
        places, arrived = self.places[images], self.arrived[images]
        x = signal.flatten(2).gather(2, places.flatten(2)).view_as(places)  # (K, C, H, W) -> (K, C, h, w)
        return [x * arrived, None]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.pool is None:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.pool.slide(axis).visible_inputs(n_in, n_out).T

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return UNKNOWN if self.pool is None else self.pool.slide(axis).transposed
