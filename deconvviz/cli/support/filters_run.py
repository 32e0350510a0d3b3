"""Run ``deconvviz filters``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, print_note, stage
from deconvviz.cli.support.experiment_run import AskedNetwork, open_network
from deconvviz.experiments.filters import filters
from deconvviz.experiments.filters_result import Filters
from deconvviz.experiments.saving import SavedExperiment
from deconvviz.figures.spec.style import PERCENTILE, FiltersStyle
from deconvviz.image_sources import open_source
from deconvviz.wording import counted, listed


@dataclass(frozen=True)
class Asked:
    """Options of the command."""

    network: AskedNetwork
    layer: str | None
    against: str | None
    source: str | None
    limit: int | None
    second: str | None
    channels: int
    by_size: bool
    out: Path
    force: bool


def run(
    asked: Asked,
    format: str,
    dpi: float | None,
    *,
    percentile: float | None,
    medium: str | None,
    quiet: bool,
) -> tuple[Filters, SavedExperiment]:
    """Measure the filters and write the files."""
    named = [name for name in (asked.layer, asked.second) if name is not None]
    source = None
    if asked.source is not None:
        with stage(f"listing images in {asked.source}", quiet=quiet):
            source = open_source(asked.source, limit=asked.limit)
    network, _ = open_network(asked.network, named, projects=False, quiet=quiet)
    with counting(1, quiet=quiet) as counter:
        found = filters(
            network,
            asked.layer,
            against=asked.against,
            source=source,
            second=asked.second,
            count=asked.channels,
            by_size=asked.by_size,
            seed=asked.network.seed,
            report=counter.reach,
        )
    skipped = [one for bank in found.banks if bank.seen is not None for one in bank.seen.skipped]
    if skipped:
        reasons = listed([f"{name}: {reason}" for name, reason in skipped])
        print_note(f"{counted(len(skipped), 'image')} skipped: {reasons}", quiet=quiet)
    style = FiltersStyle(PERCENTILE if percentile is None else percentile, medium or "screen")
    return found, found.save_into(asked.out, style, format=format, dpi=dpi, force=asked.force)


def as_json(found: Filters) -> dict[str, Any]:
    """Return the main results as plain JSON values."""
    return {
        "network": found.network.name,
        "filters": [{"weights": bank.network.origin.short, **bank.to_json()} for bank in found.banks],
        "summary": found.sentences(),
    }
