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
from deconvviz.engine.units import Unit
from deconvviz.errors import FigureError
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.style import PERCENTILE as PERCENTILE
from deconvviz.figures.spec.style import SheetStyle
from deconvviz.files import place_of
from deconvviz.images.image import Picture
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, save_result

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
    receptive fields, half open, cut to the input. `units` is empty where tensors were projected.
    """

    pixels: Tensor
    units: tuple[Unit, ...]
    boxes: tuple[Box, ...]
    images: tuple[int, ...]  # (K) which picture of the recording each belongs to
    layer: Layer
    network: NetworkInfo  # as it was when the image was recorded
    pictures: tuple[Picture, ...]  # none, if a prepared tensor was recorded
    inputs: Tensor  # (B, C, H, W)
    coverage: Coverage  # which operations of the projection are exact, and which by analogy
    _views: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        count = f"{len(self)} units" if len(self) != 1 else "1 unit"
        high = float(self.pixels.abs().max()) if len(self) else 0.0
        return (
            f"<Projection of {count} of {self.layer.name} in {self.network.name}: "
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
            images=tuple(self.images[n] for n in chosen),
        )

    def patch(self, number: int) -> np.ndarray[Any, Any]:
        """The part of the picture that a unit sees, in true colours: (h, w, 3) in [0, 1].

        Raises FigureError for a network whose input is no picture.
        """
        return self.patch_at(number, self.boxes[number])

    def patch_at(self, number: int, box: Box) -> np.ndarray[Any, Any]:
        """As `patch`, of any box."""
        x0, y0, x1, y1 = box
        return self._picture(self.images[number])[y0:y1, x0:x1]

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

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """All as NumPy arrays: pixels, input, boxes, and image, channel, y, x, activation of each unit.

        y and x are -1 where a unit has no position. Numbers of half precision become float32.
        """
        units = self.units
        return {
            "pixels": as_numpy(self.pixels),  # (K, C, H, W)
            "input": as_numpy(self.inputs),  # (B, C, H, W)
            "boxes": np.asarray(self.boxes, dtype=np.int64).reshape(-1, 4),
            "image": np.asarray(self.images, dtype=np.int64),
            "channel": np.asarray([unit.channel for unit in units], dtype=np.int64),
            "y": np.asarray([-1 if unit.y is None else unit.y for unit in units], dtype=np.int64),
            "x": np.asarray([-1 if unit.x is None else unit.x for unit in units], dtype=np.int64),
            "activation": np.asarray([unit.activation for unit in units], dtype=np.float64),
        }

    def figure(self, style: Style | None = None, **changes: Any) -> Figure:
        """Draw the image with its numbered boxes, and each unit's patch next to its projection.

        The sign is kept and zero is mid-grey. `style`, or single settings of it: ``scale``, ``percentile``,
        ``columns``, ``projection_only``. The figure states scale and clipping. Units of several images are
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
        one = len(set(self.images)) == 1
        return Sheet(
            title=self._title(one),
            tiles=tuple(self._tile(number, one) for number in range(len(self))),
            picture=self._picture(self.images[0]) if one else None,
            style=style,
            units="in pixel values (white = 1)",
        )

    def describe(self) -> dict[str, Any]:
        """Return network, images, layer, units and versions as plain JSON values, without paths."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "pictures": [
                {"pixels": pixel_digest(picture.rgb), "notes": list(picture.notes)}
                for picture in self.pictures
            ],
            "layer": {"name": self.layer.name, "module": self.layer.dotted},
            "units": [asdict(unit) for unit in self.units],
            "boxes": [list(box) for box in self.boxes],
            "by_analogy": analogies(self.coverage),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return where the images, and a file that makes the network, are: laid out like `describe`."""
        return {
            "network": self.network.places(folder),
            "pictures": [place_of(picture.path, folder) for picture in self.pictures],
        }

    def save(
        self,
        path: str | os.PathLike[str],
        style: Style | None = None,
        *,
        dpi: float = 200,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure (.png, .svg, .pdf) and a manifest from which it can be made again.

        ``grid.png`` has its manifest in ``grid.json``, and with `arrays` its numbers in ``grid.npz``.
        `style`, or single settings of it, as for `figure`. Each file is written whole or not at all; none
        that exists is overwritten without `force`. Raises OutputError, FigureError.
        """
        style = replace(style or Style(), **changes)
        return save_result(self, path, style, dpi=dpi, force=force, arrays=arrays)

    def _repr_png_(self) -> bytes | None:
        if not self.network.preprocessing.reads_pictures:
            return None  # Jupyter shows the line of `repr`
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def picture_name(self, image: int) -> str:
        """A picture's file name, or what it is called without one."""
        if not self.pictures:
            return f"input {image}"
        path = self.pictures[image].path
        return path.name if path else f"picture {image}"

    def _check_shows(self) -> None:
        if not self.network.preprocessing.reads_pictures:
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
        where = self.picture_name(self.images[0]) if one else f"{len(set(self.images))} pictures"
        return (
            f"{self.network.name} · {self.layer.name} · {where}",
            f"weights: {self.network.origin.short} · {self.layer.sees}",
        )

    def _tile(self, number: int, one: bool) -> Tile:
        box, whole = self.boxes[number], (0, 0, self.inputs.shape[-1], self.inputs.shape[-2])
        sees = box[0] < box[2] and box[1] < box[3]  # else it is shown whole
        lines = self._caption(number)
        if not one:
            lines = (*lines, self.picture_name(self.images[number]))
        empty = not bool(self.pixels[number].any())
        return Tile(
            number=number + 1,
            caption=lines,
            projection=self.crop_at(number, box if sees else whole),
            patch=self.patch_at(number, box if sees else whole),
            box=box if one and sees else None,
            centre=self._centre(number) if one and sees else None,
            note=self._why_zero(number) if empty else None,
        )

    def _caption(self, number: int) -> tuple[str, ...]:
        if not self.units:
            return (f"{self.layer.name} · tensor {number}",)
        unit = self.units[number]
        what = f"channel {unit.channel}"
        if len(self.layer.shape) == 1:
            what = f"unit {unit.channel}"
            if self.layer.dotted == "" and unit.channel < len(self.network.classes):
                what = f"{self.network.classes[unit.channel]} ({unit.channel})"
        said = f"{unit.activation:.4g}"
        if unit.y is not None:
            return (f"{self.layer.name} · {what}", f"at ({unit.y}, {unit.x}) · activation {said}")
        whole = len(self.layer.shape) == 3
        return (
            f"{self.layer.name} · {what}",
            f"whole channel · peak {said}" if whole else f"activation {said}",
        )

    def _why_zero(self, number: int) -> str:
        if self.layer.held:
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
    return [{"op": use.op, "count": use.count, "how": use.note} for use in coverage.by_analogy]
