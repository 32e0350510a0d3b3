"""Independent ways to the same numbers. Nothing in here uses deconvviz.

Autograd     backpropagation, with the gradient of every activation function replaced by a rectifier
captum_unit  captum's NeuronDeconvolution, for networks whose ReLUs are modules
*_by_hand    the textbook loops, in NumPy
seen_pixels  which pixels can change a unit
"""

from __future__ import annotations

import copy
import inspect
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Array = np.ndarray[Any, Any]


class _Rectifier(torch.autograd.Function):
    """Any activation function on the way up, max(signal, 0) on the way down."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        return activation(x)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:
        return signal.clamp_min(0), None


_RELU = (F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_)
_OVERWRITING = (F.relu_, torch.relu_, torch.Tensor.relu_)
_ANALOGOUS = (F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.silu, F.gelu, F.hardswish, F.mish, F.softplus)


class _EveryActivationReplaced(TorchFunctionMode):
    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if call not in (*_RELU, *_ANALOGOUS):
            return call(*args, **kwargs)
        x = args[0]
        activation, overwrites = _plain(call, args[1:], kwargs)
        if not overwrites:
            return _Rectifier.apply(x, activation)
        return x.copy_(_Rectifier.apply(x.clone(), activation))


def _plain(call: Any, rest: Any, kwargs: dict[str, Any]) -> tuple[Callable[[Tensor], Tensor], bool]:
    """An activation as a function of its tensor alone that leaves it as it is; and whether it did not."""
    if call in _RELU:
        inplace = kwargs.get("inplace", rest[0] if rest else False)
        return torch.relu, call in _OVERWRITING or bool(inplace)
    if not inspect.isfunction(call):  # a builtin: none of these has an in-place form
        return lambda x: call(x, *rest, **kwargs), False
    named = inspect.signature(call).bind(None, *rest, **kwargs).arguments
    overwrites = bool(named.pop("inplace", False))
    del named["input"]
    return lambda x: call(x, **named), overwrites


class Autograd:
    """One forward pass with gradients, and the projection of any signal at any module's first output."""

    def __init__(self, network: nn.Module, pictures: Tensor) -> None:
        assert not network.training
        self.outputs: dict[str, Tensor] = {}
        hooks = [part.register_forward_hook(self._keep(name)) for name, part in network.named_modules()]
        with torch.enable_grad(), _EveryActivationReplaced():
            self.pictures = pictures.detach().clone().requires_grad_(True)
            network(self.pictures.clone())  # a leaf cannot be overwritten
        for hook in hooks:
            hook.remove()

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs.setdefault(name, output.clone())  # the next call may overwrite it

        return hook

    def project(self, module: str, signal: Tensor) -> Tensor:
        """(B, *layer) to (B, C, H, W)."""
        (pixels,) = torch.autograd.grad(
            self.outputs[module], self.pictures, signal, retain_graph=True, allow_unused=True
        )
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

    A maximum is replaced by a mean over the same window: each of its positions can be the highest.
    """
    picture = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    kept: list[Tensor] = []
    handle = network.get_submodule(module).register_forward_hook(lambda part, args, out: kept.append(out))
    try:
        with torch.enable_grad(), _MaximaBecomeSums():
            network(picture.clone())  # a leaf cannot be overwritten
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(kept[0][(0, *place)], picture)
    seen: Array = (gradient[0] != 0).any(0).numpy()
    return seen


class _MaximaBecomeSums(TorchFunctionMode):
    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if call in _RELU:
            return args[0]  # where nothing is negative; and no in-place call stands in autograd's way
        if call not in (F.max_pool2d, torch.max_pool2d):
            return call(*args, **kwargs)
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = dict(zip(names, args, strict=False)) | kwargs
        return _sum_pool(**{name: value for name, value in given.items() if name in names})


def _sum_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """What a max-pool sees, added up."""
    size = F.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode).shape[2:]
    kernel, step, pad, apart = (_pair(n) for n in (kernel_size, stride or kernel_size, padding, dilation))
    needed = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, step, kernel, apart, strict=True)]
    after = [max(0, n - m - p) for n, m, p in zip(needed, input.shape[2:], pad, strict=True)]
    wide = F.pad(input, (pad[1], after[1], pad[0], after[0]))
    channels = input.shape[1]
    ones = input.new_ones(channels, 1, *kernel)
    summed = F.conv2d(wide, ones, stride=step, dilation=apart, groups=channels)
    return summed[:, :, : size[0], : size[1]]


def _pair(n: Any) -> tuple[int, int]:
    return (n, n) if isinstance(n, int) else (int(n[0]), int(n[-1]))
