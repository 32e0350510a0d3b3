"""A dataset of Hugging Face's `datasets`, by name or saved to a folder, with one column of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources.image_files import lasting
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.source import Sizes, Source
from deconvviz.images.image import Picture, read_picture
from deconvviz.paths import spoken

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX = "hf:"
_SAVED = ("dataset_dict.json", "dataset_info.json")
MOST = 100_000_000  # rows of a split: ids have eight digits, so that they stand in the order of the rows
_COLUMN = "picture"
_ROWS_AT_ONCE = 1000


class Rows(Source):
    """A picture's id is its split and its row, or its row alone where there are no splits."""

    kind = "hf"

    def __init__(self, place: str, load: Callable[[], Mapping[str, Dataset]]) -> None:
        """`load` can be pickled; it gives each split with the one column `picture`, not decoded."""
        self._load = load
        self._splits: Mapping[str, Dataset] | None = load()
        lengths = {split: len(rows) for split, rows in self._splits.items()}
        if max(lengths.values(), default=0) > MOST:
            raise SourceError(
                f"{place} has a split of more than {MOST} rows: name a part, as hf:NAME:train[:10%]"
            )
        names = Names(_id(split, row) for split, length in lengths.items() for row in range(length))
        if not names:
            raise SourceError(f"no pictures in {place}: {_splits_and_rows(lengths)}")
        lasts = place if place.startswith(PREFIX) else lasting(place)
        super().__init__(place, names, sizes=_sizes(self._splits, names), lasting_place=lasts)

    def read(self, number: int) -> Picture:
        name = self.names[number]
        split, _, row = name.rpartition("/")
        if self._splits is None:
            self._splits = self._load()
        try:
            cell = self._splits[split][int(row)][_COLUMN]
        except LookupError as reason:
            raise PictureError(f"{name} is gone: {self.place} has changed since it was listed") from reason
        if cell is not None and cell["bytes"] is not None:
            return read_picture(cell["bytes"], name)
        if cell is None or not cell["path"]:
            raise PictureError(f"{name} has no picture: its row is empty")
        with open(cell["path"], "rb") as stream:
            return read_picture(stream, name)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_splits": None}


class _Named:
    """What `load_dataset` finds."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.name, _, self.split = place.removeprefix(PREFIX).partition(":")

    def __call__(self) -> Mapping[str, Dataset]:
        datasets = _datasets(self.place)
        found = _loaded(self.place, lambda: datasets.load_dataset(self.name, split=self.split or None))
        return {
            split: _pictures(rows, self.place)
            for split, rows in (found.items() if isinstance(found, dict) else [(self.split, found)])
        }


class _Saved:
    """What `save_to_disk` wrote."""

    def __init__(self, place: str) -> None:
        self.place, self.folder = place, os.path.abspath(place)

    def __call__(self) -> Mapping[str, Dataset]:
        datasets = _datasets(self.place)
        found = _loaded(self.place, lambda: datasets.load_from_disk(self.folder))
        splits = found.items() if isinstance(found, dict) else [(str(found.split or ""), found)]
        return {split: _pictures(rows, self.place) for split, rows in splits}


def is_saved_dataset(folder: str) -> bool:
    there = {name: os.path.isfile(os.path.join(folder, name)) for name in (*_SAVED, "state.json")}
    return there["dataset_dict.json"] or (there["dataset_info.json"] and there["state.json"])


def open_saved(place: str) -> Rows:
    """Raises SourceError."""
    return Rows(place, _Saved(place))


def open_named(place: str) -> Rows:
    """hf:NAME[:SPLIT], all splits if none is named. Raises SourceError."""
    if not place.removeprefix(PREFIX).partition(":")[0]:
        raise SourceError(f"{place!r} names no dataset: write hf:NAME or hf:NAME:SPLIT, as hf:mnist:test")
    return Rows(place, _Named(place))


def _datasets(place: str) -> Any:
    try:
        import datasets
    except ImportError as reason:
        raise SourceError(f"{place} needs the extra datasets: pip install 'deconvviz[datasets]'") from reason
    return datasets


def _loaded(place: str, load: Callable[[], Any]) -> Any:
    from datasets.exceptions import DatasetsError

    try:
        return load()
    except (DatasetsError, OSError, ValueError, RuntimeError, LookupError, ImportError) as reason:
        words = spoken(reason).strip().partition("\n")[0]
        raise SourceError(f"{place} cannot be loaded: {words}") from reason


def _pictures(rows: Dataset, place: str) -> Dataset:
    from datasets import Image

    columns = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    if not columns:
        there = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in rows.features.items())
        raise SourceError(f"no column of pictures in {place}: there are {there or 'no columns'}")
    if len(columns) > 1:
        raise SourceError(
            f"{len(columns)} columns of pictures in {place}: {', '.join(columns)}; choose one, as with "
            f"load_dataset(...).select_columns('{columns[0]}').save_to_disk('FOLDER'), and give the folder"
        )
    alone = rows.with_format(None).select_columns(columns).rename_column(columns[0], _COLUMN)
    return alone.cast_column(_COLUMN, Image(decode=False))


def _sizes(splits: Mapping[str, Dataset], names: Names) -> Sizes:
    """From Arrow's bounds, without looking at the bytes."""
    import pyarrow.compute as pc

    sizes = np.full(len(names), -1, np.int64)
    for split, rows in splits.items():
        place = names.index(_id(split, 0)) if len(rows) else 0
        for batch in rows.with_format("arrow").iter(_ROWS_AT_ONCE):
            lengths = pc.fill_null(pc.binary_length(pc.struct_field(batch.column(_COLUMN), "bytes")), -1)
            sizes[place : place + len(batch)] = lengths.to_numpy()
            place += len(batch)
    return sizes


def _id(split: str, row: int) -> str:
    return f"{split}/{row:08d}" if split else f"{row:08d}"


def _splits_and_rows(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{split or 'it'} has {length} rows" for split, length in lengths.items()) or "no splits"
