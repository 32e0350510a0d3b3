"""A weights file as a user names it: is it there? Without torch."""

from __future__ import annotations

import os

from deconvviz.errors import WeightsError
from deconvviz.paths import missing


def file_and_part(asked: str) -> tuple[str, str]:
    """Split FILE#PART; a file whose own name contains a # is taken whole."""
    file, _, part = asked.rpartition("#")
    return (file, part) if part and os.path.exists(file) and not os.path.exists(asked) else (asked, "")


def check_weights_file(asked: str | os.PathLike[str], others: str) -> None:
    """Raise WeightsError, which names the `others`, if there is no such file."""
    file, _ = file_and_part(os.fspath(asked))
    if not os.path.exists(file):
        raise WeightsError(f"{missing(file, 'weights file')} ({others})")
