"""Products of two matrices that both depend on the image, as in attention.

The softmax of attention is treated as a constant: the values receive a signal, queries and keys do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import IndexMap
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.activation import Gate
from deconvviz.engine.rules.arithmetic import OF_BRANCHES
from deconvviz.engine.rules.linear import WITH_CONSTANTS, LinearAnywhere
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support
from deconvviz.engine.rules.verification import mismatch

aten = torch.ops.aten


@rule(aten.bmm.default)
class MatrixProduct(Rule):
    """y = a b, a batch of matrix products; projection: a receives signal b^T and b receives a^T signal."""

    needs_input_values = True
    handles_folded_batch = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        return LinearAnywhere(call) if LinearAnywhere.applies(call) else cls(call)

    def __init__(self, call: Call) -> None:
        self.derived = call.derived
        self.layouts = call.layouts
        known = [layout for layout in call.layouts if layout is not None]
        self.lead = known[0].shape[:-2]  # for example, heads
        self.folded = known[0].folded
        same = {(math.prod(layout.shape[:-2]), layout.folded == len(layout.shape) - 2) for layout in known}
        self.mixes = len(same) > 1
        self.a, self.b = (self._kept(call, name, number) for number, name in enumerate(("self", "mat2")))
        self.joints = [
            layout is not None and layout.joint == len(layout.shape) - 1 + number
            for number, layout in enumerate(call.layouts)
        ]  # whether the positions of the output are the rows of the first or the columns of the second
        if None not in call.layouts:
            self.support = Support.APPROXIMATE
            self.note = OF_BRANCHES if all(call.derived) else WITH_CONSTANTS

    def _kept(self, call: Call, name: str, number: int) -> Tensor | None:
        """Return a factor as (B, *lead, n, m) if the other factor receives a signal, else None."""
        if self.mixes or not call.derived[1 - number]:
            return None
        matrix: Tensor = call[name]
        if call.layouts[number] is None:
            self.constants = (*self.constants, matrix)
            return matrix.reshape(call.batch, *self.lead, *matrix.shape[-2:])
        return matrix.reshape(call.batch, *self.lead, *matrix.shape[-2:]).clone()

    def unsupported(self) -> str:
        return "it multiplies the images of a batch with one another" if self.mixes else ""

    def output_layout(self, call: Call) -> TensorLayout:
        shape = (*self.lead, *call.output.shape[-2:])
        if sum(self.joints) != 1 or self.mixes:
            return call.layout.unplaced(shape, folded=self.folded)
        number = self.joints.index(True)
        followed = call.layouts[number]
        assert followed is not None
        above = call.layout.unplaced(shape, folded=self.folded)
        return replace(above, joint=len(shape) - 1 + number, grid=followed.grid)

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return sum(self.joints) == 1 and self.joints[argument]

    def index_map(self, argument: int, axis: int) -> IndexMap:
        layout = self.layouts[argument]
        if layout is not None and layout.positions == {len(layout.shape) - argument}:
            return None  # the product sums over all positions
        return super().index_map(argument, axis)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        images = window.image_indices.to(signal.device)
        first = signal @ self.b[images].mH.to(signal.dtype) if self.b is not None else None
        second = self.a[images].mH.to(signal.dtype) @ signal if self.a is not None else None
        return [self._shaped(first, 0), self._shaped(second, 1)]

    def _shaped(self, x: Tensor | None, argument: int) -> Tensor | None:
        """Return a signal in the layout of its argument, which may fold other axes into the batch."""
        layout = self.layouts[argument]
        return x if x is None or layout is None else x.reshape(len(x), *layout.shape)


@rule(
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
)
class Attention(Rule):
    """y = softmax(q k^T * scale + bias) v; projection: v receives the signal through the recorded weights."""

    support = Support.APPROXIMATE
    note = f"its softmax is {Gate.note}"
    handles_folded_batch = True

    def __init__(self, call: Call) -> None:
        query, key = call["query"], call["key"]
        scale = call.arguments.get("scale")
        scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        bias = call.arguments.get("attn_mask", call.arguments.get("attn_bias"))
        if bias is not None:
            scores = scores.masked_fill(~bias, -math.inf) if bias.dtype == torch.bool else scores + bias
        if call["is_causal"]:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        asking = call.layouts[0] or call.layout
        self.lead, self.folded = asking.shape[:-2], asking.folded
        self.shared = [  # dimensions along which several heads share one set of values
            dim
            for dim, (own, whole) in enumerate(
                zip((call.layouts[2] or asking).shape, self.lead, strict=False), 1
            )
            if own == 1 and whole > 1
        ]
        weights = scores.softmax(-1).nan_to_num(0)  # a query with every key masked gives zero
        values = call["value"]
        self.fault = mismatch(weights @ values, call.output)
        self.weights = weights.reshape(call.batch, *self.lead, *scores.shape[-2:])
        self.layouts = call.layouts
        self.count = len(call.derived)

    def unsupported(self) -> str:
        return self.fault

    def flows(self, argument: int) -> bool:
        return argument == 2

    def index_map(self, argument: int, axis: int) -> IndexMap:
        layout = self.layouts[argument]
        every = layout is not None and layout.positions == {len(layout.shape) - 1}
        return None if every else super().index_map(argument, axis)

    def output_layout(self, call: Call) -> TensorLayout:
        return call.layout.unplaced((*self.lead, *call.output.shape[-2:]), folded=self.folded)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        weights = self.weights[window.image_indices.to(self.weights.device)]
        x = weights.mT.to(signal.dtype) @ signal  # (K, heads, m, d)
        x = x.sum(self.shared, keepdim=True) if self.shared else x
        return [None, None, x, *[None] * (self.count - 3)]
