"""Plan ``deconvviz search``: everything is checked before weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from deconvviz.cli.support.project_plan import check_folder
from deconvviz.dataset_search.plan import chosen_layers
from deconvviz.dataset_search.resume import check_free
from deconvviz.errors import SearchError
from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.batches import cores, usual_workers
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest
from deconvviz.network import Network


@dataclass(frozen=True)
class SearchJob:
    """A network that is known by its shapes, some of its layers, and an opened source."""

    request: ModelRequest
    sketch: Network  # what the command was checked with
    layers: tuple[Layer, ...]
    source: Source

    @property
    def drawable(self) -> str:
        """The deepest convolution, or map, of which a figure can be made; else the deepest layer."""
        maps = [one for one in self.layers if len(one.shape) == 3 and not one.refused and not one.held]
        convolutions = [one for one in maps if one.kind == "Conv2d"]
        return (convolutions or maps or self.layers)[-1].name


def plan(
    source: str,
    layers: str | Sequence[str],
    request: ModelRequest,
    out: Path,
    *,
    limit: int | None,
    engine: str,
    resume: bool,
    force: bool,
) -> SearchJob:
    """Check a whole command; layers with the shapes of the network alone."""
    if engine == "ray" and find_spec("ray") is None:
        raise SearchError("the engine ray needs Ray: pip install 'deconvviz[ray]'")
    sketch = request.sketch()
    sketch.preprocessing.check_reads_pictures(sketch.name)
    found = chosen_layers(sketch, layers)
    check_folder(out)
    check_free(out, resume=resume, force=force)
    opened = open_source(source, limit=limit)
    return SearchJob(request, sketch, found, opened)


def spare_cores(workers: int | None, device: str) -> bool:
    """Whether there are cores that neither read pictures nor run the network."""
    network = 1 if device == "cpu" else 0
    reading = usual_workers() if workers is None else workers
    return reading + network < cores() or (workers == 0 and cores() > 1)
