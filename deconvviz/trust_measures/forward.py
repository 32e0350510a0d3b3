"""Activations of a layer for prepared images, without a recording."""

from __future__ import annotations

import torch
from torch import Tensor

from deconvviz.layers import Layer
from deconvviz.methods.forward import Forward
from deconvviz.network import Network

BATCH = 8


def activations(network: Network, layer: Layer, inputs: Tensor) -> Tensor:
    """Return the activations of a layer, (B, C, h, w) or (B, F), for prepared images (B, C, H, W).

    The network runs in batches and no further than the layer. It is left as it was.
    """
    run = Forward(network, {layer: lambda output: output.detach().cpu().clone()})
    return torch.cat([run(batch)[layer] for batch in inputs.split(BATCH)])
