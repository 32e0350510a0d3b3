"""Notes about a network and its figures, printed on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deconvviz.cli.support.console import print_note
from deconvviz.wording import counted

if TYPE_CHECKING:
    from deconvviz.coverage import Coverage
    from deconvviz.layers import Layer
    from deconvviz.network import Network


def print_origin(network: Network, name: str = "", *, quiet: bool = False) -> None:
    """Print notes on the origin of a network and its weights. `name` is the name that the user typed."""
    for note in network.origin.notes:
        print_note(f"{name or network.name}: {note}", quiet=quiet)


def print_coverage(coverage: Coverage, layers: Sequence[Layer], *, quiet: bool) -> None:
    """Print which operations are approximate and which layers have zero projections."""
    if coverage.approximate:
        print_note(coverage.line(), quiet=quiet)
    for layer in layers:
        if layer.is_constant:
            print_note(f"{layer.name} {layer.field_text}", quiet=quiet)


def print_fewer_units(layer: str, counts: Sequence[tuple[int, int]], *, quiet: bool) -> None:
    """Print a note if figures of a layer show fewer units than requested.

    `counts` has one pair per figure: the number of shown units and the requested number.
    """
    fewer = [(shown, requested) for shown, requested in counts if shown < requested]
    if not fewer:
        return
    (shown, requested) = fewer[0]
    what = f"{counted(shown, 'unit')} instead of {requested}"
    if len(counts) > 1:
        what = f"fewer than {requested} units in {len(fewer)} of {len(counts)} figures"
    print_note(
        f"{layer}: {what}, because the others are too close to stronger ones (see --no-apart)", quiet=quiet
    )


def print_cut_fields(layer: str, counts: Sequence[tuple[int, int]], *, quiet: bool) -> None:
    """Print a note if the border cuts more than half of the receptive fields in a figure of a layer.

    `counts` has one pair per figure: the number of cut fields and the number of all fields.
    """
    most = [(cut, count) for cut, count in counts if 2 * cut > count]
    if not most:
        return
    (cut, count) = most[0]
    what = f"{cut} of {count} receptive fields are cut by the border"
    if len(counts) > 1:
        what = f"the border cuts most receptive fields in {len(most)} of {len(counts)} figures"
    print_note(f"{layer}: {what} (see --no-border)", quiet=quiet)
