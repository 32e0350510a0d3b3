"""A dataset of Hugging Face `datasets` with one image column, given by name or saved to a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources.image_files import absolute_path_text
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.labels import Labels
from deconvviz.image_sources.source import Sizes, Source
from deconvviz.images.image import InputImage
from deconvviz.paths import reason_of

if TYPE_CHECKING:
    from datasets import Dataset

PREFIX = "hf:"
_INFO_FILES = ("dataset_dict.json", "dataset_info.json", "state.json")
MAX_ROWS = 100_000_000  # of a split: ids have eight digits, so that they sort in the order of the rows
_COLUMN, _LABEL = "picture", "label"
_LABEL_COLUMNS = ("label", "labels")  # names of columns that are used even if they are not of type ClassLabel
_ROWS_PER_BATCH = 1000


class Rows(Source):
    """Rows of a dataset. The id of an image is its split and row, or only its row if there are no splits.

    The label of an image is that of its label column, if there is one (see `_label_column`).
    """

    kind = "hf"

    def __init__(self, place: str, load: Callable[[], Mapping[str, Dataset]]) -> None:
        """`load` returns the splits by name, each with the column `picture`, not decoded.

        A split also has the column `label` if there is a label column. It must be possible to pickle `load`.
        """
        self._load = load
        self._splits: Mapping[str, Dataset] | None = load()
        lengths = {split: len(rows) for split, rows in self._splits.items()}
        if max(lengths.values(), default=0) > MAX_ROWS:
            raise SourceError(
                f"{place} has a split of more than {MAX_ROWS} rows: give a part, such as hf:NAME:train[:10%]"
            )
        names = Names(_id(split, row) for split, length in lengths.items() for row in range(length))
        if not names:
            raise SourceError(f"no images in {place}: {_splits_and_rows(lengths)}")
        lasting_place = place if place.startswith(PREFIX) else absolute_path_text(place)
        super().__init__(
            place,
            names,
            sizes=_sizes(self._splits, names),
            lasting_place=lasting_place,
            labels=_labels(self._splits, names),
        )

    def read(self, number: int) -> InputImage:
        name = self.names[number]
        split, _, row = name.rpartition("/")
        if self._splits is None:
            self._splits = self._load()
        try:
            cell = self._splits[split][int(row)][_COLUMN]
        except LookupError as reason:
            raise ImageError(
                f"{name} no longer exists: {self.place} has changed since it was listed"
            ) from reason
        if cell is not None and cell["bytes"] is not None:
            return self.files.image(self.files.read(cell["bytes"], name), name)
        if cell is None or not cell["path"]:
            raise ImageError(f"{name} has no image: its row is empty")
        with open(cell["path"], "rb") as stream:
            return self.files.image(self.files.read(stream, name), name)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_splits": None}


class _NamedDataset:
    """Function that loads a dataset with `load_dataset`."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.name, _, self.split = place.removeprefix(PREFIX).partition(":")

    def __call__(self) -> Mapping[str, Dataset]:
        datasets = _datasets(self.place)
        found = _load(self.place, lambda: datasets.load_dataset(self.name, split=self.split or None))
        return {
            split: _used_columns(rows, self.place)
            for split, rows in (found.items() if isinstance(found, dict) else [(self.split, found)])
        }


class _SavedDataset:
    """Function that loads a dataset that `save_to_disk` wrote."""

    def __init__(self, place: str) -> None:
        self.place, self.folder = place, os.path.abspath(place)

    def __call__(self) -> Mapping[str, Dataset]:
        datasets = _datasets(self.place)
        found = _load(self.place, lambda: datasets.load_from_disk(self.folder))
        splits = found.items() if isinstance(found, dict) else [(str(found.split or ""), found)]
        return {split: _used_columns(rows, self.place) for split, rows in splits}


def is_saved_dataset(folder: str) -> bool:
    """Return True if a folder has the files that `save_to_disk` writes next to the data."""
    exists = {name: os.path.isfile(os.path.join(folder, name)) for name in _INFO_FILES}
    return exists["dataset_dict.json"] or (exists["dataset_info.json"] and exists["state.json"])


def open_saved(place: str) -> Rows:
    """Return the source of a dataset that `save_to_disk` wrote. Raises SourceError."""
    return Rows(place, _SavedDataset(place))


def open_named(place: str) -> Rows:
    """Return the source for hf:NAME[:SPLIT]; without a split, it has all splits. Raises SourceError."""
    if not place.removeprefix(PREFIX).partition(":")[0]:
        raise SourceError(
            f"no dataset name in {place!r}: write hf:NAME or hf:NAME:SPLIT, for example hf:mnist:test"
        )
    return Rows(place, _NamedDataset(place))


def _datasets(place: str) -> Any:
    try:
        import datasets
    except ImportError as reason:
        raise SourceError(f"{place} needs the extra datasets: pip install 'deconvviz[datasets]'") from reason
    return datasets


def _load(place: str, load: Callable[[], Any]) -> Any:
    from datasets.exceptions import DatasetsError

    try:
        return load()
    except (DatasetsError, OSError, ValueError, RuntimeError, LookupError, ImportError) as reason:
        first_line = str(reason).strip().partition("\n")[0]
        of_system = isinstance(reason, OSError) and reason.strerror
        text = reason_of(reason if of_system else RuntimeError(first_line))
        raise SourceError(f"{place} cannot be loaded: {text}") from reason


def _used_columns(rows: Dataset, place: str) -> Dataset:
    """Return the rows with the image column, not decoded, and the label column, if there is one.

    Raises SourceError unless there is exactly one image column.
    """
    from datasets import Image

    columns = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    if not columns:
        others = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in rows.features.items())
        raise SourceError(f"no image column in {place}: there are {others or 'no columns'}")
    if len(columns) > 1:
        raise SourceError(
            f"{len(columns)} image columns in {place}: {', '.join(columns)}. Save one of them with "
            f"load_dataset(...).select_columns('{columns[0]}').save_to_disk('FOLDER'), and give the folder"
        )
    label = _label_column(rows)
    names = {columns[0]: _COLUMN} | ({} if label is None else {label: _LABEL})
    selected = rows.with_format(None).select_columns(list(names))
    changed = {old: new for old, new in names.items() if old != new}
    if changed:
        selected = selected.rename_columns(changed)
    return selected.cast_column(_COLUMN, Image(decode=False))


def _label_column(rows: Dataset) -> str | None:
    """Return the name of the label column, or None.

    It is the column `label` or `labels` of whole numbers, texts or classes, otherwise the first column of
    classes (`datasets.ClassLabel`).
    """
    from datasets import ClassLabel, Value

    def is_label(feature: Any) -> bool:
        if isinstance(feature, Value):
            return str(feature.dtype).startswith(("int", "uint", "string", "large_string"))
        return isinstance(feature, ClassLabel)

    named = [name for name in _LABEL_COLUMNS if name in rows.features and is_label(rows.features[name])]
    classes = [name for name, feature in rows.features.items() if isinstance(feature, ClassLabel)]
    return next(iter([*named, *classes]), None)


def _sizes(splits: Mapping[str, Dataset], names: Names) -> Sizes:
    """Return the size of every image in bytes, from the offsets in Arrow, without reading the images."""
    import pyarrow.compute as pc

    sizes = np.full(len(names), -1, np.int64)
    for split, rows in splits.items():
        start = names.index(_id(split, 0)) if len(rows) else 0
        for batch in rows.with_format("arrow").iter(_ROWS_PER_BATCH):
            lengths = pc.fill_null(pc.binary_length(pc.struct_field(batch.column(_COLUMN), "bytes")), -1)
            sizes[start : start + len(batch)] = lengths.to_numpy()
            start += len(batch)
    return sizes


def _labels(splits: Mapping[str, Dataset], names: Names) -> Labels | None:
    """Return the label of every image, read without the images."""
    labels: list[str | None] = [None] * len(names)
    for split, rows in splits.items():
        if not len(rows) or _LABEL not in rows.features:
            continue
        classes = getattr(rows.features[_LABEL], "names", None)
        start = names.index(_id(split, 0))
        for batch in rows.select_columns([_LABEL]).with_format("arrow").iter(_ROWS_PER_BATCH):
            values = batch.column(_LABEL).to_pylist()
            labels[start : start + len(values)] = [_label(value, classes) for value in values]
            start += len(values)
    return Labels.of(labels)


def _label(value: Any, classes: Sequence[str] | None) -> str | None:
    """Return a label as text. A class number without a name, such as -1 in a test split, is unknown."""
    if value is None or classes is None:
        return None if value is None else str(value)
    return classes[value] if 0 <= value < len(classes) else None


def _id(split: str, row: int) -> str:
    return f"{split}/{row:08d}" if split else f"{row:08d}"


def _splits_and_rows(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{split or 'it'} has {length} rows" for split, length in lengths.items()) or "no splits"
