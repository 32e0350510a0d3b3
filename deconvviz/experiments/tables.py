"""Arrow tables of the experiments, and their Parquet files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from deconvviz.errors import ManifestError
from deconvviz.files import write_whole
from deconvviz.printable_names import printable_path


def table_of(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Return a table with one row for each mapping. Columns have the given order and types.

    A number that is None is null in the table.
    """
    return pa.table(
        {name: pa.array([row[name] for row in rows], of_type) for name, of_type in columns.items()}
    )


def write_table(path: str | os.PathLike[str], table: pa.Table, *, force: bool = False) -> Path:
    """Write a table as a Parquet file, whole or not at all. Raises OutputError."""

    def write(stream: BinaryIO) -> None:
        pq.write_table(table, stream, compression="zstd")

    return write_whole(path, write, force=force)


def read_table(path: str | os.PathLike[str], columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Return the table in a Parquet file. Raises ManifestError if it cannot be read or has other columns."""
    shown = printable_path(Path(path))
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException) as reason:
        raise ManifestError(f"{shown} cannot be read as a table: {reason}") from reason
    if found.schema != pa.schema(list(columns.items())):
        raise ManifestError(f"{shown} has the columns {', '.join(found.column_names)}, not those expected")
    return found
