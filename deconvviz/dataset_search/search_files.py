"""Reading and writing the files of a search: tables, the skipped images and the manifest."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from deconvviz.dataset_search.checkpoint import progress_of
from deconvviz.dataset_search.search_folder import (
    CHANNELS,
    FORMAT,
    FORMAT_1,
    FORMATS,
    IMAGES,
    MANIFEST,
    PEAKS,
    SKIPPED,
    STATISTICS,
    files_of_search,
    no_search,
)
from deconvviz.errors import SearchError
from deconvviz.files import write_text, write_whole
from deconvviz.printable_names import json_text
from deconvviz.results import refuse_existing

_NO_IMAGES = pa.table({"image": pa.array([], pa.string()), "label": pa.array([], pa.string())})


@dataclass(frozen=True, eq=False)
class SearchFiles:
    """Contents of the files of a search."""

    peaks: pa.Table
    channels: pa.Table
    statistics: pa.Table
    images: pa.Table
    manifest: Mapping[str, Any]
    skipped: tuple[tuple[str, str], ...]  # (image id, reason)


def write_files(files: SearchFiles, folder: Path, *, force: bool) -> None:
    """Write the files of a search into a folder, the manifest last. Raises OutputError."""
    refuse_existing(files_of_search(folder), force=force)
    write_whole(folder / PEAKS, partial(_write_table, files.peaks), force=force)
    write_whole(folder / CHANNELS, partial(_write_table, files.channels), force=force)
    write_whole(
        folder / STATISTICS, partial(_write_table, files.statistics, dictionary=["layer"]), force=force
    )
    write_whole(folder / IMAGES, partial(_write_table, files.images), force=force)
    write_whole(folder / SKIPPED, partial(_write_csv, files.skipped), force=force)
    write_text(folder / MANIFEST, json_text(files.manifest) + "\n", force=force)


def read_files(folder: Path) -> SearchFiles:
    """Return the contents of the files of a finished search, converted to the current format.

    Raises SearchError if the folder has no search, or if the search is unfinished or damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise _unfinished(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") not in FORMATS:
            raise SearchError(
                f"{folder / MANIFEST} is not the manifest of a search: its format is not {FORMAT!r}"
            )
        peaks, channels = _read_table(folder / PEAKS), _read_table(folder / CHANNELS)
        with open(folder / SKIPPED, encoding="utf-8", newline="") as stream:
            skipped = tuple((row["image"], row["reason"]) for row in csv.DictReader(stream))
        if manifest["format"] == FORMAT:
            statistics, images = _read_table(folder / STATISTICS), _read_table(folder / IMAGES)
        else:
            statistics, images = channels.select(["layer", "channel"]), _NO_IMAGES
        if manifest["format"] == FORMAT_1:
            peaks, channels = _without_silent(manifest, peaks, channels)
        _check_row_counts(manifest, peaks, channels)
        _check_statistics(manifest, statistics, images)
        manifest = {**manifest, "format": FORMAT}
        _ = manifest["network"]["digest"]  # raises KeyError or TypeError if the manifest is damaged
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as reason:
        raise SearchError(
            f"the search in {folder} is incomplete or damaged: {reason}. Search again with {{option}}",
            option="force=True",
        ) from reason
    return SearchFiles(peaks, channels, statistics, images, manifest, skipped)


def _unfinished(folder: Path) -> SearchError:
    """Return the error for a folder without a manifest."""
    if (progress := progress_of(folder)) is None:
        return no_search(folder)
    return SearchError(
        f"the search in {folder} is not finished: {progress[0]} of {progress[1]} batches are done. "
        "Repeat the same search with {option}",
        option="resume=True",
    )


def _check_row_counts(manifest: Mapping[str, Any], peaks: pa.Table, channels: pa.Table) -> None:
    """Raise ValueError if the tables do not have the numbers of rows that manifest and channels state."""
    count = sum(layer["channels"] for layer in manifest["layers"])
    kept = int(channels.column("kept").to_numpy().sum())
    if channels.num_rows != count or peaks.num_rows != kept:
        raise ValueError(
            f"expected {count} channels with {kept} peaks, but {PEAKS} has {peaks.num_rows} rows and "
            f"{CHANNELS} {channels.num_rows}"
        )


def _check_statistics(manifest: Mapping[str, Any], statistics: pa.Table, images: pa.Table) -> None:
    """Raise ValueError if the tables do not fit the manifest or each other."""
    channels = sum(layer["channels"] for layer in manifest["layers"])
    if statistics.num_rows != channels or images.num_rows not in (0, manifest["pictures"]):
        raise ValueError(
            f"expected {channels} channels and {manifest['pictures']} images, but {STATISTICS} has "
            f"{statistics.num_rows} rows and {IMAGES} {images.num_rows}"
        )
    if "class_means" in statistics.column_names:
        means = statistics.schema.field("class_means").type.list_size
        classes = images.column("label").drop_null().unique()
        if means != len(classes):
            raise ValueError(f"{STATISTICS} has means of {means} classes, but {IMAGES} has {len(classes)}")


def _without_silent(
    manifest: Mapping[str, Any], peaks: pa.Table, channels: pa.Table
) -> tuple[pa.Table, pa.Table]:
    """Convert the tables of format 1: remove the peaks that `Top.silent` describes."""
    kept = min(manifest["top"], manifest["pictures"])
    if peaks.num_rows != channels.num_rows * kept:
        raise ValueError(
            f"expected {channels.num_rows} channels with {kept} peaks each, but {PEAKS} has "
            f"{peaks.num_rows} rows"
        )
    activation = peaks.column("activation").to_numpy().reshape(-1, kept)
    # If all kept peaks are 0, a negative mean shows that the channel was below 0 on other images
    negative = (activation.min(axis=1) < 0) | ((activation[:, 0] == 0) & (channels["mean"].to_numpy() < 0))
    remaining = (activation != 0) | negative[:, None]
    counts = pa.array(remaining.sum(axis=1), pa.int32())
    return (
        peaks.filter(pa.array(remaining.reshape(-1))),
        channels.append_column("kept", counts),
    )


def _read_table(path: Path) -> pa.Table:
    with path.open("rb") as stream:  # pyarrow does not accept paths that are not valid UTF-8
        # A single thread: threads of pyarrow that read a stream can abort a program with torch at its exit
        return pq.ParquetFile(stream, pre_buffer=False).read(use_threads=False)


def _write_table(table: pa.Table, stream: BinaryIO, *, dictionary: bool | Sequence[str] = True) -> None:
    """Write a table. `dictionary` names the columns with few distinct values (True: try each column)."""
    pq.write_table(table, stream, use_dictionary=dictionary)


def _write_csv(rows: Iterable[tuple[str, str]], stream: BinaryIO) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text)
    writer.writerow(("image", "reason"))
    writer.writerows(rows)
    text.flush()
    text.detach()
