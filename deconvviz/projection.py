"""Units projected back to pixels: the arrays, the figure and the files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from deconvviz.coverage import Coverage
from deconvviz.engine.choice import UnitChoice
from deconvviz.engine.units import Unit
from deconvviz.errors import FigureError
from deconvviz.figures.spec.effective_crop import CROP_TEXT, ENERGY, effective_boxes
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.style import DPI, SheetStyle
from deconvviz.figures.spec.style import PERCENTILE as PERCENTILE
from deconvviz.files import place_of
from deconvviz.images.image import InputImage
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import path_to_text, printable
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, save_result
from deconvviz.top_class import TopClass
from deconvviz.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[int, int, int, int]
Style = SheetStyle
FORMAT = "deconvviz manifest 1"


@dataclass(frozen=True, eq=False, repr=False)
class Projection:
    """K units of one layer, projected back to pixels. Jupyter shows it as a figure.

    `pixels` (K, C, H, W) lies in the network's input space and is signed: preprocessed values, so that one
    unit of it is one standard deviation of the training pictures. `boxes` (x0, y0, x1, y1) are the
    receptive fields, half open, cut to the input. `units` is empty where tensors were projected. `choice`
    says how the units were chosen, and is None if they were named. `top_classes` has the class that the
    network gives each image of the recording; it is empty if that is not known.
    """

    pixels: Tensor
    units: tuple[Unit, ...]
    boxes: tuple[Box, ...]
    image_indices: tuple[int, ...]  # (K) which image of the recording each belongs to
    layer: Layer
    network: NetworkInfo  # as it was when the image was recorded
    input_images: tuple[InputImage, ...]  # none, if a prepared tensor was recorded
    inputs: Tensor  # (B, C, H, W)
    coverage: Coverage  # which operations of the projection are exact, and which by analogy
    choice: UnitChoice | None = None
    top_classes: tuple[TopClass | None, ...] = ()
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
        """Some of the units, in the order given."""
        numbers = range(len(self))[which] if isinstance(which, (int, slice)) else which
        chosen = [numbers] if isinstance(numbers, int) else list(numbers)
        return replace(
            self,
            pixels=self.pixels[chosen],
            units=tuple(self.units[n] for n in chosen) if self.units else (),
            boxes=tuple(self.boxes[n] for n in chosen),
            image_indices=tuple(self.image_indices[n] for n in chosen),
            choice=None,
        )

    def patch(self, number: int) -> np.ndarray[Any, Any]:
        """The part of the picture that a unit sees, in true colours: (h, w, 3) in [0, 1].

        Raises FigureError for a network whose input is no picture.
        """
        return self.patch_at(number, self.boxes[number])

    def patch_at(self, number: int, box: Box) -> np.ndarray[Any, Any]:
        """As `patch`, of any box."""
        x0, y0, x1, y1 = box
        return self._picture(self.image_indices[number])[y0:y1, x0:x1]

    def crop(self, number: int) -> np.ndarray[Any, Any]:
        """A unit's projection cut like its patch, signed, in units of the picture's 0 to 1: (h, w, 3).

        Raises FigureError for a network whose input is no picture.
        """
        self._check_shows()
        return self.crop_at(number, self.boxes[number])

    def crop_at(self, number: int, box: Box) -> np.ndarray[Any, Any]:
        """As `crop`, of any box."""
        x0, y0, x1, y1 = box
        signed = self.pixels[number, :, y0:y1, x0:x1].detach().cpu().float().numpy()
        scaled = np.moveaxis(signed, 0, -1) * np.asarray(self.network.preprocessing.std, dtype=np.float32)
        return np.broadcast_to(scaled, (*scaled.shape[:2], 3))  # (h, w, C) -> (h, w, 3)

    def effective_boxes(self, energy: float = ENERGY) -> tuple[Box, ...]:
        """Return a square (x0, y0, x1, y1) for each unit that holds most of its projection.

        The energy of a projection is the sum of its squared values over channels and pixels. All squares have
        one size: the smallest at which each unit's square can hold at least the share `energy`. They lie
        inside the image, and inside the receptive field where there is room; they are cut where a side of the
        image is shorter. Zero projections have no part in the size; theirs is in the middle of the field. If
        all are zero the boxes are the receptive fields.

        Raises FigureError for an `energy` outside (0, 1], or for projections with infinite values or NaN.
        """
        fields = self._fields
        cut = [
            as_numpy(pixels[:, y0:y1, x0:x1])
            for pixels, (x0, y0, x1, y1) in zip(self.pixels, fields, strict=True)
        ]
        height, width = self.inputs.shape[-2:]
        return effective_boxes(cut, fields, (height, width), energy=energy)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """All as NumPy arrays: pixels, input, boxes, and image, channel, y, x, activation of each unit.

        y and x are -1 where a unit has no position. Numbers of half precision become float32.
        """
        units = self.units
        return {
            "pixels": as_numpy(self.pixels),  # (K, C, H, W)
            "input": as_numpy(self.inputs),  # (B, C, H, W)
            "boxes": np.asarray(self.boxes, dtype=np.int64).reshape(-1, 4),
            "image": np.asarray(self.image_indices, dtype=np.int64),
            "channel": np.asarray([unit.channel for unit in units], dtype=np.int64),
            "y": np.asarray([-1 if unit.y is None else unit.y for unit in units], dtype=np.int64),
            "x": np.asarray([-1 if unit.x is None else unit.x for unit in units], dtype=np.int64),
            "activation": np.asarray([unit.activation for unit in units], dtype=np.float64),
        }

    def figure(self, style: Style | None = None, **changes: Any) -> Figure:
        """Draw the image with its numbered boxes, and each unit's patch next to its projection.

        The sign is kept and zero is mid-grey. `style`, or single settings of it: ``scale``, ``percentile``,
        ``columns``, ``projection_only``, ``crop`` (``effective`` or ``field``), ``medium`` (``screen``,
        ``paper`` or ``slide``). The caption states scale, clipping and crop. Units of several images are
        drawn without boxes. Raises FigureError.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: Style | None = None, **changes: Any) -> Sheet:
        """Return what `figure` draws, as plain arrays and lines of text."""
        style = replace(style or Style(), **changes)
        if not len(self):
            raise FigureError("there is no unit to draw")
        self._check_shows()
        one = len(set(self.image_indices)) == 1
        crops = self.effective_boxes() if style.crop == "effective" else self._fields
        tiles = tuple(self._tile(number, crop, style, one) for number, crop in enumerate(crops))
        return Sheet(
            title=self._title(one),
            tiles=tiles,
            image=self._picture(self.image_indices[0]) if one else None,
            style=style,
            footer=self._footer(),
            units="in pixel values (white = 1)",
            crop_text=CROP_TEXT[style.crop],
        )

    def describe(self) -> dict[str, Any]:
        """Return network, images, layer, units and versions as plain JSON values, without paths."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "pictures": [
                {
                    "pixels": pixel_digest(picture.rgb),
                    "notes": list(picture.notes),
                    **({"name": picture.name} if picture.name else {}),
                    "top_class": None if (found := self.top_class(image)) is None else found.to_json(),
                }
                for image, picture in enumerate(self.input_images)
            ],
            "layer": {"name": self.layer.name, "module": self.layer.module},
            "selection": None if self.choice is None else self.choice.to_json(),
            "units": [asdict(unit) for unit in self.units],
            "boxes": [list(box) for box in self.boxes],
            "by_analogy": analogies(self.coverage),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return where the images, and a file that makes the network, are: laid out like `describe`."""
        return {
            "network": self.network.places(folder),
            "pictures": [place_of(picture.path, folder) for picture in self.input_images],
        }

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
        """Write the figure (.png, .svg, .pdf) and a manifest from which it can be made again.

        ``grid.png`` has its manifest in ``grid.json``, and with `arrays` its numbers in ``grid.npz``.
        `style`, or single settings of it, as for `figure`. Each file is written whole or not at all; none
        that exists is overwritten without `force`. `dpi` None: 200, or 300 for paper. Raises OutputError,
        FigureError.
        """
        style = replace(style or Style(), **changes)
        dpi = DPI[style.medium] if dpi is None else dpi
        return save_result(self, path, style, dpi=dpi, force=force, arrays=arrays)

    def _repr_png_(self) -> bytes | None:
        if not self.network.preprocessing.reads_images:
            return None  # Jupyter shows the line of `repr`
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def image_name(self, image: int) -> str:
        """A picture's file name, or what it is called without one."""
        if not self.input_images:
            return f"input {image}"
        shown = self.input_images[image]
        return path_to_text(shown.path.name) if shown.path else shown.name or f"picture {image}"

    def top_class(self, image_index: int) -> TopClass | None:
        """Return the class that the network gives an image of the recording; None if that is not known."""
        return self.top_classes[image_index] if self.top_classes else None

    @property
    def cut_fields(self) -> int | None:
        """How many of the units have a receptive field that is cut by the border of the image.

        None where units have no position, see the whole image, or have fields that are not known.
        """
        rows, columns = self.inputs.shape[-2:]
        grid = self.layer.field_grid((rows, columns))
        places = [(unit.y, unit.x) for unit in self.units if unit.y is not None and unit.x is not None]
        if grid is None or not places or len(places) < len(self.units):
            return None
        return sum(grid.is_cut(y, x) for y, x in places)

    def _check_shows(self) -> None:
        if not self.network.preprocessing.reads_images:
            raise FigureError(
                f"{self.network.name} reads {self.inputs.shape[1]} channels, which is no picture (3, or 1 "
                "for grey), so that there is no figure: take the numbers, .pixels or .arrays()"
            )

    def _picture(self, image: int) -> np.ndarray[Any, Any]:
        self._check_shows()
        if image not in self._views:
            self._views[image] = self.network.preprocessing.view(self.inputs[image])
        return self._views[image]

    def _title(self, one: bool) -> tuple[str, ...]:
        several = f"{len(set(self.image_indices))} pictures"
        where = printable(self.image_name(self.image_indices[0])) if one else several
        top = self.top_class(self.image_indices[0]) if one else None
        predicted = [] if top is None else [f"predicted class: {top}"]
        return (
            f"{self.network.name} · {self.layer.name} · {where}",
            " · ".join([*predicted, f"weights: {self.network.origin.short}", self.layer.field_text]),
        )

    def _footer(self) -> str:
        """Which units were left out, and how many of those shown are cut by the border, if most are."""
        notes = [self.choice.note] if self.choice is not None else []
        cut = self.cut_fields or 0
        if 2 * cut > len(self):
            one = len(self) == 1
            fields = "the receptive field is" if one else f"{cut} of {len(self)} receptive fields are"
            notes.append(f"{fields} cut by the border")
        return " · ".join(filter(None, notes))

    @property
    def _fields(self) -> tuple[Box, ...]:
        """The receptive fields; the whole image for a unit that sees nothing of it."""
        height, width = self.inputs.shape[-2:]
        return tuple(box if _sees(box) else (0, 0, width, height) for box in self.boxes)

    def _tile(self, number: int, crop: Box, style: Style, one: bool) -> Tile:
        box, sees = self.boxes[number], _sees(self.boxes[number])
        lines = self._caption(number)
        if style.medium == "screen":  # in a paper and on a slide, where room is short, the title says it
            lines = (f"{self.layer.name} · {lines[0]}", *lines[1:])
        if not one:
            lines = (*lines, printable(self.image_name(self.image_indices[number])))
        empty = not bool(self.pixels[number].any())
        return Tile(
            number=number + 1,
            caption=lines,
            projection=self.crop_at(number, crop),
            patch=self.patch_at(number, crop),
            box=box if one and sees else None,
            crop_box=crop if one and sees and style.crop == "effective" else None,
            centre=self._centre(number) if one and sees else None,
            note=self._why_zero(number) if empty else None,
        )

    def _caption(self, number: int) -> tuple[str, ...]:
        if not self.units:
            return (f"tensor {number}",)
        unit = self.units[number]
        what = f"channel {unit.channel}"
        if len(self.layer.shape) == 1:
            what = f"unit {unit.channel}"
            if self.layer.module == "" and unit.channel < len(self.network.classes):
                what = f"{self.network.classes[unit.channel]} ({unit.channel})"
        said = f"{unit.activation:.4g}"
        if unit.y is not None:
            return (what, f"at ({unit.y}, {unit.x}) · activation {said}")
        whole = len(self.layer.shape) == 3
        return (
            what,
            f"whole channel · peak {said}" if whole else f"activation {said}",
        )

    def _why_zero(self, number: int) -> str:
        if self.layer.is_constant:
            return "zero: this layer is held constant"
        said = self.units[number].activation if self.units else None
        return "zero: this unit is silent here" if said == 0 else "zero: nothing reaches the picture"

    def _centre(self, number: int) -> tuple[float, float] | None:
        """The middle of the receptive field as it would be without borders, (x, y)."""
        unit = self.units[number] if self.units else None
        if unit is None or unit.y is None or unit.x is None:
            return None
        if (field := self.layer.field_of(unit.y, unit.x)) is None:
            return None
        (x0, y0, x1, y1), (height, width) = field, self.inputs.shape[-2:]
        return min(max((x0 + x1) / 2, 0.0), float(width)), min(max((y0 + y1) / 2, 0.0), float(height))


def _sees(box: Box) -> bool:
    """Whether a receptive field has a pixel of the image."""
    return box[0] < box[2] and box[1] < box[3]


def as_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor as an array; float16 and bfloat16, of which NumPy does not know the second, as float32."""
    plain = tensor.detach().cpu()
    return (plain.float() if plain.is_floating_point() and plain.itemsize < 4 else plain).numpy()


def pixel_digest(rgb: np.ndarray[Any, Any]) -> str:
    """Return ``sha256:...`` of a decoded image: its size and its pixels."""
    size = "x".join(map(str, rgb.shape))
    return "sha256:" + hashlib.sha256(size.encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()


def analogies(coverage: Coverage) -> list[dict[str, Any]]:
    """Return the operations of a projection that the paper does not describe, and what is done instead."""
    return [{"op": use.op, "count": use.count, "how": use.note} for use in coverage.approximate]
