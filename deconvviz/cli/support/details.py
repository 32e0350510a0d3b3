"""Details that --verbose prints on stderr, one per line.

They are debug records of the logger ``deconvviz``, so a Python program can receive them too.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import typer

from deconvviz.printable_names import printable

if TYPE_CHECKING:
    from deconvviz.network import Network

_LOGGER = logging.getLogger("deconvviz")


def detail(text: str) -> None:
    """Print a line if --verbose is set."""
    _LOGGER.debug("%s", text)


def detail_network(network: Network, *, memory: int | None = None) -> None:
    """Print versions, weights, preprocessing and device of a network. `memory` is the budget in bytes."""
    if not _LOGGER.isEnabledFor(logging.DEBUG):
        return  # skip the digest of the weights, which takes time
    from deconvviz.engine.projection_pass import default_budget
    from deconvviz.provenance import versions

    info, how = network.info(), network.preprocessing
    resized = f"resize {how.resize} ({how.interpolation}, {how.crop_mode}), crop {how.crop}"
    if how.array:
        resized = f"arrays of shape {how.array}"
    budget = default_budget(network.device) if memory is None else memory
    detail("versions: " + ", ".join(f"{name} {number}" for name, number in versions(info).items()))
    detail(f"network: {info.name}, {len(network.layers)} layers, {info.dtype} on {info.device}")
    detail(f"weights: {info.origin.source}")
    detail(f"digest of the weights: {info.digest}")
    detail(f"preprocessing: {resized}, mean {_numbers(how.mean)}, std {_numbers(how.std)}")
    detail(f"memory for projections: {budget / 2**20:.0f} MiB")


def show_details(ctx: typer.Context, verbose: bool) -> bool:
    """Print details until `hide_details` is called. Callback of --verbose."""
    if verbose:
        _reject_both(ctx, "quiet")
        _LOGGER.addHandler(_ToStderr(_LOGGER.level))
        _LOGGER.setLevel(logging.DEBUG)
    return verbose


def hide_details() -> None:
    """Stop printing details."""
    for handler in list(_LOGGER.handlers):
        if isinstance(handler, _ToStderr):
            _LOGGER.removeHandler(handler)
            _LOGGER.setLevel(handler.level_before)


def be_quiet(ctx: typer.Context, quiet: bool) -> bool:
    """Reject --quiet together with --verbose. Callback of --quiet."""
    if quiet:
        _reject_both(ctx, "verbose")
    return quiet


class _ToStderr(logging.Handler):
    def __init__(self, level_before: int) -> None:
        super().__init__()
        self.level_before = level_before

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"deconvviz: {printable(record.getMessage())}", file=sys.stderr)


def _reject_both(ctx: typer.Context, other: str) -> None:
    if ctx.params.get(other):
        raise typer.BadParameter("--quiet and --verbose exclude each other: use one of them")


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
