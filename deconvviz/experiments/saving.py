"""Write the files of an experiment into a folder: figures, manifest, tables and arrays.

Does not import torch or pyarrow, so that commands can check names early.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvviz.results import Result, refuse_existing, save_result, targets, write_arrays

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FORMAT = "png"


@dataclass(frozen=True)
class SavedExperiment(Sequence[Path]):
    """Files of a saved experiment: figure, manifest, and files with numbers."""

    figure: Path
    manifest: Path
    numbers: tuple[Path, ...] = ()

    def __fspath__(self) -> str:
        """Return the path of the figure."""
        return os.fspath(self.figure)

    def __getitem__(self, key: Any) -> Any:
        return (self.figure, self.manifest, *self.numbers)[key]

    def __len__(self) -> int:
        return 2 + len(self.numbers)

    def __iter__(self) -> Iterator[Path]:
        return iter((self.figure, self.manifest, *self.numbers))


def refuse_files(
    folder: Path, name: str, numbers: Sequence[str] = (), *, format: str = FORMAT, force: bool = False
) -> None:
    """Raise OutputError if a file that `save_into` would write exists. Call it before the work.

    Args:
        folder: Folder of the files.
        name: Name of the figure and of the manifest, without suffix.
        numbers: Names of the files with numbers.
        format: ``png``, ``svg`` or ``pdf``.
        force: Existing files may be overwritten.
    """
    figure = folder / f"{name}.{format}"
    refuse_existing([*targets(figure, arrays=False), *(folder / one for one in numbers)], force=force)


def save_into(
    result: Result[Any],
    folder: str | os.PathLike[str],
    name: str,
    style: Any,
    *,
    tables: Mapping[str, pa.Table] | None = None,
    arrays: Mapping[str, Mapping[str, np.ndarray[Any, Any]]] | None = None,
    format: str = FORMAT,
    dpi: float = 200.0,
    force: bool = False,
) -> SavedExperiment:
    """Write NAME.png, NAME.json, tables (.parquet) and arrays (.npz) into a folder.

    Each file is written whole or not at all. If the figure cannot be drawn, no file is written.

    Args:
        result: The result.
        folder: The folder. It is created if it does not exist.
        name: Name of the figure and of the manifest, without suffix.
        style: Settings of the figure, a frozen dataclass.
        tables: Tables by the name of their file.
        arrays: Arrays by the name of their file.
        format: ``png``, ``svg`` or ``pdf``.
        dpi: Dots per inch.
        force: Overwrite existing files.

    Raises:
        OutputError: If a file exists or cannot be written.
        FigureError: If the figure cannot be drawn.
    """
    from deconvviz.experiments.tables import write_table

    home, tables, arrays = Path(folder), tables or {}, arrays or {}
    refuse_files(home, name, [*tables, *arrays], format=format, force=force)
    saved = save_result(result, home / f"{name}.{format}", style, dpi=dpi, force=force, arrays=False)
    written = [write_table(home / file, table, force=force) for file, table in tables.items()]
    for file, numbers in arrays.items():
        write_arrays(home / file, numbers, force=force)
        written.append(home / file)
    return SavedExperiment(saved.figure, saved.manifest, tuple(written))
