"""Project what a search found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deconvviz.cli.support.console import counting, stage, tell
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.notes import tell_coverage
from deconvviz.dataset_search.result import Search
from deconvviz.topnine.result import TopNine


def project_channels(
    found: Search, channels: Mapping[str, Sequence[int]], k: int, *, memory: int | None = None, quiet: bool
) -> TopNine:
    """Project the k strongest peaks of channels, after printing which operations are by analogy."""
    with stage(f"loading {found.manifest['network']['name']}", quiet=quiet):
        network = found.open_network()
    detail_network(network, memory=memory)
    found_layers = {network.layers.find(name): numbers for name, numbers in channels.items()}
    layers = list(found_layers)
    tell_coverage(network.coverage(layers), layers, quiet=quiet)
    with counting(_image_count(found, channels, k), quiet=quiet) as counter:
        best = found.project_channels(
            found_layers, k=k, memory=memory, network=network, report=counter.reach
        )
    for note in best.notes:
        tell(note, quiet=quiet)
    return best


def _image_count(found: Search, channels: Mapping[str, Sequence[int]], k: int) -> int:
    """Return how many images will be recorded."""
    return len(
        {
            peak.image_id
            for layer, numbers in channels.items()
            for number in numbers
            for peak in found.top(layer, number, min(k, found.kept))
        }
    )
