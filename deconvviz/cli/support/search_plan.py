"""Plan ``deconvviz search``: everything is checked before weights are loaded."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from deconvviz.cli.support.early import check_folder
from deconvviz.dataset_search.plan import chosen_layers
from deconvviz.dataset_search.resume import check_free
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

    def drawable(self, searched: Container[str]) -> str:
        """The deepest searched convolution, or map, of which a figure can be made; else the deepest layer.

        Of ``all`` layers, those without weights are not searched.
        """
        there = [one for one in self.layers if one.name in searched]
        maps = [one for one in there if len(one.shape) == 3 and not one.unsupported and not one.is_constant]
        convolutions = [one for one in maps if one.kind == "Conv2d"]
        return (convolutions or maps or there)[-1].name


def plan(
    source: str | Source,
    layers: str | Sequence[str],
    request: ModelRequest,
    out: Path,
    *,
    limit: int | None,
    resume: bool,
    force: bool,
) -> SearchJob:
    """Check a whole command; layers with the shapes of the network alone."""
    sketch = request.sketch()
    sketch.preprocessing.check_reads_images(sketch.name)
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
