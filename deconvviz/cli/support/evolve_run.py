"""Run ``deconvviz evolve``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from deconvviz.cli.support.console import counting, print_message, print_note, stage
from deconvviz.cli.support.exit_codes import INTERRUPTED
from deconvviz.cli.support.notes import print_coverage
from deconvviz.experiments.evolution.content import EvolutionStyle
from deconvviz.experiments.evolution.evolve import UNFINISHED, evolution
from deconvviz.experiments.evolution.result import Evolution
from deconvviz.experiments.saving import SavedExperiment
from deconvviz.figures.spec.style import PERCENTILE
from deconvviz.image_sources import open_source
from deconvviz.loading import ModelRequest
from deconvviz.wording import counted, listed

SEARCHES = "evolution-searches"
"""Folder for the searches of an evolution that is not finished."""


@dataclass(frozen=True)
class Asked:
    """Options of the command that affect the numbers."""

    files: tuple[str, ...]
    source: str
    layers: tuple[str, ...]
    model: str
    arguments: Mapping[str, Any]
    channels: int | tuple[int, ...]
    by: str
    measured: int
    seed: int
    limit: int | None
    out: Path
    resume: bool
    batch_size: int
    workers: int | None
    memory: int | None
    device: str
    force: bool


def run(
    asked: Asked,
    format: str,
    dpi: float | None,
    *,
    columns: int,
    percentile: float | None,
    crop: str | None,
    quiet: bool,
) -> tuple[Evolution, SavedExperiment]:
    """Compute an evolution and write its files."""
    style = EvolutionStyle(
        columns, percentile=PERCENTILE if percentile is None else percentile, crop=crop or "effective"
    )
    request = ModelRequest.of(asked.model, asked.files[0], arguments=asked.arguments, device=asked.device)
    sketch = request.sketch()
    layers = [sketch.layers.find(name) for name in asked.layers]
    with stage(f"listing images in {asked.source}", quiet=quiet):
        images = open_source(asked.source, limit=asked.limit)
    print_coverage(sketch.coverage(layers), layers, quiet=quiet)
    with counting(1, quiet=quiet) as counter, _telling_how_to_resume(asked):
        found = evolution(
            request,
            asked.files,
            images,
            layers,
            channels=asked.channels,
            by=asked.by,
            seed=asked.seed,
            measured=asked.measured,
            order="given",  # the files are in order
            batch_size=asked.batch_size,
            workers=asked.workers,
            memory=asked.memory,
            searches=asked.out / SEARCHES,
            resume=asked.resume,
            report=counter.reach,
        )
    written = found.save_into(asked.out, style, format=format, dpi=dpi, force=asked.force)
    shutil.rmtree(asked.out / SEARCHES, ignore_errors=True)
    if found.skipped:
        reasons = listed([f"{name}: {reason}" for name, reason in found.skipped])
        print_note(f"{counted(len(found.skipped), 'image')} skipped: {reasons}", quiet=quiet)
    return found, written


@contextmanager
def _telling_how_to_resume(asked: Asked) -> Iterator[None]:
    """If the evolution is interrupted, print how to resume it."""
    try:
        yield
    except KeyboardInterrupt:
        done = len(list((asked.out / SEARCHES).glob("*.npz")))
        begun = any((asked.out / SEARCHES).glob(f"*{UNFINISHED}"))
        if not done and not begun:
            raise
        also = ", and a part of the images with another one" if begun else ""
        count = counted(len(asked.files), "checkpoint")
        print_message(
            f"deconvviz: interrupted: {done} of {count} are searched{also}. Continue with the same command "
            "and --resume"
        )
        raise typer.Exit(INTERRUPTED) from None


def as_json(found: Evolution) -> dict[str, Any]:
    """Return the main results as plain JSON values."""
    return {
        "network": found.network.name,
        "pictures": found.images,
        "checkpoints": list(found.checkpoints),
        "layers": [
            {
                "name": layer.name,
                "channels": list(found.channels.shown[layer.name]),
                "settled": found.settled[layer.name],
                "median": found.medians[layer.name],
                "dead": found.of_layers("dead")[layer.name],
                "cka": found.of_layers("cka")[layer.name],
            }
            for layer in found.layers
        ],
        "summary": found.summary(),
        "skipped": [{"image": name, "reason": reason} for name, reason in found.skipped],
    }
