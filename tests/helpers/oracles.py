"""Independent reference implementations. Nothing in this file uses the engine of deconvviz.

Autograd     backpropagation with the gradients of some calls replaced by their projection (semantics.py)
captum_unit  captum's NeuronDeconvolution, for networks whose ReLUs are modules
*_by_hand    textbook loops in NumPy
seen_pixels  the pixels that can change a unit
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers.reach import EverythingCounts
from helpers.semantics import Semantics, audit

Array = np.ndarray[Any, Any]


class Autograd:
    """Forward pass with gradients, which projects any signal at the first output of any module.

    `layers` are the modules whose outputs are stored; None stores all of them.
    """

    def __init__(self, network: nn.Module, images: Tensor, layers: Collection[str] | None = None) -> None:
        assert not network.training
        self.outputs: dict[str, Tensor] = {}
        self._audited: set[Any] = set()
        parts = [(name, part) for name, part in network.named_modules() if layers is None or name in layers]
        hooks = [part.register_forward_hook(self._keep(name)) for name, part in parts]
        trainable = [number for number in network.parameters() if number.requires_grad]
        try:
            for number in trainable:
                number.requires_grad_(False)  # so that only values that depend on the images have gradients
            with torch.enable_grad(), Semantics():
                self.images = images.detach().clone().requires_grad_(True)
                network(self.images.clone())  # a leaf cannot be overwritten
        finally:
            for hook in hooks:
                hook.remove()
            for number in trainable:
                number.requires_grad_(True)

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs.setdefault(name, output.clone())  # a later call may overwrite it

        return hook

    def project(self, module: str, signal: Tensor) -> Tensor:
        """Project a signal (B, *layer) to pixels (B, C, H, W)."""
        output = self.outputs[module]
        if not output.requires_grad:
            return torch.zeros_like(self.images)
        audit(output.grad_fn, self._audited)
        (pixels,) = torch.autograd.grad(output, self.images, signal, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self.images) if pixels is None else pixels

    def unit(self, module: str, image: int, channel: int, *position: int) -> Tensor:
        """Project one unit with its own activation to pixels (C, H, W)."""
        output = self.outputs[module].detach()
        signal = torch.zeros_like(output)
        signal[(image, channel, *position)] = output[(image, channel, *position)]
        return self.project(module, signal)[image]


def captum_unit(network: nn.Module, module: str, image: Tensor, place: tuple[int, ...]) -> Tensor:
    """Return the projection of one unit by captum, (1, C, H, W), multiplied by its activation.

    Captum starts with a signal of 1. The product is only valid for a positive activation, because rectified
    signals do not commute with -1.
    """
    from captum.attr import NeuronDeconvolution

    network = copy.deepcopy(network).eval()
    for part in network.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # captum's hooks do not support in-place operations
    layer = network.get_submodule(module)
    activations: list[float] = []
    layer.register_forward_hook(lambda part, args, output: activations.append(float(output[(0, *place)])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns about its hooks and gradients
        pixels = NeuronDeconvolution(network, layer).attribute(
            image.clone().requires_grad_(True), place if len(place) > 1 else place[0]
        )
    assert activations[0] > 0
    projection: Tensor = pixels.detach() * activations[0]
    return projection


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest absolute value; 0 if both are zero."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    largest = float(theirs.abs().max()) if theirs.numel() else 0.0
    apart = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
    return apart if largest == 0 else apart / largest


def convolution_by_hand(
    signal: Array, weight: Array, size: Sequence[int], stride: Any, padding: Any, dilation: Any
) -> Array:
    """Project a signal (O, h, w) through a convolution with weight (O, C, kh, kw), to (C, *size)."""
    below = np.zeros((weight.shape[1], *size))
    for o, y, x in np.ndindex(*signal.shape):
        for c, i, j in np.ndindex(*weight.shape[1:]):
            row = y * stride[0] - padding[0] + i * dilation[0]
            column = x * stride[1] - padding[1] + j * dilation[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                below[c, row, column] += signal[o, y, x] * weight[o, c, i, j]
    return below


def unpool_by_hand(
    pooled: Array, maxima: Array, signal: Array, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Array:
    """Project a signal through max-pooling of one map: to the first maximum of each window, summed.

    `pooled` (H, W) is the input of the pooling, `maxima` (h, w) its output, and `signal` (h, w) the signal at
    the output.
    """
    below = np.zeros_like(pooled, dtype=float)
    for y, x in np.ndindex(*signal.shape):
        taps = itertools.product(range(kernel[0]), range(kernel[1]))
        places = [
            (y * stride[0] - padding[0] + i * dilation[0], x * stride[1] - padding[1] + j * dilation[1])
            for i, j in taps
        ]
        inside = [(r, c) for r, c in places if 0 <= r < pooled.shape[0] and 0 <= c < pooled.shape[1]]
        best = max(inside, key=lambda place: pooled[place])  # the first of equal values
        assert pooled[best] == maxima[y, x]
        below[best] += signal[y, x]
    return below


def seen_pixels(network: nn.Module, module: str, shape: Sequence[int], place: tuple[int, ...]) -> Array:
    """Return which pixels can change a unit, as bool (H, W). The network must not have negative weights.

    Gates and statistics are constants, as in the projection pass. A maximum is replaced by a sum over its
    window, because each position can have the maximum, and unpooling can put it at any of them.
    """
    generator = torch.Generator().manual_seed(11)
    image = 0.5 + torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    image.requires_grad_(True)
    kept: list[Tensor] = []

    def keep(part: nn.Module, args: Any, output: Any) -> None:
        kept.append(output.clone())

    handle = network.get_submodule(module).register_forward_hook(keep)
    try:
        with torch.enable_grad(), EverythingCounts():
            network(image.clone())  # a leaf cannot be overwritten
    finally:
        handle.remove()
    unit = kept[0][(0, *place)]
    if not unit.requires_grad:
        return np.zeros(tuple(shape[1:]), dtype=bool)
    (gradient,) = torch.autograd.grad(unit, image, allow_unused=True)
    if gradient is None:
        return np.zeros(tuple(shape[1:]), dtype=bool)
    seen: Array = (gradient[0] != 0).any(0).numpy()
    return seen


def hull(seen: Array) -> tuple[int, int, int, int] | None:
    """Return the box (x0, y0, x1, y1) around all True pixels, or None if there are none."""
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
