"""The interface of a rule: how signals are projected through one call of an operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.preservation import memory_of

OpOverload = torch._ops.OpOverload


class Support(Enum):
    """How far the projection through an operation can be trusted."""

    EXACT = "exact"  # the operation the paper describes, or a linear one and its adjoint
    APPROXIMATE = "by analogy"  # the paper is silent; the rule's `note` says what is done instead
    UNSUPPORTED = "refused"  # no rule, or none for this call: nothing is drawn


@dataclass(frozen=True)
class Call:
    """One call of an ATen operation in a forward pass; ``call["dim"]`` is its argument of that name."""

    op: OpOverload
    arguments: dict[str, Any]  # by the names of the operation's schema, defaults filled in
    outputs: tuple[Tensor, ...]
    number: int  # which of the outputs this is about: the first, unless the rule is `per_output`
    derived: tuple[bool, ...]  # for each tensor argument in order: can a signal flow into it?
    layouts: tuple[TensorLayout | None, ...]  # likewise; None for a tensor that does not depend on the image
    makers: tuple[Rule | None, ...]  # likewise: the rule of the call that returned it
    batch: int  # how many images
    related: bool = False  # are all arguments computed from one map, position by position?

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def output(self) -> Tensor:
        return self.outputs[self.number]

    @property
    def layout(self) -> TensorLayout:
        """Of the first argument that depends on the image."""
        return next(layout for layout in self.layouts if layout is not None)

    def by_picture(self, tensor: Tensor, layout: TensorLayout) -> Tensor:
        """A recorded tensor as (B, *layout.shape), whatever the network had folded into its batch."""
        tensor = tensor.movedim(layout.batch_at, 0)
        return tensor.reshape(self.batch, *layout.shape) if layout.folded else tensor


class Rule:
    """How signals are projected through one call of an operation.

    Subclass it, and register the class with ``deconvviz.rule(torch.ops.aten....)``. A complete rule::

        @dv.rule(torch.ops.aten.cumsum.default)
        class RunningSum(dv.Rule):
            def __init__(self, call):
                self.dim = call["dim"]

            def project(self, signal, window, input_windows):
                return [signal.flip(self.dim).cumsum(self.dim).flip(self.dim)]

    The guide docs/how-to/write-a-rule.md explains the rest; `deconvviz.check_rule` tests a rule.
    """

    support: Support = Support.EXACT
    note: str = ""
    """For an approximate rule: one clause that says what it does."""

    supports_windows: bool = False
    """True if `project` works on windows of a map; else it is called with whole maps, and returns them."""

    constants: tuple[Tensor, ...] = ()
    """Weights that the rule refers to without a copy. A recording is stale once one of them has changed."""

    per_output: ClassVar[bool] = False
    """True if each output of the operation gets a rule of its own; else only the first output has one."""

    needs_input_values: ClassVar[bool] = False
    """True if the rule reads the values of the arguments. Those of in-place calls are then copied first."""

    handles_folded_batch: ClassVar[bool] = False
    """True if `project` works on (K, *layout.shape) also where the network has folded axes into the batch."""

    any_batch_axis: ClassVar[bool] = False
    """True if the rule does not depend on which axis of the network's tensors is the batch."""

    is_gradient: ClassVar[bool] = True
    """False if an exact rule is no vector-Jacobian product: only ReLU, whose projection the paper defines."""

    @classmethod
    def of(cls, call: Call) -> Rule:
        """Return the rule for one call; of another class, where an operation does several things."""
        return cls(call)

    def __init__(self, call: Call) -> None:
        """Record what `project` needs of a call, and no more.

        The call has returned already: where it works in place, its argument holds the output by now.
        """

    def keep_copies(self, memory: int) -> None:
        """Copy the constants that lie in some memory, because it is about to be overwritten."""
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
        """Return why this very call cannot be projected, as a clause; empty if it can."""
        return ""

    def flows(self, argument: int) -> bool:
        """Return whether a signal flows into a tensor argument; if not, the argument is held constant."""
        return True

    def output_layout(self, call: Call) -> TensorLayout:
        """Return the layout of the output: the argument's, if the shapes are equal."""
        if call.output.shape == call.layout.real(call.batch):
            return call.layout
        return TensorLayout.of(call.output.shape[1:])

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        """Project a signal at the output, (K, *output shape in `window`), to each tensor argument.

        Return one signal for each tensor argument of the call, in order; None for one into which no signal
        flows. The signal for argument i must fill ``input_windows[i]``; along an axis on which the rule is
        elementwise it stays in `window`.
        """
        raise NotImplementedError

    def is_elementwise(self, argument: int, axis: int) -> bool:
        """Return whether each row (axis 0) or column (axis 1) of the output sees only that of an argument.

        By default a rule that supports windows is elementwise.
        """
        return self.supports_windows

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        """Return which rows (axis 0) or columns (axis 1) of an argument each output row (column) sees.

        (n_out, n_in) bool, or None if each position sees only itself. By default a rule that is not
        elementwise sees everything.
        """
        return None if self.is_elementwise(argument, axis) else torch.ones(n_out, n_in, dtype=torch.bool)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        """Return what `visible_inputs` would be for a map without borders.

        None if the whole axis is seen, `UNKNOWN` if it varies.
        """
        return SAME if self.is_elementwise(argument, axis) else UNKNOWN

    def dependency_map(self, argument: int, axis: int) -> IndexMap:
        """Return the same for everything that can change the output, also through what is held constant."""
        return self.index_map(argument, axis)


class Spatial(Rule):
    """A rule for an operation that slides over the last two axes of (B, C, H, W)."""

    def __init__(self, call: Call) -> None:
        self.below = TensorLayout.of(call.layout.shape)
        self.supports_windows = call.layout.axes == self.below.axes == (2, 3)

    def output_layout(self, call: Call) -> TensorLayout:
        return TensorLayout.of(call.output.shape[1:])

    def frame(self, input_window: Window) -> Window:
        """The window to be filled; all of it, where the network has its rows and columns elsewhere."""
        if self.supports_windows:
            return input_window
        return Window(
            torch.zeros_like(input_window.start), self.below.lengths, self.below, input_window.images
        )
