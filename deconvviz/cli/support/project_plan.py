"""Plan ``deconvviz project``: everything is checked before weights are loaded or files written."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from deconvviz.cli.support.selection import Look, Selection
from deconvviz.engine.units import Unit
from deconvviz.errors import OutputError, RefusedOp, UnitError
from deconvviz.images.discovery import find_pictures
from deconvviz.layers import Layer, LayerTable
from deconvviz.loading import ModelRequest
from deconvviz.network import Network
from deconvviz.recording import Recording
from deconvviz.results import refuse_existing, targets
from deconvviz.wording import missing_number

DEFAULT_TOP = 9


@dataclass(frozen=True)
class Page:
    """One figure to be made."""

    picture: Path
    layer: Layer
    classes: tuple[str, ...]  # if class scores are asked for, and not the selection's units
    target: Path


@dataclass(frozen=True)
class Job:
    """Every figure of one command."""

    request: ModelRequest
    sketch: Network  # what the command was checked with
    selection: Selection
    pages: tuple[Page, ...]

    def units(self, page: Page, recording: Recording) -> list[Unit]:
        """Choose the units of one page in its recording."""
        chosen, layer = self.selection, page.layer
        if page.classes:
            return [recording.class_unit(asked) for asked in page.classes]
        if chosen.units:
            return [_unit(text) for text in chosen.units]
        if chosen.channels and chosen.whole_channel:
            return [Unit(0, channel) for channel in chosen.channels]
        if chosen.channels:
            top = _top(chosen, _positions(layer))
            return [unit for c in chosen.channels for unit in recording.strongest(layer, top, channel=c)]
        strongest = recording.strongest(layer, _top(chosen, layer.shape[0]))
        return [Unit(0, unit.channel) for unit in strongest] if chosen.whole_channel else strongest


def plan(
    images: Sequence[str | Path],
    request: ModelRequest,
    selection: Selection,
    look: Look,
    out: Path,
    *,
    force: bool,
) -> Job:
    """Check a whole command; layers and units with the shapes of the network alone, before any download."""
    if not images:
        raise typer.BadParameter("name a picture file or a folder of pictures", param_hint="IMAGE")
    _check_selection(selection)
    pictures = find_pictures(images)
    sketch = request.sketch()
    table = sketch.layers
    wanted: list[tuple[Layer, tuple[str, ...]]] = [(table.find(name), ()) for name in selection.layers]
    for layer, _ in wanted:
        _check_layer(layer, selection, table)
    if selection.classes:
        wanted.append((table.last, selection.classes))
    pages = tuple(
        Page(picture, layer, classes, out / f"{stem}-{_ending(layer, classes, selection)}.{look.format}")
        for picture, stem in zip(pictures, _stems(pictures), strict=True)
        for layer, classes in dict.fromkeys(wanted)
    )
    check_folder(out)
    refuse_existing([path for page in pages for path in targets(page.target, look.arrays)], force=force)
    return Job(request, sketch, selection, pages)


def _check_selection(selection: Selection) -> None:
    if not selection.layers and not selection.classes:
        raise typer.BadParameter(
            "name a layer (deconvviz layers lists them), or a class with --class", param_hint="--layer"
        )
    if selection.top is not None and selection.top < 1:
        raise UnitError(f"--top {selection.top}: ask for 1 unit or more")
    others = selection.channels or selection.whole_channel or selection.top is not None
    if selection.units and others:
        raise typer.BadParameter(
            "these are the units themselves: leave --top, --channel and --whole-channel out",
            param_hint="--unit",
        )
    if not selection.layers and (selection.units or others):
        raise typer.BadParameter("say of which layer", param_hint="--layer")


def _check_layer(layer: Layer, selection: Selection, table: LayerTable) -> None:
    """Raise UnitError for a channel, position or number of units that the layer does not have."""
    if layer.refused:
        raise RefusedOp(f"{layer.name} cannot be projected: {layer.refused}")
    count = layer.shape[0]
    units = [_unit(text) for text in selection.units]
    for channel in (*selection.channels, *(unit.channel for unit in units)):
        if not 0 <= channel < count:
            raise UnitError(missing_number("channel", channel, layer.name, count))
    for unit in units:
        _check_position(unit, layer)
    if selection.whole_channel and len(layer.shape) != 3:
        raise UnitError(f"{layer.name} has no maps: leave --whole-channel out")
    if selection.top is not None:
        there = _positions(layer) if selection.channels and not selection.whole_channel else count
        what = "positions in a channel" if there != count else "channels"
        if selection.top > there:
            raise UnitError(f"--top {selection.top}: {layer.name} has {there} {what}")


def _check_position(unit: Unit, layer: Layer) -> None:
    if len(layer.shape) != 3:
        if unit.y is not None:
            raise UnitError(
                f"the units of {layer.name} have no position: give the number alone, {unit.channel}"
            )
        return
    if unit.y is None or unit.x is None:
        raise UnitError(f"--unit {unit.channel} has no position: {layer.name} is a map, give C,Y,X")
    rows, columns = layer.shape[1:]
    if not (0 <= unit.y < rows and 0 <= unit.x < columns):
        raise UnitError(
            f"no position ({unit.y}, {unit.x}) in {layer.name}: rows are 0 to {rows - 1}, "
            f"columns 0 to {columns - 1}"
        )


def _unit(text: str) -> Unit:
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*,\s*\d+\s*)?", text):
        raise UnitError(
            f"--unit {text!r} is no unit: give channel,row,column such as 42,7,3 (or a number alone)"
        )
    return Unit(0, *(int(number) for number in text.split(",")))


def _positions(layer: Layer) -> int:
    return layer.shape[1] * layer.shape[2] if len(layer.shape) == 3 else 1


def _top(selection: Selection, there: int) -> int:
    return min(DEFAULT_TOP, there) if selection.top is None else selection.top


def _stems(pictures: Sequence[Path]) -> list[str]:
    """A name for each picture's figures: its own, with suffix and folder where two are alike."""
    names = [picture.stem for picture in pictures]
    for fuller in (lambda path: path.name, lambda path: f"{path.absolute().parent.name}-{path.name}"):
        count = Counter(names)
        names = [
            fuller(picture) if count[name] > 1 else name
            for picture, name in zip(pictures, names, strict=True)
        ]
    count = Counter(names)
    return [f"{name}-{n}" if count[name] > 1 else name for n, name in enumerate(names, 1)]


def _ending(layer: Layer, classes: tuple[str, ...], selection: Selection) -> str:
    if classes:
        asked = "class-" + "-".join(classes)
    elif selection.units:
        asked = "units-" + "-".join(text.replace(",", "_").replace(" ", "") for text in selection.units)
    else:
        asked = "".join(f"-channel{c}" for c in selection.channels).lstrip("-")
        asked += ("-" if asked else "") + "whole" if selection.whole_channel else ""
    name = f"{layer.name}-{asked}" if asked else layer.name
    return re.sub(r"[^\w.-]+", "_", name)[:100]


def check_folder(folder: Path) -> None:
    """Raise OutputError if no file can be written there; make nothing."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputError(f"cannot write into {folder}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into {folder}: choose a folder you may write to (--out)")
