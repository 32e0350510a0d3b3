"""Strongest position of every channel in each image of a batch, found while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef

from deconvviz.engine.hooks import capture_outputs
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import LayerError
from deconvviz.image_sources.batches import Batch
from deconvviz.layers import Layer
from deconvviz.models.structure import check_has_numbers
from deconvviz.network import Network

Numbers: TypeAlias = npt.NDArray[Any]
Finder: TypeAlias = Callable[[Tensor], tuple[Numbers, Numbers]]
"""Function from preprocessed images (B, C, H, W) to maxima (B, N) and their places (B, N).

N counts the channels of all layers, layer by layer. A place is a flat index in a feature map, row * width +
column; the first one if several units have the maximum, and 0 for a unit without position.
"""


@dataclass(frozen=True, eq=False)
class Peaks:
    """Strongest activation of N channels in each of b images."""

    activations: Numbers  # (b, N) float, finite
    places: Numbers  # (b, N) int32, flat indices in the feature maps
    numbers: Numbers  # (b) int64, indices of the images
    skipped: Mapping[int, str]  # image index: reason


@contextmanager
def open_finder(network: Network, layers: Sequence[Layer]) -> Iterator[Finder]:
    """Add hooks to some layers of a network and return its peak finder; remove the hooks at the end.

    The network runs no further than the deepest layer, and only the peaks of a feature map are kept. The
    finder raises LayerError if a layer is not reached or its output differs in shape from the layer table.
    """
    check_has_numbers(network.module, network.name)
    requested = {layer.module: layer for layer in layers}
    parts = dict(named_parts(network.module))
    found: dict[str, tuple[Tensor, Tensor]] = {}
    count = 0
    last: tuple[TensorWeakRef, int, str] | None = None  # previous output, its version and its layer

    def observe(name: str, output: Tensor) -> None:
        nonlocal last
        part = parts[name] if name in parts else parts[name.rpartition(":")[0]]
        if last is not None and _is_rectified(part, output, *last[:2]):
            found[name] = _rectified(*found[last[2]])  # saves a second pass over the feature maps
        else:
            found[name] = _maxima(_flat(output, requested[name], network, count))
        last = (TensorWeakRef(output), output._version, name)

    def find(images: Tensor) -> tuple[Numbers, Numbers]:
        nonlocal last, count
        found.clear()
        last, count = None, len(images)
        run(images.to(network.device, network.dtype, non_blocking=True))
        if missed := [layer.name for layer in layers if layer.module not in found]:
            raise LayerError(f"{', '.join(missed)} of {network.name} was not reached with these images")
        activations = torch.cat([found[layer.module][0] for layer in layers], dim=1)
        places = torch.cat([found[layer.module][1] for layer in layers], dim=1)
        return activations.cpu().numpy(), places.cpu().numpy()

    with capture_outputs(network.module, requested, observe) as run:
        yield find


def _is_rectified(part: nn.Module, output: Tensor, reference: TensorWeakRef, version: int) -> bool:
    """Return True if only an in-place ReLU has modified the previously observed tensor."""
    if type(part) is not nn.ReLU or "forward" in vars(part):
        return False
    return reference() is output and output._version == version + 1


def _rectified(activations: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return the peaks of a ReLU from those of its input. The place in a feature map of zeros is 0."""
    return activations.clamp(min=0), places.where(activations > 0, 0)


def find_peaks(find: Finder, layers: Sequence[Layer], batch: Batch, size: int) -> Peaks:
    """Return the peaks of one batch.

    A smaller batch is padded to `size` images, because rounding in the network depends on the batch size.
    """
    count, skipped = len(batch.numbers), dict(batch.failures)
    if not count:
        nothing = np.empty((0, sum(layer.shape[0] for layer in layers)))
        return Peaks(nothing, nothing.astype(np.int32), batch.numbers, skipped)
    activations, places = (found[:count] for found in find(_padded(batch.inputs, size)))
    finite = np.isfinite(activations).all(axis=1)
    for row in np.flatnonzero(~finite):
        skipped[int(batch.numbers[row])] = _not_finite(layers, activations[row])
    return Peaks(activations[finite], places[finite], batch.numbers[finite], skipped)


def _padded(inputs: Tensor, size: int) -> Tensor:
    if len(inputs) == size:
        return inputs
    return torch.cat([inputs, inputs.new_zeros(size - len(inputs), *inputs.shape[1:])])


def _not_finite(layers: Sequence[Layer], activations: Numbers) -> str:
    """Return a message with the first layer that has an activation that is not finite."""
    ends = np.cumsum([layer.shape[0] for layer in layers])
    first = int(np.flatnonzero(~np.isfinite(activations))[0])
    name = layers[int(np.searchsorted(ends, first, side="right"))].name
    return f"layer {name} has NaN or infinite activations"


def _flat(output: Tensor, layer: Layer, network: Network, count: int) -> Tensor:
    """Return feature maps (B, C, H * W): float64 if the network computes in float64, else float32."""
    if len(output) != count:
        raise LayerError(
            f"{layer.name} of {network.name} returned {len(output)} rows for {count} images: its activations "
            "cannot be assigned to single images"
        )
    maps = output.detach().movedim(-1, 1) if layer.channels_last else output.detach()
    if tuple(maps.shape[1:]) != layer.shape:
        raise LayerError(
            f"{layer.name} of {network.name} returned shape {tuple(maps.shape[1:])} for an image, "
            f"not {layer.shape}"
        )
    whole = maps.to(torch.float64 if network.dtype == torch.float64 else torch.float32)
    return whole.reshape(*whole.shape[:2], -1)  # (B, C, H, W) -> (B, C, H * W)


def _maxima(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima (B, C) of feature maps (B, C, H * W) and their first places. NaN is the largest."""
    if flat.device.type == "cpu":  # NumPy takes a quarter of the time of torch here
        places = torch.from_numpy(np.argmax(flat.numpy(), axis=2))
    else:
        places = flat.argmax(dim=2)
    return flat.gather(2, places[..., None])[..., 0], places.int()
