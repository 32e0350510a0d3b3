"""Check that a weights file exists. Does not import torch."""

from __future__ import annotations

import os

from deconvviz.errors import WeightsError
from deconvviz.paths import missing


def file_and_part(path: str) -> tuple[str, str]:
    """Split FILE#PART into file and part; the name of an existing file with a # in it is not split."""
    file, _, part = path.rpartition("#")
    return (file, part) if part and os.path.exists(file) and not os.path.exists(path) else (path, "")


def check_weights_file(path: str | os.PathLike[str], others: str) -> None:
    """Raise WeightsError, with the text `others`, if there is no such file."""
    file, _ = file_and_part(os.fspath(path))
    if not os.path.exists(file):
        raise WeightsError(f"{missing(file, 'weights file')} ({others})")
