"""Carry out a plan of ``deconvviz project``: record, project, write the figures."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, stage, tell
from deconvviz.cli.support.notes import tell_coverage, tell_origin
from deconvviz.cli.support.options import DEFAULT_DPI
from deconvviz.cli.support.project_plan import Job
from deconvviz.cli.support.selection import Look
from deconvviz.projection import Projection, Style, analogies


def make_figures(
    job: Job, look: Look, *, force: bool, quiet: bool, memory: int | None = None
) -> list[dict[str, Any]]:
    """Make every figure of a job; return what was written, one entry for each."""
    name = job.request.spec.text
    with stage(f"loading {name}", quiet=quiet):
        network = job.request.load(job.sketch)
    tell_origin(network, name, quiet=quiet)
    for page in job.pages:
        for asked in page.classes:
            network.class_index(asked)  # an unknown class is reported before the first figure is written
    layers = list(dict.fromkeys(page.layer for page in job.pages))
    tell_coverage(network.coverage(layers), layers, quiet=quiet)
    written = []
    style = look.style(Style())
    with counting(len(job.pages), quiet=quiet) as counter:
        for picture, pages in groupby(job.pages, key=lambda page: page.picture):
            several = list(pages)
            recording = network.record(picture, [page.layer for page in several])
            for note in recording.pictures[0].notes:
                tell(f"{picture}: {note}", quiet=quiet)
            for page in several:
                counter.step(f"{picture.name} {page.layer.name}")
                projection = recording.project(page.layer, job.units(page, recording), memory=memory)
                written.append(save_figure(projection, page.target, style, look, force=force))
    return written


def save_figure(
    projection: Projection, target: Path, style: Style, look: Look, *, force: bool
) -> dict[str, Any]:
    """Write one figure with its manifest; return what was written, for --json."""
    dpi = DEFAULT_DPI if look.dpi is None else look.dpi
    paths = projection.save(target, style, dpi=dpi, force=force, arrays=look.arrays)
    return {
        "picture": projection.picture_name(projection.images[0]),
        "layer": projection.layer.name,
        "files": [str(path) for path in paths],
        "units": [
            {**asdict(unit), "box": list(box)}
            for unit, box in zip(projection.units, projection.boxes, strict=True)
        ],
        "by_analogy": analogies(projection.coverage),
    }
