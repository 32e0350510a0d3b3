"""Result of a top-nine computation, as in Figure 2 of the paper: the projected peaks of some channels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.figures.spec.crop import largest
from deconvviz.figures.spec.effective_crop import CROP_TEXT, effective_boxes
from deconvviz.figures.spec.style import DPI, TopNineStyle
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure
from deconvviz.files import place_of
from deconvviz.layers import Layer
from deconvviz.likeness import PlaceLikeness
from deconvviz.network_info import NetworkInfo
from deconvviz.projection import Box
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, html_of, save_result
from deconvviz.topnine.peak import Peak
from deconvviz.verification.result import Verification
from deconvviz.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "deconvviz topnine 1"

Floats: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class ProjectedPeak:
    """One peak, projected back to pixels and cropped to its receptive field."""

    peak: Peak
    pixels: Floats  # signed values (C, h, w) in the network's input space
    crop: Crop  # the projection in pixel values, and the patch
    around: Surroundings


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Part of the image that square crops can contain: the receptive field and some pixels around it."""

    box: Box
    patch: Floats  # (h, w, 3), colours from 0 to 1

    def cut(self, box: Box) -> Floats:
        """Return the patch of a box inside these surroundings."""
        x0, y0 = self.box[:2]
        return self.patch[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]


@dataclass(frozen=True)
class Searched:
    """Facts about a search, for titles and manifests."""

    image_count: int
    source: Mapping[str, Any]  # as in the manifest of the search
    manifest: Path | None  # None if the search was not saved


@dataclass(frozen=True, eq=False, repr=False)
class TopNine:
    """Projected peaks of some channels, displayed in Jupyter as Figure 2 of the paper.

    `shown[layer][channel]` are the projected peaks of a channel, strongest first.
    """

    network: NetworkInfo
    layers: Mapping[str, Layer]
    searched: Searched
    shown: Mapping[str, Mapping[int, tuple[ProjectedPeak, ...]]]
    approximate: Mapping[str, Sequence[Mapping[str, Any]]]  # approximate operations of each layer
    k: int  # number of peaks of each channel; fewer if there are fewer images
    notes: tuple[str, ...] = ()
    likeness: Mapping[str, PlaceLikeness] = field(default_factory=dict)  # of layers; empty if not computed
    verification: Verification | None = None  # None if not verified

    def __repr__(self) -> str:
        named = "; ".join(
            f"{layer}, {counted(len(channels), 'channel')}" for layer, channels in self.shown.items()
        )
        return f"<TopNine of {self.network.name}: {named}>"

    def figure(self, style: TopNineStyle | None = None, **changes: Any) -> Figure:
        """Draw the figure. Each channel has its own colour scale; zero is mid-grey.

        Args:
            style: Style of the figure.
            **changes: Single settings of the style: ``layout`` (``panels`` as in the paper, or ``pairs``),
                ``percentile``, ``columns`` (channels side by side), ``crop`` (``effective`` or ``field``),
                ``medium`` (``screen``, ``paper`` or ``slide``).

        Raises:
            FigureError: A setting is invalid, or the figure does not fit.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: TopNineStyle | None = None, **changes: Any) -> TopNineFigure:
        """Return the content of `figure` as arrays and lines of text. Takes the same arguments."""
        source = Path(self.searched.source["place"]).name
        style = replace(style or TopNineStyle(), **changes)
        return TopNineFigure(
            title=(
                f"{self.network.name} · top {self._most} of {counted(self.searched.image_count, 'image')}",
                f"weights: {self.network.origin.short} · images: {source}",
            ),
            panels=tuple(self._panel(layer, style.crop) for layer in self.shown),
            style=style,
            top=self.k,
            footer=self._footer(),
            units="in pixel values (white = 1)",
            crop_text=CROP_TEXT[style.crop],
            zoom_each=style.crop == "effective",
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the result as NumPy arrays with one row for each of K peaks, in the order of `shown`.

        Returns:
            A dictionary with ``pixels`` (K, C, H, W), ``layer``, ``channel``, ``rank``, ``activation``,
            ``image`` (image ids), ``y`` and ``x`` (-1 without position), and ``boxes`` (K, 4).
        """
        shape = self.network.preprocessing.shape
        projected = [one for channels in self.shown.values() for shown in channels.values() for one in shown]
        pixels = np.zeros((len(projected), *shape), np.float32)
        for whole, one in zip(pixels, projected, strict=True):
            x0, y0, x1, y1 = one.peak.box or (0, 0, shape[2], shape[1])
            whole[:, y0:y1, x0:x1] = one.pixels
        peaks = [one.peak for one in projected]
        return {
            "pixels": pixels,
            "layer": np.array([peak.layer for peak in peaks]),
            "channel": np.array([peak.channel for peak in peaks], np.int64),
            "rank": np.array([peak.rank for peak in peaks], np.int64),
            "activation": np.array([peak.activation for peak in peaks]),
            "image": np.array([peak.image_id for peak in peaks]),
            "y": np.array([-1 if peak.y is None else peak.y for peak in peaks], np.int64),
            "x": np.array([-1 if peak.x is None else peak.x for peak in peaks], np.int64),
            "boxes": np.array([peak.box or (0, 0, 0, 0) for peak in peaks], np.int64).reshape(-1, 4),
        }

    def describe(self) -> dict[str, Any]:
        """Return network, source, peaks and versions as JSON values, without paths."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "source": {name: value for name, value in self.searched.source.items() if name != "place"},
            "layers": [
                {
                    "name": layer,
                    "channels": list(channels),
                    "peaks": [one.peak.to_json() for shown in channels.values() for one in shown],
                    "by_analogy": list(self.approximate[layer]),
                }
                for layer, channels in self.shown.items()
            ],
            "notes": list(self.notes),
            "likeness": {layer: one.to_json() for layer, one in self.likeness.items()} or None,
            "verification": None if self.verification is None else self.verification.to_json(),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the paths of the search, its source and the network file, for a manifest in `folder`."""
        return {
            "search": place_of(self.searched.manifest, folder),
            "network": self.network.places(folder),
            "source": {"place": self.searched.source["place"]},
        }

    def save(
        self,
        path: str | os.PathLike[str],
        style: TopNineStyle | None = None,
        *,
        dpi: float | None = None,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure and its manifest (.json), and with `arrays` also the arrays (.npz).

        Args:
            path: File of the figure: .png, .svg or .pdf.
            style: Style of the figure.
            dpi: Dots per inch; None uses 200, or 300 for paper.
            force: Overwrite existing files.
            arrays: Also write the result of `arrays`.
            **changes: Single settings of the style, as for `figure`.

        Returns:
            The paths of the written files.

        Raises:
            OutputError: A file exists and `force` is False, or it cannot be written.
            FigureError: A setting is invalid, or the figure does not fit.
        """
        style = replace(style or TopNineStyle(), **changes)
        dpi = DPI[style.medium] if dpi is None else dpi
        return save_result(self, path, style, dpi=dpi, force=force, arrays=arrays)

    def _repr_png_(self) -> bytes:
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def _repr_html_(self) -> str | None:
        return html_of(self)

    @property
    def _most(self) -> int:
        """Largest number of peaks of a channel."""
        return max(len(shown) for channels in self.shown.values() for shown in channels.values())

    def _footer(self) -> str:
        most = self._most
        if most == 1:
            return "each block: the strongest unit of one channel, with its activation"
        return (
            f"each block: the {most} strongest units of one channel, one per image, strongest first · "
            "numbers: highest … lowest activation"
        )

    def _panel(self, name: str, kind: str) -> LayerPanel:
        layer = self.layers[name]
        blocks = tuple(
            self._block(self._channel(layer, channel), shown, kind)
            for channel, shown in self.shown[name].items()
        )
        return LayerPanel((name, layer.field_text), blocks)

    def _block(self, name: str, shown: Sequence[ProjectedPeak], kind: str) -> ChannelBlock:
        activations = _range([one.peak for one in shown])
        if kind == "field":
            return ChannelBlock(name, (activations,), tuple(one.crop for one in shown))
        crops = _effective_crops(shown, self.network.preprocessing.shape[1:])
        height, width = largest(crop.size for crop in crops)
        size = f"{width} px" if width == height else f"{width}x{height} px"
        return ChannelBlock(name, (activations,), crops, size)

    def _channel(self, layer: Layer, channel: int) -> str:
        classes = self.network.classes
        if layer.module == "" and channel < len(classes):
            return f"{classes[channel]} ({channel})"
        return f"{'channel' if len(layer.shape) == 3 else 'unit'} {channel}"


def _effective_crops(shown: Sequence[ProjectedPeak], image_size: tuple[int, int]) -> tuple[Crop, ...]:
    """Crop the peaks of a channel to the smallest squares of one size that contain most of their energy."""
    height, width = image_size
    fields = [one.peak.box or (0, 0, width, height) for one in shown]
    boxes = effective_boxes([one.pixels for one in shown], fields, image_size)
    return tuple(
        Crop(_recropped(one.crop.projection, field, box), one.around.cut(box), note=one.crop.note)
        for one, field, box in zip(shown, fields, boxes, strict=True)
    )


def _recropped(projection: npt.NDArray[Any], field: Box, box: Box) -> npt.NDArray[Any]:
    """Crop a projection (h, w, 3) of the box `field` to another box; it is zero outside `field`."""
    cut = np.zeros((box[3] - box[1], box[2] - box[0], 3), projection.dtype)
    (x0, y0), (x1, y1) = np.maximum(field[:2], box[:2]), np.minimum(field[2:], box[2:])
    common = projection[y0 - field[1] : y1 - field[1], x0 - field[0] : x1 - field[0]]
    cut[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]] = common
    return cut


def _range(peaks: Sequence[Peak]) -> str:
    first, last = _number(peaks[0].activation), _number(peaks[-1].activation)
    return first if first == last else f"{first} … {last}"


def _number(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
