"""The strongest activation of every channel over all images, for one state of the network."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deconvviz.dataset_search.pace import Pace
from deconvviz.dataset_search.peak_finder import Numbers, find_peaks, open_finder
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import SearchError
from deconvviz.experiments.evolution.pictures import PreparedBatches
from deconvviz.files import read_arrays, write_whole
from deconvviz.layers import Layer
from deconvviz.network import Network

PROBES = 500
"""Number of images, the first ones, of which the peaks of all channels are kept for comparisons of whole
layers. Our choice."""
EVERY = 30.0
"""Seconds between two states of a search that are written (ours)."""


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
        notes = {"images": self.images, "skipped": _pairs(self.skipped)}
        _write(path, identity, notes, {name: getattr(self, name) for name in _ARRAYS})

    @classmethod
    def read(cls, path: Path, identity: Mapping[str, Any]) -> Strongest | None:
        """Return a result that was written, or None if there is none with the same identity."""
        found = _read(path, identity, _ARRAYS)
        if found is None:
            return None
        notes, arrays = found
        return cls(**arrays, images=notes["images"], skipped=dict(map(tuple, notes["skipped"])))


@dataclass(eq=False)
class Unfinished:
    """State of a search after the first `done` batches."""

    top: Top
    responses: Numbers
    skipped: dict[int, str]
    done: int = 0

    @classmethod
    def begin(cls, network: Network, layers: Sequence[Layer], images: int) -> Unfinished:
        """Return the state before the first batch."""
        channels = sum(layer.shape[0] for layer in layers)
        dtype = np.float64 if str(network.dtype) == "torch.float64" else np.float32
        responses = np.full((min(images, PROBES), channels), np.nan, np.float32)
        return cls(Top.empty(channels, 1, dtype), responses, {})

    def write(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write the state, whole or not at all, with what must be equal to continue."""
        notes = {"images": self.top.image_count, "skipped": _pairs(self.skipped), "done": self.done}
        arrays = {name: getattr(self.top, name) for name in _TOP}
        _write(path, identity, notes, {**arrays, "responses": self.responses})

    @classmethod
    def read(cls, path: Path, identity: Mapping[str, Any]) -> Unfinished | None:
        """Return a state that was written, or None if there is none with the same identity."""
        found = _read(path, identity, (*_TOP, "responses"))
        if found is None:
            return None
        notes, arrays = found
        responses = arrays.pop("responses")
        top = Top(**arrays, image_count=notes["images"])
        return cls(top, responses, dict(map(tuple, notes["skipped"])), notes["done"])

    def finished(self) -> Strongest:
        """Return the result after the last batch."""
        top = self.top
        peaks = (top.activation[:, 0], top.image[:, 0], top.place[:, 0])
        return Strongest(*peaks, top.fired, self.responses, top.image_count, self.skipped)


_ARRAYS = ("activation", "image", "place", "fired", "responses")
_TOP = tuple(array.name for array in fields(Top) if array.name != "image_count")


class Saver:
    """Writes the state of a search at most every `EVERY` seconds, in at most 2 % of the time."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self._path, self._identity, self._pace = path, identity, Pace(EVERY)

    def __call__(self, state: Unfinished) -> None:
        """Write the state if enough time has passed."""
        self._pace(lambda: state.write(self._path, self._identity))


def _pairs(skipped: Mapping[int, str]) -> list[list[int | str]]:
    return [[number, reason] for number, reason in sorted(skipped.items())]


def _write(
    path: Path, identity: Mapping[str, Any], notes: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    text = json.dumps({"identity": identity, **notes}).encode()

    def write(stream: BinaryIO) -> None:
        np.savez(stream, notes=np.frombuffer(text, np.uint8), **arrays)

    write_whole(path, write, force=True)


def _read(
    path: Path, identity: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Numbers]] | None:
    """Return notes and arrays of a file; None if it is missing, damaged, or has another identity."""
    try:
        stored = read_arrays(path)
        notes = json.loads(stored["notes"].tobytes())
        arrays = {name: stored[name] for name in names}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return (notes, arrays) if notes["identity"] == identity else None


def find_strongest(
    network: Network,
    layers: Sequence[Layer],
    batches: PreparedBatches,
    images: int,
    batch_size: int,
    on_batch: Callable[[], None],
    begun: Unfinished | None = None,
    save: Callable[[Unfinished], None] | None = None,
) -> Strongest:
    """Search all images for the strongest activation of every channel, as `deconvviz.search` does.

    Args:
        network: The network in one state.
        layers: Layers in the order of the forward pass.
        batches: Batches of prepared images.
        images: Number of images in the source.
        batch_size: Number of images in one forward pass.
        on_batch: Called after each batch.
        begun: State of an interrupted search, which is continued.
        save: Called with the state after each batch.

    Raises:
        SearchError: If no image can be used.
    """
    state = begun or Unfinished.begin(network, layers, images)
    for _ in range(state.done):
        on_batch()
    with open_finder(network, layers) as find:
        for batch in batches.after(state.done):
            peaks = find_peaks(find, layers, batch, batch_size)
            state.top.add(peaks)
            state.skipped.update(peaks.skipped)
            near = peaks.numbers < len(state.responses)
            state.responses[peaks.numbers[near]] = peaks.activations[near]
            state.done += 1
            if save is not None:
                save(state)
            on_batch()
    if not state.top.image_count:
        first = state.skipped[min(state.skipped)]
        raise SearchError(
            f"none of the {images} images could be used with {network.origin.short}: {first}. Check the "
            "images and the checkpoint"
        )
    return state.finished()
