"""Parts of a memory that are not a range of each dimension, such as those of a reshaped map.

Their positions are listed one by one. Signals are whole maps, and receptive fields are not followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.reshape import Restrided
from deconvviz.engine.rules.rule import Call, Rule
from deconvviz.engine.rules.writing import Patched, ranges

aten = torch.ops.aten


class Listed(Rule):
    """A part of a tensor, given as a list of positions in each image."""

    handles_folded_batch = True

    def __init__(self, call: Call) -> None:
        whole: Tensor = call["self"]
        self.derived = call.derived
        self.above = tuple(call["size"])
        known = call.layouts[0]
        self.below = known if known is not None else call.layout.like(whole.shape[1:])
        self.placed = not self.below.batch_at and whole.shape == self.below.network_shape(call.batch)
        self.positions = _positions(call, call.batch) if self.placed else None

    def unsupported(self) -> str:
        if not self.placed:
            return "it is a part of a tensor in which the images of the batch are not the first dimension"
        return "" if self.positions is not None else "it mixes the images of a batch, or leaves its tensor"

    @property
    def layout(self) -> TensorLayout:
        """Layout of the part; its positions are in an order that is not followed."""
        if self.positions is None:
            return self.below.like(self.above[1:])
        shape = tuple(self.positions.shape)
        mixed = frozenset(range(1, len(shape) + 1)) if self.below.positions else frozenset[int]()
        folded = int(len(shape) == len(self.above))
        return replace(self.below.unplaced(shape), mixed=mixed, folded=folded)


@rule(aten.as_strided.default)
class ReadAnywhere(Listed):
    """The part; projection: each position receives the sum of the signals of all numbers read from it."""

    needs_input_values = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        plain = Restrided(call)
        return cls(call) if plain.moved else plain

    def output_layout(self, call: Call) -> TensorLayout:
        return self.layout

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        assert self.positions is not None
        x = signal.new_zeros(len(signal), torch.Size(self.below.shape).numel())
        x.index_add_(1, self.positions.flatten().to(x.device), signal.flatten(1))
        return [x.reshape(len(x), *self.below.shape)]


@rule(aten.as_strided_scatter.default)
class WrittenAnywhere(Listed):
    """The tensor with another part; projection: the part receives the signal at its positions."""

    @classmethod
    def of(cls, call: Call) -> Rule:
        in_pieces = any(layout is not None and layout.folded for layout in call.layouts)
        return cls(call) if in_pieces or ranges(call) is None else Patched(call)

    def output_layout(self, call: Call) -> TensorLayout:
        return self.below

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        assert self.positions is not None
        rest, at = signal.flatten(1).clone(), self.positions.flatten().to(signal.device)
        part = rest[:, at].reshape(len(signal), *input_windows[1].layout.shape) if self.derived[1] else None
        rest[:, at] = 0
        return [rest.reshape(signal.shape), part]


def _positions(call: Call, batch: int) -> Tensor | None:
    """Return the position in its image of each number of a part, in the shape of the part for one image.

    None if the images of the batch are not the first dimension of the part, or if the part leaves the tensor.
    """
    whole: Tensor = call["self"]
    size, stride, first = call["size"], call["stride"], call["storage_offset"]
    start = 0 if first is None else first - whole.storage_offset()
    span = 1 + max(_reach(whole.shape, whole.stride()), start + _reach(size, stride))
    if start < 0 or not size or size[0] % batch:
        return None
    memory = torch.full((span,), -1)
    memory.as_strided(whole.shape, whole.stride())[:] = torch.arange(whole.numel()).reshape(whole.shape)
    found = memory.as_strided(size, stride, start).reshape(batch, -1)
    each = whole.numel() // batch
    own = found - each * torch.arange(batch)[:, None]
    if bool((found < 0).any()) or bool((own != own[:1]).any()) or bool((own < 0).any() | (own >= each).any()):
        return None
    pieces = size[0] // batch
    return own[0].reshape((pieces, *size[1:]) if pieces > 1 else size[1:])


def _reach(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return the distance in memory from the first to the last number of a tensor."""
    return sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
