"""What was asked for on the command line, before anything is known about networks and layers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from deconvviz.errors import UnitError

if TYPE_CHECKING:
    from deconvviz.projection import Style


@dataclass(frozen=True)
class Selection:
    """Which units were asked for."""

    layers: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()
    units: tuple[str, ...] = ()  # "C,Y,X" or "C"
    classes: tuple[str, ...] = ()
    top: int | None = None
    whole_channel: bool = False
    apart: bool | None = None  # None: where units of several channels are chosen
    no_border: bool = False

    @property
    def passes_over(self) -> bool:
        """Whether units that show one spot of the image are passed over."""
        return not (self.channels or self.whole_channel) if self.apart is None else self.apart


@dataclass(frozen=True)
class Look:
    """How figures are drawn and written; None: as the default, or as the manifest says."""

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
        """The options that were given, over those of `base`."""
        given = {
            name: value
            for name in ("scale", "percentile", "columns", "projection_only", "crop", "medium")
            if (value := getattr(self, name)) is not None
        }
        return replace(base, **given)


def check_selection(selection: Selection) -> None:
    """Raise for units that cannot be asked for together, and for what names no unit."""
    if not selection.layers and not selection.classes:
        raise typer.BadParameter(
            "name a layer (deconvviz layers lists them), or a class with --class", param_hint="--layer"
        )
    if selection.top is not None and selection.top < 1:
        raise UnitError(f"--top {selection.top}: ask for 1 unit or more")
    filters = selection.apart or selection.no_border
    others = selection.channels or selection.whole_channel or selection.top is not None or filters
    if selection.units and others:
        raise typer.BadParameter(
            "these are the units themselves: leave out --top, --channel, --whole-channel, --apart and "
            "--no-border",
            param_hint="--unit",
        )
    if selection.whole_channel and filters:
        raise typer.BadParameter(
            "keeps every position of a channel: leave --apart and --no-border out",
            param_hint="--whole-channel",
        )
    if not selection.layers and (selection.units or others):
        raise typer.BadParameter("say of which layer", param_hint="--layer")
    for text in selection.units:
        read_unit(text)


def read_unit(text: str) -> tuple[int, ...]:
    """Read channel, row and column of a unit, or its channel alone. Raises UnitError."""
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*,\s*\d+\s*)?", text):
        raise UnitError(
            f"--unit {text!r} is no unit: give channel,row,column such as 42,7,3 (or a number alone)"
        )
    return tuple(int(number) for number in text.split(","))
