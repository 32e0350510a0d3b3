"""Descriptions of networks, searches and atlases for the front end, as plain JSON values."""

from __future__ import annotations

from typing import Any

from deconvviz.dataset_search.result import Search
from deconvviz.models.top_class import TopClass
from deconvviz.network import Network
from deconvviz.printable_names import printable
from deconvviz.web.explorer.atlas_pages import AtlasPages
from deconvviz.web.explorer.recordings import shown_layers


def described_network(net: Network) -> dict[str, Any]:
    """Return names, weights, classes and layers of a network."""
    rows, columns = net.preprocessing.shape[1:]
    alive = {layer.module for layer in shown_layers(net)}
    return {
        "name": net.name,
        "weights": net.origin.short,
        "trained": net.origin.trained,
        "size": [rows, columns],
        "classes": list(net.classes),
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "shape": list(layer.shape),
                "field": None if layer.field is None else list(layer.field),
                "stride": None if layer.stride is None else list(layer.stride),
                "offset": None if layer.offset is None else list(layer.offset),
                "text": str(layer),
                "usable": layer.module in alive,
                "reason": layer.unsupported,
            }
            for layer in net.layers
            if not layer.same_as
        ],
    }


def described_search(search: Search) -> dict[str, Any]:
    """Return the number of images and the layers of a search."""
    return {"images": search.image_count, "layers": search.layers}


def described_atlas(atlas: AtlasPages, networks: list[int]) -> dict[str, Any]:
    """Return the pages of an atlas, and the numbers of the networks that they are about."""
    return {"networks": networks, "pages": atlas.pages}


def scores_of(top: TopClass | None) -> list[dict[str, Any]]:
    """Return the strongest classes; none for a network without trained classes."""
    if top is None:
        return []
    return [
        {"name": printable(one.name), "probability": one.probability, "score": one.score}
        for one in (top, *top.others)
    ]
