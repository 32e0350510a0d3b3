"""Run ``deconvviz report``: record, project, compare, measure and write the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, print_note, stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.notes import print_coverage, print_origin
from deconvviz.cli.support.project_plan import name_of
from deconvviz.cli.support.report_plan import Asked
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.errors import RefusedOp, SearchError, UnitError
from deconvviz.images.discovery import STANDARD_INPUT, find_images
from deconvviz.images.image import InputImage
from deconvviz.images.input_files import InputFiles
from deconvviz.images.network_files import files_of
from deconvviz.images.standard_input import read_standard_input
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest, pick_device
from deconvviz.methods.compare import compare_units
from deconvviz.methods.comparison import Comparison
from deconvviz.methods.method import Subject, method
from deconvviz.network import Network
from deconvviz.printable_names import path_to_text, printable_path
from deconvviz.projection import Projection
from deconvviz.topnine.result import TopNine
from deconvviz.trust_measures.drawn_likeness import likeness_of
from deconvviz.trust_measures.result import Trust
from deconvviz.trust_measures.trust import LEAST_UNITS, trust
from deconvviz.web.report.report import report

COMPARED = 3
"""Number of units of an image and a layer that methods are compared for."""
MEASURED = 3
"""Number of units of each image that trust is measured for."""
STRONGEST = 9


def make_report(asked: Asked, *, memory: int | None, force: bool, quiet: bool) -> dict[str, Any]:
    """Write a report. Return its JSON entry. Mistakes are found before the weights are loaded."""
    request = ModelRequest.of(
        asked.model,
        asked.weights or "default",
        arguments=asked.arguments,
        seed=asked.seed,
        device=asked.device,
    )
    sketch = request.sketch()
    images = _images(asked.images, files_of(sketch.preprocessing, sketch.name))
    layers = list(dict.fromkeys(sketch.layers.find(name) for name in asked.layers))
    for layer in layers:
        _check_layer(layer)
    found = None
    if asked.search is not None:
        found = open_search(asked.search, device=str(pick_device(asked.device)))
        for layer in layers:
            found.name_of(layer)
    with stage(f"loading {asked.model}", quiet=quiet):
        network = request.load(sketch)
    if found is not None:
        _check_search(found, network, asked.search)
    print_origin(network, asked.model, quiet=quiet)
    detail_network(network, memory=memory)
    print_coverage(network.coverage(layers), layers, quiet=quiet)
    projections = _project(network, images, layers, asked.top, memory=memory, quiet=quiet)
    results: list[Any] = [*projections]
    if asked.methods:
        results += _compare(network, images, projections, asked.methods, quiet=quiet)
    if asked.trust:
        results += _measure(network, images, layers, asked, quiet=quiet)
    if found is not None:
        results += _strongest(found, network, projections, memory=memory, quiet=quiet)
    with stage("writing the report", quiet=quiet):
        path = report(
            results,
            asked.out,
            title=asked.title,
            notes=asked.notes,
            network=network,
            command=asked.command,
            force=force,
        )
    return {
        "report": path_to_text(path),
        "bytes": path.stat().st_size,
        "pictures": [path_to_text(name_of(image)) for image in images],
        "layers": [layer.name for layer in layers],
        "units": sum(len(one) for one in projections),
        "results": [type(one).__name__ for one in results],
    }


def _images(typed: Sequence[str], kind: InputFiles) -> list[Path | InputImage]:
    """Return the named images in their order, with the image on standard input for ``-``."""
    found: list[Path | InputImage] = []
    for one in typed:
        found += (
            [read_standard_input()] if one == STANDARD_INPUT else find_images([one], kind.suffixes, kind.noun)
        )
    return list(dict.fromkeys(found)) if all(isinstance(one, Path) for one in found) else found


def _check_layer(layer: Layer) -> None:
    """Raise an error if units of a layer cannot be projected."""
    if layer.unsupported:
        raise RefusedOp(f"{layer.name} cannot be projected: {layer.unsupported}")
    if not layer.has_channels:
        raise UnitError(
            f"{layer.name} has no units: it returns {' x '.join(map(str, layer.shape))} for an image"
        )


def _check_search(found: Search, network: Network, folder: Path | None) -> None:
    """Raise SearchError if a search was made with other weights."""
    searched = found.manifest["network"]
    if searched["digest"] != network.digest:
        raise SearchError(
            f"the search in {printable_path(folder or '')} was made with other weights: {searched['name']} "
            f"({searched['digest'][:19]} instead of {network.digest[:19]}). Search again with these weights, "
            "or leave {option} out",
            option="search=SEARCH_DIR",
        )


def _project(
    network: Network,
    images: Sequence[Path | InputImage],
    layers: Sequence[Layer],
    top: int,
    *,
    memory: int | None,
    quiet: bool,
) -> list[Projection]:
    """Return a projection for each image and layer, with its likeness."""
    found = []
    with counting(len(images) * len(layers), quiet=quiet) as counter:
        for image in images:
            recording = network.record(image, layers, scores=True)
            for note in recording.input_images[0].notes:
                print_note(f"{printable_path(name_of(image))}: {note}", quiet=quiet)
            for layer in layers:
                counter.step(f"{printable_path(name_of(image).name)} {layer.name}")
                units = recording.choose(layer, min(top, layer.shape[0]), apart=True)
                projection = recording.project(layer, units, memory=memory)
                likeness = likeness_of(recording, projection, memory=memory)
                found.append(replace(projection, likeness=likeness))
    return found


def _compare(
    network: Network,
    images: Sequence[Path | InputImage],
    projections: Sequence[Projection],
    methods: Sequence[str],
    *,
    quiet: bool,
) -> list[Comparison]:
    """Return a comparison of methods for the first units of each projection."""
    chosen, found = [method(name) for name in methods], []
    left_out: dict[str, str] = {}
    each = len(projections) // len(images)
    with counting(len(projections), quiet=quiet) as counter:
        for number, projection in enumerate(projections):
            image = images[number // each]
            counter.step(f"comparing methods: {printable_path(name_of(image).name)} {projection.layer.name}")
            subject = Subject.record(network, image, projection.layer, methods)
            compared = compare_units(subject, projection.units[:COMPARED], chosen)
            left_out.update(compared.left_out)
            found.append(compared)
    for name, reason in left_out.items():
        print_note(f"{name} is left out: {reason}", quiet=quiet)
    return found


def _measure(
    network: Network,
    images: Sequence[Path | InputImage],
    layers: Sequence[Layer],
    asked: Asked,
    *,
    quiet: bool,
) -> list[Trust]:
    """Return the trust measures of each layer, over all images."""
    names = tuple(dict.fromkeys(["deconvnet", *asked.methods]))
    units = max(LEAST_UNITS, min(MEASURED, asked.top))
    found = []
    with counting(len(layers), quiet=quiet) as counter:
        for number, layer in enumerate(layers):

            def reach(done: int, total: int, before: int = number, name: str = layer.name) -> None:
                counter.reach(before * total + done, len(layers) * total, f"measuring trust: {name}")

            try:
                found.append(trust(network, list(images), layer, units, names, asked.seed, reach))
            except UnitError as error:  # no image has two units above zero at one place
                print_note(f"trust is left out at {layer.name}: {error}", quiet=quiet)
    return found


def _strongest(
    found: Search,
    network: Network,
    projections: Sequence[Projection],
    *,
    memory: int | None,
    quiet: bool,
) -> list[TopNine]:
    """Return the strongest images of the channels of all projections; nothing if all of them are dead."""
    channels: dict[Layer, list[int]] = {}
    for one in projections:
        numbers = channels.setdefault(one.layer, [])
        numbers += [unit.channel for unit in one.units if unit.channel not in numbers]
    alive: Mapping[Layer, Sequence[int]] = {
        layer: some
        for layer, numbers in channels.items()
        if (some := [number for number in numbers if found.top(layer, number)])
    }
    if not alive:
        print_note("the search has no image of the channels that the report shows", quiet=quiet)
        return []
    with counting(1, quiet=quiet) as counter:
        best = found.project_channels(
            alive,
            k=min(STRONGEST, found.kept),
            memory=memory,
            network=network,
            report=counter.reach,
        )
    for note in best.notes:
        print_note(note, quiet=quiet)
    return [best]
