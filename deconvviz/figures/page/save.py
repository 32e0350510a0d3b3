"""Save figures as PNG, SVG or PDF. The same figure always gives the same bytes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from matplotlib.figure import Figure

from deconvviz.errors import OutputError
from deconvviz.figures.page.style import sheet_style
from deconvviz.files import write_whole

FORMATS = ("png", "svg", "pdf")
_MOST_PIXELS = 2**16 - 1  # limit of matplotlib for one side of a figure


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 200, force: bool = False) -> Path:
    """Write a figure to a file. The suffix of `path` chooses the format: .png, .svg or .pdf.

    In SVG and PDF, `dpi` applies to the images in the figure. Returns the path of the file. Raises
    OutputError if the suffix is not supported, if the file exists and `force` is False, or if it cannot be
    written.
    """
    target = Path(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        problem = f"{target.suffix!r} is not a figure format" if target.suffix else "the name has no suffix"
        raise OutputError(f"cannot write {target}: {problem}. Use .png, .svg or .pdf")
    _check_dpi(figure, dpi)
    return write_whole(target, lambda stream: _write(figure, stream, kind, dpi), force=force)


def render_png(figure: Figure, dpi: float = 200) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    _check_dpi(figure, dpi)
    stream = io.BytesIO()
    _write(figure, stream, "png", dpi)
    return stream.getvalue()


def _write(figure: Figure, stream: BinaryIO, kind: str, dpi: float) -> None:
    with sheet_style():
        figure.savefig(stream, format=kind, dpi=dpi, metadata=_metadata(figure, kind))


def _metadata(figure: Figure, kind: str) -> dict[str, Any]:
    """Return metadata with the title but without a date, so that the same figure gives the same file."""
    title = {"Title": str(figure.get_label())} if figure.get_label() else {}
    if kind == "png":
        return {"Software": "deconvviz", **title}
    if kind == "svg":
        return {"Creator": "deconvviz", "Date": None, **title}
    return {"Creator": "deconvviz", "CreationDate": None, **title}


def _check_dpi(figure: Figure, dpi: float) -> None:
    longest = max(figure.get_size_inches())
    if not 10 <= dpi <= 4800:
        raise OutputError(
            f"dpi {dpi!r}: it must be from 10 to 4800. Use 200 for a screen, 300 to 600 for print"
        )
    if longest * dpi > _MOST_PIXELS:
        raise OutputError(
            f"dpi {dpi:g} makes this figure {longest * dpi:.0f} px long: the limit is {_MOST_PIXELS} px. "
            f"Use a dpi of at most {_MOST_PIXELS / longest:.0f}"
        )
