"""Pooling: maxima are unpooled at their switches, means spread evenly (paper, section 2.1, "Unpooling")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, IndexMap, PeriodicIntervals, SlidingWindow
from deconvviz.engine.layout import Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Sliding, Spatial
from deconvviz.engine.rules.separable import Separable
from deconvviz.engine.rules.unpooling import unpooled, unpooled_volume
from deconvviz.engine.rules.verification import mismatch

aten = torch.ops.aten


def slides(call: Call, axes: int) -> tuple[SlidingWindow, ...]:
    """Return the window of a pooling along each of its axes."""
    stride = call["stride"] or call["kernel_size"]
    given = (call["kernel_size"], stride, call["padding"], call.arguments.get("dilation", [1]))
    each = [[int(n) for n in numbers] * (axes if len(numbers) == 1 else 1) for numbers in given]
    return tuple([SlidingWindow(*numbers) for numbers in zip(*each, strict=True)])


@rule(aten.max_pool2d_with_indices.default)
class MaxPool(Sliding):
    """y = max over each window; projection: the signal goes to the position of the maximum, the switch.

    Where overlapping windows share a maximum, their signals are summed. (``MaxUnpool2d`` overwrites and loses
    a quarter of them on 3x3 windows with stride 2.) PyTorch pools signals as maps of one row.
    """

    returns_new = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.slides = self.rows, self.columns = slides(call, 2)
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
        x = unpooled(signal, switches, rows, columns)  # (K, C, h, w) -> (K, C, h', w')
        return [self.moved_into(x, self.shifts(window, input_windows[0]), input_windows[0])]


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


@rule(aten.max_pool3d_with_indices.default)
class MaxPool3d(Sliding):
    """The same for volumes; the switches are stored in one byte a unit, too."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.slides = slides(call, 3)
        self.kernel = [slide.kernel for slide in self.slides]
        indices: Tensor = call.outputs[1]  # (B, C, d, h, w) int64: index into the flattened input map
        lengths = indices.shape[2:]
        rest, taps = indices, torch.zeros_like(indices)
        for axis in (2, 1, 0):
            place, rest = rest % self.lengths[axis], rest // self.lengths[axis]
            slide, along = self.slides[axis], [1] * 3
            along[axis] = lengths[axis]
            first = _first(slide, lengths[axis], indices.device).reshape(along)
            taps += (place - first) // slide.dilation * math.prod(self.kernel[axis + 1 :])
        self.switches = taps.to(torch.uint8 if math.prod(self.kernel) <= 256 else torch.int32)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = unpooled_volume(signal, window.cut(self.switches), self.slides)
        return [self.moved_into(x, self.shifts(window, input_windows[0]), input_windows[0])]


@rule(aten.avg_pool2d.default, aten.avg_pool3d.default)
class AveragePool(Sliding, Separable):
    """y = mean over each window; projection: the signal, divided evenly among the positions of the window."""

    def __init__(self, call: Call) -> None:
        count_padding, divisor = call["count_include_pad"], call["divisor_override"]
        super().__init__(call)
        self.slides = slides(call, len(self.lengths))
        sizes = zip(call.output.shape[2:], self.lengths, self.slides, strict=True)
        first, *others = [
            slide.visible_inputs(n_out, n_in).double()
            / (1 if divisor else _counted(slide, n_out, n_in, count_padding))
            for n_out, n_in, slide in sizes
        ]
        self.settle(call, first / (divisor or 1), *others)


def _counted(slide: SlidingWindow, n_out: int, n_in: int, count_padding: bool) -> Tensor:
    """Return the number of positions that each mean divides by along one axis, (n_out, 1)."""
    first = torch.arange(n_out) * slide.stride - slide.padding
    last = (first + slide.kernel).clamp(max=n_in + slide.padding)  # without what ceil mode adds
    if not count_padding:
        first, last = first.clamp(min=0), last.clamp(max=n_in)
    return (last - first)[:, None]


@rule(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
class AdaptiveAveragePool(Separable):
    """y = mean over windows chosen to give a fixed output size."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        sizes = zip(call.output.shape[2:], self.lengths, strict=True)
        self.settle(call, *[_adaptive(n_out, n_in) for n_out, n_in in sizes])
        every = set(range(2, 2 + len(self.lengths)))
        self.of_all = call.layout.positions == every and set(call.output.shape[2:]) == {1}

    def index_map(self, argument: int, axis: int) -> IndexMap:
        number = self.number_of(axis)
        if number is not None:
            return adaptive_band(*self.matrices[number].shape)
        return None if self.of_all else super().index_map(argument, axis)


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


@rule(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
class AdaptiveMaxPool(PlacedMaximum):
    """y = max over windows chosen to give a fixed output size."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.pooled = call.output.shape[2:]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.number_of(axis) is None:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return _adaptive(n_out, n_in) > 0

    def index_map(self, argument: int, axis: int) -> IndexMap:
        number = self.number_of(axis)
        if number is None:
            return super().index_map(argument, axis)
        return adaptive_band(self.pooled[number], self.lengths[number])


@rule(aten.max_unpool2d.default, aten.max_unpool3d.default)
class MaxUnpool(Spatial):
    """Unpooling: each value goes to the index of its maximum; projection: the signal at that index.

    Where several values have one index, the network kept one of them, and only that one receives the signal.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.supports_windows = False
        self.places: Tensor = call["indices"]  # (B, C, h, w) int64: index into the flattened output map
        sizes = ("output_size", "stride", "padding")  # max_unpool2d has only the first
        self.options = [call[name] for name in sizes if name in call.arguments]
        self.arrived = self._arrived(call)
        self.fault = self._fault(call)
        maker = call.makers[1]
        self.pool: MaxPool | MaxPool3d | None = None
        if isinstance(maker, MaxPool | MaxPool3d) and len(maker.slides) == len(self.lengths):
            self.pool = maker

    def _arrived(self, call: Call) -> Tensor:
        """Return which values were not overwritten by another; all of them for meta tensors."""
        if self.places.is_meta:
            return torch.ones_like(self.places, dtype=torch.bool)
        names = torch.arange(self.places.numel(), dtype=torch.float64, device=self.places.device)
        names = names.view_as(self.places)
        there: Tensor = call.op(names, self.places, *self.options)
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
        slide = self._slide(axis)
        if slide is None:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return slide.visible_inputs(n_in, n_out).T

    def index_map(self, argument: int, axis: int) -> IndexMap:
        slide = self._slide(axis)
        return super().index_map(argument, axis) if slide is None else slide.transposed

    def _slide(self, axis: int) -> SlidingWindow | None:
        """Return the window of the pooling that made the indices, along an axis."""
        number = self.number_of(axis)
        return None if self.pool is None or number is None else self.pool.slides[number]
