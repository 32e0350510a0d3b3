"""The file of a report, checked without torch."""

from __future__ import annotations

import os
from pathlib import Path

from deconvviz.errors import OutputError
from deconvviz.printable_names import printable_path
from deconvviz.results import refuse_existing

SUFFIXES = (".html", ".htm")


def checked_target(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Return the path of a report. Raises OutputError if it is not an HTML file, or exists."""
    target = Path(path)
    if target.is_dir():
        raise OutputError(
            f"cannot write {printable_path(target)}: it is a folder. Name a file in it, such as "
            f"{printable_path(target / 'report.html')}"
        )
    if target.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{printable_path(target)} is not the name of a web page. Choose a name that ends in .html"
        )
    refuse_existing([target], force=force)
    return target
