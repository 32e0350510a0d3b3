"""`dv.clip_filters`: the paper's renormalisation of filters during training (section 4.1)."""

from __future__ import annotations

import math

import torch
from torch import nn

from deconvviz.errors import NetworkError
from deconvviz.network import Network

RADIUS = 0.1
"""Largest root mean square of a filter, as in the paper."""
PAPER_SCALE = 128.0
"""Largest absolute value of the paper's inputs, which are from about -128 to 128."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def clip_filters(
    module: nn.Module | Network, radius: float = RADIUS, *, input_scale: float | None = None
) -> dict[str, int]:
    """Scale each filter of the convolutional layers down to a root mean square of `radius`, if it is larger.

    Call it after each step of the optimiser. The paper does so because a few filters of the first layer
    otherwise dominate. Biases and other layers are not changed.

    The radius of the paper, 0.1, is for inputs from about -128 to 128. The filters of the first layer are as
    much larger as the inputs are smaller, so the radius of the first convolution is ``radius * 128 /
    input_scale``: about 5.8 for inputs with ImageNet's mean and deviation, about 13 for [0, 1].

    Args:
        module: The network that is trained. The first convolution is the first in the order of its modules.
        radius: Largest root mean square of a filter.
        input_scale: Largest absolute value of the network's input. Default: that of the preprocessing of a
            `Network`; for a module, 128 as in the paper, which is wrong for normalised inputs.

    Returns:
        For each convolution of which filters were scaled, by its dotted name, the number of these filters.

    Raises:
        NetworkError: If the radius or the scale is not above 0, there is no convolution, or the weight of one
            is not a plain parameter (parametrised or not initialised).
    """
    scale = _scale_of(module) if input_scale is None else float(input_scale)
    if not (radius > 0 and scale > 0 and math.isfinite(radius) and math.isfinite(scale)):
        raise NetworkError(f"radius {radius:g} and input_scale {scale:g}: both must be finite and above 0")
    whole = module.module if isinstance(module, Network) else module
    layers = [(name, part) for name, part in whole.named_modules() if isinstance(part, _CONVOLUTIONS)]
    if not layers:
        raise NetworkError(f"{type(whole).__name__} has no convolution, so there is no filter to clip")
    for name, part in layers:
        _check_plain(name, part)
    clipped = {}
    for number, (name, part) in enumerate(layers):
        if count := _clip(part, radius * PAPER_SCALE / scale if number == 0 else radius):
            clipped[name] = count
    return clipped


def _scale_of(module: nn.Module | Network) -> float:
    if not isinstance(module, Network):
        return PAPER_SCALE
    pairs = zip(module.preprocessing.mean, module.preprocessing.std, strict=True)
    return max(max(mean, 1 - mean) / std for mean, std in pairs)


def _check_plain(name: str, part: nn.Module) -> None:
    weight = part._parameters.get("weight")
    if weight is None:
        raise NetworkError(
            f"the weight of {name} is computed from other parameters, so clipping it would have no effect. "
            "Remove the parametrisation"
        )
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise NetworkError(f"the weight of {name} has no values yet. Run the module once on an input")


@torch.no_grad()
def _clip(part: nn.Module, radius: float) -> int:
    """Scale the filters of one convolution in place, and return how many were too large."""
    weight = part.weight
    assert isinstance(weight, torch.Tensor)
    size = weight.detach().flatten(1).float().square().mean(1).sqrt()  # (F,) root mean square
    factor = torch.where(size > radius, radius / size, torch.ones_like(size))
    count = int((factor < 1).sum())
    if count:
        weight.mul_(factor.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1)))
    return count
