"""The paper's Figure 2: the strongest patches of some channels, beside what in each made the unit fire."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp, SearchError
from deconvviz.figures.plate import Block, Crop, Panel, Plate
from deconvviz.files import write_whole
from deconvviz.layers import Layer
from deconvviz.manifest import analogies, refuse_existing, targets
from deconvviz.nets.pictures import Picture
from deconvviz.network import Network
from deconvviz.projection import PERCENTILE, Projection
from deconvviz.provenance import describe_network, place_of, versions
from deconvviz.recording import Recording
from deconvviz.searching.sources import Source, open_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deconvviz.searching.found import Peak, Search

FORMAT = "deconvviz topnine 1"
TOGETHER = 8  # pictures that are recorded at once
_SAME = 1e-3  # how far an activation may be off what the index says, as a share of itself
_ROUNDING = 1e-5  # and of the strongest of its layer

Floats: TypeAlias = npt.NDArray[np.floating]
Report: TypeAlias = Callable[[int, int], None]


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
        from deconvviz.figures.plate_sheet import draw_plate

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
        from deconvviz.figures.save import save as save_figure

        figure = Path(path)
        written = targets(figure, arrays)
        refuse_existing(written, force=force)
        drawn = self.figure(layout=layout, percentile=percentile, columns=columns)
        style = {"layout": layout, "percentile": percentile, "columns": columns, "dpi": dpi}
        text = json.dumps(self._describe(figure, style), indent=2, ensure_ascii=False, allow_nan=False)
        save_figure(drawn, figure, dpi=dpi, force=force)
        write_whole(written[1], partial(_write_text, text + "\n"), force=force)
        if arrays:
            write_whole(written[2], partial(_write_arrays, self.arrays()), force=force)
        return written

    def _repr_png_(self) -> bytes:
        from deconvviz.figures.save import render_png

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


def topnine(
    search: Search,
    channels: Mapping[str, Sequence[int]],
    *,
    k: int = 9,
    memory: int | None = None,
    report: Report | None = None,
) -> TopNine:
    """Project the k strongest pictures of some channels of each layer; each picture is recorded once.

    Every activation is computed again; one that is not that of the index is an error. `report` is told how
    many of how many pictures are done. Raises SearchError, PictureError, RefusedOp, UnitError.
    """
    peaks = _chosen(search, channels, k)
    network = search.network
    layers = {name: network.layers.find(name) for name in channels}
    for layer in layers.values():
        if layer.refused:
            raise RefusedOp(f"{layer.name} cannot be projected: {layer.refused}")
    source, notes = _source(search)
    of_picture: dict[str, list[Peak]] = {}
    for peak in peaks:
        of_picture.setdefault(peak.image, []).append(peak)
    numbers = _numbers(source, of_picture)
    shown: dict[tuple[str, int, int], Shown] = {}
    by_analogy: dict[str, Sequence[Mapping[str, Any]]] = {}
    changed: list[str] = []
    strongest = {name: search.largest(name) for name in channels}
    done = 0
    in_order = sorted(of_picture, key=numbers.__getitem__)
    while done < len(in_order):
        together = in_order[done : done + TOGETHER]
        pictures = [source.picture(numbers[image]) for image in together]
        for recording, images in _recorded(network, pictures, together, list(layers)):
            for name, layer in layers.items():
                wanted = [peak for image in images for peak in of_picture[image] if peak.layer == name]
                if not wanted:
                    continue
                units = [Unit(images.index(peak.image), peak.channel, peak.y, peak.x) for peak in wanted]
                projection = recording.project(name, units, memory=memory)
                by_analogy[name] = analogies(projection)
                for number, peak in enumerate(wanted):
                    changed += _difference(peak, projection.units[number], strongest[name])
                    shown[name, peak.channel, peak.rank] = _shown(projection, number, peak, layer)
        done += len(together)
        if report is not None:
            report(done, len(of_picture))
    if changed:
        raise SearchError(
            f"{len(changed)} of {len(peaks)} activations are not those of the index, and nothing is drawn: "
            f"{'; '.join(changed[:3])}{'; ...' if len(changed) > 3 else ''} (pictures or weights have "
            "changed: search again)"
        )
    return TopNine(search, _arranged(peaks, shown), by_analogy, k, notes)


def _chosen(search: Search, channels: Mapping[str, Sequence[int]], k: int) -> list[Peak]:
    """The peaks to be shown, checked before a network or a picture is opened."""
    kept = min(int(search.manifest["top"]), search.pictures)
    if not 1 <= k <= int(search.manifest["top"]):
        raise SearchError(f"the {k} strongest were asked for: the search kept {search.manifest['top']}")
    if not channels or not all(channels.values()):
        raise SearchError("no channel was asked for: name one or more")
    return [
        peak
        for layer, numbers in channels.items()
        for channel in numbers
        for peak in search.top(layer, channel, min(k, kept))
    ]


def _source(search: Search) -> tuple[Source, tuple[str, ...]]:
    """The pictures, and a note if there are others among them now: what is shown is checked one by one."""
    told = search.manifest["source"]
    whole = open_source(search.given_source or told["place"])
    source = whole if told["limit"] is None else whole.limited(told["limit"])
    if source.digest == told["digest"]:
        return source, ()
    source = whole  # the first ones by id may be others now
    return source, (
        f"{source.place} is not as it was searched ({told['pictures']} pictures then, {len(source)} now); "
        "those that are shown are",
    )


def _numbers(source: Source, images: Mapping[str, Any]) -> dict[str, int]:
    missing = [image for image in images if image not in source.names]
    if missing:
        raise SearchError(
            f"{len(missing)} of {len(images)} pictures are not in {source.place}: {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''} (--source says where they are now)"
        )
    return {image: source.names.index(image) for image in images}


def _recorded(
    network: Network, pictures: Sequence[Picture], images: Sequence[str], layers: Sequence[str]
) -> Iterator[tuple[Recording, list[str]]]:
    """Recordings of several pictures at once, or of one after the other where several are refused."""
    together = network.record(list(pictures), layers)
    if len(pictures) == 1 or all(together.coverage(layer).refused == () for layer in layers):
        yield together, list(images)
        return
    for picture, image in zip(pictures, images, strict=True):
        yield network.record([picture], layers), [image]


def _difference(peak: Peak, unit: Unit, strongest: float) -> list[str]:
    if math.isclose(unit.activation, peak.activation, rel_tol=_SAME, abs_tol=_ROUNDING * strongest):
        return []
    return [
        f"channel {peak.channel} of {peak.layer} in {peak.image} was {peak.activation:.6g} and is "
        f"{unit.activation:.6g}"
    ]


def _shown(projection: Projection, number: int, peak: Peak, layer: Layer) -> Shown:
    height, width = projection.inputs.shape[-2:]
    box = peak.box or (0, 0, width, height)
    x0, y0, x1, y1 = box
    pixels = projection.pixels[number, :, y0:y1, x0:x1].detach().cpu().float().numpy()
    left, top = _field_begins(layer, peak)
    rows, columns = layer.field or (height, width)
    crop = Crop(
        projection.crop_at(number, box),
        projection.patch_at(number, box),
        cut_left=left < 0,
        cut_top=top < 0,
        cut_right=left + columns > width,
        cut_bottom=top + rows > height,
        note=None if pixels.any() else ("silent" if peak.activation <= 0 else "zero"),
    )
    return Shown(peak, pixels.copy(), crop)


def _field_begins(layer: Layer, peak: Peak) -> tuple[float, float]:
    """Where the receptive field would begin without borders, (x, y); (0, 0) if it is the whole picture."""
    if layer.first is None or layer.stride is None or peak.y is None or peak.x is None:
        return 0.0, 0.0
    return layer.first[1] + peak.x * layer.stride[1], layer.first[0] + peak.y * layer.stride[0]


def _arranged(
    peaks: Sequence[Peak], shown: Mapping[tuple[str, int, int], Shown]
) -> dict[str, dict[int, tuple[Shown, ...]]]:
    found: dict[str, dict[int, tuple[Shown, ...]]] = {}
    for peak in peaks:
        of_layer = found.setdefault(peak.layer, {})
        one = shown[peak.layer, peak.channel, peak.rank]
        of_layer[peak.channel] = (*of_layer.get(peak.channel, ()), one)
    return found


def _crops(shown: Sequence[Shown]) -> tuple[Crop, ...]:
    return tuple(one.crop for one in shown)


def _range(peaks: Sequence[Peak]) -> str:
    first, last = _number(peaks[0].activation), _number(peaks[-1].activation)
    return first if first == last else f"{first} … {last}"


def _number(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def _write_text(text: str, stream: BinaryIO) -> None:
    stream.write(text.encode())


def _write_arrays(numbers: Mapping[str, Any], stream: BinaryIO) -> None:
    np.savez_compressed(stream, **numbers)
