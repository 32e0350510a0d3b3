"""Run ``deconvviz invariance``."""

from __future__ import annotations

import os
from typing import Any

from deconvviz.cli.support.console import counting, print_note, stage
from deconvviz.cli.support.experiment_run import AskedNetwork, open_images, open_network
from deconvviz.experiments.invariance.findings import mean_change
from deconvviz.experiments.invariance.result import Invariance
from deconvviz.experiments.invariance.vary import invariance
from deconvviz.image_sources import Source, open_source
from deconvviz.paths import SCENES, path_as_typed
from deconvviz.wording import counted, listed

_SOURCES = (SCENES, "hf:")
_FILES = (".zip", ".tar", ".txt", ".lst")


def run(
    asked: AskedNetwork, typed: list[str], layers: list[str] | None, *, quiet: bool, **options: Any
) -> Invariance:
    """Open the images and the network, and measure. `options` are arguments of `invariance`."""
    with stage("listing the images", quiet=quiet):
        images = _source(typed) or open_images(typed, quiet=quiet)
    network, found_layers = open_network(asked, layers or (), projects=False, quiet=quiet)
    with counting(1, quiet=quiet) as counter:
        found = invariance(network, images, found_layers or None, report=counter.reach, **options)
    if found.skipped:
        reasons = listed([f"{name}: {reason}" for name, reason in found.skipped])
        print_note(f"{counted(len(found.skipped), 'image')} skipped: {reasons}", quiet=quiet)
    return found


def _source(typed: list[str]) -> Source | None:
    """Return the source of images that was named, or None for files and standard input."""
    one = typed[0]
    whole = one.startswith(_SOURCES) or one.lower().endswith(_FILES) or os.path.isdir(path_as_typed(one))
    return open_source(one) if len(typed) == 1 and whole else None


def as_json(found: Invariance) -> dict[str, Any]:
    """Return the main results as plain JSON values."""
    return {
        "network": found.network.name,
        "layers": [layer.name for layer in found.layers],
        "pictures": [
            {"name": name, "class": found.class_name(number) or None}
            for number, name in enumerate(found.images)
        ],
        "transforms": [
            {
                "name": name,
                "amounts": found.amounts[name].tolist(),
                "mean_change": dict(
                    zip((layer.name for layer in found.layers), mean_change(found, name), strict=True)
                ),
            }
            for name in found.transforms
        ],
        "summary": found.summary(),
        "skipped": [{"image": name, "reason": reason} for name, reason in found.skipped],
    }
