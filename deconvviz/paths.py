"""Checks of paths given by the user, with messages that suggest similar names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from deconvviz.errors import DeconvvizError
from deconvviz.printable_names import path_from_text, printable_path, quoted
from deconvviz.similar_names import nearest
from deconvviz.wording import with_article

SCENES = "scenes:"
"""Beginning of a source of drawn scenes, which commands accept in place of a path."""


def file_part(text: str) -> str:
    """Return a text as part of a file name: letters, digits, ``_``, ``.``, ``-``; at most 100 characters."""
    return re.sub(r"[^\w.-]+", "_", text)[:100]


def image_part(name: str) -> str:
    """Return the name of an image, without suffix, as part of a file name."""
    return file_part(Path(name).stem if Path(name).suffix else name)


def existing_file(path: str | os.PathLike[str], error: type[DeconvvizError], noun: str) -> Path:
    """Return the path of a non-empty regular file, or raise `error` with a message about a `noun`."""
    found, shown = Path(path), printable_path(path)
    # os.path returns False where pathlib raises: names too long, with a null byte, in an unreadable folder
    if os.path.isdir(found):
        raise error(f"{shown} is a folder, not {with_article(noun)}")
    if not os.path.exists(found):
        raise error(missing(path, noun))
    if not os.path.isfile(found):
        raise error(f"{shown} is not a regular file: give {with_article(noun)}")
    if os.path.getsize(found) == 0:
        raise error(f"{shown} is empty (0 bytes): download or write the {noun} again")
    return found


def missing(path: str | os.PathLike[str], noun: str) -> str:
    """Return the message for a path that does not exist."""
    given, shown, path = os.fspath(path), quoted(path), Path(path)
    folder = "here" if path.parent == Path() else f"in {printable_path(path.parent)}"
    if "://" in given:
        return f"{printable_path(given)} is a web address: download the {noun} first, then give the file"
    if os.path.islink(path):
        return f"{printable_path(given)} is a link to {with_article(noun)} that does not exist"
    if not os.path.isdir(path.parent):
        return f"no {noun} {shown}: there is no folder {quoted(path.parent)}"
    try:
        there = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    except OSError as reason:
        return f"no {noun} {shown}: the files {folder} cannot be listed ({reason_of(reason)})"
    like = nearest(path.name, there)
    return f"no {noun} {shown}: " + (
        f"similar names {folder}: {', '.join(map(printable_path, like))}"
        if like
        else f"nothing similar {folder}"
    )


def no_manifest(path: str | os.PathLike[str]) -> str:
    """Return the message for a manifest that does not exist."""
    return f"no manifest {printable_path(path)}: it is next to a figure, with the same name and .json"


def path_as_typed(typed: str, folder: str = "") -> str:
    r"""Return a path given by the user; if it does not exist, the path that its escapes stand for.

    This lets the user give a name as it was printed, with ``\xff`` for a byte that is not text.
    """
    if "\\x" not in typed or os.path.lexists(os.path.join(folder, typed)):
        return typed
    escaped = path_from_text(typed)
    return escaped if os.path.lexists(os.path.join(folder, escaped)) else typed


def path_as_written(text: str, folder: str | os.PathLike[str] = "") -> Path:
    """Return the path that `path_to_text` wrote into a manifest; relative paths start at `folder`.

    Older manifests do not escape backslashes: a path that exists only as written is returned unchanged.
    """
    path, literal = Path(folder, path_from_text(text)), Path(folder, text)
    return literal if not os.path.lexists(path) and os.path.lexists(literal) else path


def reason_of(reason: BaseException) -> str:
    """Return the reason of an exception in one line, without error number and path."""
    of_system = reason.strerror if isinstance(reason, OSError) else None
    words = of_system or " ".join(str(reason).split())
    return words[:1].lower() + words[1:] if words[1:2].islower() else words or type(reason).__name__
