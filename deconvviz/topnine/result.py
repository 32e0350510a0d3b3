"""The paper's Figure 2: the strongest patches of some channels, beside what in each made the unit fire."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.figures.spec.plate import Block, Crop, Panel, Plate
from deconvviz.files import write_text
from deconvviz.layers import Layer
from deconvviz.manifest import refuse_existing, targets, write_arrays
from deconvviz.projection import PERCENTILE
from deconvviz.provenance import describe_network, place_of, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deconvviz.dataset_search.result import Peak, Search

FORMAT = "deconvviz topnine 1"

Floats: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Shown:
    """One peak carried down to the picture, cut to its receptive field."""

    peak: Peak
    pixels: Floats  # (C, h, w) signed, in the network's input space
    crop: Crop  # the same in pixel values, and the patch


@dataclass(frozen=True, eq=False, repr=False)
class TopNine:
    """The strongest pictures of some channels, projected. It shows itself as the paper's Figure 2 in Jupyter.

    `shown[layer][channel]` are the channel's peaks, strongest first.
    """

    search: Search
    shown: Mapping[str, Mapping[int, tuple[Shown, ...]]]
    by_analogy: Mapping[str, Sequence[Mapping[str, Any]]]  # of each layer
    k: int  # so many of each channel, or as many as there are pictures
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        told = "; ".join(
            f"{layer}, {len(channels)} channel{'s' * (len(channels) != 1)}"
            for layer, channels in self.shown.items()
        )
        return f"<TopNine of {self.search.manifest['network']['name']}: {told}>"

    def figure(
        self, *, layout: str = "panels", percentile: float = PERCENTILE, columns: int | None = None
    ) -> Figure:
        """The figure: ``panels`` as in the paper, or ``pairs``, a channel's patches beside its projections.

        One scale for each channel; zero is mid-grey. Full colour stands at a `percentile` of the values that
        are not zero. `columns` channels stand side by side. Raises FigureError.
        """
        from deconvviz.figures.plate.draw import draw_plate

        return draw_plate(self.plate(layout=layout, percentile=percentile, columns=columns))

    def plate(
        self, *, layout: str = "panels", percentile: float = PERCENTILE, columns: int | None = None
    ) -> Plate:
        """What `figure` draws, as plain arrays and lines of text."""
        network, search = self.search.network, self.search
        source = Path(search.manifest["source"]["place"]).name
        return Plate(
            title=(
                f"{network.name} · the {self._most} strongest of {search.pictures:,} pictures",
                f"weights: {network.origin.short} · pictures: {source}",
            ),
            panels=tuple(self._panel(layer) for layer in self.shown),
            layout=layout,  # type: ignore[arg-type]  # checked by Plate
            percentile=percentile,
            top=self.k,
            columns=columns,
            footer=self._footer(),
            units="in pixel values (white = 1)",
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All as NumPy arrays, a row for each peak, in the order of `shown`.

        pixels (K, C, H, W), layer, channel, rank, activation, image, y, x (-1 without position), boxes.
        """
        shape = self.search.network.preprocessing.shape
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

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        dpi: float = 200,
        force: bool = False,
        arrays: bool = False,
        layout: str = "panels",
        percentile: float = PERCENTILE,
        columns: int | None = None,
    ) -> list[Path]:
        """Write the figure (.png, .svg, .pdf), its manifest (.json), and with `arrays` the numbers (.npz).

        Raises OutputError, FigureError.
        """
        from deconvviz.figures.page.save import save as save_figure

        figure = Path(path)
        written = targets(figure, arrays)
        refuse_existing(written, force=force)
        drawn = self.figure(layout=layout, percentile=percentile, columns=columns)
        style = {"layout": layout, "percentile": percentile, "columns": columns, "dpi": dpi}
        text = json.dumps(self._describe(figure, style), indent=2, ensure_ascii=False, allow_nan=False)
        save_figure(drawn, figure, dpi=dpi, force=force)
        write_text(written[1], text + "\n", force=force)
        if arrays:
            write_arrays(written[2], self.arrays(), force=force)
        return written

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

    def _panel(self, name: str) -> Panel:
        layer = self.search.network.layers.find(name)
        blocks = tuple(
            Block(self._channel(layer, channel), (_range([one.peak for one in shown]),), _crops(shown))
            for channel, shown in self.shown[name].items()
        )
        return Panel((name, layer.sees), blocks)

    def _channel(self, layer: Layer, channel: int) -> str:
        classes = self.search.network.classes
        if layer.dotted == "" and channel < len(classes):
            return f"{classes[channel]} ({channel})"
        return f"{'channel' if len(layer.shape) == 3 else 'unit'} {channel}"

    def _describe(self, figure: Path, style: Mapping[str, Any]) -> dict[str, Any]:
        """The manifest: the same search, channels and style give the same figure."""
        search, beside = self.search, figure.parent
        index = None if search.folder is None else search.folder / "manifest.json"
        return {
            "format": FORMAT,
            "figure": figure.name,
            "search": place_of(index, beside),
            "network": describe_network(search.network, beside),
            "source": search.manifest["source"],
            "layers": [
                {
                    "name": layer,
                    "channels": list(channels),
                    "peaks": [asdict(one.peak) for shown in channels.values() for one in shown],
                    "by_analogy": list(self.by_analogy[layer]),
                }
                for layer, channels in self.shown.items()
            ],
            "style": dict(style),
            "notes": list(self.notes),
            "versions": versions(search.network),
        }


def _crops(shown: Sequence[Shown]) -> tuple[Crop, ...]:
    return tuple(one.crop for one in shown)


def _range(peaks: Sequence[Peak]) -> str:
    first, last = _number(peaks[0].activation), _number(peaks[-1].activation)
    return first if first == last else f"{first} … {last}"


def _number(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
