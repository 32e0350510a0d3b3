"""Run ``deconvviz correspond``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, stage
from deconvviz.cli.support.experiment_run import AskedNetwork, open_network
from deconvviz.experiments.correspondence import correspondence
from deconvviz.experiments.correspondence_parts import PartBox
from deconvviz.experiments.correspondence_result import Correspondence
from deconvviz.experiments.saving import SavedExperiment
from deconvviz.figures.spec.style import MeasuresStyle
from deconvviz.image_sources import open_source


@dataclass(frozen=True)
class Asked:
    """Options of the command."""

    network: AskedNetwork
    source: str
    parts: Sequence[PartBox] | Sequence[str]
    layers: tuple[str, ...]
    fill: str
    draws: int
    limit: int | None
    out: Path
    force: bool


def run(
    asked: Asked, format: str, dpi: float | None, *, columns: int | None, quiet: bool
) -> tuple[Correspondence, SavedExperiment]:
    """Compare the parts and write the files."""
    with stage(f"listing images in {asked.source}", quiet=quiet):
        source = open_source(asked.source, limit=asked.limit)
    network, layers = open_network(asked.network, asked.layers, projects=False, quiet=quiet)
    with counting(1, quiet=quiet) as counter:
        found = correspondence(
            network,
            source,
            asked.parts,
            layers,
            fill=asked.fill,
            draws=asked.draws,
            seed=asked.network.seed,
            report=counter.reach,
        )
    style = MeasuresStyle(columns)
    return found, found.save_into(asked.out, style, format=format, dpi=dpi, force=asked.force)


def as_json(found: Correspondence) -> dict[str, Any]:
    """Return the main results as plain JSON values."""
    return {
        "network": found.network.name,
        "layers": [layer.name for layer in found.layers],
        "parts": list(found.parts),
        "pictures": list(found.images),
        "rows": [asdict(row) for row in found.rows],
        "summary": found.sentences(),
    }
