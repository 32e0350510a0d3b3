"""Options that select units and style figures, checked without a network."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from deconvviz.cli.support.parsing import no_layer
from deconvviz.errors import UnitError

if TYPE_CHECKING:
    from deconvviz.projection import Style


@dataclass(frozen=True)
class Selection:
    """Units requested on the command line."""

    layers: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    units: tuple[str, ...] = ()  # "C,Y,X" or "C"
    classes: tuple[str, ...] = ()
    top: int | None = None
    whole_channel: bool = False
    apart: bool | None = None  # None: True unless --channel or --whole-channel is given
    no_border: bool = False

    @property
    def passes_over(self) -> bool:
        """True if units close to a stronger unit are skipped."""
        return not (self.channels or self.whole_channel) if self.apart is None else self.apart


@dataclass(frozen=True)
class Look:
    """Style and file type of figures. None means the default, or the value in the manifest."""

    format: str
    arrays: bool = False
    scale: str | None = None
    percentile: float | None = None
    columns: int | None = None
    projection_only: bool | None = None
    dpi: float | None = None
    crop: str | None = None
    medium: str | None = None

    def style(self, base: Style) -> Style:
        """Return `base` with the options that were given."""
        given = {
            name: value
            for name in ("scale", "percentile", "columns", "projection_only", "crop", "medium")
            if (value := getattr(self, name)) is not None
        }
        return replace(base, **given)


def check_selection(selection: Selection) -> None:
    """Raise an error if options contradict each other or select no unit."""
    if not selection.layers and not selection.classes:
        raise no_layer(", or a class with --class")
    if selection.top is not None and selection.top < 1:
        raise UnitError(f"--top {selection.top}: must be 1 or more")
    filters = selection.apart or selection.no_border
    others = selection.channels or selection.whole_channel or selection.top is not None or filters
    if selection.units and others:
        raise typer.BadParameter(
            "cannot be combined with --top, --channel, --whole-channel, --apart or --no-border",
            param_hint="--unit",
        )
    if selection.whole_channel and filters:
        raise typer.BadParameter(
            "cannot be combined with --apart or --no-border",
            param_hint="--whole-channel",
        )
    if not selection.layers and (selection.units or others):
        raise typer.BadParameter("name the layer of the units", param_hint="--layer")
    for text in selection.units:
        read_unit(text)


def read_unit(text: str) -> tuple[int, ...]:
    """Return channel, row and column of a unit, or its channel alone. Raises UnitError."""
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*,\s*\d+\s*)?", text):
        raise UnitError(
            f"--unit {text!r} is not a unit: use channel,row,column such as 42,7,3, or a channel alone"
        )
    return tuple(int(number) for number in text.split(","))
