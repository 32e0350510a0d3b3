"""Result of a top-nine computation, as in Figure 2 of the paper: the projected peaks of some channels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.errors import FigureError
from deconvviz.figures.spec.crop import largest
from deconvviz.figures.spec.effective_crop import CROP_TEXT, effective_boxes
from deconvviz.figures.spec.style import DPI, TopNineStyle
from deconvviz.figures.spec.tile_grid import TileGrid
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure
from deconvviz.files import place_of
from deconvviz.layers import Layer
from deconvviz.likeness import PlaceLikeness
from deconvviz.network_info import NetworkInfo
from deconvviz.projection import Box, inside
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, html_of, save_result
from deconvviz.topnine.array_figures import ArrayCrops, signals_figure
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.projected_peak import ProjectedPeak as ProjectedPeak
from deconvviz.verification.result import Verification
from deconvviz.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "deconvviz topnine 1"

Floats: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Searched:
    """Facts about a search, for titles and manifests."""

    image_count: int
    source: Mapping[str, Any]  # as in the manifest of the search
    manifest: Path | None  # None if the search was not saved
    scaled_decoding: bool = False  # large JPEGs were decoded at a fraction of their size


@dataclass(frozen=True, eq=False, repr=False)
class TopNine:
    """Projected peaks of some channels, displayed in Jupyter as Figure 2 of the paper.

    The figure shows the patches and the projections of images and bands, strips of frames of volumes and
    video, and curves of signals.

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
                ``medium`` (``screen``, ``paper`` or ``slide``), ``bands`` (such as ``(4, 3, 2)``). For
                signals, only ``percentile`` and ``medium`` have an effect.

        Raises:
            FigureError: A setting is invalid, or the figure does not fit.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: TopNineStyle | None = None, **changes: Any) -> TopNineFigure | TileGrid:
        """Return the content of `figure` as arrays and lines of text. Takes the same arguments.

        It is a `TileGrid` for signals.

        Raises:
            FigureError: A setting is invalid.
        """
        source = Path(self.searched.source["place"]).name
        style = replace(style or TopNineStyle(), **changes)
        preprocessing, noun = self.network.preprocessing, self._noun
        if style.bands is not None and not preprocessing.reads_bands:
            raise FigureError(
                f"bands={style.bands}: the input of {self.network.name} has no bands to choose from. Leave "
                "bands out"
            )
        title = (
            f"{self.network.name} · top {self._most} of {counted(self.searched.image_count, noun)}",
            f"weights: {self.network.origin.short} · {noun}s: {source}",
        )
        if len(preprocessing.input_shape) == 2:
            rows = [
                (self._label(layer, channel, shown), shown)
                for layer, channels in self.shown.items()
                for channel, shown in channels.items()
            ]
            return signals_figure(title, rows, style, self._footer())
        crops = None
        if not preprocessing.reads_images:
            crops = ArrayCrops(self._every, preprocessing.input_shape, style)
        frames = 1 if crops is None or preprocessing.reads_bands else crops.frames(list(self.layers.values()))
        return TopNineFigure(
            title=title,
            panels=tuple(self._panel(layer, style.crop, crops, frames) for layer in self.shown),
            style=style,
            top=self.k * frames,
            footer=self._footer(frames, "" if crops is None else crops.text(self._every)),
            units="in pixel values (white = 1)" if crops is None else "in the units of the input",
            crop_text=CROP_TEXT[style.crop],
            zoom_each=style.crop == "effective",
            across=frames if frames > 1 else None,
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the result as NumPy arrays with one row for each of K peaks, in the order of `shown`.

        Returns:
            A dictionary with ``pixels`` (K, C, H, W), ``layer``, ``channel``, ``rank``, ``activation``,
            ``image`` (image ids), ``y`` and ``x`` (-1 without position), and ``boxes`` (K, 4). Of signals,
            ``pixels`` is (K, C, T) and ``boxes`` (K, 2), and y is -1. Of volumes and video, they are
            (K, C, D, H, W) and (K, 6), and there is ``z``.
        """
        shape = self.network.preprocessing.input_shape
        axes = len(shape) - 1
        projected = self._every
        pixels = np.zeros((len(projected), *shape), np.float32)
        for whole, one in zip(pixels, projected, strict=True):
            whole[inside(one.box)] = one.pixels
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
            **(
                {"z": np.array([-1 if peak.z is None else peak.z for peak in peaks], np.int64)}
                if axes == 3
                else {}
            ),
            "boxes": np.array([peak.box or (0,) * (2 * axes) for peak in peaks], np.int64).reshape(
                -1, 2 * axes
            ),
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
            "scaled_decoding": self.searched.scaled_decoding,
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
    def _every(self) -> list[ProjectedPeak]:
        return [one for channels in self.shown.values() for shown in channels.values() for one in shown]

    @property
    def _noun(self) -> str:
        return "image" if self.network.preprocessing.reads_images else "input"

    @property
    def _most(self) -> int:
        """Largest number of peaks of a channel."""
        return max(len(shown) for channels in self.shown.values() for shown in channels.values())

    def _label(self, layer: str, channel: int, shown: Sequence[ProjectedPeak]) -> tuple[str, str]:
        named = f"{layer} · {self._channel(self.layers[layer], channel)}"
        return named, _range([one.peak for one in shown])

    def _footer(self, frames: int = 1, colours: str = "") -> str:
        most = self._most
        shape = self.network.preprocessing.input_shape
        block = "row of signals" if len(shape) == 2 else "block"
        if most == 1:
            text = f"each {block}: the strongest unit of one channel, with its activation"
        else:
            text = (
                f"each {block}: the {most} strongest units of one channel, one per {self._noun}, strongest "
                "first · numbers: highest … lowest activation"
            )
        noun = "frames" if shape[0] == 3 else "slices"
        strips = (
            f"each row of a block: one unit in the {frames} {noun} with the most energy of its projection"
        )
        decoding = "large JPEGs decoded at reduced size" if self.searched.scaled_decoding else ""
        return " · ".join(filter(None, [text, strips if frames > 1 else "", colours, decoding]))

    def _panel(self, name: str, kind: str, crops: ArrayCrops | None, frames: int) -> LayerPanel:
        layer = self.layers[name]
        blocks = tuple(
            self._block(self._channel(layer, channel), shown, kind)
            if crops is None
            else self._block_of(self._channel(layer, channel), shown, kind, crops.of(shown, frames))
            for channel, shown in self.shown[name].items()
        )
        return LayerPanel((name, layer.field_text), blocks)

    def _block(self, name: str, shown: Sequence[ProjectedPeak], kind: str) -> ChannelBlock:
        if kind == "field":
            return self._block_of(name, shown, kind, tuple(one.crop for one in shown))
        crops = _effective_crops(shown, self.network.preprocessing.shape[1:])
        return self._block_of(name, shown, kind, crops)

    def _block_of(
        self, name: str, shown: Sequence[ProjectedPeak], kind: str, crops: tuple[Crop, ...]
    ) -> ChannelBlock:
        activations = _range([one.peak for one in shown])
        if kind == "field":
            return ChannelBlock(name, (activations,), crops)
        height, width = largest(crop.size for crop in crops)
        size = f"{width} px" if width == height else f"{width}x{height} px"
        return ChannelBlock(name, (activations,), crops, size)

    def _channel(self, layer: Layer, channel: int) -> str:
        classes = self.network.classes
        if layer.module == "" and channel < len(classes):
            return f"{classes[channel]} ({channel})"
        return f"{'channel' if len(layer.shape) > 1 else 'unit'} {channel}"


def _effective_crops(shown: Sequence[ProjectedPeak], image_size: tuple[int, int]) -> tuple[Crop, ...]:
    """Crop the peaks of a channel to the smallest squares of one size that contain most of their energy."""
    fields = [one.box for one in shown]
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
