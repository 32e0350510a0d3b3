"""A search that is done: the strongest pictures of every channel, to be asked, drawn, and kept on disk."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deconvviz.dataset_search.checkpoint import progress_of
from deconvviz.dataset_search.peak_finder import Numbers
from deconvviz.dataset_search.tables import EDGES
from deconvviz.described_network import load_described
from deconvviz.errors import SearchError, UnitError
from deconvviz.files import write_text, write_whole
from deconvviz.image_sources import Source, open_source, reopen
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.results import refuse_existing
from deconvviz.similar_names import nearest
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.project_peaks import Report, project_peaks
from deconvviz.topnine.result import Searched, TopNine
from deconvviz.wording import missing_number

FORMAT = "deconvviz search 1"
PEAKS, CHANNELS, SKIPPED, MANIFEST = "top.parquet", "channels.parquet", "skipped.csv", "manifest.json"
ORDERS = ("activation", "density", "random")


@dataclass(frozen=True)
class Reopening:
    """How the network and the images of a search are opened again, once they are needed."""

    network: Network | None = None  # one of the user's own, or the one that searched in this program
    source: Source | str | None = None  # where the images are now
    weights: str | Path | None = None  # where the weights are now
    device: str = "cpu"
    allow_code: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Search:
    """What `search` gives and `open_search` reads: for every channel its k strongest pictures.

    `peaks` and `channels` are Arrow tables (``.to_pandas()``, ``polars.from_arrow(...)``), as they stand in
    ``top.parquet`` and ``channels.parquet``. `skipped` are pictures that could not be read: id, reason.
    """

    peaks: pa.Table
    channels: pa.Table
    manifest: Mapping[str, Any]
    skipped: tuple[tuple[str, str], ...]
    folder: Path | None = None
    reopening: Reopening = Reopening()

    @cached_property
    def layers(self) -> dict[str, int]:
        """The layers that were searched, and how many channels each has."""
        return {layer["name"]: layer["channels"] for layer in self.manifest["layers"]}

    @property
    def pictures(self) -> int:
        """How many pictures were looked at."""
        return int(self.manifest["pictures"])

    @property
    def kept(self) -> int:
        """How many peaks of each channel were kept."""
        return min(int(self.manifest["top"]), self.pictures)

    def open_network(self) -> Network:
        """Return the network that was searched with: loaded again, unless one was given.

        Raises ManifestError.

        A search is data; it is asked for a network only to project. That the weights are still the same is
        seen then: every activation is compared with the search.
        """
        how = self.reopening
        if how.network is not None:
            return how.network
        return load_described(
            self.manifest["network"],
            self._home / MANIFEST,
            weights=how.weights,
            device=how.device,
            allow_code=how.allow_code,
        )

    @cached_property
    def source(self) -> Source:
        """The images that were searched. Raises SourceError if they are others now."""
        return reopen(self.manifest["source"], self.reopening.source)

    def _open_source(self) -> tuple[Source, tuple[str, ...]]:
        """Return the images, and a note if there are others now: those shown are checked one by one."""
        described = self.manifest["source"]
        whole = open_source(self.reopening.source or described["place"])
        source = whole if described["limit"] is None else whole.limited(described["limit"])
        if source.digest == described["digest"]:
            return source, ()
        source = whole  # the first ones by id may be others now
        return source, (
            f"{source.place} is not as it was searched ({described['pictures']} pictures then, {len(source)} "
            "now); those that are shown are",
        )

    @property
    def _home(self) -> Path:
        return self.folder or Path()

    def __len__(self) -> int:
        """Peaks that were kept."""
        return int(self.peaks.num_rows)

    def __repr__(self) -> str:
        names = list(self.layers)
        told = ", ".join(names[:3]) + (f" ... ({len(names)} layers)" if len(names) > 3 else "")
        return (
            f"<Search of {self.pictures:,} pictures in {self.manifest['network']['name']}: {told}; "
            f"top {self.manifest['top']} of {self.channels.num_rows:,} channels>"
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in ("layer", "channels", "dead", "strongest peak"))
        rows = ""
        for layer, count in self.layers.items():
            best = int(np.argmax(self._column(layer, "maximum")))
            top = self.top(layer, best, 1)
            strongest = f"channel {best}: {top[0]}" if top else ""
            cells = (layer, str(count), str(len(self.dead(layer))), strongest)
            rows += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        return f"<p>{escape(repr(self)[1:-1])}</p><table><tr>{head}</tr>{rows}</table>"

    def top(self, layer: str | Layer, channel: int, k: int | None = None) -> list[Peak]:
        """The strongest pictures of a channel, strongest first; all that were kept, or k of them.

        Raises SearchError for a layer that was not searched, UnitError for a channel that it does not have,
        or more peaks than were kept.
        """
        self.check_channels(layer, [channel])
        layer = self.name_of(layer)
        kept = self.kept
        if k is not None and not 1 <= k <= kept:
            raise UnitError(f"{k} peaks of a channel were asked for: from 1 to {kept} are kept")
        first = (self._first(layer) + channel) * kept
        rows = self.peaks.slice(first, kept if k is None else k).to_pylist()
        return [_peak(row) for row in rows]

    def dead(self, layer: str | Layer) -> list[int]:
        """The channels of a layer that never were above zero."""
        return [int(channel) for channel in np.flatnonzero(self._column(layer, "dead"))]

    def largest(self, layer: str | Layer) -> float:
        """The largest peak of a layer, whatever its sign."""
        return float(np.abs(self._column(layer, "maximum")).max())

    def choose(self, layer: str | Layer, count: int, by: str = "activation", seed: int = 0) -> list[int]:
        """`count` channels of a layer that are not dead: the first by maximum or density, or random ones.

        ``random`` ones stand in order, as in the paper's Figure 2. Raises SearchError, UnitError.
        """
        if by not in ORDERS:
            raise SearchError(f"no order {by!r} of channels: there are {', '.join(ORDERS)}")
        if count < 1:
            raise UnitError(f"{count} channels were asked for: ask for 1 or more")
        alive = np.flatnonzero(~self._column(layer, "dead"))
        if not len(alive):
            raise SearchError(
                f"no channel of {layer} was ever above zero on these pictures: name the channels to be shown"
            )
        if by == "random":
            chosen = np.random.default_rng(seed).permutation(alive)[:count]
            return sorted(int(channel) for channel in chosen)
        numbers = self._column(layer, "maximum" if by == "activation" else "density")[alive]
        return [int(channel) for channel in alive[np.argsort(-numbers, kind="stable")[:count]]]

    def topnine(
        self,
        layers: str | Layer | Iterable[str | Layer],
        channels: Sequence[int] | None = None,
        *,
        count: int = 16,
        by: str = "activation",
        seed: int = 0,
        k: int = 9,
        memory: int | None = None,
        network: Network | None = None,
        report: Report | None = None,
    ) -> TopNine:
        """The paper's Figure 2: the k strongest patches of some channels beside their projections.

        `channels` of a layer, or `count` of each, chosen `by` (see `choose`). Every activation is computed
        again and must be that of the search. `network` is the network, if it is loaded already. `report`
        gets how many of how many images are done. Raises SearchError, LayerError, UnitError, RefusedOp.
        """
        named = [layers] if isinstance(layers, (str, Layer)) else layers
        asked = list(dict.fromkeys(self.name_of(layer) for layer in named))
        chosen = {
            layer: list(dict.fromkeys(channels))
            if channels is not None
            else self.choose(layer, count, by, seed)
            for layer in asked
        }
        return self.project_channels(chosen, k=k, memory=memory, network=network, report=report)

    def project_channels(
        self,
        channels: Mapping[str, Sequence[int]],
        *,
        k: int = 9,
        memory: int | None = None,
        network: Network | None = None,
        report: Report | None = None,
    ) -> TopNine:
        """As `topnine`, with the channels of each layer. Raises the same errors."""
        peaks = self._chosen(channels, k)
        network = self.open_network() if network is None else network
        source, notes = self._open_source()
        return project_peaks(
            network,
            source,
            peaks,
            {layer: self.largest(layer) for layer in channels},
            Searched(
                self.pictures,
                self.manifest["source"],
                None if self.folder is None else self.folder / MANIFEST,
            ),
            k=k,
            notes=notes,
            memory=memory,
            report=report,
        )

    def _chosen(self, channels: Mapping[str, Sequence[int]], k: int) -> list[Peak]:
        """The peaks to be projected, checked before a network or an image is opened."""
        if not 1 <= k <= int(self.manifest["top"]):
            raise SearchError(f"the {k} strongest were asked for: the search kept {self.manifest['top']}")
        if not channels or not all(channels.values()):
            raise SearchError("no channel was asked for: name one or more")
        return [
            peak
            for layer, numbers in channels.items()
            for channel in numbers
            for peak in self.top(layer, channel, min(k, self.kept))
        ]

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write top.parquet, channels.parquet, skipped.csv and manifest.json, the last one last.

        Raises OutputError.
        """
        into = Path(folder)
        refuse_existing([into / name for name in (PEAKS, CHANNELS, SKIPPED, MANIFEST)], force=force)
        write_whole(into / PEAKS, partial(_write_table, self.peaks), force=force)
        write_whole(into / CHANNELS, partial(_write_table, self.channels), force=force)
        write_whole(into / SKIPPED, partial(_write_csv, self.skipped), force=force)
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_text(into / MANIFEST, text, force=force)
        return into

    def check_channels(self, layer: str | Layer, channels: Iterable[int]) -> None:
        """Raise SearchError or UnitError for what was not searched."""
        count = self.layers[self.name_of(layer)]
        for channel in channels:
            if not 0 <= channel < count:
                raise UnitError(missing_number("channel", channel, self.name_of(layer), count))

    def name_of(self, layer: str | Layer) -> str:
        """Return a layer's name in this search, given the layer or either of its names.

        Raises SearchError.
        """
        layer = layer.name if isinstance(layer, Layer) else layer
        if layer in self.layers:
            return layer
        for told in self.manifest["layers"]:
            if layer == told["module"] or layer in told["also"]:
                return str(told["name"])
        count = len(self.layers)
        some = nearest(layer, list(self.layers)) or list(self.layers)[:8]
        raise SearchError(
            f"no layer {layer!r} in this search of {count} layer{'s' * (count != 1)}: there is "
            f"{', '.join(some)} (search again with {{option}} for it)",
            option=f"layer={layer}",
        )

    def _first(self, layer: str) -> int:
        """The row of a layer's first channel among all channels."""
        before = list(self.layers).index(layer)
        return sum(list(self.layers.values())[:before])

    def _column(self, layer: str | Layer, name: str) -> Numbers:
        layer = self.name_of(layer)
        rows = self.channels.slice(self._first(layer), self.layers[layer])
        column: Numbers = rows.column(name).to_numpy()
        return column


def open_search(
    folder: str | os.PathLike[str],
    *,
    network: Network | None = None,
    source: Source | str | os.PathLike[str] | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Search:
    """The search that was written into a folder.

    Its network and its pictures are only opened to project: from where the manifest says, or from `weights`
    and `source` if they were moved. A `network` of your own is taken as it is, if its weights are the same;
    one that a file's code makes is only made with `allow_code`. Raises SearchError, ManifestError.
    """
    home = Path(folder)
    if not (home / MANIFEST).is_file():
        message, option = _no_search(home)
        raise SearchError(message, option=option)
    try:
        manifest = json.loads((home / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise SearchError(f"{home / MANIFEST} is not of a search: its format is not {FORMAT!r}")
        peaks, channels = pq.read_table(home / PEAKS), pq.read_table(home / CHANNELS)
        with open(home / SKIPPED, encoding="utf-8", newline="") as stream:
            skipped = tuple((row["image"], row["reason"]) for row in csv.DictReader(stream))
        _check_whole(manifest, peaks, channels)
        digest = manifest["network"]["digest"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as reason:
        raise SearchError(
            f"{home} holds no whole search: {reason} (search again with {{option}})", option="force=True"
        ) from reason
    if network is not None and network.digest != digest:
        raise SearchError(
            f"the weights of {network.name} are not those of the search in {home}: {network.digest} instead "
            f"of {digest}"
        )
    moved = source if source is None or isinstance(source, Source) else os.fspath(source)
    reopening = Reopening(network, moved, weights, device, allow_code)
    return Search(peaks, channels, manifest, skipped, home, reopening)


def _check_whole(manifest: Mapping[str, Any], peaks: pa.Table, channels: pa.Table) -> None:
    count = sum(layer["channels"] for layer in manifest["layers"])
    kept = min(manifest["top"], manifest["pictures"])
    if channels.num_rows != count or peaks.num_rows != count * kept:
        raise ValueError(
            f"{count} channels with {kept} peaks each are told of, and {PEAKS} has {peaks.num_rows} rows, "
            f"{CHANNELS} {channels.num_rows}"
        )


def _no_search(home: Path) -> tuple[str, str]:
    """A message, and the option that it names."""
    if not home.is_dir():
        return (
            f"no search in {home}: there is no such folder (a search makes one with {{option}})",
            "out=FOLDER",
        )
    if (progress := progress_of(home)) is not None:
        return (
            f"the search in {home} is not done: {progress[0]} of {progress[1]} batches; "
            "go on with the same search and {option}",
            "resume=True",
        )
    return f"no search in {home}: there is no {MANIFEST} (a search makes one with {{option}})", "out=FOLDER"


def _peak(row: Mapping[str, Any]) -> Peak:
    edges = [row[name] for name in EDGES]
    box = None if None in edges else (edges[0], edges[1], edges[2], edges[3])
    said = {name: row[name] for name in ("layer", "channel", "rank", "activation", "image", "y", "x")}
    return Peak(**said, box=box)


def _write_table(table: pa.Table, stream: BinaryIO) -> None:
    pq.write_table(table, stream)


def _write_csv(rows: Iterable[tuple[str, str]], stream: BinaryIO) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text)
    writer.writerow(("image", "reason"))
    writer.writerows(rows)
    text.flush()
    text.detach()
