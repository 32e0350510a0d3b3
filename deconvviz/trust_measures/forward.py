"""Activations of a layer for prepared images, without a recording."""

from __future__ import annotations

import torch
from torch import Tensor

from deconvviz.engine.hooks import capture_outputs
from deconvviz.layers import Layer
from deconvviz.network import Network

BATCH = 8
_VIEW = "view size is not compatible"  # in the message of a network that flattens with `view`


def activations(network: Network, layer: Layer, inputs: Tensor) -> Tensor:
    """Return the activations of a layer, (B, C, h, w) or (B, F), for prepared images (B, C, H, W).

    The network runs in batches and no further than the layer. It is left as it was.
    """
    images = inputs.to(network.device, network.dtype)
    if images.device.type != "cpu":
        return _run(network, layer, images)
    try:
        # convolutions and max-pooling of a CPU take half the time if channels are last in memory
        return _run(network, layer, images.contiguous(memory_format=torch.channels_last))
    except RuntimeError as reason:
        if _VIEW not in str(reason):
            raise
        return _run(network, layer, images.contiguous())


def _run(network: Network, layer: Layer, images: Tensor) -> Tensor:
    found: list[Tensor] = []

    def keep(name: str, output: Tensor) -> None:
        own = output.detach().movedim(-1, 1) if layer.channels_last else output.detach()
        found.append(own.cpu().clone())  # a later call may overwrite it

    with capture_outputs(network.module, [layer.module], keep) as run:
        for batch in images.split(BATCH):
            run(batch)
    return torch.cat(found)
