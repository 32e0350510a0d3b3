"""The strongest activation of every channel over all images, for one state of the network."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deconvviz.dataset_search.peak_finder import Numbers, find_peaks, open_finder
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import SearchError
from deconvviz.experiments.evolution.pictures import PreparedBatches
from deconvviz.files import write_whole
from deconvviz.layers import Layer
from deconvviz.network import Network

PROBES = 500
"""Number of images, the first ones, of which the peaks of all channels are kept for comparisons of whole
layers. Our choice."""


@dataclass(frozen=True, eq=False)
class Strongest:
    """Result of one search. N counts the channels of all layers, layer by layer."""

    activation: Numbers  # (N) float, the maximum over all images
    image: Numbers  # (N) int64, number of the image with the maximum
    place: Numbers  # (N) int32, flat index in the feature map
    fired: Numbers  # (N) int64, number of images with a peak above zero
    responses: Numbers  # (n, N) float32, peak in each of the first n images; NaN if it was skipped
    images: int  # number of images that were searched
    skipped: Mapping[int, str]  # number of an image: reason

    @property
    def dead(self) -> Numbers:
        """(N) bool: channels that are not above zero in any image."""
        dead: Numbers = self.fired == 0
        return dead

    def write(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write the result as .npz, whole or not at all, with what must be equal to use it again."""
        notes = {
            "identity": identity,
            "images": self.images,
            "skipped": [[number, reason] for number, reason in sorted(self.skipped.items())],
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}

        def write(stream: BinaryIO) -> None:
            np.savez(stream, notes=np.frombuffer(json.dumps(notes).encode(), np.uint8), **arrays)

        write_whole(path, write, force=True)

    @classmethod
    def read(cls, path: Path, identity: Mapping[str, Any]) -> Strongest | None:
        """Return a result that was written, or None if there is none with the same identity."""
        try:
            with np.load(path) as stored:
                notes = json.loads(stored["notes"].tobytes())
                arrays = {name: stored[name] for name in _ARRAYS}
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        if notes["identity"] != identity:
            return None
        return cls(**arrays, images=notes["images"], skipped=dict(map(tuple, notes["skipped"])))


_ARRAYS = ("activation", "image", "place", "fired", "responses")


def find_strongest(
    network: Network,
    layers: Sequence[Layer],
    batches: PreparedBatches,
    images: int,
    batch_size: int,
    on_batch: Callable[[], None],
) -> Strongest:
    """Search all images for the strongest activation of every channel, as `deconvviz.search` does.

    Args:
        network: The network in one state.
        layers: Layers in the order of the forward pass.
        batches: Batches of prepared images.
        images: Number of images in the source.
        batch_size: Number of images in one forward pass.
        on_batch: Called after each batch.

    Raises:
        SearchError: If no image can be used.
    """
    channels = sum(layer.shape[0] for layer in layers)
    dtype = np.float64 if str(network.dtype) == "torch.float64" else np.float32
    top = Top.empty(channels, 1, dtype)
    responses = np.full((min(images, PROBES), channels), np.nan, np.float32)
    skipped: dict[int, str] = {}
    with open_finder(network, layers) as find:
        for batch in batches:
            peaks = find_peaks(find, layers, batch, batch_size)
            top.add(peaks)
            skipped.update(peaks.skipped)
            near = peaks.numbers < len(responses)
            responses[peaks.numbers[near]] = peaks.activations[near]
            on_batch()
    if not top.image_count:
        first = skipped[min(skipped)]
        raise SearchError(
            f"none of the {images} images could be used with {network.origin.short}: {first}. Check the "
            "images and the checkpoint"
        )
    return Strongest(
        top.activation[:, 0],
        top.image[:, 0],
        top.place[:, 0],
        top.fired,
        responses,
        top.image_count,
        skipped,
    )
