"""Outputs of some layers for batches of prepared images, without a recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deconvviz.engine.hooks import capture_outputs
from deconvviz.layers import Layer
from deconvviz.network import Network

CPU_BATCH, SMALL_BATCH, GPU_BATCH = 16, 32, 128
"""Numbers of images in one batch: on a CPU, of small images on a CPU, and on other devices (ours). Larger
batches are slower on a CPU, because their maps do not fit into its cache."""
SMALL = 128 * 128
"""Largest number of pixels of a small image (ours)."""

_VIEW = "view size is not compatible"  # in the message of a network that flattens with `view`


def batch_size(network: Network) -> int:
    """Return the default number of images in one batch."""
    if network.device.type != "cpu":
        return GPU_BATCH
    _, height, width = network.preprocessing.shape
    return SMALL_BATCH if height * width <= SMALL else CPU_BATCH


class Forward:
    """Runs a network on batches, no further than the deepest of some layers.

    Args:
        network: The network. Each run leaves it as it was.
        reduce: For each layer, a function of its output (B, C, h, w) or (B, F). It is called at once, because
            a later call may overwrite the output in place, so its result must not share memory with it.
    """

    def __init__(self, network: Network, reduce: Mapping[Layer, Callable[[Tensor], Tensor]]) -> None:
        network.check_one_input()
        self._network = network
        self._of = {layer.module: (layer, function) for layer, function in reduce.items()}
        # convolutions of a CPU are faster if channels are last in memory
        self._channels_last = network.device.type == "cpu"

    def __call__(self, inputs: Tensor) -> dict[Layer, Tensor]:
        """Return the reduced output of each layer for prepared images (B, C, H, W)."""
        images = inputs.to(self._network.device, self._network.dtype)
        if self._channels_last:
            try:
                return self._run(images.contiguous(memory_format=torch.channels_last))
            except RuntimeError as reason:
                if _VIEW not in str(reason):
                    raise
                self._channels_last = False
        return self._run(images.contiguous())

    def _run(self, images: Tensor) -> dict[Layer, Tensor]:
        found: dict[Layer, Tensor] = {}

        def keep(name: str, output: Tensor) -> None:
            layer, function = self._of[name]
            found[layer] = function(output.movedim(-1, 1) if layer.channels_last else output)

        with capture_outputs(self._network.module, list(self._of), keep) as run:
            run(images)
        return found


def output_layer(network: Network) -> Layer | None:
    """Return the output of the network if it is one score for each of several classes, else None.

    Whether the network is a classifier is decided by its output: a vector, and as many entries as class
    names if there are names.
    """
    last = network.layers[-1] if len(network.layers) else None
    found = next((layer for layer in network.layers if layer.module == ""), last)
    if found is None or len(found.shape) != 1 or found.shape[0] < 2 or found.lacks_weights:
        return None
    if network.classes and len(network.classes) != found.shape[0]:
        return None
    return found
