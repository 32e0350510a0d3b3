"""Figures to files and to bytes: PNG, SVG and PDF, the same bytes for the same figure."""

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
_MOST_PIXELS = 2**16 - 1  # the longest side that matplotlib draws


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 200, force: bool = False) -> Path:
    """Write PNG, SVG or PDF, chosen by the suffix; in SVG and PDF `dpi` is that of the pictures in it.

    Raises OutputError: another suffix, a file that exists (without `force`), or one that cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        asked = f"the suffix {target.suffix!r}" if target.suffix else "no suffix"
        raise OutputError(f"cannot write {target}: {asked} is no format for a figure; use .png, .svg or .pdf")
    _check_dpi(figure, dpi)
    return write_whole(target, lambda stream: _write(figure, stream, kind, dpi), force=force)


def render_png(figure: Figure, dpi: float = 200) -> bytes:
    """The figure as the bytes of a PNG file."""
    _check_dpi(figure, dpi)
    stream = io.BytesIO()
    _write(figure, stream, "png", dpi)
    return stream.getvalue()


def _write(figure: Figure, stream: BinaryIO, kind: str, dpi: float) -> None:
    with sheet_style():
        figure.savefig(stream, format=kind, dpi=dpi, metadata=_metadata(figure, kind))


def _metadata(figure: Figure, kind: str) -> dict[str, Any]:
    """What the figure is, and no date: the same figure gives the same file."""
    title = {"Title": str(figure.get_label())} if figure.get_label() else {}
    if kind == "png":
        return {"Software": "deconvviz", **title}
    if kind == "svg":
        return {"Creator": "deconvviz", "Date": None, **title}
    return {"Creator": "deconvviz", "CreationDate": None, **title}


def _check_dpi(figure: Figure, dpi: float) -> None:
    longest = max(figure.get_size_inches())
    if not 10 <= dpi <= 4800:
        raise OutputError(f"dpi {dpi!r}: choose from 10 to 4800 (200 suits a screen, 300 to 600 print)")
    if longest * dpi > _MOST_PIXELS:
        raise OutputError(
            f"dpi {dpi:g} makes this figure {longest * dpi:.0f} px long and {_MOST_PIXELS} is the most: "
            f"choose a dpi up to {_MOST_PIXELS / longest:.0f}"
        )
