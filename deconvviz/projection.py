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
from deconvviz.likeness import PlaceLikeness
from deconvviz.models.top_class import TopClass
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import path_to_text, printable
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, html_of, save_result
from deconvviz.verification.result import Verification
from deconvviz.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[int, int, int, int]
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
        coverage: Which operations of the projection are exact or approximate.
        method: ``deconvnet``, or the other method that made `pixels` (see `Recording.project`).
        choice: How the units were chosen; None if they were named.
        top_classes: The top class of each image of the recording; empty if not known.
        likeness: How alike the projections of other units at these places are; None if not computed.
        verification: Comparison with a second computation (`deconvviz.verify`); None if not verified.
    """

    pixels: Tensor
    units: tuple[Unit, ...]
    boxes: tuple[Box, ...]
    image_indices: tuple[int, ...]
    layer: Layer
    network: NetworkInfo
    input_images: tuple[InputImage, ...]
    inputs: Tensor
    coverage: Coverage
    method: str = "deconvnet"
    choice: UnitChoice | None = None
    top_classes: tuple[TopClass | None, ...] = ()
    likeness: PlaceLikeness | None = None
    verification: Verification | None = None
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
        )

    def patch(self, number: int) -> np.ndarray[Any, Any]:
        """Return the image inside a unit's receptive field: (h, w, 3), RGB in [0, 1].

        Raises FigureError if the network's input is not an image.
        """
        return self.patch_at(number, self.boxes[number])

    def patch_at(self, number: int, box: Box) -> np.ndarray[Any, Any]:
        """Return the image inside a box, as `patch`."""
        x0, y0, x1, y1 = box
        return self._shown(self.image_indices[number])[y0:y1, x0:x1]

    def crop(self, number: int) -> np.ndarray[Any, Any]:
        """Return a unit's projection inside its receptive field: (h, w, 3), signed, in pixel values.

        Raises FigureError if the network's input is not an image.
        """
        self._check_shows()
        return self.crop_at(number, self.boxes[number])

    def crop_at(self, number: int, box: Box) -> np.ndarray[Any, Any]:
        """Return a unit's projection inside a box, as `crop`."""
        x0, y0, x1, y1 = box
        signed = self.pixels[number, :, y0:y1, x0:x1].detach().cpu().float().numpy()
        scaled = np.moveaxis(signed, 0, -1) * np.asarray(self.network.preprocessing.std, dtype=np.float32)
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
        fields = self._fields
        cut = [
            as_numpy(pixels[:, y0:y1, x0:x1])
            for pixels, (x0, y0, x1, y1) in zip(self.pixels, fields, strict=True)
        ]
        height, width = self.inputs.shape[-2:]
        return effective_boxes(cut, fields, (height, width), energy=energy)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return NumPy arrays: pixels, input, boxes, and image, channel, y, x, activation of each unit.

        y and x are -1 for a unit without position. Half precision becomes float32.
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

        Projections keep their sign; zero is mid-grey. The figure states scale, clipping and crop. Units of
        several images are drawn without the image and its boxes.

        Args:
            style: Settings of the figure.
            **changes: Single settings instead: ``scale``, ``percentile``, ``columns``, ``projection_only``,
                ``crop`` (``effective`` or ``field``), ``medium`` (``screen``, ``paper`` or ``slide``).

        Raises:
            FigureError: If there is no unit, or the network's input is not an image.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: Style | None = None, **changes: Any) -> Sheet:
        """Return the content of the figure as plain arrays and lines of text."""
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
            image=self._shown(self.image_indices[0]) if one else None,
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
                    "pixels": pixel_digest(image.rgb),
                    "notes": list(image.notes),
                    **({"name": image.name} if image.name else {}),
                    "top_class": None if (found := self.top_class(number)) is None else found.to_json(),
                    "other_classes": [] if found is None else [one.to_json() for one in found.others],
                }
                for number, image in enumerate(self.input_images)
            ],
            "layer": {"name": self.layer.name, "module": self.layer.module},
            "method": self.method,
            "selection": None if self.choice is None else self.choice.to_json(),
            "units": [asdict(unit) for unit in self.units],
            "boxes": [list(box) for box in self.boxes],
            "by_analogy": approximations(self.coverage),
            "likeness": None if self.likeness is None else self.likeness.to_json(),
            "verification": None if self.verification is None else self.verification.to_json(),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the images and of the user's file, if any, with the keys of `describe`."""
        return {
            "network": self.network.places(folder),
            "pictures": [place_of(image.path, folder) for image in self.input_images],
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
        if not self.network.preprocessing.reads_images:
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
        return path_to_text(shown.path.name) if shown.path else shown.name or f"image {image}"

    def top_class(self, image_index: int) -> TopClass | None:
        """Return the top class of an image of the recording; None if it is not known."""
        return self.top_classes[image_index] if self.top_classes else None

    @property
    def cut_fields(self) -> int | None:
        """Number of units whose receptive field is cut by the border of the image.

        None if units have no position, depend on the whole image, or have unknown fields.
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
                f"the input of {self.network.name} has {self.inputs.shape[1]} channels, so it is not an "
                "image (3, or 1 for grey) and there is no figure. Use the numbers: .pixels or .arrays()"
            )

    def _shown(self, image: int) -> np.ndarray[Any, Any]:
        self._check_shows()
        if image not in self._views:
            self._views[image] = self.network.preprocessing.view(self.inputs[image])
        return self._views[image]

    def _title(self, one: bool) -> tuple[str, ...]:
        several = f"{len(set(self.image_indices))} images"
        where = printable(self.image_name(self.image_indices[0])) if one else several
        top = self.top_class(self.image_indices[0]) if one else None
        predicted = [] if top is None else [f"predicted class: {top}"]
        method = METHOD_TITLES.get(self.method, self.method)
        return (
            " · ".join(filter(None, [self.network.name, self.layer.name, where, method])),
            " · ".join([*predicted, f"weights: {self.network.origin.short}", self.layer.field_text]),
        )

    def _footer(self) -> str:
        """Return a line on units left out, on fields cut by the border if most are, and on likeness."""
        notes = [self.choice.note] if self.choice is not None else []
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
        height, width = self.inputs.shape[-2:]
        return tuple(box if _sees(box) else (0, 0, width, height) for box in self.boxes)

    def _tile(self, number: int, crop: Box, style: Style, one: bool) -> Tile:
        box, sees = self.boxes[number], _sees(self.boxes[number])
        lines = self._caption(number)
        if style.medium == "screen":  # for paper and slides, only the title names the layer
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
        activation = f"{unit.activation:.4g}"
        if unit.y is not None:
            return (what, f"at ({unit.y}, {unit.x}) · activation {activation}")
        whole = len(self.layer.shape) == 3
        return (
            what,
            f"whole channel · peak {activation}" if whole else f"activation {activation}",
        )

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


def _sees(box: Box) -> bool:
    """Return whether a box contains any pixel."""
    return box[0] < box[2] and box[1] < box[3]


def as_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as an array; half precision becomes float32."""
    plain = tensor.detach().cpu()
    return (plain.float() if plain.is_floating_point() and plain.itemsize < 4 else plain).numpy()


def pixel_digest(rgb: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of an image's size and pixels, as ``sha256:...``."""
    size = "x".join(map(str, rgb.shape))
    return "sha256:" + hashlib.sha256(size.encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()


def approximations(coverage: Coverage) -> list[dict[str, Any]]:
    """Return the approximate operations of a projection as plain JSON values."""
    return [{"op": use.op, "count": use.count, "how": use.note} for use in coverage.approximate]
