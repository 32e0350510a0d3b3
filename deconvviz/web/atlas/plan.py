"""What an atlas contains: layers, channels, and the chunks in which they are projected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvviz.dataset_search.plan import decoding_in
from deconvviz.dataset_search.result import Search
from deconvviz.errors import SearchError, UnitError
from deconvviz.layers import Layer
from deconvviz.web.atlas.addresses import folders_of

TOP = 9
FORMAT = "deconvviz atlas 1"
SPOOL = 2**30  # bytes of projected peaks on disk for each chunk
MOST = 512  # channels of a chunk; with fewer, an image is recorded again for few peaks


@dataclass(frozen=True)
class LayerPlan:
    """Channels of one layer that get a page, and the chunks in which they are projected.

    A chunk is projected from a fixed list of peaks, in a fixed order. So the result depends neither on the
    number of processes nor on interruptions.
    """

    name: str
    folder: str
    channels: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]
    identity: Mapping[str, Any]  # what must be the same to continue this layer


@dataclass(frozen=True)
class Plan:
    """Layers of an atlas with k images for each channel."""

    layers: tuple[LayerPlan, ...]
    k: int
    identity: Mapping[str, Any]  # what must be the same to add a layer to an atlas

    @property
    def units(self) -> int:
        return sum(len(layer.channels) for layer in self.layers)


def plan(
    found: Search,
    layers: Iterable[str | Layer] | None,
    channels: int | None,
    top: int,
    existing: Iterable[str],
) -> Plan:
    """Return the plan of an atlas.

    Args:
        found: The search.
        layers: Layers or names of layers. None takes all.
        channels: Number of channels of each layer, those with the largest maximum. None takes all.
        top: Number of images for each channel.
        existing: Layers that the atlas contains already.

    Raises:
        SearchError: A layer was not searched, `top` is larger than what the search kept, or the search is of
            arrays and not of images.
        UnitError: `channels` or `top` is below 1.
        OutputError: Two layers would have the same folder.
    """
    if found.files.shape is not None:
        raise SearchError(
            f"an atlas shows images, but {found.manifest['network']['name']} reads arrays of shape "
            f"{found.files.shape}. Use topnine"
        )
    if channels is not None and channels < 1:
        raise UnitError(f"invalid number of channels {channels}: it must be 1 or more")
    if top < 1:
        raise UnitError(f"invalid number of images {top}: it must be 1 or more")
    if top > int(found.manifest["top"]):
        raise SearchError(
            f"cannot show the {top} strongest images: the search kept {found.manifest['top']}. Use fewer "
            "({option}), or search again",
            option=f"top={found.manifest['top']}",
        )
    names = list(
        dict.fromkeys(found.name_of(layer) for layer in (found.layers if layers is None else layers))
    )
    if not names:
        raise SearchError("no layer was given: name one or more that were searched")
    folders = folders_of([*existing, *names])
    k = min(top, found.kept)
    site = identity_of(found)
    return Plan(tuple(_layer_plan(found, name, folders[name], channels, k, site) for name in names), k, site)


def identity_of(found: Search) -> dict[str, Any]:
    """Return what describes a search apart from its layers."""
    network, source = found.manifest["network"], found.manifest["source"]
    return {
        "network": network["name"],
        "weights": network["digest"],
        "preprocessing": network["preprocessing"],
        "type of numbers": network["dtype"],
        **decoding_in(found.manifest),
        "images": source["digest"],
        "number of images": found.image_count,
    }


def _layer_plan(
    found: Search, name: str, folder: str, count: int | None, k: int, site: Mapping[str, Any]
) -> LayerPlan:
    total = found.layers[name]
    few = count is not None and count < total and len(found.dead(name)) < total
    chosen = sorted(found.choose(name, count)) if few and count is not None else list(range(total))[:count]
    room = max(1, min(MOST, SPOOL // max(1, k * _bytes_of_peak(found, name))))
    chunks = tuple(tuple(chosen[first : first + room]) for first in range(0, len(chosen), room))
    identity = {
        "format": FORMAT,
        **site,
        "layer": name,
        "images for each channel": k,
        "images that the search kept": found.kept,
        "channels": "all" if len(chosen) == total else len(chosen),
        "labels": (found.manifest.get("labels") or {}).get("digest"),
        "lacks": list(found.lacks),
    }
    return LayerPlan(name, folder, tuple(chosen), chunks, identity)


def _bytes_of_peak(found: Search, name: str) -> int:
    """Return how many bytes one projected peak of a layer takes: float32 pixels and an 8-bit patch."""
    import pyarrow.compute as pc

    height, width, colours = image_size(found.manifest)
    rows = found.peaks.filter(pc.equal(found.peaks.column("layer"), name))
    sides = []
    for low, high, whole in (("x0", "x1", width), ("y0", "y1", height)):
        lengths = pc.subtract(rows.column(high), rows.column(low)).fill_null(whole).to_numpy()
        sides.append(int(np.max(lengths, initial=1)))
    area = min(max(sides) ** 2, height * width)  # the patch is kept with its surroundings
    return sides[0] * sides[1] * colours * 4 + area * 3


def image_size(manifest: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (height, width, channels) of the network's input."""
    preprocessing = manifest["network"]["preprocessing"]
    crop: int | Sequence[int] = preprocessing["crop"]
    height, width = (crop, crop) if isinstance(crop, int) else crop
    return int(height), int(width), len(preprocessing["mean"])
