"""What ``deconvviz search`` is going to do, checked whole before any weights are fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deconvviz.cli.support.project_plan import check_folder
from deconvviz.dataset_search.plan import chosen_layers
from deconvviz.dataset_search.resume import check_free
from deconvviz.errors import SearchError
from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.batches import cores, usual_workers
from deconvviz.layers import Layer
from deconvviz.loading import load, pick_device, sketch
from deconvviz.models.model_spec import parse
from deconvviz.network import Network


@dataclass(frozen=True)
class SearchJob:
    """A network that is known by its shapes, some of its layers, and an opened source."""

    model: str
    weights: str
    seed: int
    device: str
    arguments: Mapping[str, Any]
    layers: tuple[Layer, ...]
    source: Source
    loaded: Network | None  # of a file of the user's own: its code is run once

    def load(self) -> Network:
        if self.loaded is not None:
            return self.loaded
        return load(self.model, self.weights, arguments=self.arguments, seed=self.seed, device=self.device)

    @property
    def drawable(self) -> str:
        """The deepest convolution, or map, of which a figure can be made; else the deepest layer."""
        maps = [one for one in self.layers if len(one.shape) == 3 and not one.refused and not one.held]
        convolutions = [one for one in maps if one.kind == "Conv2d"]
        return (convolutions or maps or self.layers)[-1].name


def plan(
    source: str,
    layers: str | Sequence[str],
    model: str,
    weights: str,
    seed: int,
    arguments: Mapping[str, Any],
    out: Path,
    device: str,
    *,
    limit: int | None,
    engine: str,
    resume: bool,
    force: bool,
) -> SearchJob:
    """Check a whole command; the layers on the network's shapes alone."""
    if engine == "ray" and find_spec("ray") is None:
        raise SearchError("the engine ray needs Ray: pip install 'deconvviz[ray]'")
    place = str(pick_device(device))
    loaded = None
    if parse(model, arguments).runs_code:
        loaded = load(model, weights, arguments=arguments, seed=seed, device=place)
    network = loaded or sketch(model, arguments)
    network.preprocessing.check_reads_pictures(network.name)
    found = chosen_layers(network, layers)
    check_folder(out)
    check_free(out, resume=resume, force=force)
    opened = open_source(source, limit=limit)
    return SearchJob(model, weights, seed, place, arguments, found, opened, loaded)


def spare_cores(workers: int | None, device: str) -> bool:
    """Whether there are cores that neither read pictures nor run the network."""
    network = 1 if device == "cpu" else 0
    reading = usual_workers() if workers is None else workers
    return reading + network < cores() or (workers == 0 and cores() > 1)
