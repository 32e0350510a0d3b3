"""Run a plan of ``deconvviz project``: record, project and write the figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, paths_as_json, print_note, stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.likeness_notes import print_alike
from deconvviz.cli.support.notes import print_coverage, print_cut_fields, print_fewer_units, print_origin
from deconvviz.cli.support.project_plan import Job, NamedFiles, name_of
from deconvviz.cli.support.second_route import Verifier, print_verification
from deconvviz.cli.support.selection import Look
from deconvviz.likeness import PlaceLikeness
from deconvviz.printable_names import printable_path
from deconvviz.projection import Projection, Style, approximations
from deconvviz.trust_measures.drawn_likeness import likeness_of


def make_figures(
    job: Job,
    look: Look,
    *,
    force: bool,
    quiet: bool,
    memory: int | None = None,
    verify: bool = False,
    likeness: bool = True,
) -> list[dict[str, Any]]:
    """Write every figure of a plan. Return one JSON entry per figure.

    With `verify`, all projections are verified before the first figure is written, and kept until then.
    """
    name = job.request.spec.text
    with without_garbage_collection():
        import deconvviz.figures.page.save  # noqa: F401  # imports matplotlib early
    with stage(f"loading {name}", quiet=quiet):
        network = job.request.load(job.sketch)
    print_origin(network, name, quiet=quiet)
    detail_network(network, memory=memory)
    for page in job.pages:
        for name_of_class in page.classes:
            network.class_index(name_of_class)  # report unknown classes before the first figure is written
    layers = list(dict.fromkeys(page.layer for page in job.pages))
    print_coverage(network.coverage(layers), layers, quiet=quiet)
    written = []
    waiting: list[tuple[Projection, Path]] = []
    likenesses: dict[str, list[PlaceLikeness | None]] = {}
    style = look.style(Style())
    with counting(len(job.pages), quiet=quiet) as counter:
        verifier = Verifier(network, counter, len(job.pages)) if verify else None
        for image, pages in groupby(job.pages, key=lambda page: page.image):
            several = list(pages)
            given = image.given() if isinstance(image, NamedFiles) else image
            recording = network.record(given, [page.layer for page in several], scores=True)
            for one in recording.recorded_inputs:
                for note in one.images[0].notes if one.images else ():
                    print_note(f"{printable_path(one.images[0].path or name_of(image))}: {note}", quiet=quiet)
            for page in several:
                if verifier is None:
                    counter.step(f"{printable_path(name_of(image).name)} {page.layer.name}")
                projection = recording.project(page.layer, job.units(page, recording), memory=memory)
                if likeness:
                    alike = likeness_of(recording, projection, memory=memory)
                    projection = replace(projection, likeness=alike)
                likenesses.setdefault(page.layer.name, []).append(projection.likeness)
                if verifier is None:
                    written.append(save_figure(projection, page.target, style, look, force=force))
                else:
                    waiting.append((verifier(projection), page.target))
        written += [save_figure(one, target, style, look, force=force) for one, target in waiting]
    if verifier is not None:
        print_verification(verifier.found, quiet=quiet)
    for layer in layers:
        figures = [(one, len(one["units"])) for one in written if one["layer"] == layer.name]
        requested = [(count, one["asked"]) for one, count in figures if one["asked"] is not None]
        print_fewer_units(layer.name, requested, quiet=quiet)
        if job.can_avoid_border(layer):
            cut = [(one["cut_by_border"], count) for one, count in figures]
            print_cut_fields(layer.name, cut, quiet=quiet)
        print_alike(layer.name, likenesses[layer.name], quiet=quiet)
    return written


def print_checks(projection: Projection, *, quiet: bool) -> None:
    """Print the verification and the likeness of a projection, as far as they are known."""
    if projection.verification is not None:
        print_verification([projection.verification], quiet=quiet)
    print_alike(projection.layer.name, [projection.likeness], quiet=quiet)


def save_figure(
    projection: Projection, target: Path, style: Style, look: Look, *, force: bool
) -> dict[str, Any]:
    """Write one figure with its manifest. Return its JSON entry."""
    paths = projection.save(target, style, dpi=look.dpi, force=force, arrays=look.arrays)
    top, choice = projection.top_class(projection.image_indices[0]), projection.choice
    return {
        "picture": projection.image_name(projection.image_indices[0]),
        "layer": projection.layer.name,
        "files": paths_as_json(paths),
        "units": [
            {**unit.to_json(), "box": list(box)}
            for unit, box in zip(projection.units, projection.boxes, strict=True)
        ],
        "asked": None if choice is None else choice.asked,
        "passed_over": None if choice is None else choice.passed_over,
        "cut_by_border": projection.cut_fields,
        "top_class": None if top is None else top.to_json(),
        "by_analogy": approximations(projection.coverage),
        "likeness": None if projection.likeness is None else projection.likeness.to_json(),
        "verification": None if projection.verification is None else projection.verification.to_json(),
        **_inputs(projection),
    }


def _inputs(projection: Projection) -> dict[str, Any]:
    """Return the picture and the boxes in each of several inputs; empty for a network with one."""
    every = [projection.of_input(name) for name in projection.input_names] if projection.input_name else []
    found = [
        {
            "name": one.input_name,
            "picture": one.image_name(one.image_indices[0]) if one.is_picture else None,
            "boxes": [list(box) for box in one.boxes] if one.is_picture else None,
        }
        for one in every
    ]
    return {"inputs": found} if found else {}
