"""Verify projections for ``--verify``: compute them a second time, show progress, print the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deconvviz.cli.support.console import Counter, counting, print_note
from deconvviz.methods.comparison import Comparison
from deconvviz.methods.verify import VERIFIED_METHODS, confirmed, verify
from deconvviz.network import Network
from deconvviz.projection import Projection
from deconvviz.verification.result import Verification
from deconvviz.wording import counted


class Verifier:
    """Verifies the projections of several figures, and shows how many units are verified.

    Args:
        network: The network of all projections.
        counter: Shows the progress.
        figures: Number of figures; each is expected to have as many units as the current one.
    """

    def __init__(self, network: Network, counter: Counter, figures: int) -> None:
        self._network, self._counter, self._figures = network, counter, figures
        self.found: list[Verification] = []

    def __call__(self, projection: Projection) -> Projection:
        """Return a projection with its verification. Raise VerificationError if it is not confirmed."""
        before = sum(one.units for one in self.found)
        expected = max(1, self._figures - len(self.found)) * len(projection)

        def report(done: int, count: int) -> None:
            self._counter.reach(before + done, before + expected, f"verifying {projection.layer.name}")

        found = confirmed(verify(self._network, projection, report=report), projection)
        self.found.append(found)
        return replace(projection, verification=found)


def verified_methods(network: Network, comparison: Comparison, *, quiet: bool) -> dict[str, Verification]:
    """Verify the maps of a comparison, and print what was verified.

    Only methods of the engine have a second computation. Raise VerificationError if a map is not confirmed.
    """
    names = [name for name in comparison.maps if name in VERIFIED_METHODS]
    with counting(1, quiet=quiet) as counter:
        verifier = Verifier(network, counter, len(names))
        for name in names:
            verifier(replace(comparison.projection, pixels=comparison.maps[name], method=name))
    print_verification(verifier.found, quiet=quiet)
    if others := [name for name in comparison.maps if name not in names]:
        print_note(f"not verified: {', '.join(others)} (there is no second computation)", quiet=quiet)
    return dict(zip(names, verifier.found, strict=True))


def print_verification(several: Sequence[Verification], *, quiet: bool) -> None:
    """Print how many projections were verified, by which route, and the largest difference."""
    found = Verification.together(several)
    if found.units:
        print_note(
            f"verified {counted(found.units, 'projection')} by {found.route}: largest relative difference "
            f"{found.largest_difference:.2g}",
            quiet=quiet,
        )
