"""Operations of torchvision: convolution at shifted positions, and pooling of boxes.

Offsets, masks and boxes are constants, so that each operation is linear in the map, and its projection is the
adjoint. The rules are registered by name: torchvision need not be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.indexing import TableLookup
from deconvviz.engine.rules.registry import rule_named
from deconvviz.engine.rules.rule import Call, Rule, Support


def adjoint(linear: Callable[[Tensor], Tensor], shape: Sequence[int], signal: Tensor) -> Tensor:
    """Return the signal, projected through a linear function of a tensor with this shape."""
    with torch.inference_mode(False), torch.enable_grad():
        x = signal.new_zeros(shape).requires_grad_()
        (projected,) = torch.autograd.grad(linear(x), x, signal.clone())
    return projected


@rule_named("torchvision.deform_conv2d.default")
class DeformableConvolution(Rule):
    """A convolution that reads its input at shifted positions; projection: the adjoint, without the bias."""

    NAMES = ("offset", "mask")

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.weight: Tensor = call["weight"]
        self.computed_weights = any(call.layouts[n] is not None for n in (1, 4))
        self.constants = (self.weight,)
        computed = call.layouts[2] is not None or call.layouts[3] is not None
        if computed:
            self.support = Support.APPROXIMATE
            self.note = "offsets and masks, which are computed from the image, are treated as constants"
        self.offset, self.mask = (self._kept(call, n, name) for n, name in enumerate(self.NAMES, 2))
        pairs = [(call[f"{name}_h"], call[f"{name}_w"]) for name in ("stride", "pad", "dilation")]
        self.numbers = [
            *pairs[0],
            *pairs[1],
            *pairs[2],
            call["groups"],
            call["offset_groups"],
            call["use_mask"],
        ]

    def _kept(self, call: Call, number: int, name: str) -> Tensor:
        tensor: Tensor = call[name]
        if call.layouts[number] is not None:
            return tensor.clone()
        self.constants = (*self.constants, tensor)
        return tensor

    def unsupported(self) -> str:
        return "its weight or bias is computed from the image" if self.computed_weights else ""

    def flows(self, argument: int) -> bool:
        return argument == 0

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        images = window.image_indices.to(signal.device)
        offset, mask = (t[images].to(signal.dtype) for t in (self.offset, self.mask))
        weight = self.weight.to(signal.dtype)
        no_bias = weight.new_zeros(len(weight))

        def apply(x: Tensor) -> Tensor:
            found: Tensor = torch.ops.torchvision.deform_conv2d(
                x, weight, offset, mask, no_bias, *self.numbers
            )
            return found

        return [adjoint(apply, (len(signal), *self.below.shape), signal), None, None, None, None]


COMPUTED_BOXES = "the boxes, which are computed from the image, are treated as constants"


class BoxPooling(Rule):
    """Boxes of one map, each pooled to (C', h, w): N boxes are N pieces of an image."""

    handles_folded_batch = True
    any_batch_axis = True
    is_whole_gradient = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        return TableLookup(call) if call.layouts[0] is None else cls(call)

    def __init__(self, call: Call) -> None:
        self.op = call.op
        self.below = call.layout
        self.boxes: Tensor = call["rois"].clone()  # (B * N, 5): image, x0, y0, x1, y1
        self.count = len(self.boxes) // call.batch  # N
        self.options = list(call.arguments.values())[2:]
        if call.layouts[1] is not None:
            self.support, self.note = Support.APPROXIMATE, COMPUTED_BOXES
        self.fault = self._fault(call)

    def _fault(self, call: Call) -> str:
        if self.below.folded or self.below.batch_at:
            return "its maps are pieces of images"
        if self.boxes.is_meta:
            return ""
        in_order = torch.arange(call.batch).repeat_interleave(self.count)
        numbers = self.boxes[:, 0].long().cpu()
        if len(numbers) != len(in_order) or bool((numbers != in_order).any()):
            return "the images of a batch have different numbers of boxes. Record one image at a time"
        return ""

    def unsupported(self) -> str:
        return self.fault

    def flows(self, argument: int) -> bool:
        return argument == 0

    def output_layout(self, call: Call) -> TensorLayout:
        return self.below.unplaced((self.count, *call.output.shape[1:]), folded=1)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        if self.count == 0:  # a level of a pyramid to which no box belongs
            return [signal.new_zeros(len(signal), *self.below.shape), None]
        images = window.image_indices.to(signal.device)
        boxes = self.boxes.unflatten(0, (-1, self.count))[images].to(signal.dtype)  # (K, N, 5)
        boxes[..., 0] = torch.arange(len(signal), device=signal.device)[:, None]
        shape = (len(signal), *self.below.shape)
        return [self.pooled_back(signal.flatten(0, 1), boxes.flatten(0, 1), shape, images), None]

    def pooled_back(self, signal: Tensor, boxes: Tensor, shape: Sequence[int], images: Tensor) -> Tensor:
        """Project signals (K * N, C', h, w) of boxes to maps (K, C, H, W)."""

        def apply(x: Tensor) -> Tensor:
            found: Any = self.op(x, boxes, *self.options)
            result: Tensor = found if isinstance(found, Tensor) else found[0]
            return result

        return adjoint(apply, shape, signal)


@rule_named(
    "torchvision.roi_align.default", "torchvision.ps_roi_align.default", "torchvision.ps_roi_pool.default"
)
class BoxMeans(BoxPooling):
    """`roi_align` and the position-sensitive pools: means of pixels, of which each receives its share."""


@rule_named("torchvision.roi_pool.default")
class BoxMaxima(BoxPooling):
    """`roi_pool`: maxima; the signal goes to the position of each maximum."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        places = call.outputs[1].long()  # (B * N, C, h, w): row * width + column, or -1 for an empty part
        self.places = places.unflatten(0, (call.batch, self.count)) if not self.fault else places

    def pooled_back(self, signal: Tensor, boxes: Tensor, shape: Sequence[int], images: Tensor) -> Tensor:
        places = self.places[images].movedim(1, 2).flatten(2)  # (K, C, N * h * w)
        x = signal.unflatten(0, (-1, self.count)).movedim(1, 2).flatten(2)
        maps = signal.new_zeros(*shape[:2], shape[2] * shape[3])
        maps.scatter_add_(2, places.clamp_min(0), x * (places >= 0))
        return maps.reshape(*shape)
