"""Numbers of one channel, from which its page and the page of its layer are made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from deconvviz.dataset_search.result import Search
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.topnine.peak import Peak
from deconvviz.web.atlas.addresses import image_of
from deconvviz.web.atlas.likeness import Likeness
from deconvviz.web.atlas.relatives import SHOWN, Relatives
from deconvviz.web.atlas.tiles import Geometry, Tiles

FORMAT = "deconvviz atlas unit 1"
CLASSES = 5
"""Number of classes with the highest mean peak on a page."""

UnitNumbers: TypeAlias = Mapping[str, Any]


def numbers_of_unit(
    found: Search,
    layer: Layer,
    channel: int,
    classes: Sequence[str],
    peaks: Sequence[Peak],
    made: tuple[Tiles, Geometry] | None,
    likeness: Likeness | None,
    relatives: Relatives,
) -> dict[str, Any]:
    """Return the numbers of a channel as JSON values.

    `made` is None for a channel without peaks. `classes` are the names of
    the units of the layer if it is the output of the network, else empty.
    """
    facts = found.channels.slice(_row(found, layer.name) + channel, 1).to_pylist()[0]
    lacks = set(found.lacks)
    labels = {} if "labels" in lacks else found.labels
    boxes = made[0].boxes if made else ()
    shown = [
        {
            "rank": peak.rank,
            "image": peak.image_id,
            "activation": peak.activation,
            "y": peak.y,
            "x": peak.x,
            "box": peak.box,
            "crop": box,
            "label": labels.get(peak.image_id),
            "file": image_of(peak.image_id),
        }
        for peak, box in zip(peaks, boxes, strict=True)
    ]
    names = [one["label"] for one in shown if one["label"] is not None]
    return {
        "format": FORMAT,
        "network": found.manifest["network"]["name"],
        "weights": found.manifest["network"]["digest"],
        "layer": layer.name,
        "channel": channel,
        "class": classes[channel] if channel < len(classes) else None,
        "images": found.image_count,
        "peaks": shown,
        "tiles": None if made is None else _tiles(*made),
        **{name: facts[name] for name in ("maximum", "mean", "density", "dead")},
        "histogram": None if "histogram" in lacks else _histogram(found, layer.name, channel),
        "classes": Counter(names).most_common(),
        "purity": max(Counter(names).values()) / len(names) if names else None,
        "class_means": None if "class_means" in lacks else _highest_means(found, layer.name, channel),
        "similar": None if "similar" in lacks else _similar(found, layer.name, channel),
        "below": [one.to_json() for one in relatives.below(layer.name, channel)],
        "above": [one.to_json() for one in relatives.above(layer.name, channel)],
        "likeness": None if likeness is None else likeness.to_json(),
    }


def classes_of(network: Network, layer: Layer) -> Sequence[str]:
    """Return the names of the classes if the layer is the output of the network, else nothing."""
    last = network.layers[-1]
    is_output = not last.module and layer.name in (last.name, last.same_as)
    return network.classes if is_output else ()


def as_text(numbers: UnitNumbers) -> str:
    """Return numbers as one line of JSON in ASCII, which holds any name."""
    return json.dumps(numbers, separators=(",", ":"), allow_nan=False) + "\n"


def _row(found: Search, layer: str) -> int:
    """Return the row of a layer's first channel in the table of channels."""
    names = list(found.layers)
    return sum(found.layers[name] for name in names[: names.index(layer)])


def _tiles(tiles: Tiles, geometry: Geometry) -> dict[str, Any]:
    return {
        "width": geometry.width,
        "height": geometry.height,
        "cell": list(geometry.cell),
        "columns": geometry.columns,
        "scale": geometry.scale,
        "limit": tiles.limit.value,
        "percentile": tiles.limit.percentile,
        "clipped": tiles.limit.clipped,
    }


def _histogram(found: Search, layer: str, channel: int) -> dict[str, Any]:
    edges, counts = found.histogram(layer, channel)
    last = max((number for number, count in enumerate(counts) if count), default=0) + 1
    return {"start": float(edges[0]), "width": float(edges[1] - edges[0]), "counts": counts[:last].tolist()}


def _highest_means(found: Search, layer: str, channel: int) -> list[list[Any]]:
    means = found.class_means(layer, channel)
    ordered = sorted(means.items(), key=lambda one: (-one[1], one[0]))
    return [[label, mean] for label, mean in ordered[:CLASSES]]


def _similar(found: Search, layer: str, channel: int) -> list[dict[str, Any]]:
    return [
        {"channel": other, "similarity": round(similarity, 4)}
        for _, other, similarity in found.similar(layer, channel, SHOWN)
    ]
