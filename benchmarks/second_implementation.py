"""Compare the projections of a network with those of the second implementation, with random weights."""

from __future__ import annotations

import torch
from torch import nn

import deconvviz as dv
from deconvviz.errors import NetworkError


def largest_difference(net: dv.Network, layers: int = 3) -> str:
    """Return the largest relative difference of a unit of some layers, and how many layers were compared.

    The network is materialised with random weights in double precision.
    """
    module = net.module
    if any(parameter.is_meta for parameter in module.parameters()):
        module = module.to_empty(device="cpu")
    randomise(module.double())
    own = dv.Network(module, preprocessing=net.preprocessing, name=net.name)
    if own.inputs or own.preprocessing.crop_mode == "own":
        raise NetworkError("the second implementation knows networks with one input of a fixed size")
    crop = own.preprocessing.crop
    shape = own.preprocessing.array or (3, *((crop, crop) if isinstance(crop, int) else crop))
    images = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    maps = [
        layer.name for layer in own.layers if len(layer.shape) == layer.spatial + 1 > 2 and layer.shape[1] > 1
    ]
    if not maps:
        raise NetworkError(f"{net.name} has no layer with a map")
    chosen = list(dict.fromkeys(maps[len(maps) * n // layers] for n in range(layers)))
    recording = own.record(images.double(), layers=chosen)
    found = [dv.verify(own, recording.project(name, recording.strongest(name, k=1))) for name in chosen]
    return f"{max(one.largest_difference for one in found):.1e} at {len(found)} layers"


def randomise(module: nn.Module) -> None:
    """Fill weights and statistics so that deep maps neither vanish nor overflow."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            for name, tensor in part.named_parameters(recurse=False):
                if tensor.dim() > 1:
                    bound = (6 / tensor[0].numel()) ** 0.5
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * 2 * bound - bound)
                else:
                    low, high = (-0.1, 0.1) if "bias" in name else (0.5, 1.5)
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
            for name, tensor in part.named_buffers(recurse=False):
                if name in ("running_mean", "running_var"):
                    tensor.fill_(0.1 if name == "running_mean" else 1.0)
