"""Run ``deconvviz maximise``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, print_note
from deconvviz.cli.support.experiment_run import AskedNetwork, open_network
from deconvviz.dataset_search.result import open_search
from deconvviz.engine.units import Unit
from deconvviz.experiments.inversion.maximisation_figure import MaximisationStyle
from deconvviz.experiments.inversion.maximisation_result import Maximisation
from deconvviz.experiments.inversion.maximise import maximise
from deconvviz.experiments.inversion.names import maximisation_file
from deconvviz.experiments.saving import SavedExperiment, refuse_files
from deconvviz.layers import Layer


@dataclass(frozen=True)
class AskedMaximisation:
    """Options of the command; `settings` are arguments of `maximise`."""

    network: AskedNetwork
    layer: str
    channels: list[int] | None
    units: Sequence[tuple[int, ...]]
    settings: Mapping[str, Any]
    search: Path | None
    allow_code: bool
    out: Path
    force: bool


def run(
    asked: AskedMaximisation, format: str, dpi: float | None, *, columns: int | None, quiet: bool
) -> tuple[Maximisation, SavedExperiment]:
    """Make the pictures and write the files."""

    def check(layers: list[Layer]) -> None:
        name = maximisation_file(layers[0].name)
        numbers = [f"{name}.parquet", f"{name}.npz"]
        refuse_files(asked.out, name, numbers, format=format, force=asked.force)

    network, (layer,) = open_network(asked.network, [asked.layer], projects=False, quiet=quiet, check=check)
    search = None
    if asked.search is not None:
        search = open_search(asked.search, device=str(network.device), allow_code=asked.allow_code)
    units = [Unit(0, *one) for one in asked.units] or None
    with counting(1, quiet=quiet) as counter:
        found = maximise(
            network,
            layer,
            asked.channels,
            units=units,
            search=search,
            **asked.settings,
            report=counter.reach,
        )
    for warning in found.warnings():
        print_note(warning, quiet=quiet)
    style = MaximisationStyle(columns)
    return found, found.save_into(asked.out, style, format=format, dpi=dpi, force=asked.force)


def as_json(found: Maximisation) -> dict[str, Any]:
    """Return the main results as plain JSON values."""
    described = found.describe()
    names = ("settings", "made_up", "searched", "summary", "warnings")
    return {
        "network": found.network.name,
        "layer": found.layer.name,
        **{name: described[name] for name in names},
    }
