"""Run ``deconvviz occlude``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.cli.support.console import counting, print_note, print_text, stage
from deconvviz.cli.support.experiment_run import AskedNetwork, open_images, open_network
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.experiments.named_images import named_images
from deconvviz.experiments.occlusion import occlusion
from deconvviz.experiments.occlusion_result import Occlusion, figure_name, file_names
from deconvviz.experiments.saving import SavedExperiment, refuse_files
from deconvviz.figures.spec.style import PERCENTILE, OcclusionStyle
from deconvviz.layers import Layer
from deconvviz.network import Network


@dataclass(frozen=True)
class Asked:
    """Options of the command."""

    network: AskedNetwork
    images: tuple[str, ...]
    layer: str
    size: float
    stride: float
    class_name: str | None
    fill: str
    channel: int | None
    unit: tuple[int, int, int] | None
    phases: int
    compare_fills: bool
    search: Path | None
    allow_code: bool
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
) -> tuple[Occlusion, SavedExperiment]:
    """Measure the images and write the files."""
    with stage("reading the images", quiet=quiet):
        images = open_images(asked.images, quiet=quiet)

    def check(layers: list[Layer]) -> None:
        names = file_names([one.name for one in named_images(images)], layers[0].name)
        arrays = [f"{name}.npz" for name in names]
        figure = figure_name(names, layers[0].name)
        refuse_files(asked.out, figure, arrays, format=format, force=asked.force)

    network, (layer,) = open_network(asked.network, [asked.layer], projects=True, quiet=quiet, check=check)
    search = None if asked.search is None else _search(asked, network, layer.name)
    with counting(1, quiet=quiet) as counter:
        found = occlusion(
            network,
            images,
            layer,
            size=asked.size,
            stride=asked.stride,
            class_name=asked.class_name,
            fill=asked.fill,
            channel=asked.channel,
            unit=asked.unit,
            phases=asked.phases,
            compare_fills=asked.compare_fills,
            search=search,
            seed=asked.network.seed,
            report=counter.reach,
        )
    for warning in found.warnings():
        print_note(warning, quiet=quiet)
    style = OcclusionStyle(PERCENTILE if percentile is None else percentile, medium or "screen")
    return found, found.save_into(asked.out, style, format=format, dpi=dpi, force=asked.force)


def _search(asked: Asked, network: Network, layer: str) -> Search:
    assert asked.search is not None
    search = open_search(asked.search, device=str(network.device), allow_code=asked.allow_code)
    search.name_of(layer)
    return search


def as_json(found: Occlusion) -> dict[str, Any]:
    """Return the main results as plain JSON values."""
    return {
        "network": found.network.name,
        "layer": found.layer.name,
        "fill": found.fill,
        "other_fill": found.other_fill,
        "images": [one.to_json(found.network.classes) for one in found.images],
        "warnings": found.warnings(),
    }


def print_results(found: Occlusion) -> None:
    """Print what happens to each image."""
    for one in found.images:
        for line in _lines(one.to_json(found.network.classes)):
            print_text(line)


def _lines(facts: dict[str, Any]) -> Sequence[str]:
    low = facts["lowest_activity"]
    what = "unit" if facts["unit"] else "channel"
    lines = [
        f"{facts['image']}: activity of {what} {facts['channel']} {facts['activity']:.4g}, lowest "
        f"{low['value']:.4g} with the square at y {low['y']}, x {low['x']}"
    ]
    if "probability" in facts:
        low = facts["lowest_probability"]
        lines.append(
            f"  {facts['class']}: probability {facts['probability']:.3g}, lowest {low['value']:.3g} with the "
            f"square at y {low['y']}, x {low['x']}, where the most probable class is {low['top_class']}"
        )
    agreement = {name: value for name, value in facts["agreement"].items() if value is not None}
    if agreement:
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in agreement.items())
        lines.append(f"  rank correlation with the other fill: {numbers}")
    return lines
