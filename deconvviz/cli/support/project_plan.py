"""Plan of ``deconvviz project``, checked before weights are loaded or files are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from deconvviz.cli.support.early import check_folder, check_images, check_inputs
from deconvviz.cli.support.figure_names import ending, file_name, stems
from deconvviz.cli.support.selection import Look, Selection, check_selection, read_place, read_position
from deconvviz.engine.choice import UnitChoice
from deconvviz.engine.units import Unit
from deconvviz.errors import FigureError, RefusedOp, UnitError
from deconvviz.figures.spec.bands import chosen_bands
from deconvviz.images.discovery import STANDARD_INPUT, find_images
from deconvviz.images.image import InputImage
from deconvviz.images.masks import read_mask
from deconvviz.images.network_files import files_of
from deconvviz.images.standard_input import read_standard_input
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest
from deconvviz.models.class_scores import WINS, check_place
from deconvviz.network import Network
from deconvviz.recording import Recording
from deconvviz.results import refuse_existing, targets
from deconvviz.wording import missing_number

DEFAULT_TOP = 9


@dataclass(frozen=True)
class NamedFiles:
    """Files that are the inputs of one network: pictures, and .npy files of arrays."""

    names: tuple[str, ...]
    files: tuple[Path, ...]

    def given(self) -> dict[str, Path]:
        """Return the argument of `Network.record`."""
        return dict(zip(self.names, self.files, strict=True))


Given: TypeAlias = "Path | InputImage | NamedFiles"
"""A file, the image on standard input, or the inputs of a network with several."""


class _Wanted(NamedTuple):
    """A layer of figures, with the classes or detections to project instead of units."""

    layer: Layer
    classes: tuple[str, ...] = ()
    detections: tuple[int, ...] = ()


@dataclass(frozen=True)
class Page:
    """One figure of a plan."""

    image: Given
    layer: Layer
    classes: tuple[str, ...]  # classes to project; if empty, the units of the selection are projected
    target: Path
    detections: tuple[int, ...] = ()  # detections to project, instead of units


@dataclass(frozen=True)
class Job:
    """All figures of one command."""

    request: ModelRequest
    sketch: Network  # network without weights, used for the checks
    selection: Selection
    pages: tuple[Page, ...]

    def units(self, page: Page, recording: Recording) -> Sequence[Unit]:
        """Choose the units of one page in its recording."""
        chosen, layer = self.selection, page.layer
        if page.detections:
            return [recording.detection_unit(number) for number in page.detections]
        if page.classes:
            places: list[tuple[int, int] | None] = [read_position(text) for text in chosen.at]
            places = places or [None]
            return [
                recording.class_unit(name, at=place, mask=chosen.mask)
                for name in page.classes
                for place in places
            ]
        if chosen.units:
            return [_unit(text) for text in chosen.units]
        if chosen.channels and chosen.whole_channel:
            return [Unit(0, channel) for channel in chosen.channels]
        if chosen.channels:
            top = _top(chosen, self._positions(layer))
            return UnitChoice.together(self._choice(recording, layer, top, c) for c in chosen.channels)
        strongest = self._choice(recording, layer, _top(chosen, layer.shape[0]))
        return [Unit(0, unit.channel) for unit in strongest] if chosen.whole_channel else strongest

    def can_avoid_border(self, layer: Layer) -> bool:
        """Return True if --no-border can help: units are chosen automatically and some fields are not cut."""
        grid = layer.field_grid(self.sketch.preprocessing.input_shape[1:])
        named = self.selection.units or self.selection.whole_channel
        scored = any((page.classes or page.detections) and page.layer == layer for page in self.pages)
        if grid is None or named or scored:
            return False
        return all(grid.inside(axis, length) for axis, length in enumerate(layer.shape[1:]))

    def _choice(self, recording: Recording, layer: Layer, k: int, channel: int | None = None) -> UnitChoice:
        apart, whole_fields = self.selection.passes_over, self.selection.no_border
        return recording.choose(layer, k, channel, apart=apart, whole_fields=whole_fields)

    def _positions(self, layer: Layer) -> int:
        return _positions(layer, self.sketch, whole_fields=self.selection.no_border)


def plan(
    images: Sequence[str | Path],
    request: ModelRequest,
    selection: Selection,
    look: Look,
    out: Path,
    *,
    force: bool,
) -> Job:
    """Check a command and return its plan. Needs only the shapes of the network, so nothing is downloaded."""
    check_selection(selection)
    typed = list(map(str, images))
    found: list[Given]
    if selection.inputs:
        check_inputs(typed)
        found = [NamedFiles(selection.inputs, tuple(map(Path, typed)))]
    else:
        check_images(typed, request.spec.name)
        found = []
    sketch = request.sketch()
    sketch.check_inputs(selection.inputs)
    found = found or [*_find_images(typed, sketch)]
    _check_bands(sketch, look)
    table = sketch.layers
    wanted: list[_Wanted] = [_Wanted(table.find(name)) for name in selection.layers]
    for one in wanted:
        _check_layer(one.layer, selection, sketch)
    if selection.classes:
        layer = table.scores(sketch.classes)
        _check_scores(layer, selection)
        wanted.append(_Wanted(layer, selection.classes))
    if selection.detections:
        wanted.append(_Wanted(sketch.detections_layer, (), selection.detections))
    pages = tuple(
        Page(
            image,
            layer,
            classes,
            out / file_name(stem, ending(layer.name, classes, selection, detections), look.format),
            detections,
        )
        for image, stem in zip(found, stems(list(map(name_of, found))), strict=True)
        for layer, classes, detections in dict.fromkeys(wanted)
    )
    check_folder(out)
    refuse_existing([path for page in pages for path in targets(page.target, look.arrays)], force=force)
    return Job(request, sketch, selection, pages)


def _check_bands(sketch: Network, look: Look) -> None:
    """Raise FigureError if the pictures of the network do not have the bands of --bands."""
    if look.bands is None:
        return
    if not sketch.preprocessing.reads_bands:
        raise FigureError(f"{sketch.name} reads no pictures with bands to choose from: leave --bands out")
    chosen_bands(sketch.preprocessing.input_shape[0], look.bands)


def _find_images(typed: list[str], sketch: Network) -> list[Path | InputImage]:
    """Return the named files, those in named folders and, for ``-``, the image on standard input."""
    kind = files_of(sketch.preprocessing, sketch.name)
    find = partial(find_images, suffixes=kind.suffixes, noun=kind.noun)
    if STANDARD_INPUT not in typed:
        return list(find(typed))
    place = typed.index(STANDARD_INPUT)
    before, after = typed[:place], typed[place + 1 :]
    files = find([*before, *after]) if before or after else []
    first = len(find(before)) if before else 0
    return [*files[:first], read_standard_input(), *files[first:]]


def name_of(image: Given) -> Path:
    """Return the path of an image, or the name used in file names and messages if it is no single file."""
    if isinstance(image, NamedFiles):
        return Path("-".join(file.stem for file in image.files))
    return image if isinstance(image, Path) else Path(image.name)


def _check_layer(layer: Layer, selection: Selection, sketch: Network) -> None:
    """Raise an error if the layer is unsupported or lacks a selected channel, position or number of units."""
    if layer.unsupported:
        raise RefusedOp(f"{layer.name} cannot be projected: {layer.unsupported}")
    count = layer.shape[0]
    units = [_unit(text) for text in selection.units]
    for channel in (*selection.channels, *(unit.channel for unit in units)):
        if not 0 <= channel < count:
            raise UnitError(missing_number("channel", channel, layer.name, count))
    if sketch.preprocessing.crop_mode == "own":
        return  # the size of maps is that of the picture, and not of the empty one
    for unit in units:
        _check_position(unit, layer)
    if selection.whole_channel and len(layer.shape) != 3:
        raise UnitError(f"{layer.name} has no feature maps: leave --whole-channel out")
    positions = _positions(layer, sketch, whole_fields=selection.no_border)
    if selection.top is not None:
        available = positions if selection.channels and not selection.whole_channel else count
        what = "positions in a channel" if available != count else "channels"
        if available != count and selection.no_border:
            what += " whose receptive field is not cut by the border"
        if selection.top > available:
            raise UnitError(f"--top {selection.top}: {layer.name} has {available} {what}")


def _check_scores(layer: Layer, selection: Selection) -> None:
    """Raise an error if the layer of class scores is unsupported, or does not have the positions."""
    if layer.unsupported:
        raise RefusedOp(f"{layer.name} cannot be projected: {layer.unsupported}")
    for text in selection.at:
        check_place(layer.shape, layer.name, at=read_position(text))
    if not selection.at:
        check_place(layer.shape, layer.name, mask=selection.mask)
    if selection.mask is not None and selection.mask != WINS:
        read_mask(selection.mask)


def _check_position(unit: Unit, layer: Layer) -> None:
    if len(layer.shape) != 3:
        axes = {1: "", 2: ",X"}.get(len(layer.shape), ",Z,Y,X")
        if len(unit.position) != len(layer.shape) - 1:
            has = f"positions: use --unit C{axes}" if axes else f"no position: use --unit {unit.channel}"
            raise UnitError(f"the units of {layer.name} have {has}")
        for place, length in zip(unit.position, layer.shape[1:], strict=True):
            if not 0 <= place < length:
                raise UnitError(
                    f"no position {unit.position_text} in {layer.name}, of {_by(layer.shape[1:])} positions"
                )
        return
    if unit.position and len(unit.position) != 2:
        given = ",".join(map(str, (unit.channel, *unit.position)))
        raise UnitError(f"--unit {given}: {layer.name} has rows and columns. Use --unit C,Y,X")
    if unit.y is None or unit.x is None:
        raise UnitError(
            f"--unit {unit.channel} has no position: {layer.name} has feature maps. Use --unit C,Y,X"
        )
    rows, columns = layer.shape[1:]
    if not (0 <= unit.y < rows and 0 <= unit.x < columns):
        raise UnitError(
            f"no position ({unit.y}, {unit.x}) in {layer.name}: rows are 0 to {rows - 1}, "
            f"columns 0 to {columns - 1}"
        )


def _by(lengths: Sequence[int]) -> str:
    return " x ".join(map(str, lengths))


def _unit(text: str) -> Unit:
    channel, *position = read_place(text)
    named = dict(zip(("x", "y", "z"), reversed(position), strict=False))
    return Unit(0, channel, **named)


def _positions(layer: Layer, sketch: Network, *, whole_fields: bool) -> int:
    """Return the number of positions of a channel; with `whole_fields`, those whose field is not cut."""
    lengths = layer.shape[1:]
    inside = layer.whole_fields(sketch.preprocessing.input_shape[1:], lengths) if whole_fields else None
    return math.prod([len(axis) for axis in inside] if inside else lengths)


def _top(selection: Selection, available: int) -> int:
    return min(DEFAULT_TOP, available) if selection.top is None else selection.top
