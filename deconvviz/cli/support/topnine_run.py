"""Run ``deconvviz topnine``: project the peaks of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deconvviz.cli.support.console import counting, print_note, stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.likeness_notes import print_likeness
from deconvviz.cli.support.notes import print_coverage
from deconvviz.cli.support.second_route import print_verification
from deconvviz.dataset_search.result import Search
from deconvviz.likeness import PlaceLikeness
from deconvviz.methods.verify import confirmed
from deconvviz.methods.verify import verify as compute_again
from deconvviz.network import Network
from deconvviz.projection import Projection
from deconvviz.recording import Recording
from deconvviz.topnine.result import TopNine
from deconvviz.trust_measures.drawn_likeness import DrawnLikeness
from deconvviz.verification.result import Verification


def project_channels(
    found: Search,
    channels: Mapping[str, Sequence[int]],
    k: int,
    *,
    memory: int | None = None,
    quiet: bool,
    verify: bool = False,
    likeness: bool = True,
) -> TopNine:
    """Project the k strongest peaks of channels and print which operations are approximate.

    With `verify`, each projection is verified; with `likeness`, a sample is compared with other channels.
    """
    with stage(f"loading {found.manifest['network']['name']}", quiet=quiet):
        network = found.open_network()
    detail_network(network, memory=memory)
    chosen = {network.layers.find(name): numbers for name, numbers in channels.items()}
    layers = list(chosen)
    print_coverage(network.coverage(layers), layers, quiet=quiet)
    with counting(_image_count(found, channels, k), quiet=quiet) as counter:
        checks = _Checks(network, verify=verify, likeness=likeness, memory=memory)
        best = found.project_channels(
            chosen, k=k, memory=memory, network=network, report=counter.reach, on_projection=checks
        )
    best = replace(best, likeness=checks.likeness, verification=checks.verification)
    if best.verification is not None:
        print_verification([best.verification], quiet=quiet)
    for layer, alike in best.likeness.items():
        print_likeness(layer, alike, quiet=quiet)
    for note in best.notes:
        print_note(note, quiet=quiet)
    return best


class _Checks:
    """Verifies every projection, and compares a sample with other channels at the same places."""

    def __init__(self, network: Network, *, verify: bool, likeness: bool, memory: int | None) -> None:
        self._network = network
        self._verify, self._compare, self._memory = verify, likeness, memory
        self._verified: list[Verification] = []
        self._alike: dict[str, DrawnLikeness] = {}

    def __call__(self, recording: Recording, projection: Projection) -> None:
        if self._verify:
            self._verified.append(confirmed(compute_again(self._network, projection), projection))
        if self._compare:
            alike = self._alike.setdefault(projection.layer.name, DrawnLikeness())
            alike.add(recording, projection, memory=self._memory)

    @property
    def verification(self) -> Verification | None:
        return Verification.together(self._verified) if self._verify else None

    @property
    def likeness(self) -> dict[str, PlaceLikeness]:
        """The likeness of each layer, as far as units could be compared."""
        found = {layer: alike.result for layer, alike in self._alike.items()}
        return {layer: one for layer, one in found.items() if one is not None}


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
