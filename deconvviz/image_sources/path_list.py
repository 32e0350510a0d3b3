"""A text file with a path in each line; blank lines and those that begin with # are passed over."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from deconvviz.errors import SourceError
from deconvviz.image_sources.image_files import LooseFiles, look_at
from deconvviz.image_sources.image_ids import as_id, sorted_once
from deconvviz.paths import spoken

SUFFIXES = (".txt", ".lst")
_LABELLED = re.compile(r"(.+?)[\s,]+-?\d+")


class Listed(LooseFiles):
    """Paths are absolute, or start at the list's own folder. A picture's id is its line."""

    kind = "list"


def open_list(place: str) -> Listed:
    """Raises SourceError."""
    folder = os.path.dirname(os.path.abspath(place))
    lines = _lines(place)
    ids, paths, sizes, skipped = list[str](), list[str](), list[int](), list[tuple[str, str]]()
    for line in lines:
        name, path = as_id(line), os.fsdecode(line)
        found = look_at(os.path.join(folder, path))
        if found.refused:
            skipped.append((name, found.refused + _labelled(name, folder)))
        else:
            ids.append(name)
            paths.append(path)
            sizes.append(found.size)
    if not ids:
        raise SourceError(_nothing_there(place, folder, skipped))
    names, order, again = sorted_once(ids)
    skipped += [(name, "it is listed more than once, and read once") for name in again]
    odd = {ids[one]: paths[one] for one in order if ids[one] != paths[one]}
    return Listed(place, folder, names, np.array(sizes, np.int64)[order], tuple(sorted(skipped)), odd)


def _lines(place: str) -> list[bytes]:
    try:
        content = Path(place).read_bytes()
    except OSError as reason:
        raise SourceError(f"the list {place} cannot be read: {spoken(reason)}") from reason
    if b"\0" in content:
        raise SourceError(f"{place} is no list of pictures: a text file has no zero bytes")
    stripped = [line.strip() for line in content.removeprefix(b"\xef\xbb\xbf").splitlines()]
    lines = [line for line in stripped if line and not line.startswith(b"#")]
    if not lines:
        count = len(stripped)
        raise SourceError(
            f"{place} lists no picture: {count} line{'s' * (count != 1)}, all blank or comments "
            "(write the path of a picture in each)"
        )
    return lines


def _labelled(name: str, folder: str) -> str:
    """A hint for lists that were written for training."""
    told = _LABELLED.fullmatch(name)
    there = told is not None and look_at(os.path.join(folder, told[1])).refused is None
    return " (a line is a path and nothing else: leave its label out)" if there else ""


def _nothing_there(place: str, folder: str, skipped: list[tuple[str, str]]) -> str:
    name, reason = skipped[0]
    return (
        f"none of the {len(skipped)} pictures that {place} lists can be read: {name}: {reason} "
        f"(paths are absolute or start at {folder})"
    )
