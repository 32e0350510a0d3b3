"""Run ``deconvviz invert``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, print_note, stage
from deconvviz.cli.support.experiment_run import AskedNetwork, open_images, open_network
from deconvviz.experiments.inversion.inversion_figure import InversionStyle
from deconvviz.experiments.inversion.inversion_result import Inversion
from deconvviz.experiments.inversion.invert import invert
from deconvviz.experiments.inversion.names import inversion_file
from deconvviz.experiments.named_images import named_images
from deconvviz.experiments.saving import SavedExperiment, refuse_files
from deconvviz.figures.spec.style import PERCENTILE
from deconvviz.layers import Layer


@dataclass(frozen=True)
class AskedInversion:
    """Options of the command; `settings` are arguments of `invert`."""

    network: AskedNetwork
    images: Sequence[str]
    layer: str
    prior: str
    settings: Mapping[str, Any]
    out: Path
    force: bool


def run(
    asked: AskedInversion, format: str, dpi: float | None, *, percentile: float | None, quiet: bool
) -> tuple[Inversion, SavedExperiment]:
    """Invert the image and write the files."""
    with stage("reading the image", quiet=quiet):
        images = open_images(asked.images, quiet=quiet)

    def check(layers: list[Layer]) -> None:
        for one in named_images(images):
            name = inversion_file(one.name, layers[0].name, asked.prior)
            numbers = [f"{name}.parquet", f"{name}.npz"]
            refuse_files(asked.out, name, numbers, format=format, force=asked.force)

    network, (layer,) = open_network(asked.network, [asked.layer], projects=True, quiet=quiet, check=check)
    with counting(1, quiet=quiet) as counter:
        found = invert(network, images, layer, asked.prior, **asked.settings, report=counter.reach)
    for warning in found.warnings():
        print_note(warning, quiet=quiet)
    style = InversionStyle(PERCENTILE if percentile is None else percentile)
    return found, found.save_into(asked.out, style, format=format, dpi=dpi, force=asked.force)


def as_json(found: Inversion) -> dict[str, Any]:
    """Return the main results as plain JSON values."""
    described = found.describe()
    names = ("settings", "relative_error", "shown_error", "measures", "units", "warnings")
    return {
        "network": found.network.name,
        "layer": found.layer.name,
        "image": found.name,
        **{name: described[name] for name in names},
    }
