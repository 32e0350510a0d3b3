"""A list of image paths as a source: a text file with one path per line.

Blank lines and lines that start with # are ignored.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from deconvviz.errors import SourceError
from deconvviz.image_sources.image_files import SeparateFiles, check_file
from deconvviz.image_sources.image_ids import sorted_once
from deconvviz.images.input_files import InputFiles
from deconvviz.paths import path_as_typed, reason_of
from deconvviz.printable_names import path_to_text
from deconvviz.wording import counted

SUFFIXES = (".txt", ".lst")
_LABELLED = re.compile(r"(.+?)[\s,]+-?\d+")


class ImageList(SeparateFiles):
    """Images of a list. Paths are absolute or relative to the folder of the list. The id is the line."""

    kind = "list"


def open_list(place: str, kind: InputFiles) -> ImageList:
    """Return the source of a list file. Raises SourceError."""
    folder = os.path.dirname(os.path.abspath(place))
    lines = _lines(place)
    ids, sizes, skipped = list[str](), list[int](), list[tuple[str, str]]()
    for line in lines:
        path = path_as_typed(os.fsdecode(line), folder)
        name, check = path_to_text(path), check_file(os.path.join(folder, path))
        if check.problem:
            skipped.append((name, check.problem + _label_hint(name, folder)))
        else:
            ids.append(name)
            sizes.append(check.size)
    if not ids:
        raise SourceError(_no_images_message(place, folder, skipped))
    names, order, dropped = sorted_once(ids)
    skipped += [(name, "it is listed more than once and read only once") for name in dropped]
    return ImageList(place, folder, names, np.array(sizes, np.int64)[order], tuple(sorted(skipped)), kind)


def _lines(place: str) -> list[bytes]:
    try:
        content = Path(place).read_bytes()
    except OSError as reason:
        raise SourceError(f"the list {place} cannot be read: {reason_of(reason)}") from reason
    if b"\0" in content:
        raise SourceError(f"{place} is not a list of images: it has zero bytes, so it is not a text file")
    stripped = [line.strip() for line in content.removeprefix(b"\xef\xbb\xbf").splitlines()]
    lines = [line for line in stripped if line and not line.startswith(b"#")]
    if not lines:
        raise SourceError(
            f"no images in the list {place}: {counted(len(stripped), 'line')}, all blank or comments. "
            "Write one path per line"
        )
    return lines


def _label_hint(name: str, folder: str) -> str:
    """Return a hint if the line is a path and a label, as in lists for training; otherwise an empty text."""
    match = _LABELLED.fullmatch(name)
    labelled = match is not None and check_file(os.path.join(folder, match[1])).problem is None
    return " (a line must contain only a path: remove the label)" if labelled else ""


def _no_images_message(place: str, folder: str, skipped: list[tuple[str, str]]) -> str:
    name, reason = skipped[0]
    return (
        f"none of the {len(skipped)} images in the list {place} can be read: {name}: {reason} "
        f"(paths must be absolute or relative to {folder})"
    )
