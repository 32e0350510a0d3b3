"""The protocol of all results: figure, plain data, arrays, description, files.

A result is data. It keeps facts about the network (`NetworkInfo`) and not the network, so later changes of
the network do not affect it. Reports, notebooks, manifests and the command line use results through this
protocol only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from deconvviz import html_views
from deconvviz.errors import OutputError
from deconvviz.files import write_text, write_whole
from deconvviz.folder_lock import locked
from deconvviz.printable_names import json_text, path_to_text, printable_path

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

StyleT = TypeVar("StyleT", contravariant=True)


class Result(Protocol[StyleT]):
    """Interface of every result. `style` is a small frozen dataclass; None means the default."""

    def figure(self, style: StyleT | None = None) -> Figure:
        """Draw the result with matplotlib."""

    def spec(self, style: StyleT | None = None) -> Any:
        """Return the content of the figure as plain arrays and text (`deconvviz.figures.spec`)."""

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all numbers as NumPy arrays."""

    def describe(self) -> dict[str, Any]:
        """Return a description as plain JSON values without paths."""

    def places(self, folder: Path) -> Mapping[str, Any]:
        """Return the paths of the files used, relative to a folder, with the keys of `describe`."""

    def save(self, path: str | os.PathLike[str]) -> SavedFiles:
        """Write the figure, its manifest and optionally the arrays."""

    def _repr_png_(self) -> bytes | None:
        """Return the figure as PNG, for programs that show no HTML."""

    def _repr_html_(self) -> str | None:
        """Return the HTML that Jupyter shows (see `html_of`)."""


@dataclass(frozen=True)
class SavedFiles(Sequence[Path]):
    """Files of a saved result: the figure, its manifest, and the arrays if requested."""

    figure: Path
    manifest: Path
    arrays: Path | None = None

    def __fspath__(self) -> str:
        """Return the path of the figure, so that the result of `save` can be opened."""
        return os.fspath(self.figure)

    def _all(self) -> list[Path]:
        return [self.figure, self.manifest, *([self.arrays] if self.arrays else [])]

    def __getitem__(self, key: Any) -> Any:
        return self._all()[key]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Path]:
        return iter(self._all())

    @classmethod
    def of(cls, figure: Path, *, arrays: bool) -> SavedFiles:
        """Return the files that belong to a figure: ``grid.png``, ``grid.json`` and ``grid.npz``."""
        stem = figure.with_suffix("")
        return cls(figure, Path(f"{stem}.json"), Path(f"{stem}.npz") if arrays else None)


def html_of(result: Result[Any], notes: Sequence[str] = ()) -> str | None:
    """Return the figure of a result as HTML, with its description as alternative text and notes below it.

    Return None if there is no figure.
    """
    png = result._repr_png_()
    return None if png is None else html_views.figure(png, repr(result)[1:-1], notes)


def targets(figure: Path, arrays: bool) -> list[Path]:
    """Return the paths of the files that belong to a figure."""
    return list(SavedFiles.of(figure, arrays=arrays))


def save_result(
    result: Result[Any],
    path: str | os.PathLike[str],
    style: Any,
    *,
    dpi: float,
    force: bool,
    arrays: bool,
) -> SavedFiles:
    """Write a figure (.png, .svg, .pdf), its manifest and optionally the arrays.

    Each file is written whole or not at all, under a lock on its name. Raises OutputError or FigureError
    before anything is written.
    """
    from deconvviz.figures.page.save import save as save_figure

    files = SavedFiles.of(Path(path), arrays=arrays)
    refuse_existing(list(files), force=force)
    figure = result.figure(style)
    manifest = {
        **merged(result.describe(), result.places(files.figure.parent)),
        "figure": path_to_text(files.figure.name),
        "style": {**asdict(style), "dpi": dpi},
        "colour_scale": getattr(figure, "colour_scale", None),  # limits of the colour scale, with units
    }
    text = json_text(manifest) + "\n"
    with locked(files.figure.parent, files.figure.stem):
        refuse_existing(list(files), force=force)  # another process may have written them since
        save_figure(figure, files.figure, dpi=dpi, force=force)
        write_text(files.manifest, text, force=force)
        if files.arrays is not None:
            write_arrays(files.arrays, result.arrays(), force=force)
    return files


def merged(one: Any, other: Any) -> Any:
    """Merge two JSON values: dictionaries key by key, lists entry by entry."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        both = dict(one)
        for key, value in other.items():
            both[key] = merged(one[key], value) if key in one else value
        return both
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [merged(a, b) for a, b in zip(one, other, strict=True)]
    return other


def write_arrays(path: Path, numbers: Mapping[str, Any], *, force: bool) -> None:
    """Write a compressed .npz, whole or not at all. Raises OutputError."""
    import numpy as np

    def write(stream: BinaryIO) -> None:
        np.savez_compressed(stream, **numbers)

    write_whole(path, write, force=force)


def refuse_existing(targets: Sequence[Path], *, force: bool) -> None:
    """Raise OutputError if one of the files exists and may not be overwritten."""
    there = [target for target in targets if target.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more already exist" if len(there) > 1 else " already exists"
        raise OutputError(
            f"{printable_path(there[0])}{more}. Overwrite with {{option}}, or choose another place",
            option="force=True",
        )
