"""Options that select units and style figures, checked without a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from deconvviz.cli.support.parsing import no_layer
from deconvviz.errors import UnitError
from deconvviz.images.discovery import STANDARD_INPUT
from deconvviz.wording import counted

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
    at: tuple[str, ...] = ()  # positions "Y,X" of class scores
    mask: str | None = None  # file of a mask, or "wins"
    detections: tuple[int, ...] = ()  # numbers of detections
    inputs: tuple[str, ...] = ()  # names of the inputs that the files are for; empty: one picture each

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
    bands: tuple[int, ...] | None = None

    def style(self, base: Style) -> Style:
        """Return `base` with the options that were given."""
        given = {
            name: value
            for name in ("scale", "percentile", "columns", "projection_only", "crop", "medium", "bands")
            if (value := getattr(self, name)) is not None
        }
        return replace(base, **given)


def check_selection(selection: Selection) -> None:
    """Raise an error if options contradict each other or select no unit."""
    if not (selection.layers or selection.classes or selection.detections):
        raise no_layer(", a class with --class, or a detection with --detection")
    if selection.top is not None and selection.top < 1:
        raise UnitError(f"--top {selection.top}: must be 1 or more")
    if before := [number for number in selection.detections if number < 0]:
        raise UnitError(f"--detection {before[0]}: must be 0 or more")
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
    for flag, given in (("--at", selection.at), ("--mask", selection.mask)):
        if given and not selection.classes:
            raise typer.BadParameter("name the class with --class", param_hint=flag)
    if selection.at and selection.mask:
        raise typer.BadParameter("cannot be combined with --mask", param_hint="--at")
    for text in selection.at:
        read_position(text)
    if not selection.layers and (selection.units or others):
        raise typer.BadParameter("name the layer of the units", param_hint="--layer")
    for text in selection.units:
        read_place(text)


def read_inputs(text: str | None, files: Sequence[str]) -> tuple[str, ...]:
    """Return the names of inputs in ``left,right``, one for each file."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise typer.BadParameter(
            f"{text!r} is not a list of different names, such as left,right", param_hint="--inputs"
        )
    if len(names) != len(files):
        raise typer.BadParameter(
            f"{counted(len(names), 'name')}, but {counted(len(files), 'file')}: give one file for each",
            param_hint="--inputs",
        )
    if STANDARD_INPUT in files:
        raise typer.BadParameter("cannot be combined with standard input (-)", param_hint="--inputs")
    return names


def read_bands(text: str | None) -> tuple[int, ...] | None:
    """Return the numbers of the bands in ``4,3,2``, or of one band."""
    if text is None:
        return None
    if not re.fullmatch(r"\s*[1-9]\d*\s*(,\s*[1-9]\d*\s*,\s*[1-9]\d*\s*)?", text):
        raise typer.BadParameter(
            f"{text!r} are not three bands, such as 4,3,2, or one band. The first band is 1",
            param_hint="--bands",
        )
    return tuple(map(int, text.split(",")))


def read_position(text: str) -> tuple[int, int]:
    """Return row and column of a position. Raises UnitError."""
    if not re.fullmatch(r"\s*\d+\s*,\s*\d+\s*", text):
        raise UnitError(f"--at {text!r} is not a position: use row,column such as 120,64")
    y, x = (int(number) for number in text.split(","))
    return y, x


def read_unit(text: str) -> tuple[int, ...]:
    """Return channel, row and column of a unit in a picture, or its channel alone. Raises UnitError."""
    numbers = read_place(text)
    if len(numbers) not in (1, 3):
        raise _not_a_unit(text)
    return numbers


def read_place(text: str) -> tuple[int, ...]:
    """Return the channel of a unit and its position, with as many numbers as the layer has axes.

    Raises UnitError.
    """
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*){0,3}", text):
        raise _not_a_unit(text)
    return tuple(int(number) for number in text.split(","))


def _not_a_unit(text: str) -> UnitError:
    return UnitError(
        f"--unit {text!r} is not a unit: use channel,row,column such as 42,7,3, or a channel alone"
    )
