"""Plan of ``deconvviz search``, checked before weights are loaded."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from deconvviz.cli.support.early import check_folder
from deconvviz.dataset_search.plan import check_scaled_decoding, chosen_layers
from deconvviz.dataset_search.resume import check_free
from deconvviz.image_sources import Source, open_source
from deconvviz.image_sources.batches import cores, usual_workers
from deconvviz.images.network_files import files_of
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest
from deconvviz.network import Network


@dataclass(frozen=True)
class SearchJob:
    """A network (shapes only), the layers to search and the opened source."""

    request: ModelRequest
    sketch: Network  # network without weights, used for the checks
    layers: tuple[Layer, ...]
    source: Source

    def drawable(self, searched: Container[str]) -> str:
        """Return the deepest searched layer that suits a figure.

        Convolutions are preferred, then other layers with feature maps. `searched` has the names of the
        layers that were searched: ``all`` leaves out layers without weights.
        """
        layers = [one for one in self.layers if one.name in searched]
        maps = [one for one in layers if len(one.shape) > 1 and not one.unsupported and not one.is_constant]
        convolutions = [one for one in maps if one.kind in ("Conv1d", "Conv2d", "Conv3d")]
        return (convolutions or maps or layers)[-1].name


def plan(
    source: str | Source,
    layers: str | Sequence[str],
    request: ModelRequest,
    out: Path,
    *,
    limit: int | None,
    resume: bool,
    force: bool,
    scaled_decoding: bool = False,
) -> SearchJob:
    """Check a command and return its plan. Needs only the shapes of the network."""
    sketch = request.sketch()
    files = files_of(sketch.preprocessing, sketch.name)
    if scaled_decoding:
        check_scaled_decoding(sketch.preprocessing, sketch.name)
    found = chosen_layers(sketch, layers)
    check_folder(out)
    check_free(out, resume=resume, force=force)
    opened = open_source(source, limit=limit, files=files)
    files.check_can_read(opened.names)
    return SearchJob(request, sketch, found, opened)


def spare_cores(workers: int | None, device: str) -> bool:
    """Return True if there are cores that neither read images nor run the network."""
    network = 1 if device == "cpu" else 0
    reading = usual_workers() if workers is None else workers
    return reading + network < cores() or (workers == 0 and cores() > 1)
