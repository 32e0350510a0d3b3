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
from typing import Any, BinaryIO, TypeAlias
from weakref import ReferenceType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deconvviz.dataset_search.checkpoint import progress_of
from deconvviz.dataset_search.peak_finder import Numbers
from deconvviz.dataset_search.search_folder import (
    CHANNELS,
    FORMAT,
    MANIFEST,
    OLDER_FORMAT,
    PEAKS,
    SKIPPED,
    check_channels,
    no_search,
    searched_layer,
)
from deconvviz.dataset_search.tables import EDGES
from deconvviz.described_network import load_described
from deconvviz.errors import SearchError, UnitError
from deconvviz.files import write_text, write_whole
from deconvviz.folder_lock import locked
from deconvviz.image_sources import Source, open_source, reopen
from deconvviz.image_sources.opening import place_of_source
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.paths import path_as_typed
from deconvviz.printable_names import json_text, printable_path
from deconvviz.results import refuse_existing
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.project_peaks import Report, project_peaks
from deconvviz.topnine.result import Searched, TopNine
from deconvviz.wording import listed

ORDERS = ("activation", "density", "random")

ChannelsByLayer: TypeAlias = (
    "Mapping[str, Sequence[int]] | Mapping[Layer, Sequence[int]] | Mapping[str | Layer, Sequence[int]]"
)


@dataclass(frozen=True)
class Reopening:
    """How the network and the images of a search are opened again, once they are needed."""

    network: Network | None = None  # the one that was given to `open_search`
    searched: ReferenceType[Network] | None = None  # the one that searched, as long as the program has it
    source: Source | str | None = None  # where the images are now
    weights: str | Path | None = None  # where the weights are now
    device: str = "cpu"
    allow_code: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """Return what can be pickled: no other program has the network that searched."""
        return {**vars(self), "searched": None}


@dataclass(frozen=True, eq=False, repr=False)
class Search:
    """What `search` gives and `open_search` reads: for every channel its k strongest pictures.

    `peaks` and `channels` are Arrow tables (``.to_pandas()``, ``polars.from_arrow(...)``), as they stand in
    ``top.parquet`` and ``channels.parquet``. `skipped` are pictures that could not be read: id, reason.

    An image on which a rectified channel is 0 (after a ReLU, say) is not among the channel's peaks, so there
    may be fewer than were asked for, and none of a dead channel.

    A search does not keep the network alive that made it. A network of your own has to be there, or be given
    again, to project the peaks.
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
    def image_count(self) -> int:
        """How many pictures were looked at."""
        return int(self.manifest["pictures"])

    @property
    def kept(self) -> int:
        """How many peaks of each channel were kept."""
        return min(int(self.manifest["top"]), self.image_count)

    def open_network(self) -> Network:
        """Return the network that was searched with: the one that is there still, or loaded again.

        Raises SearchError for a network made in Python that is gone, and ManifestError.
        """
        how = self.reopening
        there = how.network or (how.searched() if how.searched is not None else None)
        if there is not None:
            return there
        described = self.manifest["network"]
        if described["model"] is None and how.searched is not None:
            raise SearchError(
                f"the network of this search is gone: {described['name']} was made in Python, and a search "
                "does not keep it. Give it again with {option}",
                option="network=NETWORK",
            )
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
        whole = open_source(self.reopening.source or place_of_source(described))
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
            f"<Search of {self.image_count:,} pictures in {self.manifest['network']['name']}: {told}; "
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
        """Return the strongest images of a channel, strongest first; all that were kept, or k of them.

        There are fewer, or none, of a rectified channel that is 0 on all other images.

        Raises SearchError for a layer that was not searched, UnitError for a channel that it does not have,
        or more peaks than were kept.
        """
        self.check_channels(layer, [channel])
        layer = self.name_of(layer)
        kept = self.kept
        if k is not None and not 1 <= k <= kept:
            raise UnitError(f"{k} peaks of a channel were asked for: from 1 to {kept} are kept")
        row = self._first(layer) + channel
        first, count = int(self._starts[row]), int(self._starts[row + 1] - self._starts[row])
        rows = self.peaks.slice(first, count if k is None else min(k, count)).to_pylist()
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
        asked = {self.name_of(layer): layer for layer in named}.values()
        chosen: dict[str | Layer, Sequence[int]] = {
            layer: list(dict.fromkeys(channels))
            if channels is not None
            else self.choose(layer, count, by, seed)
            for layer in asked
        }
        return self.project_channels(chosen, k=k, memory=memory, network=network, report=report)

    def project_channels(
        self,
        channels: ChannelsByLayer,
        *,
        k: int = 9,
        memory: int | None = None,
        network: Network | None = None,
        report: Report | None = None,
    ) -> TopNine:
        """As `topnine`, with the channels of each layer. Raises the same errors."""
        peaks = self._chosen(channels, k)
        network = self.open_network() if network is None else network
        self._check_weights(network)
        source, notes = self._open_source()
        named = {self.name_of(layer): numbers for layer, numbers in channels.items()}
        return project_peaks(
            network,
            source,
            peaks,
            {layer: self.largest(layer) for layer in named},
            Searched(
                self.image_count,
                self.manifest["source"],
                None if self.folder is None else self.folder / MANIFEST,
            ),
            layers=[layer for layer in channels if isinstance(layer, Layer)],
            k=k,
            notes=(*notes, *self._silent_notes(named, min(k, self.kept))),
            memory=memory,
            report=report,
        )

    def _check_weights(self, network: Network) -> None:
        """Raise SearchError if a network does not have the weights of the search."""
        if network.digest != self.manifest["network"]["digest"]:
            raise SearchError(_other_weights(network, self.manifest["network"]["digest"], self.folder))

    def _silent_notes(self, channels: Mapping[str, Sequence[int]], k: int) -> list[str]:
        """Say which channels are not shown, or with fewer images, because they are 0 on all others."""
        notes = []
        for layer, numbers in channels.items():
            counts = {channel: len(self.top(layer, channel, k)) for channel in dict.fromkeys(numbers)}
            if dead := [str(channel) for channel, count in counts.items() if not count]:
                notes.append(
                    f"{layer}: {_numbered('channel', dead)} dead (0 on all {self.image_count:,} images) and "
                    "not shown"
                )
            if few := [str(channel) for channel, count in counts.items() if 0 < count < k]:
                notes.append(
                    f"{layer}: {_numbered('channel', few)} 0 on all images but those shown, which are fewer "
                    f"than {k}"
                )
        return notes

    def _chosen(self, channels: ChannelsByLayer, k: int) -> list[Peak]:
        """The peaks to be projected, checked before a network or an image is opened."""
        if not 1 <= k <= int(self.manifest["top"]):
            raise SearchError(f"the {k} strongest were asked for: the search kept {self.manifest['top']}")
        if not channels or not all(channels.values()):
            raise SearchError("no channel was asked for: name one or more")
        peaks = [
            peak
            for layer, numbers in channels.items()
            for channel in numbers
            for peak in self.top(layer, channel, min(k, self.kept))
        ]
        if not peaks:
            named = "; ".join(
                f"{self.name_of(layer)}: {_numbered('channel', list(map(str, dict.fromkeys(numbers))))} dead"
                for layer, numbers in channels.items()
            )
            raise SearchError(
                f"nothing can be shown: {named} (0 on all {self.image_count:,} images). "
                "Ask for other channels"
            )
        return peaks

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write top.parquet, channels.parquet, skipped.csv and manifest.json, the last one last.

        Raises OutputError.
        """
        into = Path(folder)
        with locked(into):
            return self.write_into(into, force=force)

    def write_into(self, into: Path, *, force: bool) -> Path:
        """Write the four files into a folder whose lock the caller has. Raises OutputError."""
        refuse_existing([into / name for name in (PEAKS, CHANNELS, SKIPPED, MANIFEST)], force=force)
        write_whole(into / PEAKS, partial(_write_table, self.peaks), force=force)
        write_whole(into / CHANNELS, partial(_write_table, self.channels), force=force)
        write_whole(into / SKIPPED, partial(_write_csv, self.skipped), force=force)
        text = json_text(self.manifest) + "\n"
        write_text(into / MANIFEST, text, force=force)
        return into

    def check_channels(self, layer: str | Layer, channels: Iterable[int]) -> None:
        """Raise SearchError or UnitError for what was not searched."""
        check_channels(self.layers, self.name_of(layer), channels)

    def name_of(self, layer: str | Layer) -> str:
        """Return a layer's name in this search, given the layer or either of its names.

        Raises SearchError.
        """
        return searched_layer(self.manifest, layer.name if isinstance(layer, Layer) else layer)

    @cached_property
    def _starts(self) -> Numbers:
        """The first row of each channel in the table of peaks, and the number of all rows."""
        return np.concatenate([[0], np.cumsum(self.channels.column("kept").to_numpy())])

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
    home = Path(path_as_typed(os.fspath(folder)))
    if not (home / MANIFEST).is_file():
        raise _unfinished(home)
    try:
        manifest = json.loads((home / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") not in (FORMAT, OLDER_FORMAT):
            raise SearchError(f"{home / MANIFEST} is not of a search: its format is not {FORMAT!r}")
        peaks, channels = _read_table(home / PEAKS), _read_table(home / CHANNELS)
        with open(home / SKIPPED, encoding="utf-8", newline="") as stream:
            skipped = tuple((row["image"], row["reason"]) for row in csv.DictReader(stream))
        if manifest["format"] == OLDER_FORMAT:
            manifest, peaks, channels = _without_silent(manifest, peaks, channels)
        _check_whole(manifest, peaks, channels)
        digest = manifest["network"]["digest"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as reason:
        raise SearchError(
            f"{home} holds no whole search: {reason} (search again with {{option}})", option="force=True"
        ) from reason
    if network is not None and network.digest != digest:
        raise SearchError(_other_weights(network, digest, home))
    moved = source if source is None or isinstance(source, Source) else os.fspath(source)
    reopening = Reopening(network, None, moved, weights, device, allow_code)
    return Search(peaks, channels, manifest, skipped, home, reopening)


def _check_whole(manifest: Mapping[str, Any], peaks: pa.Table, channels: pa.Table) -> None:
    count = sum(layer["channels"] for layer in manifest["layers"])
    kept = int(channels.column("kept").to_numpy().sum())
    if channels.num_rows != count or peaks.num_rows != kept:
        raise ValueError(
            f"{count} channels with {kept} peaks were written, and {PEAKS} has {peaks.num_rows} rows, "
            f"{CHANNELS} {channels.num_rows}"
        )


def _without_silent(
    manifest: Mapping[str, Any], peaks: pa.Table, channels: pa.Table
) -> tuple[Mapping[str, Any], pa.Table, pa.Table]:
    """Take out of a search of the format before what this format has no rows for (see `Top.silent`)."""
    kept = min(manifest["top"], manifest["pictures"])
    if peaks.num_rows != channels.num_rows * kept:
        raise ValueError(
            f"{channels.num_rows} channels with {kept} peaks each were written, and {PEAKS} has "
            f"{peaks.num_rows} rows"
        )
    activation = peaks.column("activation").to_numpy().reshape(-1, kept)
    # where all that was kept is 0, the mean tells whether the channel was below 0 on other images
    negative = (activation.min(axis=1) < 0) | ((activation[:, 0] == 0) & (channels["mean"].to_numpy() < 0))
    listed = (activation != 0) | negative[:, None]
    counts = pa.array(listed.sum(axis=1), pa.int32())
    return (
        {**manifest, "format": FORMAT},
        peaks.filter(pa.array(listed.reshape(-1))),
        channels.append_column("kept", counts),
    )


def _other_weights(network: Network, digest: str, home: Path | None) -> str:
    where = "this search" if home is None else f"the search in {printable_path(home)}"
    return f"the weights of {network.name} are not those of {where}: {network.digest} instead of {digest}"


def _numbered(noun: str, numbers: Sequence[str]) -> str:
    """Return the subject of a sentence, and its verb: ``channel 3 is``, ``channels 3, 5 and 2 more are``."""
    return f"{noun}{'s' * (len(numbers) > 1)} {listed(numbers)} {'are' if len(numbers) > 1 else 'is'}"


def _unfinished(home: Path) -> SearchError:
    """Return the error for a folder without a manifest."""
    if (progress := progress_of(home)) is None:
        return no_search(home)
    return SearchError(
        f"the search in {home} is not done: {progress[0]} of {progress[1]} batches; "
        "go on with the same search and {option}",
        option="resume=True",
    )


def _peak(row: Mapping[str, Any]) -> Peak:
    edges = [row[name] for name in EDGES]
    box = None if None in edges else (edges[0], edges[1], edges[2], edges[3])
    said = {name: row[name] for name in ("layer", "channel", "rank", "activation", "y", "x")}
    return Peak(**said, image_id=row["image"], box=box)


def _read_table(path: Path) -> pa.Table:
    with path.open("rb") as stream:  # pyarrow takes no path that is not valid UTF-8
        # in this thread alone: threads of pyarrow that read a stream can abort a program with torch at its end
        return pq.ParquetFile(stream, pre_buffer=False).read(use_threads=False)


def _write_table(table: pa.Table, stream: BinaryIO) -> None:
    pq.write_table(table, stream)


def _write_csv(rows: Iterable[tuple[str, str]], stream: BinaryIO) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text)
    writer.writerow(("image", "reason"))
    writer.writerows(rows)
    text.flush()
    text.detach()
