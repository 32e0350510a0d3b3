"""Units projected back to pixels: the arrays, the figure and the files."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from deconvviz.coverage import Coverage
from deconvviz.engine.choice import UnitChoice
from deconvviz.engine.network_inputs import NetworkInputs
from deconvviz.engine.region import Region
from deconvviz.engine.units import Unit
from deconvviz.errors import FigureError, NetworkError
from deconvviz.figures.spec.bands import ShownBands
from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.effective_crop import CROP_TEXT, ENERGY, effective_boxes
from deconvviz.figures.spec.projected_arrays import ProjectedArray, array_figure
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.sheets import Row, Sheets
from deconvviz.figures.spec.style import DPI, SheetStyle
from deconvviz.figures.spec.style import PERCENTILE as PERCENTILE
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.figures.spec.validation import rectangle
from deconvviz.files import place_of
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.images.recorded_input import RecordedInput
from deconvviz.layers import Layer
from deconvviz.likeness import PlaceLikeness
from deconvviz.models.detections import Detection
from deconvviz.models.top_class import TopClass
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import path_to_text, printable
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, html_of, save_result
from deconvviz.verification.result import Verification
from deconvviz.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[int, ...]
Style = SheetStyle
FORMAT = "deconvviz manifest 1"
METHOD_TITLES = {"deconvnet": "", "guided": "guided backpropagation", "input_x_gradient": "input × gradient"}
"""Names of methods in the titles of figures; the deconvnet is not named."""


@dataclass(frozen=True, eq=False, repr=False)
class Projection:
    """Projection of K units of one layer to the input space of the network. Jupyter shows it as a figure.

    Attributes:
        pixels: (K, C, H, W), signed, in preprocessed values: 1 is one standard deviation (`std`).
        units: The K units; empty if tensors were projected.
        boxes: Receptive fields (x0, y0, x1, y1) in the network's input, half open, cut at the border.
        image_indices: The image of the recording that each projection belongs to.
        layer: The projected layer.
        network: Facts about the network at the time of the recording.
        input_images: The recorded images; empty if a prepared tensor was recorded.
        inputs: The network's input, (B, C, H, W).
        call: All tensors that the network was called with.
        coverage: Which operations of the projection are exact or approximate.
        method: ``deconvnet``, or the other method that made `pixels` (see `Recording.project`).
        choice: How the units were chosen; None if they were named.
        top_classes: The top class of each image of the recording; empty if not known.
        likeness: How alike the projections of other units at these places are; None if not computed.
        verification: Comparison with a second computation (`deconvviz.verify`); None if not verified.
        input_name: Name of the input that `pixels` belong to; empty if the network has one input.
        is_picture: Whether that input is a picture, not an array such as the embedding of a text.
        input_path: The .npy file of an input that is not a picture, if it was read from one.
        further: The projections of the same units to the other inputs of the network (see `of_input`).
        constants: Inputs of integers, such as a mask, which receive no signal.
    """

    pixels: Tensor
    units: tuple[Unit, ...]
    boxes: tuple[Box, ...]
    image_indices: tuple[int, ...]
    layer: Layer
    network: NetworkInfo
    input_images: tuple[InputImage | InputArray, ...]
    inputs: Tensor
    call: NetworkInputs
    coverage: Coverage
    method: str = "deconvnet"
    choice: UnitChoice | None = None
    top_classes: tuple[TopClass | None, ...] = ()
    likeness: PlaceLikeness | None = None
    verification: Verification | None = None
    input_name: str = ""
    is_picture: bool = True
    input_path: Path | None = None
    further: tuple[Projection, ...] = ()
    constants: tuple[RecordedInput, ...] = ()
    _views: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        high = float(self.pixels.abs().max()) if len(self) else 0.0
        return (
            f"<Projection of {counted(len(self), 'unit')} of {self.layer.name} in {self.network.name}: "
            f"{tuple(self.pixels.shape)}, largest value {high:.3g}>"
        )

    def __getitem__(self, which: int | slice | Sequence[int]) -> Projection:
        """Return the projection of some of the units, in the given order."""
        numbers = range(len(self))[which] if isinstance(which, (int, slice)) else which
        chosen = [numbers] if isinstance(numbers, int) else list(numbers)
        return replace(
            self,
            pixels=self.pixels[chosen],
            units=tuple(self.units[n] for n in chosen) if self.units else (),
            boxes=tuple(self.boxes[n] for n in chosen),
            image_indices=tuple(self.image_indices[n] for n in chosen),
            choice=None,
            likeness=None,
            verification=None,
            further=tuple(one[chosen] for one in self.further),
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, the first picture first; a single empty one for a network with one input."""
        return tuple(one.input_name for one in self._every_input)

    def of_input(self, name: str) -> Projection:
        """Return the projections of the same units to one of several inputs, with its pixels and boxes.

        Raises:
            NetworkError: If the network does not have this input.
        """
        for one in self._every_input:
            if one.input_name == name:
                return one
        raise NetworkError(missing_input(name, self.network.name, self.input_names))

    @property
    def _every_input(self) -> tuple[Projection, ...]:
        return (replace(self, further=()) if self.further else self, *self.further)

    def patch(self, number: int) -> np.ndarray[Any, Any]:
        """Return the image inside a unit's receptive field: (h, w, 3), RGB in [0, 1].

        For a network that reads arrays or bands, return their part (C, ...), without preprocessing.

        Raises FigureError if the network's input is not an image.
        """
        return self.patch_at(number, self.boxes[number])

    def patch_at(self, number: int, box: Box) -> np.ndarray[Any, Any]:
        """Return the image inside a box, as `patch`."""
        if self._has_bands_or_array:
            where = (slice(None), *ranges_of(box))
            return self._array_of(self.image_indices[number])[where]
        return self._shown(self.image_indices[number])[ranges_of(box)]

    def crop(self, number: int) -> np.ndarray[Any, Any]:
        """Return a unit's projection inside its receptive field: (h, w, 3), signed, in pixel values.

        For a network that reads arrays or bands, return (C, ...), in the units of the array.

        Raises FigureError if the network's input is not an image.
        """
        self._check_shows()
        return self.crop_at(number, self.boxes[number])

    def crop_at(self, number: int, box: Box) -> np.ndarray[Any, Any]:
        """Return a unit's projection inside a box, as `crop`."""
        where = (slice(None), *ranges_of(box))
        signed = self.pixels[number][where].detach().cpu().float().numpy()
        std = np.asarray(self.network.preprocessing.std, dtype=np.float32)
        if self._has_bands_or_array:
            return np.asarray(signed * std.reshape(-1, *[1] * (signed.ndim - 1)))
        scaled = np.moveaxis(signed, 0, -1) * std
        return np.broadcast_to(scaled, (*scaled.shape[:2], 3))  # (h, w, C) -> (h, w, 3)

    def effective_boxes(self, energy: float = ENERGY) -> tuple[Box, ...]:
        """Return the square (x0, y0, x1, y1) of each unit that contains most of its projection.

        The energy of a projection is the sum of its squared values over channels and pixels. All squares have
        one size: the smallest size at which the square of each unit can contain the share `energy`. Squares
        are placed inside the image, and inside the receptive field if there is room; they are cut if a side
        of the image is shorter. A zero projection does not affect the size, and its square is at the centre
        of its field. If all projections are zero, the boxes are the receptive fields.

        Raises:
            FigureError: If `energy` is not in (0, 1], or projections are not finite.
        """
        if self.inputs.dim() != 4:
            raise FigureError("squares are parts of images: the boxes of arrays are .boxes")
        fields = self._fields
        cut = [
            as_numpy(pixels[:, y0:y1, x0:x1])
            for pixels, (x0, y0, x1, y1) in zip(self.pixels, fields, strict=True)
        ]
        height, width = self.inputs.shape[-2:]
        return effective_boxes(cut, fields, (height, width), energy=energy)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return NumPy arrays: pixels, input, boxes, and image, channel, y, x, activation of each unit.

        For a network with several inputs, these are of the first picture; ``pixels_NAME``, ``input_NAME`` and
        ``boxes_NAME`` are those of the others.

        y and x are -1 for a unit without position, and y for a unit of a signal. Units of volumes also have
        z. Half precision becomes float32.
        """
        units, slices = self.units, [unit.z for unit in self.units]
        return {
            "pixels": as_numpy(self.pixels),  # (K, C, H, W)
            "input": as_numpy(self.inputs),  # (B, C, H, W)
            "boxes": np.asarray(self.boxes, dtype=np.int64).reshape(-1, 2 * max(1, self.inputs.dim() - 2)),
            "image": np.asarray(self.image_indices, dtype=np.int64),
            "channel": np.asarray([unit.channel for unit in units], dtype=np.int64),
            "y": np.asarray([-1 if unit.y is None else unit.y for unit in units], dtype=np.int64),
            "x": np.asarray([-1 if unit.x is None else unit.x for unit in units], dtype=np.int64),
            "activation": np.asarray([unit.activation for unit in units], dtype=np.float64),
            **(
                {"z": np.asarray([-1 if n is None else n for n in slices], dtype=np.int64)}
                if any(n is not None for n in slices)
                else {}
            ),
            **self._runs(),
            **{
                f"{key}_{one.input_name}": array
                for one in self.further
                for key, array in one.arrays().items()
                if key in ("pixels", "input") or (key == "boxes" and one.is_picture)
            },
        }

    def _runs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the positions of regions, (N, 4): number of the unit, row, first and past column."""
        regions = [(number, unit) for number, unit in enumerate(self.units) if isinstance(unit, Region)]
        found = [(number, *run) for number, region in regions for run in region.runs]
        return {"runs": np.asarray(found, dtype=np.int64)} if found else {}

    def figure(self, style: Style | None = None, **changes: Any) -> Figure:
        """Draw the image with its numbered boxes, and each unit's patch next to its projection.

        Projections keep their sign; zero is mid-grey. The figure states scale, clipping and crop. Units of
        several images are drawn without the image and its boxes.

        Args:
            style: Settings of the figure.
            **changes: Single settings instead: ``scale``, ``percentile``, ``columns``, ``projection_only``,
                ``crop`` (``effective`` or ``field``), ``medium`` (``screen``, ``paper`` or ``slide``),
                ``bands`` (such as ``(4, 3, 2)``).

        Raises:
            FigureError: If there is no unit, a band does not exist, or the network's input is not an image.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: Style | None = None, **changes: Any) -> Sheet | Sheets | Curves | TileGrid:
        """Return the content of the figure as plain arrays and lines of text.

        It is a `Sheets` if the layer depends on several pictures, which are inputs of the network, `Curves`
        for a signal, and a `TileGrid` of frames or slices for a volume or a video.
        """
        style = replace(style or Style(), **changes)
        if not len(self):
            raise FigureError("there is no unit to draw")
        self._check_shows()
        preprocessing = self.network.preprocessing
        if style.bands is not None and not preprocessing.reads_bands:
            raise FigureError(
                f"bands={style.bands}: the input of {self.network.name} has no bands to choose from. Leave "
                "bands out"
            )
        if preprocessing.array and not preprocessing.reads_bands:
            return self._array_figure(style)
        if not self.further:
            return self._sheet(style)
        reached = self.layer.inputs or self.input_names
        pictures = [one for one in self._every_input if one.is_picture]
        rows = [one for one in pictures if one.input_name in reached] or pictures
        if len(rows) == 1:
            return rows[0]._sheet(style)
        one = len(set(self.image_indices)) == 1
        return Sheets(
            title=self._title(one),
            rows=tuple(Row(row._heading(one), row._sheet(style)) for row in rows),
            style=style,
            footer=self._footer(self._bands(style)),
        )

    def _array_figure(self, style: Style) -> Curves | TileGrid:
        """Return curves for signals, and strips of frames or slices for video and volumes."""
        one, pictures = len(set(self.image_indices)) == 1, {}
        for image in set(self.image_indices):
            pictures[image] = self._array_of(image)
        lengths = tuple(self.inputs.shape[2:])
        whole = (0,) * len(lengths) + lengths[::-1]
        units = []
        for number, (image, box) in enumerate(zip(self.image_indices, self._fields, strict=True)):
            lines = self._caption(number)
            named = () if one else (printable(self.image_name(image)),)
            note = "" if bool(self.pixels[number].any()) else self._why_zero(number)
            caption = (f"{number + 1} · {lines[0]}", *lines[1:], *named)
            units.append(ProjectedArray(caption, pictures[image], self.crop_at(number, whole), box, note))
        notes = self.input_images[self.image_indices[0]].notes if one and self.input_images else ()
        footer = " · ".join(filter(None, [*notes, self._footer()]))
        return array_figure(self._title(one), units, style, footer)

    def _heading(self, one: bool) -> str:
        """Return the name of the input, and of its image if all units are of one."""
        if not one or not self.input_images:
            return printable(self.input_name)
        return f"{printable(self.input_name)}: {printable(self.image_name(self.image_indices[0]))}"

    def _sheet(self, style: Style) -> Sheet:
        one = len(set(self.image_indices)) == 1
        detections = any(isinstance(unit, Detection) for unit in self.units)
        crops = self.effective_boxes() if style.crop == "effective" else self._fields
        bands = self._bands(style)
        tiles = tuple(self._tile(number, crop, style, one, bands) for number, crop in enumerate(crops))
        return Sheet(
            title=self._title(one),
            tiles=tiles,
            image=self._whole(self.image_indices[0], bands) if one else None,
            style=style,
            footer=self._footer(bands),
            units="in pixel values (white = 1)" if bands is None else "in the units of the bands",
            crop_text=CROP_TEXT[style.crop],
            field_name="box of the detection" if detections else "receptive field",
        )

    @property
    def _has_bands_or_array(self) -> bool:
        """Whether the input is not an image, and its parts are arrays (C, ...)."""
        preprocessing = self.network.preprocessing
        return preprocessing.array is not None or preprocessing.reads_bands

    def _bands(self, style: Style) -> ShownBands | None:
        """Return the bands that a figure shows; None for images."""
        if not self.network.preprocessing.reads_bands:
            return None
        return ShownBands.of(
            [self._array_of(image) for image in sorted(set(self.image_indices))], style.bands
        )

    def _whole(self, image: int, bands: ShownBands | None) -> np.ndarray[Any, Any]:
        return self._shown(image) if bands is None else bands.colours(self._array_of(image))

    def describe(self) -> dict[str, Any]:
        """Return network, images, layer, units and versions as plain JSON values, without paths."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "pictures": self._pictures(),
            **self._described_inputs(),
            "layer": {"name": self.layer.name, "module": self.layer.module},
            "method": self.method,
            "selection": None if self.choice is None else self.choice.to_json(),
            "units": [unit.to_json() for unit in self.units],
            "boxes": [list(box) for box in self.boxes],
            "by_analogy": approximations(self.coverage),
            "likeness": None if self.likeness is None else self.likeness.to_json(),
            "verification": None if self.verification is None else self.verification.to_json(),
            "versions": versions(self.network),
        }

    def _pictures(self) -> list[dict[str, Any]]:
        """Return the description of each image, without its path."""
        return [
            {
                "pixels": picture_digest(image),
                "notes": list(image.notes),
                **_described_reduction(image),
                **({"name": image.name} if image.name else {}),
                "top_class": None if (found := self.top_class(number)) is None else found.to_json(),
                "other_classes": [] if found is None else [one.to_json() for one in found.others],
            }
            for number, image in enumerate(self.input_images)
        ]

    def _described_inputs(self) -> dict[str, Any]:
        """Return the description of several inputs by name; empty for a network with one."""
        if not self.input_name:
            return {}
        return {
            "inputs": [
                {"name": one.input_name, "pictures": one._pictures()}
                if one.is_picture
                else {"name": one.input_name, "array": array_digest(as_numpy(one.inputs))}
                for one in self._every_input
            ]
            + [{"name": one.name, "array": array_digest(as_numpy(one.tensor))} for one in self.constants]
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the images and of the user's file, if any, with the keys of `describe`."""
        return {
            "network": self.network.places(folder),
            "pictures": [place_of(image.path, folder) for image in self.input_images],
            **({"inputs": self._places_of_inputs(folder)} if self.input_name else {}),
        }

    def _places_of_inputs(self, folder: Path) -> list[dict[str, Any]]:
        constants = [{"array": place_of(one.path, folder)} for one in self.constants]
        return [one._places(folder) for one in self._every_input] + constants

    def _places(self, folder: Path) -> dict[str, Any]:
        if not self.is_picture:
            return {"array": place_of(self.input_path, folder)}
        return {"pictures": [place_of(image.path, folder) for image in self.input_images]}

    def save(
        self,
        path: str | os.PathLike[str],
        style: Style | None = None,
        *,
        dpi: float | None = None,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure and its manifest.

        The manifest of ``grid.png`` is ``grid.json``; the arrays are ``grid.npz``. Each file is written whole
        or not at all.

        Args:
            path: File of the figure, ending in .png, .svg or .pdf.
            style: Settings of the figure; or single settings in `changes`, as for `figure`.
            dpi: Resolution. Default: 200, or 300 for paper.
            force: Overwrite existing files.
            arrays: Also write the arrays.

        Returns:
            The written files.

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        style = replace(style or Style(), **changes)
        dpi = DPI[style.medium] if dpi is None else dpi
        return save_result(self, path, style, dpi=dpi, force=force, arrays=arrays)

    def _repr_png_(self) -> bytes | None:
        if not (self.network.preprocessing.reads_images or self._has_bands_or_array):
            return None  # Jupyter shows `repr` instead
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def _repr_html_(self) -> str | None:
        return html_of(self)

    def image_name(self, image: int) -> str:
        """Return the file name of an image, or another name if it has none."""
        if not self.input_images:
            return f"input {image}"
        shown = self.input_images[image]
        noun = "input" if isinstance(shown, InputArray) else "image"
        return path_to_text(shown.path.name) if shown.path else shown.name or f"{noun} {image}"

    def top_class(self, image_index: int) -> TopClass | None:
        """Return the top class of an image of the recording; None if it is not known."""
        return self.top_classes[image_index] if self.top_classes else None

    @property
    def cut_fields(self) -> int | None:
        """Number of units whose receptive field is cut by the border of the image.

        None if units have no position, depend on the whole image, or have unknown fields.
        """
        grid = self.layer.field_grid(self.inputs.shape[2:])
        places = [unit.position for unit in self.units if unit.position]
        if grid is None or not places or len(places) < len(self.units):
            return None
        return sum(grid.is_cut(*place) for place in places)

    def _check_shows(self) -> None:
        if not self.is_picture:
            raise FigureError(
                f"the input {self.input_name} of {self.network.name} is not a picture, so there is no "
                "figure. Use the numbers: .pixels or .arrays()"
            )
        if not (self.network.preprocessing.reads_images or self._has_bands_or_array):
            raise FigureError(
                f"the input of {self.network.name} has {self.inputs.shape[1]} channels, so it is not an "
                "image (3, or 1 for grey) and there is no figure. Use the numbers: .pixels or .arrays()"
            )

    def _array_of(self, image: int) -> np.ndarray[Any, Any]:
        """Return an input array (C, ...) as it was before preprocessing."""
        return self.network.preprocessing.array_of(self.inputs[image])

    def _shown(self, image: int) -> np.ndarray[Any, Any]:
        self._check_shows()
        if image not in self._views:
            self._views[image] = self.network.preprocessing.view(self.inputs[image])
        return self._views[image]

    def _title(self, one: bool) -> tuple[str, ...]:
        several = f"{len(set(self.image_indices))} images"
        names = [row.image_name(self.image_indices[0]) for row in self._every_input if row.is_picture]
        where = printable(" and ".join(dict.fromkeys(names))) if one else several
        top = self.top_class(self.image_indices[0]) if one else None
        predicted = [] if top is None else [f"predicted class: {top}"]
        method = METHOD_TITLES.get(self.method, self.method)
        detections = any(isinstance(unit, Detection) for unit in self.units)
        what = "boxes and the selection are constants" if detections else self.layer.field_text
        return (
            " · ".join(filter(None, [self.network.name, self.layer.name, where, method])),
            " · ".join([*predicted, f"weights: {self.network.origin.short}", what]),
        )

    def _footer(self, bands: ShownBands | None = None) -> str:
        """Return a line on bands, units left out, fields cut by the border if most are, and likeness."""
        notes = [] if bands is None else [bands.text([as_numpy(one) for one in self.pixels])]
        notes += [self.choice.note] if self.choice is not None else []
        cut = self.cut_fields or 0
        if 2 * cut > len(self):
            one = len(self) == 1
            fields = "the receptive field is" if one else f"{cut} of {len(self)} receptive fields are"
            notes.append(f"{fields} cut by the border")
        if self.likeness is not None:
            notes.append(self.likeness.foot)
        return " · ".join(filter(None, notes))

    @property
    def _fields(self) -> tuple[Box, ...]:
        """Receptive fields; the whole image for a unit that no pixel reaches."""
        lengths = tuple(self.inputs.shape[2:])
        return tuple(box if _sees(box) else ((0,) * len(lengths) + lengths[::-1]) for box in self.boxes)

    def _tile(self, number: int, crop: Box, style: Style, one: bool, bands: ShownBands | None) -> Tile:
        box, sees = self.boxes[number], _sees(self.boxes[number])
        lines = self._caption(number)
        detected = self._detected(number)
        if style.medium == "screen" and not detected:  # for paper and slides, only the title names the layer
            lines = (f"{self.layer.name} · {lines[0]}", *lines[1:])
        if not one:
            lines = (*lines, printable(self.image_name(self.image_indices[number])))
        empty = not bool(self.pixels[number].any())
        projection, patch = self.crop_at(number, crop), self.patch_at(number, crop)
        return Tile(
            number=number + 1,
            caption=lines,
            projection=projection if bands is None else bands.signed(projection),
            patch=patch if bands is None else bands.colours(patch),
            box=detected or rectangle(box) if one and sees else None,
            crop_box=rectangle(crop) if one and sees and (style.crop == "effective" or detected) else None,
            centre=self._centre(number) if one and sees else None,
            note=self._why_zero(number) if empty else None,
        )

    def _detected(self, number: int) -> tuple[int, int, int, int] | None:
        """Return the box of a detection in whole pixels of the picture; None for other units."""
        unit = self.units[number] if self.units else None
        if not isinstance(unit, Detection):
            return None
        height, width = self.inputs.shape[-2:]
        left, top = (
            min(max(0, math.floor(start)), end - 1)
            for start, end in zip(unit.box[:2], (width, height), strict=True)
        )
        right, bottom = (
            min(math.ceil(end), whole) for end, whole in zip(unit.box[2:], (width, height), strict=True)
        )
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def _caption(self, number: int) -> tuple[str, ...]:
        if not self.units:
            return (f"tensor {number}",)
        unit = self.units[number]
        if isinstance(unit, Detection):
            return self._detection(number, unit)
        what = f"unit {unit.channel}" if len(self.layer.shape) == 1 else f"channel {unit.channel}"
        is_score = self._is_score(unit.channel)
        if is_score:
            what = f"{self.network.classes[unit.channel]} ({unit.channel})"
        activation = f"{unit.activation:.4g}"
        if isinstance(unit, Region):
            over = f"sum of {'the scores' if is_score else 'activations'} over {unit.count:,} positions"
            return (what, over + (f" ({printable(unit.name)})" if unit.name else ""), f"sum {activation}")
        if unit.position:
            named = "score" if is_score else "activation"
            return (what, f"at {unit.position_text} · {named} {activation}")
        whole = len(self.layer.shape) > 1
        return (
            what,
            f"whole channel · peak {activation}" if whole else f"activation {activation}",
        )

    def _detection(self, number: int, unit: Detection) -> tuple[str, ...]:
        names = self.network.classes
        name = names[unit.channel] if unit.channel < len(names) else "class"
        x0, y0, x1, y1 = self._detected(number) or unit.box
        return (
            f"{name} ({unit.channel})",
            f"detection {unit.number} · score {unit.score:.3g}",
            f"class score before the selection {unit.activation:.4g}",
            f"box ({x0}, {y0}) to ({x1}, {y1})",
        )

    def _is_score(self, channel: int) -> bool:
        """Return whether a channel of the layer is the score of a class with a name."""
        count = len(self.network.classes)
        of_image = self.layer.module == "" and len(self.layer.shape) == 1
        return self.layer.is_output and channel < count and (of_image or self.layer.shape[0] == count)

    def _why_zero(self, number: int) -> str:
        if self.layer.is_constant:
            return "zero: this layer is treated as a constant"
        activation = self.units[number].activation if self.units else None
        return "zero: this unit is silent" if activation == 0 else "zero: no signal reaches the pixels"

    def _centre(self, number: int) -> tuple[float, float] | None:
        """Return the centre (x, y) of the receptive field without borders, moved inside the image."""
        unit = self.units[number] if self.units else None
        if unit is None or unit.y is None or unit.x is None:
            return None
        if (field := self.layer.field_of(unit.y, unit.x)) is None:
            return None
        (x0, y0, x1, y1), (height, width) = field, self.inputs.shape[-2:]
        return min(max((x0 + x1) / 2, 0.0), float(width)), min(max((y0 + y1) / 2, 0.0), float(height))


def missing_input(name: str, network: str, names: Sequence[str]) -> str:
    """Return the message for an input that a network does not have."""
    there = f"there are {', '.join(names)}" if any(names) else "it has one input, without a name"
    return f"no input {name!r} in {network}: {there}"


def _sees(box: Box) -> bool:
    """Return whether a box contains any pixel."""
    axes = len(box) // 2
    return all(first < past for first, past in zip(box[:axes], box[axes:], strict=True))


def ranges_of(box: Box) -> tuple[slice, ...]:
    """Return the ranges of a box along each axis: rows, then columns."""
    axes = len(box) // 2
    return tuple(slice(first, past) for first, past in zip(box[:axes], box[axes:], strict=True))[::-1]


def inside(box: Box) -> tuple[slice, ...]:
    """Return the index of a box in an array with channels, (C, ...)."""
    return (slice(None), *ranges_of(box))


def as_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as an array; half precision becomes float32."""
    plain = tensor.detach().cpu()
    return (plain.float() if plain.is_floating_point() and plain.itemsize < 4 else plain).numpy()


def _described_reduction(image: InputImage | InputArray) -> dict[str, int]:
    """Return by how much the pixels of an image were reduced when its file was decoded, if they were."""
    reduced = image.reduced if isinstance(image, InputImage) else None
    return {} if reduced is None else {"reduced": reduced.by}


def picture_digest(image: InputImage | InputArray) -> str:
    """Return the SHA-256 of the size and the pixels of an image, or of the numbers of an array."""
    return pixel_digest(image.values if isinstance(image, InputArray) else image.rgb)


def pixel_digest(rgb: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of an image's size and pixels, as ``sha256:...``."""
    size = "x".join(map(str, rgb.shape))
    return "sha256:" + hashlib.sha256(size.encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()


def array_digest(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the shape, the type and the SHA-256 of an array, as plain JSON values."""
    text = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "digest": f"sha256:{text}"}


def approximations(coverage: Coverage) -> list[dict[str, Any]]:
    """Return the approximate operations of a projection as plain JSON values."""
    return [{"op": use.op, "count": use.count, "how": use.note} for use in coverage.approximate]
