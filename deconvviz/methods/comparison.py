"""Result of a comparison: the maps of several methods for the same units."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from deconvviz.coverage import Coverage
from deconvviz.engine.units import Unit
from deconvviz.errors import FigureError
from deconvviz.figures.spec.effective_crop import ENERGY
from deconvviz.figures.spec.style import DPI, ComparisonStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.layers import Layer
from deconvviz.models.top_class import TopClass
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.projection import Box, Projection, as_numpy
from deconvviz.results import SavedFiles, html_of, save_result
from deconvviz.verification.result import Verification
from deconvviz.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "deconvviz comparison 1"
CROP_TEXT = {
    "effective": f"cropped to {100 * ENERGY:g} % of the energy of the deconvnet projections",
    "field": "cropped to the receptive fields",
}


@dataclass(frozen=True)
class UsedMethod:
    """Facts about a method of a comparison.

    Attributes:
        name: Name of the method, for example ``guided``.
        title: Title of its column.
        source: The paper, and the library if the method is not our own.
        meaning: What the values of its maps are.
        cost: How many passes its maps cost.
        summed: Whether the figure shows the sum over colours.
    """

    name: str
    title: str
    source: str
    meaning: str
    cost: str
    summed: bool

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return {key: getattr(self, key) for key in ("name", "title", "source", "meaning", "cost")}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Maps of several methods for K units of one image. Jupyter shows it as a figure.

    Attributes:
        maps: For each method, by its name, (K, C, H, W) in the network's input.
        methods: Facts about these methods, in the order of columns.
        left_out: Methods that could not be used, by name, each with the reason.
        projection: The deconvnet projections of the units, which all crops are made for.
        class_name: The class that Grad-CAM explains; empty without Grad-CAM.
        verifications: Comparison with a second computation, by method (`deconvviz.methods.verify`); empty if
            not verified.
    """

    maps: Mapping[str, Tensor]
    methods: tuple[UsedMethod, ...]
    left_out: Mapping[str, str]
    projection: Projection
    class_name: str = ""
    verifications: Mapping[str, Verification] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.projection)

    def __repr__(self) -> str:
        return (
            f"<Comparison of {counted(len(self.maps), 'method')} for {counted(len(self), 'unit')} of "
            f"{self.layer.name} in {self.network.name}: {', '.join(self.maps)}>"
        )

    @property
    def units(self) -> tuple[Unit, ...]:
        """The K units."""
        return self.projection.units

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Receptive fields (x0, y0, x1, y1) in the network's input, half open, cut at the border."""
        return self.projection.boxes

    @property
    def layer(self) -> Layer:
        """The layer of the units."""
        return self.projection.layer

    @property
    def network(self) -> NetworkInfo:
        """Facts about the network at the time of the recording."""
        return self.projection.network

    @property
    def coverage(self) -> Coverage:
        """Which operations of the deconvnet projection are exact or approximate."""
        return self.projection.coverage

    @property
    def top_class(self) -> TopClass | None:
        """The top class of the image; None if it is not known."""
        return self.projection.top_class(0)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return NumPy arrays: the maps under the name of each method, and the units.

        Returns:
            A dictionary with (K, C, H, W) under the name of each method, and ``boxes`` (K, 4), ``image``,
            ``channel``, ``y``, ``x`` and ``activation`` (K,), as `Projection.arrays` returns them.
        """
        units = self.projection.arrays()
        names = ("boxes", "image", "channel", "y", "x", "activation")
        return {
            **{name: as_numpy(maps) for name, maps in self.maps.items()},
            **{name: units[name] for name in names},
        }

    def figure(self, style: ComparisonStyle | None = None, **changes: Any) -> Figure:
        """Draw one row for each unit: its patch, then the map of each method at the same crop.

        Each tile has its own colour scale, because the values of methods differ in size; zero is mid-grey.
        Maps with one value for each pixel, and contributions, are shown as their sum over colours.

        Args:
            style: Settings of the figure.
            **changes: Single settings instead: ``percentile``, ``crop`` (``effective`` or ``field``),
                ``medium`` (``screen``, ``paper`` or ``slide``).

        Raises:
            FigureError: If the network's input is not an image, or the columns do not fit.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: ComparisonStyle | None = None, **changes: Any) -> TileGrid:
        """Return the content of the figure as plain arrays and lines of text."""
        style = replace(style or ComparisonStyle(), **changes)
        if not self.network.preprocessing.reads_images:
            raise FigureError(
                f"the input of {self.network.name} is not an image, so there is no figure. "
                "Use the numbers: .maps or .arrays()"
            )
        crops = self.projection.effective_boxes() if style.crop == "effective" else self._fields
        return TileGrid(
            title=self._title(),
            tiles=tuple(self._row(number, crop) for number, crop in enumerate(crops)),
            row_labels=tuple(self._label(unit, style.medium) for unit in self.units),
            column_labels=("patch", *(one.title for one in self.methods)),
            style=TileGridStyle("tile", style.percentile, style.medium, limits=False),
            footer=self._footer(style),
            units="",
        )

    def describe(self) -> dict[str, Any]:
        """Return network, image, layer, units, methods and versions as plain JSON values, without paths."""
        described = self.projection.describe()
        del described["method"]
        captum = any("captum" in one.source for one in self.methods)
        return {
            **described,
            "format": FORMAT,
            "methods": [one.to_json() for one in self.methods],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out.items()],
            "class": self.class_name or None,
            "verification": self.verification_json(),
            "versions": {
                **described["versions"],
                **({"captum": metadata.version("captum")} if captum else {}),
            },
        }

    def verification_json(self) -> dict[str, Any] | None:
        """Return the verification of all methods, and of each, as plain JSON values; None if not verified."""
        if not self.verifications:
            return None
        together = Verification.together(list(self.verifications.values()))
        return {
            **together.to_json(),
            "units": len(self),
            "methods": {name: one.to_json() for name, one in self.verifications.items()},
            "not_verified": [name for name in self.maps if name not in self.verifications],
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the image and of the user's file, if any, with the keys of `describe`."""
        return self.projection.places(folder)

    def save(
        self,
        path: str | os.PathLike[str],
        style: ComparisonStyle | None = None,
        *,
        dpi: float | None = None,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure and its manifest (.json), and with `arrays` also the arrays (.npz).

        Args:
            path: File of the figure, ending in .png, .svg or .pdf.
            style: Settings of the figure; or single settings in `changes`, as for `figure`.
            dpi: Resolution. Default: 200, or 300 for paper.
            force: Overwrite existing files.
            arrays: Also write the result of `arrays`.

        Returns:
            The written files.

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        style = replace(style or ComparisonStyle(), **changes)
        dpi = DPI[style.medium] if dpi is None else dpi
        return save_result(self, path, style, dpi=dpi, force=force, arrays=arrays)

    def _repr_png_(self) -> bytes | None:
        if not self.network.preprocessing.reads_images:
            return None  # Jupyter shows `repr` instead
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def _repr_html_(self) -> str | None:
        return html_of(self)

    @property
    def _fields(self) -> tuple[Box, ...]:
        """Receptive fields; the whole image for a unit that no pixel reaches."""
        height, width = self.projection.inputs.shape[-2:]
        whole = (0, 0, width, height)
        return tuple(box if box[0] < box[2] and box[1] < box[3] else whole for box in self.boxes)

    def _row(self, number: int, crop: Box) -> tuple[GridTile, ...]:
        patch = GridTile(self.projection.patch_at(number, crop), "image")
        return (patch, *(self._tile(one, number, crop) for one in self.methods))

    def _tile(self, method: UsedMethod, number: int, crop: Box) -> GridTile:
        x0, y0, x1, y1 = crop
        values = np.moveaxis(as_numpy(self.maps[method.name][number, :, y0:y1, x0:x1]), 0, -1)  # (h, w, C)
        if method.summed or values.shape[-1] == 1:
            values = values.sum(axis=-1)
        return GridTile(values, note=None if values.any() else "zero")

    def _title(self) -> tuple[str, ...]:
        top = self.top_class
        image = printable(self.projection.image_name(0))
        predicted = [] if top is None else [f"predicted class: {top}"]
        return (
            f"{self.network.name} · {self.layer.name} · {image}",
            " · ".join([*predicted, f"weights: {self.network.origin.short}", self.layer.field_text]),
        )

    def _label(self, unit: Unit, medium: str) -> str:
        what = f"channel {unit.channel}"
        if len(self.layer.shape) == 1:
            classes = self.network.classes
            named = self.layer.module == "" and unit.channel < len(classes)
            what = f"{classes[unit.channel]} ({unit.channel})" if named else f"unit {unit.channel}"
        place = "" if unit.y is None else f"({unit.y}, {unit.x})"
        activation = f"{unit.activation:.4g}"
        if medium == "paper":  # its rows are not high enough for a third line
            return f"{what}\n{': '.join(filter(None, [place, activation]))}"
        return "\n".join(filter(None, [what, place and f"at {place}", f"activation {activation}"]))

    def _footer(self, style: ComparisonStyle) -> str:
        """Return what is cropped and summed, and which methods are left out."""
        summed = [one.title for one in self.methods if one.summed]
        parts = [CROP_TEXT[style.crop]]
        if summed:
            parts.append(f"{', '.join(summed)}: sum over colours")
        if self.class_name and "gradcam" in self.maps:
            parts.append(f"Grad-CAM: of the class {self.class_name}")
        parts += [f"left out: {name} ({reason})" for name, reason in self.left_out.items()]
        return " · ".join(parts)
