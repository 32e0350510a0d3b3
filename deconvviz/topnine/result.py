"""The paper's Figure 2: the strongest patches of some channels, and their projections."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.figures.spec.style import TopNineStyle
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure
from deconvviz.files import place_of
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.provenance import versions
from deconvviz.results import SavedFiles, save_result
from deconvviz.topnine.peak import Peak

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "deconvviz topnine 1"

Floats: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class ProjectedPeak:
    """One peak projected back to pixels, cut to its receptive field."""

    peak: Peak
    pixels: Floats  # (C, h, w) signed, in the network's input space
    crop: Crop  # the same in pixel values, and the patch


@dataclass(frozen=True)
class Searched:
    """Facts about the search whose peaks are shown."""

    image_count: int
    source: Mapping[str, Any]  # as the manifest of the search describes it
    manifest: Path | None  # of the search, if it was saved


@dataclass(frozen=True, eq=False, repr=False)
class TopNine:
    """The strongest images of some channels, projected. Jupyter shows it as the paper's Figure 2.

    `shown[layer][channel]` are the channel's peaks, strongest first.
    """

    network: NetworkInfo
    layers: Mapping[str, Layer]
    searched: Searched
    shown: Mapping[str, Mapping[int, tuple[ProjectedPeak, ...]]]
    by_analogy: Mapping[str, Sequence[Mapping[str, Any]]]  # of each layer
    k: int  # so many of each channel, or as many as there are images
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        named = "; ".join(
            f"{layer}, {len(channels)} channel{'s' * (len(channels) != 1)}"
            for layer, channels in self.shown.items()
        )
        return f"<TopNine of {self.network.name}: {named}>"

    def figure(self, style: TopNineStyle | None = None, **changes: Any) -> Figure:
        """Draw the figure: ``panels`` as in the paper, or ``pairs``, patches next to projections.

        `style`, or single settings of it: ``layout``, ``percentile``, ``columns`` (channels side by side).
        One scale for each channel; zero is mid-grey. Raises FigureError.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: TopNineStyle | None = None, **changes: Any) -> TopNineFigure:
        """Return what `figure` draws, as plain arrays and lines of text."""
        source = Path(self.searched.source["place"]).name
        return TopNineFigure(
            title=(
                f"{self.network.name} · the {self._most} strongest of {self.searched.image_count:,} pictures",
                f"weights: {self.network.origin.short} · pictures: {source}",
            ),
            panels=tuple(self._panel(layer) for layer in self.shown),
            style=replace(style or TopNineStyle(), **changes),
            top=self.k,
            footer=self._footer(),
            units="in pixel values (white = 1)",
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All as NumPy arrays, a row for each peak, in the order of `shown`.

        pixels (K, C, H, W), layer, channel, rank, activation, image, y, x (-1 without position), boxes.
        """
        shape = self.network.preprocessing.shape
        every = [one for channels in self.shown.values() for shown in channels.values() for one in shown]
        pixels = np.zeros((len(every), *shape), np.float32)
        for whole, one in zip(pixels, every, strict=True):
            x0, y0, x1, y1 = one.peak.box or (0, 0, shape[2], shape[1])
            whole[:, y0:y1, x0:x1] = one.pixels
        peaks = [one.peak for one in every]
        return {
            "pixels": pixels,
            "layer": np.array([peak.layer for peak in peaks]),
            "channel": np.array([peak.channel for peak in peaks], np.int64),
            "rank": np.array([peak.rank for peak in peaks], np.int64),
            "activation": np.array([peak.activation for peak in peaks]),
            "image": np.array([peak.image for peak in peaks]),
            "y": np.array([-1 if peak.y is None else peak.y for peak in peaks], np.int64),
            "x": np.array([-1 if peak.x is None else peak.x for peak in peaks], np.int64),
            "boxes": np.array([peak.box or (0, 0, 0, 0) for peak in peaks], np.int64).reshape(-1, 4),
        }

    def describe(self) -> dict[str, Any]:
        """Return network, source, peaks and versions as plain JSON values, without paths."""
        return {
            "format": FORMAT,
            "network": self.network.to_json(),
            "source": {name: value for name, value in self.searched.source.items() if name != "place"},
            "layers": [
                {
                    "name": layer,
                    "channels": list(channels),
                    "peaks": [asdict(one.peak) for shown in channels.values() for one in shown],
                    "by_analogy": list(self.by_analogy[layer]),
                }
                for layer, channels in self.shown.items()
            ],
            "notes": list(self.notes),
            "versions": versions(self.network),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return where the search, its source, and a file that makes the network, are."""
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
        dpi: float = 200,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure (.png, .svg, .pdf), its manifest (.json), and with `arrays` the numbers (.npz).

        `style`, or single settings of it, as for `figure`. Raises OutputError, FigureError.
        """
        style = replace(style or TopNineStyle(), **changes)
        return save_result(self, path, style, dpi=dpi, force=force, arrays=arrays)

    def _repr_png_(self) -> bytes:
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    @property
    def _most(self) -> int:
        """How many pictures of a channel are shown."""
        return max(len(shown) for channels in self.shown.values() for shown in channels.values())

    def _footer(self) -> str:
        most = self._most
        if most == 1:
            return "each block: the strongest unit of one channel, and its activation"
        return (
            f"each block: the {most} strongest units of one channel, each of another picture, row by row; "
            "a … b: the first and the last activation"
        )

    def _panel(self, name: str) -> LayerPanel:
        layer = self.layers[name]
        blocks = tuple(
            ChannelBlock(self._channel(layer, channel), (_range([one.peak for one in shown]),), _crops(shown))
            for channel, shown in self.shown[name].items()
        )
        return LayerPanel((name, layer.sees), blocks)

    def _channel(self, layer: Layer, channel: int) -> str:
        classes = self.network.classes
        if layer.dotted == "" and channel < len(classes):
            return f"{classes[channel]} ({channel})"
        return f"{'channel' if len(layer.shape) == 3 else 'unit'} {channel}"


def _crops(shown: Sequence[ProjectedPeak]) -> tuple[Crop, ...]:
    return tuple(one.crop for one in shown)


def _range(peaks: Sequence[Peak]) -> str:
    first, last = _number(peaks[0].activation), _number(peaks[-1].activation)
    return first if first == last else f"{first} … {last}"


def _number(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
