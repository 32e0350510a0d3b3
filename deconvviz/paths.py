"""Files that a person named: are they there, and if not, what was meant?"""

from __future__ import annotations

import os
from pathlib import Path

from deconvviz.errors import DeconvvizError
from deconvviz.printable_names import path_from_text, printable_path, quoted
from deconvviz.similar_names import nearest


def existing_file(path: str | os.PathLike[str], error: type[DeconvvizError], noun: str) -> Path:
    """The path of a file with something in it; anything else raises `error`, which speaks of a `noun`."""
    found, shown = Path(path), printable_path(path)
    # os.path answers False where pathlib raises: names too long, with a null byte, behind a closed folder
    if os.path.isdir(found):
        raise error(f"{shown} is a folder, not a {noun}")
    if not os.path.exists(found):
        raise error(missing(path, noun))
    if not os.path.isfile(found):
        raise error(f"{shown} is no ordinary file: give a {noun}")
    if os.path.getsize(found) == 0:
        raise error(f"{shown} is empty (0 bytes): fetch or write the {noun} again")
    return found


def missing(path: str | os.PathLike[str], noun: str) -> str:
    """What to say of a path where there is nothing."""
    told, shown, path = os.fspath(path), quoted(path), Path(path)
    folder = "here" if path.parent == Path() else f"in {printable_path(path.parent)}"
    if "://" in told:
        return f"{printable_path(told)} is an address: fetch the {noun} first, then give the file"
    if os.path.islink(path):
        return f"{printable_path(told)} is a link to a {noun} that is not there"
    if not os.path.isdir(path.parent):
        return f"no {noun} {shown}: there is no folder {quoted(path.parent)}"
    try:
        there = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    except OSError as reason:
        return f"no {noun} {shown}: what is {folder} cannot be seen ({spoken(reason)})"
    like = nearest(path.name, there)
    return f"no {noun} {shown}: " + (
        f"nearest {folder}: {', '.join(map(printable_path, like))}" if like else f"nothing like it {folder}"
    )


def no_manifest(path: str | os.PathLike[str]) -> str:
    """Return what to say where there is no manifest."""
    return f"no manifest {printable_path(path)}: it is next to a figure, with the same name and .json"


def path_as_typed(typed: str, folder: str = "") -> str:
    r"""Return a path that a person gave, or if there is nothing, the one that its escapes stand for.

    So that a name can be given as it was shown, with ``\xff`` for a byte that is not text.
    """
    if "\\x" not in typed or os.path.lexists(os.path.join(folder, typed)):
        return typed
    escaped = path_from_text(typed)
    return escaped if os.path.lexists(os.path.join(folder, escaped)) else typed


def path_as_written(text: str, folder: str | os.PathLike[str] = "") -> Path:
    """Return the path that `path_to_text` wrote into a manifest; a relative one starts at `folder`.

    Manifests of earlier versions have no escapes for backslashes: a path that only exists as it is written is
    returned so.
    """
    path, literal = Path(folder, path_from_text(text)), Path(folder, text)
    return literal if not os.path.lexists(path) and os.path.lexists(literal) else path


def spoken(reason: BaseException) -> str:
    """Return the system's reason in one line, without its number and its copy of the path."""
    of_system = reason.strerror if isinstance(reason, OSError) else None
    words = of_system or " ".join(str(reason).split())
    return words[:1].lower() + words[1:] if words[1:2].islower() else words or type(reason).__name__
