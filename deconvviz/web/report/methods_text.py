"""A paragraph about the methods, to copy into a paper, and what is approximate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deconvviz.version import __version__
from deconvviz.web.report.words import all_of
from deconvviz.wording import counted


def paragraph(described: Sequence[Mapping[str, Any]]) -> str:
    """Return the paragraph for results with these descriptions. It ends with the reference."""
    parts = [_projected(described), _chosen(described)]
    methods = dict.fromkeys(
        f"{one['title']} ({one['source']})"
        for result in described
        for one in result.get("methods") or ()
        if one.get("name") != "deconvnet"
    )
    if methods:
        parts.append(f"For comparison, the same units were explained by {all_of(list(methods))}.")
    parts.append("Projections are signed; mid-grey is zero.")
    return " ".join(filter(None, parts))


def approximations(described: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the approximate operations of all results as text, each once."""
    found = dict.fromkeys(
        f"{use['op']}: {use['how']}" for result in described for use in result.get("by_analogy") or ()
    )
    return tuple(found)


def _projected(described: Sequence[Mapping[str, Any]]) -> str:
    networks = dict.fromkeys(_network(one["network"]) for one in described if one.get("network"))
    versions: Mapping[str, Any] = next((one["versions"] for one in described if one.get("versions")), {})
    torch = f", PyTorch {versions['torch']}" if "torch" in versions else ""
    of = f" of {all_of(list(networks))}" if networks else ""
    return (
        f"Units{of} were projected back to pixels with a deconvolutional network (Zeiler and Fergus, 2014), "
        f"as implemented in deconvviz {versions.get('deconvviz', __version__)}{torch}: one activation is "
        "kept, all others are set to zero, and the signal passes the transposed operations of the network in "
        "reverse order. Max pooling puts values back at the positions of the maxima, and a ReLU rectifies "
        "the signal."
    )


def _network(network: Mapping[str, Any]) -> str:
    source = str(network.get("source", "")).replace("\\", "/").rpartition("/")[2]
    return f"{network.get('name')} (weights {source}, {str(network.get('digest'))[:19]})"


def _chosen(described: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence about the selection of units, where all selections are of one kind."""
    found = [one for one in described if one.get("selection") and one.get("layer")]
    if not found:
        return ""
    counts = {one["selection"]["asked"] for one in found}
    layers = list(dict.fromkeys(one["layer"]["name"] for one in found))
    if len(counts) != 1:
        return ""
    (count,) = counts
    apart = all(one["selection"]["apart"] for one in found)
    skipped = (
        " A unit was skipped if the centre of its receptive field lies within half a field of that of a "
        "stronger unit."
        if apart
        else ""
    )
    return (
        f"At {all_of(layers)}, the units are the strongest units of different channels in each image, at "
        f"most {counted(count, 'unit')} of an image.{skipped}"
    )
