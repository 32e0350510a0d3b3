"""Files that a person named: are they there, and if not, what was meant?"""

from __future__ import annotations

import os
from pathlib import Path

from deconvviz.errors import DeconvvizError
from deconvviz.similar_names import nearest


def existing_file(path: str | os.PathLike[str], error: type[DeconvvizError], noun: str) -> Path:
    """The path of a file with something in it; anything else raises `error`, which speaks of a `noun`."""
    found = Path(path)
    # os.path answers False where pathlib raises: names too long, with a null byte, behind a closed folder
    if os.path.isdir(found):
        raise error(f"{found} is a folder, not a {noun}")
    if not os.path.exists(found):
        raise error(missing(path, noun))
    if not os.path.isfile(found):
        raise error(f"{found} is no ordinary file: give a {noun}")
    if os.path.getsize(found) == 0:
        raise error(f"{found} is empty (0 bytes): fetch or write the {noun} again")
    return found


def missing(path: str | os.PathLike[str], noun: str) -> str:
    """What to say of a path where there is nothing."""
    told, path = os.fspath(path), Path(path)
    folder = "here" if path.parent == Path() else f"in {path.parent}"
    if "://" in told:
        return f"{told} is an address: fetch the {noun} first, then give the file"
    if os.path.islink(path):
        return f"{told} is a link to a {noun} that is not there"
    if not os.path.isdir(path.parent):
        return f"no {noun} {told!r}: there is no folder {str(path.parent)!r}"
    try:
        there = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    except OSError as reason:
        return f"no {noun} {told!r}: what is {folder} cannot be seen ({spoken(reason)})"
    like = nearest(path.name, there)
    return f"no {noun} {told!r}: " + (
        f"nearest {folder}: {', '.join(like)}" if like else f"nothing like it {folder}"
    )


def spoken(reason: BaseException) -> str:
    """The system's reason without its number and its copy of the path."""
    words = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return words[:1].lower() + words[1:] if words[1:2].islower() else words or type(reason).__name__
