"""Plan of ``deconvviz project``, checked before weights are loaded or files are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deconvviz.cli.support.early import check_folder, check_images
from deconvviz.cli.support.figure_names import ending, file_name, stems
from deconvviz.cli.support.selection import Look, Selection, check_selection, read_unit
from deconvviz.engine.choice import UnitChoice
from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp, UnitError
from deconvviz.images.discovery import STANDARD_INPUT, find_images
from deconvviz.images.image import InputImage
from deconvviz.images.standard_input import read_standard_input
from deconvviz.layers import Layer
from deconvviz.loading import ModelRequest
from deconvviz.network import Network
from deconvviz.recording import Recording
from deconvviz.results import refuse_existing, targets
from deconvviz.wording import missing_number

DEFAULT_TOP = 9


@dataclass(frozen=True)
class Page:
    """One figure of a plan."""

    image: Path | InputImage  # a file, or the image on standard input
    layer: Layer
    classes: tuple[str, ...]  # classes to project; if empty, the units of the selection are projected
    target: Path


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
        if page.classes:
            return [recording.class_unit(name) for name in page.classes]
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
        _, rows, columns = self.sketch.preprocessing.shape
        grid = layer.field_grid((rows, columns))
        if grid is None or self.selection.units or self.selection.whole_channel:
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
    check_images(list(map(str, images)))
    found = _find_images(list(map(str, images)))
    sketch = request.sketch()
    table = sketch.layers
    wanted: list[tuple[Layer, tuple[str, ...]]] = [(table.find(name), ()) for name in selection.layers]
    for layer, _ in wanted:
        _check_layer(layer, selection, sketch)
    if selection.classes:
        wanted.append((table.last, selection.classes))
    pages = tuple(
        Page(
            image,
            layer,
            classes,
            out / file_name(stem, ending(layer.name, classes, selection), look.format),
        )
        for image, stem in zip(found, stems(list(map(name_of, found))), strict=True)
        for layer, classes in dict.fromkeys(wanted)
    )
    check_folder(out)
    refuse_existing([path for page in pages for path in targets(page.target, look.arrays)], force=force)
    return Job(request, sketch, selection, pages)


def _find_images(typed: list[str]) -> list[Path | InputImage]:
    """Return the named files, the images in named folders and, for ``-``, the image on standard input."""
    if STANDARD_INPUT not in typed:
        return list(find_images(typed))
    place = typed.index(STANDARD_INPUT)
    before, after = typed[:place], typed[place + 1 :]
    files = find_images([*before, *after]) if before or after else []
    first = len(find_images(before)) if before else 0
    return [*files[:first], read_standard_input(), *files[first:]]


def name_of(image: Path | InputImage) -> Path:
    """Return the path of an image; for standard input, the name used in file names and messages."""
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


def _check_position(unit: Unit, layer: Layer) -> None:
    if len(layer.shape) != 3:
        if unit.y is not None:
            raise UnitError(f"the units of {layer.name} have no position: use --unit {unit.channel}")
        return
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


def _unit(text: str) -> Unit:
    return Unit(0, *read_unit(text))


def _positions(layer: Layer, sketch: Network, *, whole_fields: bool) -> int:
    """Return the number of positions of a channel; with `whole_fields`, those whose field is not cut."""
    lengths = layer.shape[1:] if len(layer.shape) == 3 else (1, 1)
    _, rows, columns = sketch.preprocessing.shape
    inside = layer.whole_fields((rows, columns), lengths) if whole_fields else None
    height, width = (len(axis) for axis in inside) if inside else lengths
    return height * width


def _top(selection: Selection, available: int) -> int:
    return min(DEFAULT_TOP, available) if selection.top is None else selection.top
