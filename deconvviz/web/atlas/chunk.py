"""Projection of one chunk: images and numbers of some channels of a layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deconvviz.dataset_search.result import Search
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.topnine.peak_crops import PeakCrop, Picture, box_of
from deconvviz.topnine.peak_stream import stream_peaks
from deconvviz.web.atlas.addresses import chunk_of, image_of, numbers_of, tiles_of
from deconvviz.web.atlas.likeness import OTHERS, Likeness, likeness_of
from deconvviz.web.atlas.plan import LayerPlan
from deconvviz.web.atlas.records import entry_of, write_file, write_record
from deconvviz.web.atlas.relatives import Relatives
from deconvviz.web.atlas.spool import Spool, Stored
from deconvviz.web.atlas.tiles import KeptPeak, as_bytes, cut_alike, sprite, webp
from deconvviz.web.atlas.unit import as_text, classes_of, numbers_of_unit
from deconvviz.web.images import fitted

IMAGE_SIDE = 160  # longest side of whole images
IMAGE_QUALITY = 75


@dataclass(frozen=True)
class Context:
    """What all chunks of an atlas need."""

    found: Search
    network: Network
    site: Path
    k: int
    memory: int | None
    relatives: Relatives


@dataclass
class Clock:
    """Seconds spent on projecting and on everything else."""

    projecting: float = 0.0
    other: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, *, projecting: bool) -> None:
        """Add the time since the last lap."""
        now = time.perf_counter()
        if projecting:
            self.projecting += now - self._since
        else:
            self.other += now - self._since
        self._since = now


def make_chunk(context: Context, plan: LayerPlan, number: int, report: Callable[[float], None]) -> Clock:
    """Project a chunk, and write its files and, after them, its record.

    Args:
        context: What all chunks need.
        plan: The layer.
        number: Number of the chunk.
        report: Called with the share of the chunk that is projected, from 0 to 1.
    """
    layer = context.network.layers.find(plan.name)
    with Spool(context.site / plan.folder) as spool:
        return _Writer(context, plan, number, layer, spool).run(report)


class _Writer:
    """Collects the peaks of each channel and writes a channel when all of them have arrived."""

    def __init__(self, context: Context, plan: LayerPlan, number: int, layer: Layer, spool: Spool) -> None:
        self._context, self._plan, self._number, self._layer = context, plan, number, layer
        self._channels = plan.chunks[number]
        self._peaks = {
            channel: context.found.top(layer.name, channel, context.k) for channel in self._channels
        }
        self._classes = classes_of(context.network, layer)
        self._likeness: dict[int, Likeness | None] = {}
        self._spool = spool
        self._waiting: dict[int, dict[int, Stored]] = {channel: {} for channel in self._channels}
        self._files: dict[str, dict[str, Any]] = {}
        self._clock = Clock()

    def run(self, report: Callable[[float], None]) -> Clock:
        for one in self._projected(report):
            self._keep_image(one.picture)
            peak = one.shown.peak
            if peak.rank == 1:
                self._likeness[peak.channel] = likeness_of(one)
            waiting = self._waiting[peak.channel]
            waiting[peak.rank] = self._spool.put(_kept(one))
            if len(waiting) == len(self._peaks[peak.channel]):
                self._write_unit(peak.channel, self._waiting.pop(peak.channel))
        for channel in list(self._waiting):  # without peaks
            self._write_unit(channel, self._waiting.pop(channel))
        record = {"identity": dict(self._plan.identity), "files": self._files}
        write_record(self._folder / chunk_of(self._number), record)
        self._clock.lap(projecting=False)
        return self._clock

    @property
    def _folder(self) -> Path:
        return self._context.site / self._plan.folder

    def _projected(self, report: Callable[[float], None]) -> Iterator[PeakCrop]:
        """Yield the projected peaks, and measure the time that projecting takes."""
        found, layer = self._context.found, self._layer
        self._clock.lap(projecting=False)
        for one in stream_peaks(
            self._context.network,
            found.source,
            [peak for peaks in self._peaks.values() for peak in peaks],
            {layer.name: found.largest(layer)},
            layers=[layer],
            others=OTHERS,
            memory=self._context.memory,
            report=lambda done, total: report(done / total),
        ):
            self._clock.lap(projecting=True)
            yield one
            self._clock.lap(projecting=False)
        self._clock.lap(projecting=True)

    def _keep_image(self, picture: Picture) -> None:
        """Write the whole image, unless it is there already."""
        name = image_of(picture.image_id)
        if name not in self._files:
            data = webp(fitted(picture.view, IMAGE_SIDE), quality=IMAGE_QUALITY)
            self._write(name, data, replace=False)

    def _write_unit(self, channel: int, waiting: dict[int, Stored]) -> None:
        context, folder = self._context, self._plan.folder
        ranks = sorted(waiting)
        made = None
        if ranks:
            height, width = context.network.preprocessing.shape[1:]
            peaks = [self._spool.get(waiting[rank]) for rank in ranks]
            tiles = cut_alike(peaks, context.network.preprocessing.std, (height, width))
            data, geometry = sprite(tiles)
            self._write(f"{folder}/{tiles_of(channel)}", data)
            made = tiles, geometry
        numbers = numbers_of_unit(
            context.found, self._layer, channel, self._classes, self._peaks[channel], made,
            self._likeness.get(channel), context.relatives,
        )  # fmt: skip
        self._write(f"{folder}/{numbers_of(channel)}", as_text(numbers).encode("ascii"))

    def _write(self, name: str, data: bytes, *, replace: bool = True) -> None:
        """Write a file and note its size and digest. With `replace=False` an equal file is left alone."""
        path = self._context.site / name
        same = not replace and path.is_file() and path.stat().st_size == len(data)
        self._files[name] = entry_of(data) if same else write_file(path, data)


def _kept(one: PeakCrop) -> KeptPeak:
    shown = one.shown
    patch = as_bytes(shown.around.patch)
    return KeptPeak(shown.peak, shown.pixels, box_of(shown.peak, one.picture), shown.around.box, patch)
