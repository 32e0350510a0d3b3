"""What a search is going to do, checked whole before the first picture is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import ImageError, LayerError, SearchError, SourceError
from deconvviz.image_sources import Source
from deconvviz.image_sources.batches import Batches
from deconvviz.layers import Layer
from deconvviz.network import Network

ALL = "all"
TOP = 9
BATCH_SIZE = 32


@dataclass(frozen=True)
class Plan:
    """A network, some of its layers, a source of pictures, and how many peaks of each channel are kept."""

    network: Network
    layers: tuple[Layer, ...]  # in the order in which they are ready
    source: Source
    top: int
    batch_size: int
    strict: bool = False  # whether a picture that cannot be read ends the search

    @property
    def channels(self) -> int:
        """N, of all layers together."""
        return sum(layer.shape[0] for layer in self.layers)

    @cached_property
    def batches(self) -> Batches:
        return Batches(self.source, self.network.preprocessing, self.batch_size)

    def empty(self) -> Top:
        double = str(self.network.dtype) == "torch.float64"
        kept = min(self.top, len(self.source))
        return Top.empty(self.channels, kept, np.float64 if double else np.float32)

    def check_strict(self, skipped: Mapping[int, str]) -> None:
        """Raise ImageError for a picture that is no good, where that is to end the search."""
        if skipped and self.strict:
            number = min(skipped)
            raise _no_good(self.source.names[number], skipped[number])

    def check_listed(self) -> None:
        """The same for one that was no good when the pictures were listed."""
        if self.source.skipped and self.strict:
            raise _no_good(*self.source.skipped[0])

    def identity(self) -> dict[str, Any]:
        """What must be the same for a search to be gone on with."""
        network = self.network
        return {
            "network": network.name,
            "weights": network.digest,
            "preprocessing": network.preprocessing.to_json(),
            "type of numbers": str(network.dtype).removeprefix("torch."),
            "layers": [layer.module for layer in self.layers],
            "top": self.top,
            "batch size": self.batch_size,
            "source": self.source.digest,
        }


def plan(
    network: Network,
    source: Source,
    layers: str | Layer | Iterable[str | Layer],
    *,
    top: int = TOP,
    batch_size: int = BATCH_SIZE,
    strict: bool = False,
) -> Plan:
    """Check a whole search. `layers`: names, or ``all``.

    Raises LayerError, SearchError, SourceError, ImageError.
    """
    network.preprocessing.check_reads_images(network.name)
    if top < 1:
        raise SearchError(
            f"the {top} strongest pictures were asked for: ask for 1 or more ({{option}})", option="top=N"
        )
    if batch_size < 1:
        raise SearchError(
            f"batches of {batch_size} pictures were asked for: ask for 1 or more ({{option}})",
            option="batch_size=N",
        )
    if not len(source):
        raise SourceError(f"no pictures in {source.place}")
    found = chosen_layers(network, layers)
    return Plan(network, found, source, top, min(batch_size, len(source)), strict)


def chosen_layers(network: Network, layers: str | Layer | Iterable[str | Layer]) -> tuple[Layer, ...]:
    """The layers of these names in the order in which they are ready; of ``all``, each tensor once."""
    asked = [layers] if isinstance(layers, (str, Layer)) else list(layers)
    if not asked:
        raise LayerError("no layer was asked for: name one or more, or all (net.layers lists them)")
    if ALL in asked:
        return tuple(layer for layer in network.layers if _is_of_its_own(layer))
    wanted = {network.layers.find(name) for name in asked}
    for layer in wanted:
        if not layer.has_channels:
            told = " x ".join(map(str, layer.shape))
            raise LayerError(
                f"{layer.name} gives {told} for a picture; channels are those of a map (C, H, W), or the "
                "entries of a vector (F)"
            )
    return tuple(layer for layer in network.layers if layer in wanted)


def _no_good(name: str, reason: str) -> ImageError:
    told = reason if name in reason else f"{name}: {reason}"
    return ImageError(
        f"{told} (without {{option}} it is counted, listed and left out)", option="strict=True"
    )


def _is_of_its_own(layer: Layer) -> bool:
    """Whether a layer has channels that no layer before it has."""
    if layer.lacks_weights:
        return False
    return layer.has_channels and not layer.same_as and layer.kind not in ("Flatten", "Unflatten")
