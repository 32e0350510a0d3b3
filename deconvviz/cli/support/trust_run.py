"""Run ``deconvviz trust``: measure, and print a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deconvviz.cli.support.console import counting, print_note, print_table, print_text, stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.notes import print_coverage, print_origin
from deconvviz.cli.support.trust_plan import Asked
from deconvviz.dataset_search.result import open_search
from deconvviz.image_sources import open_source
from deconvviz.images.discovery import STANDARD_INPUT, find_images
from deconvviz.images.standard_input import read_standard_input
from deconvviz.loading import ModelRequest, pick_device
from deconvviz.network import Network
from deconvviz.trust_measures.result import OF_PARTS, SINGLE, Trust
from deconvviz.trust_measures.trust import trust
from deconvviz.wording import counted, listed


def measure(asked: Asked, model: str, *, quiet: bool) -> Trust:
    """Open the network and the images, measure, and print notes on what was left out."""
    network, images = _opened(asked, model, quiet=quiet)
    detail_network(network)
    layer = network.layers.find(asked.layer)
    print_coverage(network.coverage(layer), [layer], quiet=quiet)
    with counting(1, quiet=quiet) as counter:
        found = trust(
            network,
            images,
            layer,
            asked.top,
            asked.methods,
            asked.seed,
            counter.reach,
            limit=asked.limit,
        )
    for name, reason in (found.left_out or {}).items():
        print_note(f"{name} is left out: {reason}", quiet=quiet)
    if found.skipped:
        reasons = listed([f"{name}: {reason}" for name, reason in found.skipped])
        print_note(f"{counted(len(found.skipped), 'image')} skipped: {reasons}", quiet=quiet)
    return found


def _opened(asked: Asked, model: str, *, quiet: bool) -> tuple[Network, Any]:
    if (folder := asked.search) is not None:
        search = open_search(
            folder,
            weights=asked.weights,
            device=str(pick_device(asked.device)),
            allow_code=asked.allow_code,
        )
        search.name_of(asked.layer)
        with stage("loading the network of the search", quiet=quiet):
            return search.open_network(), search
    images: Any = [*_files(asked.images)] if asked.source is None else open_source(asked.source)
    request = ModelRequest.of(
        model, asked.weights or "default", arguments=asked.arguments, seed=asked.seed, device=asked.device
    )
    sketch = request.sketch()
    sketch.layers.find(asked.layer)
    with stage(f"loading {model}", quiet=quiet):
        network = request.load(sketch)
    print_origin(network, model, quiet=quiet)
    return network, images


def _files(typed: tuple[str, ...]) -> list[Any]:
    """Return the named images in their order, with the image on standard input for ``-``."""
    found: list[Any] = []
    for one in typed:
        found += [read_standard_input()] if one == STANDARD_INPUT else find_images([one])
    return found


def print_measures(found: Trust) -> None:
    """Print a table of the measures, with the baseline below each, and the three sentences."""
    every = list(found.measures.values())
    rows: list[tuple[str, ...]] = []
    for name in SINGLE:
        rows += _rows(name, [one[name] for one in every])
    if any(one["parts"] for one in every):
        rows.append(("parts read as", *((one["parts"] or {}).get("reading", "-") for one in every)))
        for name in OF_PARTS:
            rows += _rows(name, [(one["parts"] or {}).get(name) for one in every])
    rows.append(("weights shuffled", *(_plain(one["weights"]["cascading"][-1]["spearman"]) for one in every)))
    print_table(("measure", *found.measures), rows)
    print_text()
    for sentence in found.summary():
        print_text(sentence)


def _rows(name: str, measures: list[Mapping[str, Any] | None]) -> list[tuple[str, ...]]:
    """Return the row of a measure and that of its baseline."""
    return [
        (name, *("-" if one is None else _with_interval(one) for one in measures)),
        ("  baseline", *("-" if one is None else _plain(one["baseline"]) for one in measures)),
    ]


def _with_interval(one: Mapping[str, Any]) -> str:
    if one["low"] is None or one["high"] is None:
        return _plain(one["value"])
    return f"{_plain(one['value'])} [{one['low']:.2f}, {one['high']:.2f}]"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
