"""What --verbose prints: facts that are silent otherwise, one on a line of stderr.

They are records of the logger ``deconvviz``, so that a Python program can have them, too.
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
    """Print a fact with --verbose."""
    _LOGGER.debug("%s", text)


def detail_network(network: Network, *, memory: int | None = None) -> None:
    """Print what a network is made of and what runs it; `memory` is the budget that --memory gives."""
    if not _LOGGER.isEnabledFor(logging.DEBUG):
        return  # a digest takes time
    from deconvviz.engine.projection_pass import default_budget
    from deconvviz.provenance import versions

    info, how = network.info(), network.preprocessing
    budget = default_budget(network.device) if memory is None else memory
    detail("versions: " + ", ".join(f"{name} {number}" for name, number in versions(info).items()))
    detail(f"network: {info.name}, {len(network.layers)} layers, {info.dtype} on {info.device}")
    detail(f"weights: {info.origin.source}")
    detail(f"digest of the weights: {info.digest}")
    detail(
        f"preprocessing: resize {how.resize} ({how.interpolation}, {how.crop_mode}), crop {how.crop}, "
        f"mean {_numbers(how.mean)}, std {_numbers(how.std)}"
    )
    detail(f"memory for projections: {budget / 2**20:.0f} MiB")


def show_details(ctx: typer.Context, asked: bool) -> bool:
    """Print details until `hide_details` is called: the callback of --verbose."""
    if asked:
        _refuse_both(ctx, "quiet")
        _LOGGER.addHandler(_ToStderr(_LOGGER.level))
        _LOGGER.setLevel(logging.DEBUG)
    return asked


def hide_details() -> None:
    """Print no more details."""
    for handler in list(_LOGGER.handlers):
        if isinstance(handler, _ToStderr):
            _LOGGER.removeHandler(handler)
            _LOGGER.setLevel(handler.level_before)


def be_quiet(ctx: typer.Context, asked: bool) -> bool:
    """Refuse --quiet together with --verbose: the callback of --quiet."""
    if asked:
        _refuse_both(ctx, "verbose")
    return asked


class _ToStderr(logging.Handler):
    def __init__(self, level_before: int) -> None:
        super().__init__()
        self.level_before = level_before

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"deconvviz: {printable(record.getMessage())}", file=sys.stderr)


def _refuse_both(ctx: typer.Context, other: str) -> None:
    if ctx.params.get(other):
        raise typer.BadParameter("--quiet and --verbose exclude one another: give one of them")


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
