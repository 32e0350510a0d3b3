"""Independent ways to the same numbers. Nothing in here uses deconvviz.

Autograd     backpropagation, with the gradient of every call replaced whose mirror is another (semantics.py)
captum_unit  captum's NeuronDeconvolution, for networks whose ReLUs are modules
*_by_hand    the textbook loops, in NumPy
seen_pixels  which pixels can change a unit
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
    """One forward pass with gradients, and the projection of any signal at any module's first output.

    `layers` are those whose outputs are kept; without it all.
    """

    def __init__(self, network: nn.Module, pictures: Tensor, layers: Collection[str] | None = None) -> None:
        assert not network.training
        self.outputs: dict[str, Tensor] = {}
        self._audited: set[Any] = set()
        parts = [(name, part) for name, part in network.named_modules() if layers is None or name in layers]
        hooks = [part.register_forward_hook(self._keep(name)) for name, part in parts]
        learning = [number for number in network.parameters() if number.requires_grad]
        try:
            for number in learning:
                number.requires_grad_(False)  # what has a gradient now comes from the picture
            with torch.enable_grad(), Semantics():
                self.pictures = pictures.detach().clone().requires_grad_(True)
                network(self.pictures.clone())  # a leaf cannot be overwritten
        finally:
            for hook in hooks:
                hook.remove()
            for number in learning:
                number.requires_grad_(True)

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs.setdefault(name, output.clone())  # the next call may overwrite it

        return hook

    def project(self, module: str, signal: Tensor) -> Tensor:
        """(B, *layer) to (B, C, H, W)."""
        output = self.outputs[module]
        if not output.requires_grad:
            return torch.zeros_like(self.pictures)
        audit(output.grad_fn, self._audited)
        (pixels,) = torch.autograd.grad(output, self.pictures, signal, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self.pictures) if pixels is None else pixels

    def unit(self, module: str, image: int, channel: int, *position: int) -> Tensor:
        """One unit at its own activation: (C, H, W)."""
        output = self.outputs[module].detach()
        signal = torch.zeros_like(output)
        signal[(image, channel, *position)] = output[(image, channel, *position)]
        return self.project(module, signal)[image]


def captum_unit(network: nn.Module, module: str, picture: Tensor, place: tuple[int, ...]) -> Tensor:
    """The projection of one unit (1, C, H, W), as captum makes it: it seeds 1, so times the activation.

    That is right for an activation above zero alone: the rectifiers on the way down do not commute with -1.
    """
    from captum.attr import NeuronDeconvolution

    network = copy.deepcopy(network).eval()
    for part in network.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # captum's hooks cannot stand it
    layer = network.get_submodule(module)
    said: list[float] = []
    layer.register_forward_hook(lambda part, args, output: said.append(float(output[(0, *place)])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns that it sets hooks and gradients
        pixels = NeuronDeconvolution(network, layer).attribute(
            picture.clone().requires_grad_(True), place if len(place) > 1 else place[0]
        )
    assert said[0] > 0
    projection: Tensor = pixels.detach() * said[0]
    return projection


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value; 0 where both are zero."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    largest = float(theirs.abs().max()) if theirs.numel() else 0.0
    apart = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
    return apart if largest == 0 else apart / largest


def convolution_by_hand(
    signal: Array, weight: Array, size: Sequence[int], stride: Any, padding: Any, dilation: Any
) -> Array:
    """The mirror of a convolution for one picture: (O, h, w), weight (O, C, kh, kw), to (C, *size)."""
    below = np.zeros((weight.shape[1], *size))
    for o, y, x in np.ndindex(*signal.shape):
        for c, i, j in np.ndindex(*weight.shape[1:]):
            row = y * stride[0] - padding[0] + i * dilation[0]
            column = x * stride[1] - padding[1] + j * dilation[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                below[c, row, column] += signal[o, y, x] * weight[o, c, i, j]
    return below


def unpool_by_hand(
    above: Array, said: Array, signal: Array, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Array:
    """The mirror of a max-pool over one map: signals go to the place of the first maximum, and add up.

    `above` (H, W) is the map that was pooled, `said` and `signal` (h, w) are its maxima and what comes down.
    """
    below = np.zeros_like(above, dtype=float)
    for y, x in np.ndindex(*signal.shape):
        taps = itertools.product(range(kernel[0]), range(kernel[1]))
        places = [
            (y * stride[0] - padding[0] + i * dilation[0], x * stride[1] - padding[1] + j * dilation[1])
            for i, j in taps
        ]
        inside = [(r, c) for r, c in places if 0 <= r < above.shape[0] and 0 <= c < above.shape[1]]
        best = max(inside, key=lambda place: above[place])  # the first of equals
        assert above[best] == said[y, x]
        below[best] += signal[y, x]
    return below


def seen_pixels(network: nn.Module, module: str, shape: Sequence[int], place: tuple[int, ...]) -> Array:
    """(H, W) bool: which pixels can change a unit. The network must have no negative weight.

    Gates and statistics are constants, as they are on the way down. A maximum is replaced by a sum over the
    same window: each of its positions can be the highest; and an unpooled one can come back at any of them.
    """
    generator = torch.Generator().manual_seed(11)
    picture = 0.5 + torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    picture.requires_grad_(True)
    kept: list[Tensor] = []

    def keep(part: nn.Module, args: Any, output: Any) -> None:
        kept.append(output.clone())

    handle = network.get_submodule(module).register_forward_hook(keep)
    try:
        with torch.enable_grad(), EverythingCounts():
            network(picture.clone())  # a leaf cannot be overwritten
    finally:
        handle.remove()
    unit = kept[0][(0, *place)]
    if not unit.requires_grad:
        return np.zeros(tuple(shape[1:]), dtype=bool)
    (gradient,) = torch.autograd.grad(unit, picture, allow_unused=True)
    if gradient is None:
        return np.zeros(tuple(shape[1:]), dtype=bool)
    seen: Array = (gradient[0] != 0).any(0).numpy()
    return seen


def hull(seen: Array) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 around all that is seen; None where that is nothing."""
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
