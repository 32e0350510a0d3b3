"""Parameters of a search, all checked before the first image is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deconvviz.dataset_search.summary import Summary
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import ImageError, LayerError, SearchError, SourceError
from deconvviz.image_sources import Source
from deconvviz.image_sources.batches import Batches
from deconvviz.image_sources.labels import Labels
from deconvviz.images.network_files import files_of
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.layers import Layer
from deconvviz.network import Network

ALL = "all"
DECODING = "scaled decoding"  # key of `Plan.identity`
TOP = 9
BATCH_SIZE = 32


@dataclass(frozen=True)
class Plan:
    """Network, layers, source of images and options of a search."""

    network: Network
    layers: tuple[Layer, ...]  # in the order of the forward pass
    source: Source
    top: int  # images to keep for each channel
    batch_size: int
    strict: bool = False  # an image that cannot be used ends the search

    @property
    def channels(self) -> int:
        """Number N of channels of all layers."""
        return sum(layer.shape[0] for layer in self.layers)

    @cached_property
    def batches(self) -> Batches:
        return Batches(self.source, self.network.preprocessing, self.batch_size)

    @property
    def labels(self) -> Labels | None:
        """Class labels of the images; None if no label is known."""
        return self.source.class_labels

    @property
    def scaled_decoding(self) -> bool:
        """Whether JPEG files are decoded at a fraction of their size."""
        return self.source.files.reduced_for is not None

    def empty(self) -> Top:
        return Top.empty(self.channels, min(self.top, len(self.source)), self._dtype)

    def empty_summary(self) -> Summary:
        return Summary.empty(self.channels, self.labels, self._dtype)

    @property
    def _dtype(self) -> type[np.floating]:
        return np.float64 if str(self.network.dtype) == "torch.float64" else np.float32

    def check_strict(self, skipped: Mapping[int, str]) -> None:
        """Raise ImageError if the plan is strict and an image was skipped."""
        if skipped and self.strict:
            index = min(skipped)
            raise _image_error(self.source.names[index], skipped[index])

    def check_listed(self) -> None:
        """Raise ImageError if the plan is strict and an image was skipped when the source was listed."""
        if self.source.skipped and self.strict:
            raise _image_error(*self.source.skipped[0])

    def identity(self) -> dict[str, Any]:
        """Return everything that must be equal for a search to be resumed, as JSON values."""
        network = self.network
        return {
            "network": network.name,
            "weights": network.digest,
            "preprocessing": network.preprocessing.to_json(),
            "type of numbers": str(network.dtype).removeprefix("torch."),
            "layers": [layer.module for layer in self.layers],
            "top": self.top,
            "batch size": self.batch_size,
            DECODING: _on_or_off(self.scaled_decoding),
            "source": self.source.digest,
            "labels": None if self.labels is None else self.labels.digest,
        }


def plan(
    network: Network,
    source: Source,
    layers: str | Layer | Iterable[str | Layer],
    *,
    top: int = TOP,
    batch_size: int = BATCH_SIZE,
    strict: bool = False,
    scaled_decoding: bool = False,
) -> Plan:
    """Check the parameters of a search and return its plan. `layers` may be names, layers or ``all``.

    With `scaled_decoding`, the source of the plan decodes JPEG files at a fraction of their size.

    Raises LayerError, SearchError, SourceError and ImageError.
    """
    files = files_of(network.preprocessing, network.name)
    network.check_one_input()
    if top < 1:
        raise SearchError(
            f"invalid top {top}: the number of images per channel must be 1 or more ({{option}})",
            option="top=N",
        )
    if batch_size < 1:
        raise SearchError(
            f"invalid batch size {batch_size}: it must be 1 or more ({{option}})",
            option="batch_size=N",
        )
    if not len(source):
        raise SourceError(f"no {files.noun}s in {source.place}")
    if scaled_decoding:
        check_scaled_decoding(network.preprocessing, network.name)
    files.check_can_read(source.names)
    found = chosen_layers(network, layers)
    read = source.reduced_for(network.preprocessing if scaled_decoding else None)
    return Plan(network, found, read, top, min(batch_size, len(source)), strict)


def check_scaled_decoding(preprocessing: Preprocessing, network: str) -> None:
    """Raise SearchError if a network does not read images that are scaled down."""
    if preprocessing.reads_images and preprocessing.scales_down:
        return
    if not preprocessing.reads_images:
        reason = f"reads arrays of shape {preprocessing.input_shape}, not images"
    elif preprocessing.crop_mode == "own":
        reason = "reads images at their own size"
    else:
        reason = "picks single pixels of an image (nearest)"
    raise SearchError(
        f"scaled decoding is for JPEGs that are scaled down, but {network} {reason}. Leave out {{option}}",
        option="scaled_decoding=True",
    )


def decoding_in(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of `Plan.identity` on decoding for the manifest of a search."""
    return {DECODING: _on_or_off(bool(manifest.get("scaled_decoding")))}


def _on_or_off(scaled: bool) -> str:
    return "on" if scaled else "off"


def chosen_layers(network: Network, layers: str | Layer | Iterable[str | Layer]) -> tuple[Layer, ...]:
    """Return the requested layers in the order of the forward pass.

    ``all`` requests every layer that has channels of its own. Raises LayerError.
    """
    requested = [layers] if isinstance(layers, (str, Layer)) else list(layers)
    if not requested:
        raise LayerError("no layer was given: name one or more, or all (net.layers lists them)")
    if ALL in requested:
        return tuple(layer for layer in network.layers if _has_own_channels(layer))
    wanted = {network.layers.find(name) for name in requested}
    for layer in wanted:
        if not layer.has_channels:
            shape = " x ".join(map(str, layer.shape))
            raise LayerError(
                f"{layer.name} has no channels: its output for an image is {shape}, neither feature maps "
                "(C, H, W) nor a vector (F)"
            )
    return tuple(layer for layer in network.layers if layer in wanted)


def _image_error(name: str, reason: str) -> ImageError:
    """Return the error for an image that ends a strict search."""
    message = reason if name in reason else f"{name}: {reason}"
    return ImageError(
        f"{message}. Without {{option}} the image is skipped, counted and listed", option="strict=True"
    )


def _has_own_channels(layer: Layer) -> bool:
    """Return True if a layer has channels that no earlier layer has."""
    if layer.lacks_weights:
        return False
    return layer.has_channels and not layer.same_as and layer.kind not in ("Flatten", "Unflatten")
