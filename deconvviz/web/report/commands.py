"""Command lines that make results again, from their descriptions."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from deconvviz.image_sources.opening import KINDS
from deconvviz.models.model_spec import ModelSpec, from_literals

Described: TypeAlias = "Mapping[str, Any]"
Words: TypeAlias = "list[str] | None"


def command_of(described: Described, places: Described, manifest: str) -> str | None:
    """Return the command line that makes a result again.

    Return None if there is no such command: the network or an image was made in Python, or this kind of
    result has no command.

    Args:
        described: Description of the result.
        places: Paths of its files, with the keys of `described`.
        manifest: Name of the manifest that the report offers as a file.
    """
    find = _FINDERS.get(str(described.get("format")))
    model = _model(described.get("network") or {}, places.get("network") or {})
    words = None if find is None or model is None else find(described, places, model, manifest)
    return None if words is None else shlex.join(["deconvviz", *words])


def _project(described: Described, places: Described, model: Sequence[str], manifest: str) -> Words:
    image, units = _image(described, places), described["units"]
    if image is None or not units:
        return None
    if any(unit["y"] is None for unit in units):  # a whole channel, or a unit without position
        return ["project", "--from", manifest, *_allow_code(places)]
    method = described.get("method", "deconvnet")
    name, methods = ("project", []) if method == "deconvnet" else ("compare", ["--methods", method])
    return [name, image, *model, "--layer", described["layer"]["name"], *methods, *_units(units)]


def _compare(described: Described, places: Described, model: Sequence[str], manifest: str) -> Words:
    image = _image(described, places)
    if image is None:
        return None
    names = [one["name"] for one in (*described["methods"], *described["left_out"])]
    layer = ["--layer", described["layer"]["name"], "--methods", ",".join(names)]
    named = ["--class", described["class"]] if described.get("class") else []
    return ["compare", image, *model, *layer, *_units(described["units"]), *named]


def _topnine(described: Described, places: Described, model: Sequence[str], manifest: str) -> Words:
    search = (places.get("search") or {}).get("path")
    layers = described["layers"]
    if search is None or len(layers) != 1:
        return None
    channels = [word for channel in layers[0]["channels"] for word in ("--channel", str(channel))]
    return ["topnine", str(Path(search).parent), "--layer", layers[0]["name"], *channels]


def _trust(described: Described, places: Described, model: Sequence[str], manifest: str) -> Words:
    source = places.get("source")
    if source is None or source in described["pictures"]:  # the name of an image without its folder
        return None
    settings = described["settings"]
    options = ["--layer", described["layer"]["name"], "--methods", ",".join(settings["methods"])]
    return ["trust", str(source), *model, *options, "--top", str(settings["k"])]


def _experiment(described: Described, places: Described, model: Sequence[str], manifest: str) -> Words:
    if "arguments" not in described:
        return None
    source = described.get("source")
    if source is not None and source["kind"] not in KINDS:
        return None
    pictures = described.get("pictures")
    if source is None and isinstance(pictures, list):
        files = places.get("pictures") or [{}] * len(pictures)
        if any(
            one["scene"] is None and file.get("path") is None
            for one, file in zip(pictures, files, strict=True)
        ):
            return None
    if described.get("others") and "search" not in places:
        return None
    return ["remake", manifest, *_allow_code(places)]


def _allow_code(places: Described) -> list[str]:
    return ["--allow-code"] if (places.get("network") or {}).get("model") else []


_FINDERS: dict[str, Callable[[Described, Described, Sequence[str], str], Words]] = {
    "deconvviz manifest 1": _project,
    "deconvviz comparison 1": _compare,
    "deconvviz topnine 1": _topnine,
    "deconvviz trust 1": _trust,
    "deconvviz evolution 1": _experiment,
    "deconvviz invariance 1": _experiment,
    "deconvviz filters 1": _experiment,
    "deconvviz occlusion 1": _experiment,
    "deconvviz correspondence 1": _experiment,
}
"""Formats of descriptions for which there is a command."""


def _model(network: Described, places: Described) -> list[str] | None:
    """Return the options that name a network; None if it was made in Python."""
    model, weights = network.get("model"), network.get("weights")
    if model is None or weights is None:
        return None
    file = (places.get("model") or {}).get("file") or {}
    path = Path(file["path"]) if file.get("path") else None
    spec = ModelSpec(model["registry"], model["name"], from_literals(model["arguments"]), path)
    chosen = [] if weights == "default" else ["--weights", weights]
    seed = ["--seed", str(network["seed"])] if network.get("seed") else []
    return [*shlex.split(spec.options), *chosen, *seed]


def _image(described: Described, places: Described) -> str | None:
    """Return the path of the only image; None if there are several, or it has no path."""
    images = places.get("pictures") or ()
    used = {unit["image"] for unit in described["units"]}
    if len(used) != 1 or len(images) <= max(used):
        return None
    path = images[used.pop()].get("path")
    return None if path is None else str(path)


def _units(units: Sequence[Described]) -> list[str]:
    words = []
    for unit in units:
        place = [] if unit["y"] is None else [unit["y"], unit["x"]]
        words += ["--unit", ",".join(map(str, [unit["channel"], *place]))]
    return words
