"""What a command says about a network before it uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deconvviz.cli.support.console import tell

if TYPE_CHECKING:
    from deconvviz.coverage import Coverage
    from deconvviz.layers import Layer
    from deconvviz.network import Network


def tell_origin(network: Network, name: str = "", *, quiet: bool = False) -> None:
    """Print the notes on where a network and its weights come from; `name` is what the user called it."""
    for note in network.origin.notes:
        tell(f"{name or network.name}: {note}", quiet=quiet)


def tell_coverage(coverage: Coverage, layers: Sequence[Layer], *, quiet: bool) -> None:
    """Print which operations are by analogy, and which layers give nothing but grey."""
    if coverage.approximate:
        tell(coverage.line(), quiet=quiet)
    for layer in layers:
        if layer.is_constant:
            tell(f"{layer.name} {layer.field_text}; its projections are zero", quiet=quiet)


def tell_fewer_units(layer: str, counts: Sequence[tuple[int, int]], *, quiet: bool) -> None:
    """Print that fewer units of a layer lie apart than were asked for.

    `counts` has for each figure how many are shown, and how many were asked for.
    """
    fewer = [(shown, asked) for shown, asked in counts if shown < asked]
    if not fewer:
        return
    (shown, asked) = fewer[0]
    what = f"{shown} unit{'s' if shown != 1 else ''} instead of {asked}"
    if len(counts) > 1:
        what = f"fewer than {asked} units in {len(fewer)} of {len(counts)} figures"
    tell(f"{layer}: {what}, because the others do not lie apart (see --no-apart)", quiet=quiet)


def tell_cut_fields(layer: str, counts: Sequence[tuple[int, int]], *, quiet: bool) -> None:
    """Print that the border cuts most receptive fields of a layer.

    `counts` has for each figure how many are cut, and of how many.
    """
    most = [(cut, count) for cut, count in counts if 2 * cut > count]
    if not most:
        return
    (cut, count) = most[0]
    what = f"{cut} of {count} receptive fields are cut by the border"
    if len(counts) > 1:
        what = f"the border cuts most receptive fields in {len(most)} of {len(counts)} figures"
    tell(f"{layer}: {what} (see --no-border)", quiet=quiet)
