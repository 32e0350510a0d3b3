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
    if coverage.by_analogy:
        tell(coverage.line(), quiet=quiet)
    for layer in layers:
        if layer.held:
            tell(f"{layer.name} {layer.sees}; its projections are zero", quiet=quiet)
