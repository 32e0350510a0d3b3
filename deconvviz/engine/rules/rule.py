"""The interface of a rule: how signals are projected through one call of an operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window, moved, moved_by
from deconvviz.engine.preservation import memory_of

OpOverload = torch._ops.OpOverload


class Support(Enum):
    """Whether the projection rule of an operation is exact, approximate or missing."""

    EXACT = "exact"  # an operation of the paper, or a linear operation, whose rule is the adjoint
    APPROXIMATE = "approximate"  # not in the paper; the rule's `note` states the substitute
    UNSUPPORTED = "unsupported"  # no rule, or no rule for this call: nothing is drawn


@dataclass(frozen=True)
class Call:
    """One call of an ATen operation in a forward pass. ``call["dim"]`` is the argument named ``dim``."""

    op: OpOverload
    arguments: dict[str, Any]  # by the names in the operation's schema, with defaults filled in
    outputs: tuple[Tensor, ...]
    number: int  # index of the output: 0, unless the rule is `per_output`
    derived: tuple[bool, ...]  # for each tensor argument: whether a signal can flow into it
    layouts: tuple[TensorLayout | None, ...]  # None for an argument that does not depend on the image
    makers: tuple[Rule | None, ...]  # for each tensor argument: the rule of the call that returned it
    batch: int  # number of images
    related: bool = False  # whether all arguments are computed from one map, position by position

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def output(self) -> Tensor:
        return self.outputs[self.number]

    @property
    def layout(self) -> TensorLayout:
        """Layout of the first argument that depends on the image."""
        return next(filter(None, self.layouts))

    def by_image(self, tensor: Tensor, layout: TensorLayout) -> Tensor:
        """Return a recorded tensor as (B, *layout.shape), undoing what the network folded into its batch."""
        tensor = tensor.movedim(layout.batch_at, 0)
        return tensor.reshape(self.batch, *layout.shape) if layout.folded else tensor


class Rule:
    """How signals are projected through one call of an operation.

    To add a rule, subclass `Rule` and register the class with ``deconvviz.rule(torch.ops.aten....)``. A
    complete rule::

        @dv.rule(torch.ops.aten.cumsum.default)
        class RunningSum(dv.Rule):
            def __init__(self, call):
                self.dim = call["dim"]

            def project(self, signal, window, input_windows):
                return [signal.flip(self.dim).cumsum(self.dim).flip(self.dim)]

    See docs/how-to/write-a-rule.md. `deconvviz.check_rule` tests a rule.
    """

    support: Support = Support.EXACT
    note: str = ""
    """For an approximate rule: one clause that states what the rule does."""

    supports_windows: bool = False
    """True if `project` accepts windows of a map; otherwise it receives and returns whole maps."""

    constants: tuple[Tensor, ...] = ()
    """Weights that the rule references without copying. If one of them changes, the recording is stale."""

    per_output: ClassVar[bool] = False
    """True if each output of the operation has its own rule; otherwise only the first output has one."""

    needs_input_values: ClassVar[bool] = False
    """True if the rule reads the values of the arguments; in-place calls then copy their arguments first."""

    handles_folded_batch: ClassVar[bool] = False
    """True if `project` accepts (K, *layout.shape) also where the network folds axes into the batch."""

    any_batch_axis: ClassVar[bool] = False
    """True if any axis of the network's tensors may be the batch."""

    repeats: ClassVar[bool] = False
    """True if a rule depends only on layouts, shapes, weights and the arguments that are not tensors.

    The rule of an equal call of the last recording is then used again. Subclasses do not inherit it.
    """

    returns_new: ClassVar[bool] = False
    """True if `project` returns one signal, in memory of its own: later steps may overwrite it.

    Subclasses with a `project` of their own do not inherit it, nor `project_over`.
    """

    is_whole_gradient: ClassVar[bool] = False
    """True if arguments that receive no signal have no gradient either, such as the boxes of `roi_align`."""

    is_gradient: ClassVar[bool] = True
    """False if an exact rule is not a vector-Jacobian product: only ReLU, whose rule the paper defines."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = vars(cls)
        if "project" in own:
            cls.returns_new = own.get("returns_new", False)
            cls.project_over = own.get("project_over", Rule.project_over)  # type: ignore[method-assign]

    @classmethod
    def of(cls, call: Call) -> Rule:
        """Return the rule for one call. It may be of another class if the operation has several uses."""
        return cls(call)

    def __init__(self, call: Call) -> None:
        """Record what `project` needs of a call, and no more.

        The call has already returned: after an in-place call, its argument holds the output.
        """

    def keep_copies(self, memory: int) -> None:
        """Copy the constants that share a memory that is about to be overwritten."""
        copies: dict[int, Tensor] = {}

        def kept(value: Any) -> Any:
            if isinstance(value, Tensor) and memory_of(value) == memory:
                return copies.setdefault(id(value), value.detach().clone())
            if type(value) in (list, tuple):
                return type(value)(kept(one) for one in value)
            return value

        for name, value in list(vars(self).items()):
            setattr(self, name, kept(value))

    def unsupported(self) -> str:
        """Return why this call cannot be projected, as a clause; an empty string if it can."""
        return ""

    def flows(self, argument: int) -> bool:
        """Return whether a tensor argument receives a signal; if not, it is treated as a constant."""
        return True

    def output_layout(self, call: Call) -> TensorLayout:
        """Return the layout of the output: the argument's, if the shapes are equal."""
        if call.output.shape == call.layout.network_shape(call.batch):
            return call.layout
        return call.layout.like(call.output.shape[1:])

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        """Project a signal at the output, (K, *output shape in `window`), to each tensor argument.

        Return one signal for each tensor argument of the call, in order, and None for an argument that
        receives no signal. The signal for argument i must fill ``input_windows[i]``; along an axis on which
        the rule is elementwise it stays in `window`.
        """
        raise NotImplementedError

    def project_over(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        """Project a signal that nothing else needs, as `project`. It may be overwritten."""
        return self.project(signal, window, input_windows)

    def is_elementwise(self, argument: int, axis: int) -> bool:
        """Return whether each output position along an axis depends only on that of an argument.

        For images, axis 0 is the rows and axis 1 the columns. Axes are numbered as in the network's input. By
        default a rule that supports windows is elementwise.
        """
        return self.supports_windows

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        """Return which positions of an argument each output position depends on, along one axis.

        The result is (n_out, n_in) bool, or None if each position depends only on itself. By default a rule
        that is not elementwise depends on everything.
        """
        return None if self.is_elementwise(argument, axis) else torch.ones(n_out, n_in, dtype=torch.bool)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        """Return what `visible_inputs` would be for a map without borders.

        None means the whole axis, `UNKNOWN` that it varies from position to position.
        """
        return SAME if self.is_elementwise(argument, axis) else UNKNOWN

    def dependency_map(self, argument: int, axis: int) -> IndexMap:
        """Return the index map of everything that can change the output, including through constants."""
        return self.index_map(argument, axis)


class Spatial(Rule):
    """Rule for an operation that slides over the dimensions after the channels of (B, C, ...).

    It supports windows if the axes of the map are among these dimensions. Other dimensions among them, such
    as the depth that a network for images adds to its maps, are projected whole.
    """

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.lengths = self.below.shape[1:]  # of the dimensions that are slid over
        expected = self.below.like(self.below.shape).axes  # None unless it has the shape of a map
        if expected is not None:
            self.supports_windows = self.below.axes == expected
        else:
            self.supports_windows = bool(self.below.dims) and 1 not in self.below.dims
        places = [self.below.axis_of(dim) for dim in range(2, 2 + len(self.lengths))]
        self.axes: list[int | None] = (
            places if self.supports_windows else [None] * len(places)
        )  # of each of these dimensions
        self.all_tracked = self.axes == list(range(self.below.spatial))

    def output_layout(self, call: Call) -> TensorLayout:
        shape = tuple(call.output.shape[1:])
        if self.supports_windows and not self.all_tracked:
            return replace(self.below, shape=shape)
        return self.below.like(shape)

    def number_of(self, axis: int) -> int | None:
        """Return which of the dimensions that are slid over holds an axis; None if none of them does."""
        return self.axes.index(axis) if axis in self.axes else None

    def starts(self, window: Window) -> Tensor:
        """Return the first position of each unit along each of these dimensions, (K, dimensions)."""
        if self.all_tracked:
            return window.start
        none = torch.zeros(len(window.start), dtype=torch.long)
        return torch.stack([none if axis is None else window.start[:, axis] for axis in self.axes], 1)

    def sizes(self, window: Window) -> tuple[int, ...]:
        """Return the lengths of the signals in a window of the argument along each of these dimensions."""
        if self.all_tracked:
            return window.size
        lengths = zip(self.axes, self.lengths, strict=True)
        return tuple([length if axis is None else window.size[axis] for axis, length in lengths])

    def corners(self, window: Window) -> list[list[int]]:
        """Return what `starts` does, as a list."""
        found: list[list[int]] = window.corners if self.all_tracked else self.starts(window).tolist()
        return found

    def placed(self, signal: Tensor, first: Tensor, input_window: Window) -> Tensor:
        """Move signals whose first position is ``first[k]`` into the window of the argument."""
        shift = first - self.starts(input_window)
        return moved(signal, range(2, signal.dim()), shift, self.sizes(input_window))

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return self.supports_windows and axis not in self.axes


class Sliding(Spatial):
    """Operation whose output positions depend on a window of their argument, along each dimension."""

    slides: Sequence[SlidingWindow]  # along each of the dimensions

    def shifts(self, window: Window, input_window: Window) -> list[list[int]]:
        """Return where the sliding window of a unit's first output begins, relative to `input_window`.

        The result is a list of units, each with one number for each of the dimensions.
        """
        pairs = zip(self.corners(window), self.corners(input_window), strict=True)
        return [
            [a * by.stride - by.padding - b for a, b, by in zip(above, below, self.slides, strict=True)]
            for above, below in pairs
        ]

    def moved_into(self, signal: Tensor, shifts: Sequence[Sequence[int]], input_window: Window) -> Tensor:
        """Move new signals by their shifts into the window of the argument."""
        size = self.sizes(input_window)
        return moved_by(signal, range(2, signal.dim()), shifts, size, overwrite=True)

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        number = self.number_of(axis)
        if number is None:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[number].visible_inputs(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        number = self.number_of(axis)
        return super().index_map(argument, axis) if number is None else self.slides[number].index_map


class SlidingBack(Spatial):
    """The reverse: each position of the argument affects a window of the output."""

    slides: Sequence[SlidingWindow]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        number = self.number_of(axis)
        if number is None:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[number].visible_inputs(n_in, n_out).T

    def index_map(self, argument: int, axis: int) -> IndexMap:
        number = self.number_of(axis)
        return super().index_map(argument, axis) if number is None else self.slides[number].transposed
