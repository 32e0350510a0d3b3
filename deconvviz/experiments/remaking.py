"""Make the result of an experiment again from its manifest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from deconvviz.dataset_search.result import open_search
from deconvviz.errors import ManifestError
from deconvviz.experiments.correspondence import correspondence
from deconvviz.experiments.correspondence_parts import PartBox
from deconvviz.experiments.correspondence_result import OF as CORRESPONDENCE
from deconvviz.experiments.evolution.evolve import evolution
from deconvviz.experiments.evolution.result import FORMAT as EVOLUTION
from deconvviz.experiments.evolution.states import file_digest
from deconvviz.experiments.experiment_result import ExperimentResult
from deconvviz.experiments.filters import filters
from deconvviz.experiments.filters_result import OF as FILTERS
from deconvviz.experiments.invariance.result import FORMAT as INVARIANCE
from deconvviz.experiments.invariance.vary import invariance
from deconvviz.experiments.occlusion import occlusion
from deconvviz.experiments.occlusion_result import OF as OCCLUSION
from deconvviz.experiments.used_images import images_again
from deconvviz.figures.spec.style import DPI
from deconvviz.files import existing
from deconvviz.image_sources import reopen
from deconvviz.network import Network
from deconvviz.paths import path_as_written
from deconvviz.wording import listed

Json: TypeAlias = "Mapping[str, Any]"
Report: TypeAlias = "Callable[[int, int], None]"

TOLERANCE = 0.01
"""A number of the manifest must be made again with this relative or absolute accuracy (ours)."""


@dataclass(frozen=True)
class Again:
    """A manifest, and how to load the network that a part of it describes.

    `load` takes the description of a network, and the place of its weights if they are a checkpoint.
    """

    stored: Json
    path: Path
    load: Callable[[Json, str | None], Network]
    allow_code: bool = False
    report: Report | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the function that makes the result."""
        return {**self.stored["arguments"], "report": self.report}


def _evolution(again: Again) -> Any:
    files = [_checkpoint(one, again) for one in again.stored["checkpoints"]]
    network = again.load(again.stored["network"], files[-1])
    return evolution(network, files, reopen(again.stored["source"]), order="given", **again.arguments)


def _checkpoint(one: Json, again: Again) -> str:
    """Return the file of a checkpoint. Raises ManifestError if it is missing or has changed."""
    found, part = existing(one["file"], again.path.resolve().parent), ""
    if found is None and "#" in str(one["file"]["path"]):  # a part of a file
        split = {key: str(value).rpartition("#") for key, value in one["file"].items()}
        found = existing({key: value[0] for key, value in split.items()}, again.path.resolve().parent)
        part = "#" + split["path"][2]
    if found is None:
        raise ManifestError(
            f"the checkpoint {one['label']} of {again.path} no longer exists: it was "
            f"{path_as_written(one['file']['path'])}"
        )
    if file_digest(f"{found}{part}") != one["digest"]:
        raise ManifestError(
            f"the checkpoint {one['label']} of {again.path} has changed: {found} is not the "
            "file that was used"
        )
    return f"{found}{part}"


def _invariance(again: Again) -> Any:
    arguments = again.arguments
    arguments["ranges"] = {name: tuple(span) for name, span in arguments["ranges"].items()}
    network = again.load(again.stored["network"], None)
    return invariance(network, images_again(again.stored, again.path), **arguments)


def _filters(again: Again) -> Any:
    described = again.stored["source"]
    source = None if described is None else reopen(described)
    other = again.stored["against"]
    return filters(
        again.load(again.stored["network"], None),
        against=None if other is None else again.load(other, None),
        source=source,
        **again.arguments,
    )


def _occlusion(again: Again) -> Any:
    arguments = again.arguments
    if arguments["unit"] is not None:
        arguments["unit"] = tuple(arguments["unit"])
    network = again.load(again.stored["network"], None)
    images = images_again(again.stored, again.path)
    place = again.stored.get("search")
    if place is None and again.stored["others"]:
        raise ManifestError(
            f"{again.path} has projections from a search that was not saved: only the program that made it "
            "can make it again"
        )
    return occlusion(network, images, search=None if place is None else _search(place, again), **arguments)


def _search(place: Json, again: Again) -> Any:
    folders = [path_as_written(place["path"]), path_as_written(place["beside"], again.path.resolve().parent)]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise ManifestError(f"the search of {again.path} no longer exists: it was {folders[0]}")
    return open_search(found, allow_code=again.allow_code)


def _correspondence(again: Again) -> Any:
    arguments = again.arguments
    arguments["parts"] = [
        one if isinstance(one, str) else PartBox(one["image"], one["part"], tuple(one["box"]))
        for one in arguments["parts"]
    ]
    network = again.load(again.stored["network"], None)
    return correspondence(network, images_again(again.stored, again.path), **arguments)


@dataclass(frozen=True)
class _Experiment:
    """How one experiment is made again, and the numbers that are compared."""

    name: str
    make: Callable[[Again], ExperimentResult[Any, Any]]
    numbers: tuple[str, ...]


EXPERIMENTS: Mapping[str, _Experiment] = {
    EVOLUTION: _Experiment("evolution", _evolution, ("layers",)),
    INVARIANCE: _Experiment("invariance", _invariance, ("pictures", "transforms")),
    FILTERS: _Experiment("filters", _filters, ("filters", "projected")),
    OCCLUSION: _Experiment("occlusion", _occlusion, ("occlusion",)),
    CORRESPONDENCE: _Experiment("correspondence", _correspondence, ("correspondence",)),
}
"""Experiments by the format of their manifests."""


def make_again(again: Again) -> tuple[Any, Any, float]:
    """Return the result of an experiment with the style and the resolution of its figure.

    Raises:
        ManifestError: If the manifest is incomplete, a file is missing or has changed, or the numbers differ.
        SourceError: If the source of the images is missing or has changed.
    """
    experiment = EXPERIMENTS[str(again.stored["format"])]
    if "arguments" not in again.stored:
        raise ManifestError(
            f"{again.path} is of an older version, whose manifests of experiments do not have all arguments. "
            "Use the command again that made it"
        )
    found = experiment.make(again)
    _check(again, found.describe(), experiment)
    style = dict(again.stored.get("style") or {})
    dpi = float(style.pop("dpi", DPI["screen"]))
    of_figure = found.default_style
    known = set(style) == {one.name for one in fields(of_figure)}  # a report has the style of the spec
    return found, of_figure(**style) if known else of_figure(), dpi


def _check(again: Again, described: Json, experiment: _Experiment) -> None:
    """Raise ManifestError if the numbers of a result are not those of the manifest."""
    names = [[one["name"] for one in whole["pictures"]] for whole in (again.stored, described)
             if isinstance(whole.get("pictures"), list)]  # fmt: skip
    if len(names) == 2 and names[0] != names[1]:
        raise ManifestError(
            f"the images are not those of {again.path}: {listed(names[0])} then, {listed(names[1])} now"
        )
    for key in experiment.numbers:
        different = next(_differences(again.stored.get(key), described.get(key), key), None)
        if different is not None:
            versions = _versions(again.stored, described)
            raise ManifestError(f"the {experiment.name} differs from {again.path}: {different}{versions}")


def _differences(then: Any, now: Any, where: str) -> Iterator[str]:
    """Return numbers that differ, with their place in the manifest."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in now:
            yield from _differences(then.get(key), now[key], f"{where}.{key}")
    elif isinstance(then, list) and isinstance(now, (list, tuple)):
        if len(then) != len(now):
            yield f"{where} had {len(then)} entries and now has {len(now)}"
        for number, pair in enumerate(zip(then, now, strict=False)):
            yield from _differences(*pair, f"{where}[{number}]")
    elif isinstance(now, float):
        known = isinstance(then, (int, float))
        if not known or not math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{where} was {then} and is {now:.6g}"


def _versions(then: Json, now: Json) -> str:
    """Return which versions of packages have changed, as the end of a sentence."""
    changed = [
        f"{name} {then['versions'].get(name, 'unknown')} then and {version} now"
        for name, version in now["versions"].items()
        if then["versions"].get(name) != version
    ]
    return f". Versions differ: {listed(changed)}" if changed else ""
