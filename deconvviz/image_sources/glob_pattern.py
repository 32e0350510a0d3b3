"""One text that stands for several files: shard-*.tar, shard-{000..012}.tar."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

from deconvviz.errors import SourceError

MOST = 100_000
_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}", re.ASCII)
_SPECIAL = re.compile(r"[*?\[{]")


def is_pattern(place: str) -> bool:
    return _SPECIAL.search(place) is not None


def matching(place: str) -> list[str]:
    """The files that a pattern stands for, each once. Raises SourceError where one of them is not there."""
    named = list(dict.fromkeys(_unfolded(place)))
    found = {one: _there(one) for one in named}
    gone = [one for one in named if not found[one]]
    if len(gone) == len(named):
        raise SourceError(f"nothing here is named as in {place!r}")
    if gone:
        raise SourceError(f"{len(gone)} of the {len(named)} files of {place!r} are not there: {_few(gone)}")
    return list(dict.fromkeys(path for one in named for path in found[one]))


def fixed_folder(place: str) -> str:
    """The folder before the first part that stands for several."""
    special = _SPECIAL.search(place)
    return os.path.dirname(place[: special.start()] if special else place) or os.curdir


def _unfolded(place: str) -> Iterator[str]:
    """With each choice of braces; numbers as wide as the first of them is written, as in a shell."""
    told = _count(place)
    if told > MOST:
        raise SourceError(f"{place!r} stands for {told} files: at most {MOST} are looked for")
    braces = _BRACES.search(place)
    if braces is None:
        yield place
        return
    for choice in _choices(braces):
        yield from _unfolded(place[: braces.start()] + choice + place[braces.end() :])


def _count(place: str) -> int:
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


def _there(path: str) -> list[str]:
    if os.path.exists(path):
        return [path]
    return sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []


def _few(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (" ..." if len(paths) > 3 else "")
