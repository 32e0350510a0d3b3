"""What the results of all experiments have in common: figure, files, and views in Jupyter."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from deconvviz.experiments.saving import FORMAT, SavedExperiment, save_into
from deconvviz.figures.spec.style import DPI
from deconvviz.results import SavedFiles, html_of, save_result

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

    from deconvviz.figures.spec import Spec

StyleT = TypeVar("StyleT")
SpecT = TypeVar("SpecT", bound="Spec")


@dataclass(frozen=True)
class ResultFiles:
    """What `save_into` writes: the name of figure and manifest without suffix, and files with numbers."""

    name: str
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    arrays: Mapping[str, Mapping[str, np.ndarray[Any, Any]]] = field(default_factory=dict)


class ExperimentResult(ABC, Generic[StyleT, SpecT]):
    """Result of an experiment (see `deconvviz.results.Result`).

    An experiment states its style, the content of its figure, its files and its notes.
    """

    default_style: ClassVar[type[Any]]
    """Class of the settings of the figure."""

    @abstractmethod
    def _content(self, style: StyleT) -> SpecT:
        """Return the content of the figure."""

    @abstractmethod
    def _files_to_write(self) -> ResultFiles:
        """Return what `save_into` writes."""

    @abstractmethod
    def _notes(self) -> Sequence[str]:
        """Return the lines below the figure in Jupyter."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all numbers as NumPy arrays."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return a description as plain JSON values without paths."""

    @abstractmethod
    def places(self, folder: Path) -> Mapping[str, Any]:
        """Return the paths of the files used, relative to a folder, with the keys of `describe`."""

    def figure(self, style: StyleT | None = None, **changes: Any) -> Figure:
        """Draw the figure.

        Args:
            style: Settings of the figure. The description of the class names them.
            **changes: Single settings instead.

        Raises:
            FigureError: If a setting is invalid, or the figure cannot be drawn.
        """
        from deconvviz.figures import draw

        return draw(self.spec(style, **changes))

    def spec(self, style: StyleT | None = None, **changes: Any) -> SpecT:
        """Return the content of the figure as plain arrays and lines of text."""
        return self._content(self._styled(style, changes))

    def save(
        self,
        path: str | os.PathLike[str],
        style: StyleT | None = None,
        *,
        dpi: float | None = None,
        force: bool = False,
        arrays: bool = False,
        **changes: Any,
    ) -> SavedFiles:
        """Write the figure and its manifest (.json), and with `arrays` also the arrays (.npz).

        Args:
            path: File of the figure: .png, .svg or .pdf.
            style: Settings of the figure; or single settings in `changes`, as for `figure`.
            dpi: Dots per inch; None uses 200, or what the medium of the style needs.
            force: Overwrite existing files.
            arrays: Also write the result of `arrays`.

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        chosen = self._styled(style, changes)
        return save_result(self, path, chosen, dpi=_dpi(chosen, dpi), force=force, arrays=arrays)

    def save_into(
        self,
        folder: str | os.PathLike[str],
        style: StyleT | None = None,
        *,
        format: str = FORMAT,
        dpi: float | None = None,
        force: bool = False,
        **changes: Any,
    ) -> SavedExperiment:
        """Write the figure, its manifest, and tables (.parquet) or arrays (.npz) into a folder.

        Args:
            folder: The folder.
            style: Settings of the figure; or single settings in `changes`, as for `figure`.
            format: ``png``, ``svg`` or ``pdf``.
            dpi: Dots per inch; None uses 200, or what the medium of the style needs.
            force: Overwrite existing files.

        Raises:
            OutputError: If a file exists or cannot be written.
            FigureError: If the figure cannot be drawn.
        """
        files, chosen = self._files_to_write(), self._styled(style, changes)
        return save_into(
            self,
            folder,
            files.name,
            chosen,
            tables=files.tables,
            arrays=files.arrays,
            format=format,
            dpi=_dpi(chosen, dpi),
            force=force,
        )

    def _styled(self, style: StyleT | None, changes: Mapping[str, Any]) -> StyleT:
        chosen: Any = self.default_style() if style is None else style
        changed: StyleT = replace(chosen, **changes)
        return changed

    def _repr_png_(self) -> bytes | None:
        from deconvviz.figures.page.save import render_png

        return render_png(self.figure(), dpi=150)

    def _repr_html_(self) -> str | None:
        return html_of(self, self._notes())


def _dpi(style: object, dpi: float | None) -> float:
    """Return the dots per inch, by default those of the medium of the style."""
    return DPI[getattr(style, "medium", "screen")] if dpi is None else dpi
