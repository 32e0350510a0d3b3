"""Run ``deconvviz topnine``: project the peaks of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deconvviz.cli.support.console import counting, print_note, stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.notes import print_coverage
from deconvviz.dataset_search.result import Search
from deconvviz.topnine.result import TopNine


def project_channels(
    found: Search, channels: Mapping[str, Sequence[int]], k: int, *, memory: int | None = None, quiet: bool
) -> TopNine:
    """Project the k strongest peaks of channels and print which operations are approximate."""
    with stage(f"loading {found.manifest['network']['name']}", quiet=quiet):
        network = found.open_network()
    detail_network(network, memory=memory)
    chosen = {network.layers.find(name): numbers for name, numbers in channels.items()}
    layers = list(chosen)
    print_coverage(network.coverage(layers), layers, quiet=quiet)
    with counting(_image_count(found, channels, k), quiet=quiet) as counter:
        best = found.project_channels(chosen, k=k, memory=memory, network=network, report=counter.reach)
    for note in best.notes:
        print_note(note, quiet=quiet)
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
