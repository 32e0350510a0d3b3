"""Patterns that match several files: shard-*.tar, shard-{000..012}.tar."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

from deconvviz.errors import SourceError
from deconvviz.printable_names import printable_path, quoted

MAX_FILES = 100_000
_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}", re.ASCII)
_SPECIAL = re.compile(r"[*?\[{]")


def is_pattern(place: str) -> bool:
    return _SPECIAL.search(place) is not None


def matching_files(place: str) -> list[str]:
    """Return the files that match a pattern, each once.

    Raises SourceError if there is no file for one of the choices of its braces.
    """
    expanded = list(dict.fromkeys(_expand_braces(place)))
    found = {one: _existing(one) for one in expanded}
    absent = [one for one in expanded if not found[one]]
    if len(absent) == len(expanded):
        raise SourceError(f"no file matches {quoted(place)}")
    if absent:
        count = f"{len(absent)} of the {len(expanded)} files of {quoted(place)}"
        raise SourceError(f"{count} do not exist: {_first_three(absent)}")
    return list(dict.fromkeys(path for one in expanded for path in found[one]))


def fixed_folder(place: str) -> str:
    """Return the folder that contains all matches: the path before the first part with a wildcard."""
    special = _SPECIAL.search(place)
    return os.path.dirname(place[: special.start()] if special else place) or os.curdir


def _expand_braces(place: str) -> Iterator[str]:
    """Yield the pattern once for each choice of its braces; numbers are padded with zeros as in a shell."""
    count = _choice_count(place)
    if count > MAX_FILES:
        raise SourceError(f"{quoted(place)} expands to {count} files: at most {MAX_FILES} are supported")
    braces = _BRACES.search(place)
    if braces is None:
        yield place
        return
    for choice in _choices(braces):
        yield from _expand_braces(place[: braces.start()] + choice + place[braces.end() :])


def _choice_count(place: str) -> int:
    total = 1
    for braces in _BRACES.finditer(place):
        first, last, listed = braces.groups()
        total *= listed.count(",") + 1 if listed is not None else abs(int(last) - int(first)) + 1
    return total


def _choices(braces: re.Match[str]) -> Iterator[str]:
    first, last, listed = braces.groups()
    if listed is not None:
        yield from listed.split(",")
        return
    step = 1 if int(first) <= int(last) else -1
    width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
    for number in range(int(first), int(last) + step, step):
        yield f"{number:0{width}d}"


def _existing(path: str) -> list[str]:
    if os.path.exists(path):
        return [path]
    return sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []


def _first_three(paths: list[str]) -> str:
    return ", ".join(map(printable_path, paths[:3])) + (" ..." if len(paths) > 3 else "")
