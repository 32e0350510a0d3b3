"""Gradients and guided backpropagation: rules whose projection is the vector-Jacobian product of a call.

The rules of linear operations are already their adjoints, and are used as they are. This file has the
others: ReLU with its recorded signs, other elementwise functions with their slopes, and any other call
(layer norm, softmax, attention) by differentiating it again.

Guided backpropagation (Springenberg et al. 2014) differs from the gradient in ReLU alone: the signal is also
rectified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.preservation import memory_of
from deconvviz.engine.rules.activation import Clamp, Gate, Inverse, ReLU, Spelled
from deconvviz.engine.rules.arithmetic import Elementwise, Larger
from deconvviz.engine.rules.pieces import rule_of
from deconvviz.engine.rules.reduction import Maximum
from deconvviz.engine.rules.rule import Call, Rule, Support

POINTWISE = (ReLU, Gate, Inverse, Elementwise)
"""Rules of operations that compute each position from the same position of their arguments."""


def gradient_rule(call: Call, cls: type[Rule], recorded: Rule | None) -> Rule:
    """Return the rule of a call whose projection is its vector-Jacobian product.

    Args:
        call: The call. `Call.derived` states which arguments receive a signal in the gradient.
        cls: The projection rule of the operation.
        recorded: The projection rule of this call if its `derived` is the same, so that it can be shared.
    """
    if is_relu(recorded or cls, call):
        return ReLUGradient(call)
    if cls.is_gradient and not issubclass(cls, (Larger, Maximum)):  # these two treat ties differently
        own = recorded or rule_of(cls, call)
        if cls.is_whole_gradient:
            return own
        flows = all(own.flows(argument) for argument, some in enumerate(call.derived) if some)
        if own.support is Support.EXACT and own.is_gradient and flows and not own.unsupported():
            return own
    return PointwiseGradient(call) if issubclass(cls, POINTWISE) else CallGradient(call)


def is_relu(found: Rule | type[Rule], call: Call) -> bool:
    """Return whether a call is max(x, 0): a ReLU, or a clamp or threshold at 0."""
    cls = found if isinstance(found, type) else type(found)
    if not issubclass(cls, Clamp):
        return cls is ReLU
    clamp = found if isinstance(found, Clamp) else Clamp(call)
    return clamp.high is None and not clamp.unsupported()


class ReLUGradient(ReLU):
    """y = max(x, 0); gradient: the signal where x > 0; guided: the rectified signal where x > 0."""

    is_gradient = True

    def __init__(self, call: Call, *, gain: float = 1, guided: bool = False) -> None:
        self.below = call.layout
        self.positive = Signs(call.by_image(call.output, call.layout) > 0, call.layout)
        self.count = len(call.derived)
        self.gain = gain
        self.guided = guided

    def as_guided(self) -> ReLUGradient:
        """Return the rule of guided backpropagation for the same call. Both share the recorded signs."""
        other = object.__new__(ReLUGradient)
        other.__dict__.update(vars(self), guided=True, is_gradient=False)
        return other

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = (signal.clamp_min(0) if self.guided else signal) * self.positive.cut(window)
        return [x if self.gain == 1 else x * self.gain] + [None] * (self.count - 1)


class Signs:
    """A mask (B, *shape), stored as one bit for each number."""

    def __init__(self, mask: Tensor, layout: TensorLayout) -> None:
        self.layout = layout
        self.length = mask.shape[-1]
        bits = torch.nn.functional.pad(mask.to(torch.uint8), (0, -self.length % 8))
        self.packed = bits[..., ::8].clone()  # (B, ..., ceil(length / 8)) uint8
        for bit in range(1, 8):
            self.packed |= bits[..., bit::8] << bit

    def cut(self, window: Window) -> Tensor:
        """Return the mask in the window of each unit: (K, *window.shape) bool."""
        packed, images = self.packed, window.image_indices.to(self.packed.device)
        if self.layout.axes != (2, 3) or window.layout.axes != (2, 3):
            return window.cut(self._unpacked())
        rows, columns = (
            window.start[:, axis, None].to(packed.device) + torch.arange(length, device=packed.device)
            for axis, length in enumerate(window.size)
        )  # (K, h) and (K, w)
        channels = torch.arange(packed.shape[1], device=packed.device)
        found = packed[
            images[:, None, None, None],
            channels[None, :, None, None],
            rows[:, None, :, None],
            (columns // 8)[:, None, None, :],
        ]  # (K, C, h, w)
        return (found >> (columns % 8).to(torch.uint8)[:, None, None, :] & 1).bool()

    def _unpacked(self) -> Tensor:
        places = torch.arange(self.length, device=self.packed.device)
        return (self.packed[..., places // 8] >> (places % 8).to(torch.uint8) & 1).bool()


class PointwiseGradient(Elementwise):
    """y = f(a, b, ...), elementwise; gradient: the signal times each partial derivative.

    The arguments are recorded. Their partial derivatives are computed at the first projection.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.replay = _Replay(call)
        self.slopes: list[Tensor | None] | None = None  # (B, *whole.shape) for each argument with a signal

    def keep_copies(self, memory: int) -> None:
        super().keep_copies(memory)
        self.replay.keep_copies(memory)

    @property
    def constants(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.replay.constants

    def _slopes(self, dtype: torch.dtype) -> list[Tensor | None]:
        if self.slopes is None:
            with torch.inference_mode(False), torch.enable_grad():
                leaves = [
                    None if tensor is None else _as(tensor, dtype).expand(self.shape).clone().requires_grad_()
                    for tensor in self.replay.derived
                ]
                output = self.replay.call(leaves, dtype)
                own = [leaf for leaf in leaves if leaf is not None]
                found = iter(_products(output, own, torch.ones_like(output)))
            self.slopes = [None if leaf is None else self._by_image(next(found)) for leaf in leaves]
            self.replay.derived = []  # no longer needed
        return self.slopes

    def _by_image(self, slope: Tensor) -> Tensor:
        slope = slope.movedim(self.whole.batch_at, 0)
        pieces = math.prod(self.whole.shape[: self.whole.folded])
        return slope.reshape(len(slope) // pieces, *self.whole.shape)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [
            None if slope is None else self.share(signal * window.cut(slope), argument)
            for argument, slope in enumerate(self._slopes(signal.dtype))
        ]


class CallGradient(Rule):
    """Any call of one tensor result; gradient: the vector-Jacobian product, by differentiating it again.

    It needs whole maps. The arguments are recorded.
    """

    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.replay = _Replay(call)
        self.batch = call.batch
        self.number = call.number
        self.layouts = call.layouts

    def keep_copies(self, memory: int) -> None:
        self.replay.keep_copies(memory)

    @property
    def constants(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.replay.constants

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        layout, images = window.layout, window.image_indices
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [
                None if tensor is None else _as(tensor, signal.dtype).clone().requires_grad_()
                for tensor in self.replay.derived
            ]
            output = self.replay.call(leaves, signal.dtype, self.number)
            by_image = output.movedim(layout.batch_at, 0).reshape(self.batch, *layout.shape)
        own = [leaf for leaf in leaves if leaf is not None]
        found: list[list[Tensor]] = [[] for _ in own]
        cotangent = torch.zeros_like(by_image)
        for image, one in zip(images.tolist(), signal, strict=True):
            cotangent[image] = one
            for into, product in zip(found, _products(by_image, own, cotangent, keep=True), strict=True):
                into.append(product)
            cotangent[image] = 0
        rows = iter(found)
        return [
            None if leaf is None else self._placed(next(rows), argument, images)
            for argument, leaf in enumerate(leaves)
        ]

    def _placed(self, products: Sequence[Tensor], argument: int, images: Tensor) -> Tensor:
        """Return the part of its own image of each product, (K, *layout.shape)."""
        layout = self.layouts[argument]
        assert layout is not None
        return torch.stack(
            [
                product.movedim(layout.batch_at, 0).reshape(self.batch, *layout.shape)[image]
                for product, image in zip(products, images.tolist(), strict=True)
            ]
        )


class SpelledReLU(ReLUGradient):
    """A ReLU written as several calls, in guided backpropagation: from the last call to the first input."""

    def __init__(self, call: Call, rule: Spelled) -> None:
        super().__init__(call, gain=rule.gain, guided=True)


class _Replay:
    """The arguments of a call, so that it can be called again with other values of the derived ones."""

    def __init__(self, call: Call) -> None:
        self.op = call.op
        self.names = tuple(call.arguments)
        self.derived: list[Tensor | None] = []  # copies of the tensor arguments that receive a signal
        self.constants: tuple[Tensor, ...] = ()  # weights, and other tensors that do not depend on the image
        signals = iter(zip(call.derived, call.layouts, strict=True))
        overwritten = {
            argument.name
            for argument in call.op._schema.arguments
            if argument.alias_info is not None and argument.alias_info.is_write
        } | {"running_mean", "running_var"}
        self.arguments = [
            self._kept(value, signals, name in overwritten) for name, value in call.arguments.items()
        ]

    def _kept(self, value: Any, signals: Any, overwritten: bool) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._kept(one, signals, overwritten) for one in value]
        if not isinstance(value, Tensor):
            return value
        receives, layout = next(signals)
        self.derived.append(value.detach().clone() if receives else None)
        if receives:
            return _Slot(len(self.derived) - 1)
        if layout is not None or overwritten:
            return _Copied(value.detach().clone())
        self.constants = (*self.constants, value)
        return value

    def keep_copies(self, memory: int) -> None:
        """Copy the constants that share a memory that is about to be overwritten."""

        def kept(value: Any) -> Any:
            if isinstance(value, list):
                return [kept(one) for one in value]
            if isinstance(value, Tensor) and memory_of(value) == memory:
                return _Copied(value.detach().clone())
            return value

        self.arguments = [kept(value) for value in self.arguments]
        self.constants = tuple(t for t in self.constants if memory_of(t) != memory)

    def call(self, leaves: Sequence[Tensor | None], dtype: torch.dtype, number: int = 0) -> Tensor:
        """Call the operation again and return its result `number`. In-place operations change a copy."""

        def filled(value: Any) -> Any:
            if isinstance(value, list):
                return [filled(one) for one in value]
            if isinstance(value, _Slot):
                leaf = leaves[value.number]
                assert leaf is not None
                return leaf.clone()
            if isinstance(value, _Copied):
                return _as(value.tensor, dtype).clone()
            return _as(value, dtype) if isinstance(value, Tensor) else value

        arguments = dict(zip(self.names, map(filled, self.arguments), strict=True))
        positional = [one.name for one in self.op._schema.arguments if not one.kwarg_only]
        keywords = {name: value for name, value in arguments.items() if name not in positional}
        result = self.op(*(arguments[name] for name in positional), **keywords)
        if isinstance(result, Tensor):
            return result
        results: list[Tensor] = []
        for one in result:
            results += one if isinstance(one, (list, tuple)) else [one]
        return [one for one in results if isinstance(one, Tensor)][number]


class _Slot:
    """Stands for an argument that receives a signal."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Copied:
    """A recorded tensor argument that receives no signal, copied because it may be overwritten."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in the precision of the signals; integers and complex numbers keep their type."""
    real = torch.empty(0, dtype=dtype).real.dtype
    return tensor.detach().to(real) if tensor.is_floating_point() else tensor


def _products(
    output: Tensor, leaves: Sequence[Tensor], cotangent: Tensor, *, keep: bool = False
) -> list[Tensor]:
    """Return the vector-Jacobian product for each leaf; zeros for a leaf that does not affect the output."""
    if not output.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(output, leaves, cotangent, retain_graph=keep, allow_unused=True)
    return [torch.zeros_like(leaf) if one is None else one for one, leaf in zip(found, leaves, strict=True)]
