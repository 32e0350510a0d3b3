"""Result of a search: query, draw, save and open it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias
from weakref import ReferenceType

import numpy as np
import pyarrow as pa

from deconvviz.dataset_search.peak_finder import Numbers
from deconvviz.dataset_search.peak_histogram import edges_of
from deconvviz.dataset_search.search_files import SearchFiles, read_files, write_files
from deconvviz.dataset_search.search_folder import MANIFEST, check_channels, searched_layer
from deconvviz.dataset_search.tables import AXES, field_columns
from deconvviz.described_network import load_described
from deconvviz.errors import SearchError, UnitError
from deconvviz.folder_lock import locked
from deconvviz.html_views import table
from deconvviz.image_sources import Given, Source, open_source, reopen
from deconvviz.image_sources.opening import place_of_source
from deconvviz.images.input_files import InputFiles
from deconvviz.images.network_files import files_of
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.notebook_bar import or_bar
from deconvviz.paths import path_as_typed
from deconvviz.printable_names import printable_path
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.project_peaks import OnProjection, Report, project_peaks
from deconvviz.topnine.result import Searched, TopNine
from deconvviz.views import open_view
from deconvviz.wording import listed

LACKING = {
    "histogram": "the histogram of the peaks",
    "labels": "the labels of the images",
    "class_means": "the mean peaks of the classes",
    "similar": "what is needed to find similar channels",
}
"""Attributes of `Search` that searches by earlier versions do not have, and what they did not keep."""
ORDERS = ("activation", "density", "random")

ChannelsByLayer: TypeAlias = (
    "Mapping[str, Sequence[int]] | Mapping[Layer, Sequence[int]] | Mapping[str | Layer, Sequence[int]]"
)


@dataclass(frozen=True)
class Reopening:
    """How to open the network and the images of a search again when they are needed."""

    network: Network | None = None  # network passed to `open_search`
    searched: ReferenceType[Network] | None = None  # network of the search, if it still exists
    source: Given | None = None  # current location of the images, or the images
    weights: str | Path | None = None  # current location of the weights
    device: str = "cpu"
    allow_code: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without the weak reference, which cannot be pickled."""
        return {**vars(self), "searched": None}


@dataclass(frozen=True, eq=False, repr=False)
class Search:
    """Result of a dataset search: the k strongest images of every channel.

    `search` and `open_search` return it. An image on which a rectified channel is 0, for example after a
    ReLU, is not among the peaks of the channel. So a channel may have fewer than k peaks, and a dead one has
    none.

    A search does not keep its network alive. To project the peaks, a network made in Python must still exist
    or be passed again.

    Attributes:
        peaks: Arrow table with one row for each peak, as in ``top.parquet``. Use ``.to_pandas()`` or
            ``polars.from_arrow``.
        channels: Arrow table with one row for each channel, as in ``channels.parquet``.
        statistics: Arrow table with further statistics of each channel, as in ``statistics.parquet``.
        images: Arrow table of the images and their labels, as in ``images.parquet``.
        manifest: Description of the search, as in ``manifest.json``.
        skipped: Images that could not be used, as pairs (image id, reason).
        folder: Folder of the search, or None.
        reopening: How to open the network and the images again.
    """

    peaks: pa.Table
    channels: pa.Table
    statistics: pa.Table
    images: pa.Table
    manifest: Mapping[str, Any]
    skipped: tuple[tuple[str, str], ...]
    folder: Path | None = None
    reopening: Reopening = Reopening()

    @cached_property
    def layers(self) -> dict[str, int]:
        """Names of the searched layers and their numbers of channels."""
        return {layer["name"]: layer["channels"] for layer in self.manifest["layers"]}

    @property
    def image_count(self) -> int:
        """Number of images that were searched, without skipped ones."""
        return int(self.manifest["pictures"])

    @property
    def kept(self) -> int:
        """Maximum number of peaks kept for each channel."""
        return min(int(self.manifest["top"]), self.image_count)

    def open_network(self) -> Network:
        """Return the network of the search, loaded again if it no longer exists.

        Raises:
            SearchError: The network was made in Python and no longer exists.
            ManifestError: The network cannot be loaded as the manifest describes it.
        """
        how = self.reopening
        existing = how.network or (how.searched() if how.searched is not None else None)
        if existing is not None:
            return existing
        described = self.manifest["network"]
        if described["model"] is None and how.searched is not None:
            raise SearchError(
                f"the network of this search no longer exists: {described['name']} was made in Python, and a "
                "search does not keep its network. Pass it again with {option}",
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
    def files(self) -> InputFiles:
        """What the network reads: images, or arrays of a shape."""
        described = self.manifest["network"]
        return files_of(Preprocessing.from_json(described["preprocessing"]), described["name"])

    @property
    def scaled_decoding(self) -> bool:
        """Whether the search decoded large JPEG files at a fraction of their size."""
        return bool(self.manifest.get("scaled_decoding"))

    @cached_property
    def source(self) -> Source:
        """Source of the images, read as in the search: with or without scaled decoding.

        Raises SourceError if the images have changed since the search.
        """
        again = reopen(self.manifest["source"], self.reopening.source, files=self.files)
        return self._read_as_searched(again)

    def _read_as_searched(self, source: Source) -> Source:
        described = self.manifest["network"]["preprocessing"]
        return source.reduced_for(Preprocessing.from_json(described) if self.scaled_decoding else None)

    def _open_source(self) -> tuple[Source, tuple[str, ...]]:
        """Return the source, and a note if it has changed. The caller checks every image that is shown."""
        described = self.manifest["source"]
        place = self.reopening.source
        whole = self._read_as_searched(
            open_source(place_of_source(described) if place is None else place, files=self.files)
        )
        source = whole if described["limit"] is None else whole.limited(described["limit"])
        if source.digest == described["digest"]:
            return source, ()
        source = whole  # without the limit, as the first images by id may have changed
        return source, (
            f"{source.place} has changed since the search ({described['pictures']} {self.files.noun}s then, "
            f"{len(source)} now); the {self.files.noun}s shown have not",
        )

    @property
    def _home(self) -> Path:
        return self.folder or Path()

    def __len__(self) -> int:
        """Return the number of peaks of all channels."""
        return int(self.peaks.num_rows)

    def __repr__(self) -> str:
        names = list(self.layers)
        layers = ", ".join(names[:3]) + (f" ... ({len(names)} layers)" if len(names) > 3 else "")
        return (
            f"<Search of {self.image_count:,} {self.files.noun}s in {self.manifest['network']['name']}: "
            f"{layers}; top {self.manifest['top']} of {self.channels.num_rows:,} channels"
            f"{', scaled decoding' if self.scaled_decoding else ''}>"
        )

    def _repr_html_(self) -> str:
        rows = []
        for layer, count in self.layers.items():
            best = int(np.argmax(self._column(layer, "maximum")))
            top = self.top(layer, best, 1)
            strongest = f"channel {best}: {top[0]}" if top else ""
            rows.append((layer, str(count), str(len(self.dead(layer))), strongest))
        return table(("layer", "channels", "dead", "strongest peak"), rows, repr(self)[1:-1])

    def top(self, layer: str | Layer, channel: int, k: int | None = None) -> list[Peak]:
        """Return the peaks of a channel, strongest first.

        A rectified channel that is 0 on all other images has fewer than k peaks, or none.

        Args:
            layer: Layer or any of its names.
            channel: Number of the channel, from 0.
            k: Number of peaks, from 1 to `kept`. None returns all peaks.

        Raises:
            SearchError: The layer was not searched.
            UnitError: The layer lacks the channel, or k is not from 1 to `kept`.
        """
        self.check_channels(layer, [channel])
        layer = self.name_of(layer)
        kept = self.kept
        if k is not None and not 1 <= k <= kept:
            raise UnitError(f"cannot return {k} peaks of a channel: it must be from 1 to {kept}")
        row = self._first_row(layer) + channel
        first, count = int(self._starts[row]), int(self._starts[row + 1] - self._starts[row])
        rows = self.peaks.slice(first, count if k is None else min(k, count)).to_pylist()
        return [_peak(row) for row in rows]

    def dead(self, layer: str | Layer) -> list[int]:
        """Return the channels of a layer that were never above zero. Raises SearchError."""
        return [int(channel) for channel in np.flatnonzero(self._column(layer, "dead"))]

    def largest(self, layer: str | Layer) -> float:
        """Return the largest absolute maximum of the channels of a layer. Raises SearchError."""
        return float(np.abs(self._column(layer, "maximum")).max())

    def choose(self, layer: str | Layer, count: int, by: str = "activation", seed: int = 0) -> list[int]:
        """Choose channels of a layer that are not dead.

        Args:
            layer: Layer or any of its names.
            count: Number of channels. Fewer are returned if fewer are not dead.
            by: ``activation`` takes the channels with the largest maximum and ``density`` those that are
                active on most images, largest first. ``random`` takes random channels in ascending order, as
                in the paper's Figure 2.
            seed: Seed for ``random``.

        Returns:
            list[int]: Numbers of the channels.

        Raises:
            SearchError: The layer was not searched, all its channels are dead, or `by` is unknown.
            UnitError: `count` is below 1.
        """
        if by not in ORDERS:
            raise SearchError(f"unknown order {by!r} of channels: choose from {', '.join(ORDERS)}")
        if count < 1:
            raise UnitError(f"invalid number of channels {count}: it must be 1 or more")
        alive = np.flatnonzero(~self._column(layer, "dead"))
        if not len(alive):
            raise SearchError(
                f"all channels of {layer} are dead: none was above zero on any image. Name channels to show"
            )
        if by == "random":
            chosen = np.random.default_rng(seed).permutation(alive)[:count]
            return sorted(int(channel) for channel in chosen)
        numbers = self._column(layer, "maximum" if by == "activation" else "density")[alive]
        return [int(channel) for channel in alive[np.argsort(-numbers, kind="stable")[:count]]]

    @property
    def lacks(self) -> tuple[str, ...]:
        """Names of the attributes below without data, because an earlier version made the search.

        They are among ``histogram``, ``labels``, ``class_means`` and ``similar``. A search that an earlier
        version began, and that was resumed, lacks all of them but ``labels``.
        """
        old = "counts" not in self.statistics.column_names
        return tuple(name for name in LACKING if (not self.images.num_rows if name == "labels" else old))

    def histogram(self, layer: str | Layer, channel: int) -> tuple[Numbers, Numbers]:
        """Return the distribution of the peaks of a channel over all images.

        The bins have equal widths, a power of two, and one of their edges is 0. They cover the peaks of all
        images, also those that are 0 in a rectified channel.

        Args:
            layer: Layer or any of its names.
            channel: Number of the channel, from 0.

        Returns:
            tuple: Edges (65,) float64, in ascending order, and the number of images in each bin (64,) int64.
                A bin includes its lower edge.

        Raises:
            SearchError: The layer was not searched, or the search lacks the histograms (see `lacks`).
            UnitError: The layer lacks the channel.
        """
        row = self._row(layer, channel, "histogram")
        start, width = (self.statistics.column(name)[row].as_py() for name in ("start", "width"))
        return edges_of(start, width), self._counts[row].copy()

    @cached_property
    def labels(self) -> dict[str, str | None]:
        """Class label of each image by its id; None if it is unknown.

        Labels are the names of class folders, the ``.cls`` members of tar shards, the label column of a
        Hugging Face dataset, or the classes of scenes.

        Raises:
            SearchError: The search lacks the labels (see `lacks`).
        """
        self._check_has("labels")
        return dict(zip(*(self.images.column(name).to_pylist() for name in ("image", "label")), strict=True))

    def class_means(self, layer: str | Layer, channel: int) -> dict[str, float]:
        """Return the mean peak of a channel over the images of each class.

        Args:
            layer: Layer or any of its names.
            channel: Number of the channel, from 0.

        Returns:
            dict: Mean peak by label, in the order of the labels. It is empty if no label is known, or if
                there are more than 1,000 classes or more than 512 MiB of sums (16 bytes for each class and
                channel).

        Raises:
            SearchError: The layer was not searched, or the search lacks the means (see `lacks`).
            UnitError: The layer lacks the channel.
        """
        row = self._row(layer, channel, "class_means")
        if "class_means" not in self.statistics.column_names:
            return {}
        return dict(zip(self._classes, self._class_means[row].tolist(), strict=True))

    def similar(self, layer: str | Layer, channel: int, k: int = 9) -> list[tuple[str, int, float]]:
        """Return the channels of the same layer whose peaks over the images are most similar.

        The similarity is the correlation of the peaks of both channels over all images, estimated from
        sketches of 512 numbers. Its standard error is about (1 - r^2) / sqrt(512) for a correlation r, that
        is 0.044 for unrelated channels; for channels that are active on few images, single errors can be
        several times larger. Up to 512 images, it is exact to 0.001.

        Args:
            layer: Layer or any of its names.
            channel: Number of the channel, from 0.
            k: Maximum number of channels, 1 or more.

        Returns:
            list: (layer, channel, similarity), the most similar first. A channel with the same peak on all
                images, such as a dead one, is similar to no other.

        Raises:
            SearchError: The layer was not searched, or the search lacks the sketches (see `lacks`).
            UnitError: The layer lacks the channel, or k is below 1.
        """
        row = self._row(layer, channel, "similar")
        if k < 1:
            raise UnitError(f"invalid number of channels {k}: it must be 1 or more")
        name = self.name_of(layer)
        first = self._first_row(name)
        sketches = self._sketches[first : first + self.layers[name]]
        varied = np.array(sketches.any(axis=1))
        if not varied[channel]:
            return []
        similarity = sketches @ self._sketches[row]
        varied[channel] = False
        others = np.flatnonzero(varied)
        order = others[np.argsort(-similarity[others], kind="stable")][:k]
        return [(name, int(other), min(1.0, max(-1.0, float(similarity[other])))) for other in order]

    def explore(
        self,
        *,
        layer: str | None = None,
        network: Network | None = None,
        atlas: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Return a notebook widget with the images of the search, as `Network.explore`.

        A unit that is opened also shows the images that activate its channel most strongly.

        Args:
            layer: Name of the layer to begin with. Default: the first searched layer.
            network: Network of the search. None opens it again.
            atlas: Folder of an atlas of the search, as for `Network.explore`.

        Raises:
            MissingExtra: If anywidget is not installed (``pip install 'deconvviz[notebook]'``).
            NetworkError: If the atlas is of another network.
            OutputError: If `atlas` is not the folder of an atlas.
            SourceError: If the images have changed since the search.
            SearchError: If the network was made in Python and no longer exists.
        """
        first = next(iter(self.layers)) if layer is None else layer
        return open_view("explorer", self, layer=first, network=network, atlas=atlas)

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
        """Project the k strongest images of some channels, as in the paper's Figure 2.

        Every activation is computed again and must match the search.

        Args:
            layers: One or more layers or names of layers.
            channels: Numbers of the channels. None chooses them with `count`, `by` and `seed`.
            count: Number of channels to choose in each layer.
            by: Order for choosing channels, see `choose`.
            seed: Seed for choosing channels at random.
            k: Number of images for each channel.
            memory: Memory in bytes for projecting units in one batch.
            network: Network of the search. None opens it again.
            report: Called with the number of finished images and the number of all images.

        Returns:
            TopNine: The strongest patches of each channel and their projections.

        Raises:
            SearchError: A layer was not searched, k is too large, or the network or an activation does not
                match the search.
            LayerError: The network lacks a layer.
            UnitError: A layer lacks a channel.
            RefusedOp: An operation on the projection path is unsupported.
        """
        named = [layers] if isinstance(layers, (str, Layer)) else layers
        distinct = {self.name_of(layer): layer for layer in named}.values()
        chosen: dict[str | Layer, Sequence[int]] = {
            layer: list(dict.fromkeys(channels))
            if channels is not None
            else self.choose(layer, count, by, seed)
            for layer in distinct
        }
        bar = or_bar(report, "projecting images")
        return self.project_channels(chosen, k=k, memory=memory, network=network, report=bar)

    def project_channels(
        self,
        channels: ChannelsByLayer,
        *,
        k: int = 9,
        memory: int | None = None,
        network: Network | None = None,
        report: Report | None = None,
        on_projection: OnProjection | None = None,
    ) -> TopNine:
        """Project channels given as a mapping from layer to channels. Otherwise like `topnine`.

        `on_projection` is called with each recording of some images and the projection of a layer's peaks.
        """
        peaks = self._peaks_of(channels, k)
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
                self.scaled_decoding,
            ),
            layers=[layer for layer in channels if isinstance(layer, Layer)],
            k=k,
            notes=(*notes, *self._silent_notes(named, min(k, self.kept))),
            memory=memory,
            report=report,
            on_projection=on_projection,
        )

    def _check_weights(self, network: Network) -> None:
        """Raise SearchError if the weights of a network are not those of the search."""
        if network.digest != self.manifest["network"]["digest"]:
            raise SearchError(_other_weights(network, self.manifest["network"]["digest"], self.folder))

    def _silent_notes(self, channels: Mapping[str, Sequence[int]], k: int) -> list[str]:
        """Return notes on dead channels, and on channels with fewer than k images."""
        notes, noun = [], self.files.noun
        for layer, numbers in channels.items():
            counts = {channel: len(self.top(layer, channel, k)) for channel in dict.fromkeys(numbers)}
            if dead := [str(channel) for channel, count in counts.items() if not count]:
                notes.append(
                    f"{layer}: {_numbered('channel', dead)} dead (0 on all {self.image_count:,} {noun}s) and "
                    "not shown"
                )
            if few := [str(channel) for channel, count in counts.items() if 0 < count < k]:
                notes.append(
                    f"{layer}: {_numbered('channel', few)} 0 on all {noun}s except those shown, which are "
                    f"fewer than {k}"
                )
        return notes

    def _peaks_of(self, channels: ChannelsByLayer, k: int) -> list[Peak]:
        """Return the peaks to project. Raises SearchError and UnitError before the network is opened."""
        if not 1 <= k <= int(self.manifest["top"]):
            raise SearchError(
                f"cannot show the {k} strongest {self.files.noun}s: the search kept {self.manifest['top']}"
            )
        if not channels or not all(channels.values()):
            raise SearchError("no channel was given: name one or more")
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
                f"nothing can be shown: {named} (0 on all {self.image_count:,} {self.files.noun}s). "
                "Choose other channels"
            )
        return peaks

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the tables, skipped.csv and manifest.json into a folder.

        Args:
            folder: Folder, created if it does not exist.
            force: Overwrite existing files.

        Returns:
            Path: The folder.

        Raises:
            OutputError: A file exists already or cannot be written, or another process is writing into the
                folder.
        """
        path = Path(folder)
        with locked(path):
            return self.write_into(path, force=force)

    def write_into(self, folder: Path, *, force: bool) -> Path:
        """Write the files into a folder that the caller has locked, and return it. Raises OutputError."""
        files = SearchFiles(
            self.peaks, self.channels, self.statistics, self.images, self.manifest, self.skipped
        )
        write_files(files, folder, force=force)
        return folder

    def check_channels(self, layer: str | Layer, channels: Iterable[int]) -> None:
        """Raise SearchError if a layer was not searched, and UnitError if it lacks a channel."""
        check_channels(self.layers, self.name_of(layer), channels)

    def name_of(self, layer: str | Layer) -> str:
        """Return the name of a layer in this search, given the layer or any of its names.

        Raises SearchError if the layer was not searched.
        """
        return searched_layer(self.manifest, layer.name if isinstance(layer, Layer) else layer)

    def _row(self, layer: str | Layer, channel: int, what: str) -> int:
        """Return the row of a channel in the table of statistics.

        Raises SearchError and UnitError for an unknown channel, and SearchError if the search lacks `what`.
        """
        self.check_channels(layer, [channel])
        self._check_has(what)
        return self._first_row(self.name_of(layer)) + channel

    def _check_has(self, what: str) -> None:
        if what in self.lacks:
            raise SearchError(
                f"this search lacks {LACKING[what]}: an earlier version of deconvviz made it. Search again "
                "with {option}",
                option="force=True",
            )

    def _lists(self, name: str) -> Numbers:
        """Return a column of lists as an array (N, n)."""
        column = self.statistics.column(name).combine_chunks()
        numbers: Numbers = column.flatten().to_numpy().reshape(len(column), -1)
        return numbers

    @cached_property
    def _counts(self) -> Numbers:
        return self._lists("counts")

    @cached_property
    def _class_means(self) -> Numbers:
        return self._lists("class_means")

    @cached_property
    def _sketches(self) -> Numbers:
        return self._lists("sketch")

    @cached_property
    def _classes(self) -> list[str]:
        """Labels of the images in ascending order, which is that of the column class_means."""
        return sorted(self.images.column("label").drop_null().unique().to_pylist())

    @cached_property
    def _starts(self) -> Numbers:
        """First row of each channel in the table of peaks, followed by the number of rows (N + 1)."""
        return np.concatenate([[0], np.cumsum(self.channels.column("kept").to_numpy())])

    def _first_row(self, layer: str) -> int:
        """Return the row of a layer's first channel in the table of channels."""
        before = list(self.layers).index(layer)
        return sum(list(self.layers.values())[:before])

    def _column(self, layer: str | Layer, name: str) -> Numbers:
        """Return one column of the table of channels for a layer (C,). Raises SearchError."""
        layer = self.name_of(layer)
        rows = self.channels.slice(self._first_row(layer), self.layers[layer])
        column: Numbers = rows.column(name).to_numpy()
        return column


def open_search(
    folder: str | os.PathLike[str],
    *,
    network: Network | None = None,
    source: Given | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Search:
    """Open the search in a folder.

    The network and the images are not opened before peaks are projected.

    Args:
        folder: Folder that `search` or `Search.save` wrote.
        network: Network with the weights of the search. None loads the network that the manifest describes.
        source: Current location of the images. None uses the location in the manifest.
        weights: Current location of the weights. None uses the location in the manifest.
        device: Device for a loaded network.
        allow_code: Allow a network that is built by the code of a Python file.

    Returns:
        Search: The search.

    Raises:
        SearchError: The folder has no search, the search is unfinished or damaged, or `network` has other
            weights.
    """
    home = Path(path_as_typed(os.fspath(folder)))
    files = read_files(home)
    digest = files.manifest["network"]["digest"]
    if network is not None and network.digest != digest:
        raise SearchError(_other_weights(network, digest, home))
    moved = os.fspath(source) if isinstance(source, os.PathLike) else source
    reopening = Reopening(network, None, moved, weights, device, allow_code)
    return Search(**vars(files), folder=home, reopening=reopening)


def _other_weights(network: Network, digest: str, home: Path | None) -> str:
    where = "this search" if home is None else f"the search in {printable_path(home)}"
    return f"the weights of {network.name} are not those of {where}: {network.digest} instead of {digest}"


def _numbered(noun: str, numbers: Sequence[str]) -> str:
    """Return a subject and its verb, such as ``channel 3 is`` or ``channels 3, 5, 7 and 2 more are``."""
    return f"{noun}{'s' * (len(numbers) > 1)} {listed(numbers)} {'are' if len(numbers) > 1 else 'is'}"


def _peak(row: Mapping[str, Any]) -> Peak:
    edges = [row[name] for name in field_columns(sum(name in row for name in AXES))]
    values = {name: row[name] for name in ("layer", "channel", "rank", "activation")}
    values |= {name: row.get(name) for name in AXES}
    return Peak(**values, image_id=row["image"], box=None if None in edges else tuple(edges))
