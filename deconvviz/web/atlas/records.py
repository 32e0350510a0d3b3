"""Lists of files with size and digest: what a finished chunk, a layer or a whole atlas consists of."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from deconvviz.errors import OutputError
from deconvviz.files import cannot_write, write_text
from deconvviz.printable_names import json_text, printable_path

Files: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Size and digest of files by their path, relative to the folder of the atlas, with forward slashes."""


def entry_of(data: bytes) -> dict[str, Any]:
    """Return size and digest of the contents of a file."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_file(path: Path, data: bytes) -> dict[str, Any]:
    """Write one of many files, whole or not at all, and return its entry. Raises OutputError.

    Unlike `write_whole`, it does not wait until the data is on the disk, which would take longer than to
    make a page. After a power failure, `are_there` and `fault_of` find files that are not whole.
    """
    temporary = path.with_name(f".deconvviz-{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(cannot_write(path, error)) from error
    finally:
        remove([temporary])
    return entry_of(data)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, whole or not at all. Raises OutputError."""
    write_text(path, json_text(record, only_ascii=True) + "\n", force=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record; None if there is none. Raises OutputError if it is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise damaged(path) from error
    if not isinstance(stored, dict):
        raise damaged(path)
    return stored


def damaged(path: Path) -> OutputError:
    """Return the error for a file of an atlas that cannot be read."""
    return OutputError(
        f"{printable_path(path)} is damaged. Make the layer again with {{option}}", option="force=True"
    )


def are_there(site: Path, files: Files) -> bool:
    """Return whether all files exist with their sizes. Contents are not read."""
    return all(_size(site / name) == entry["bytes"] for name, entry in files.items())


def fault_of(site: Path, name: str, entry: Mapping[str, Any]) -> str:
    """Return what is wrong with a file; an empty string if it is whole."""
    try:
        data = (site / name).read_bytes()
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
    if len(data) != entry["bytes"]:
        return f"has {len(data):,} bytes instead of {entry['bytes']:,}"
    return "" if entry_of(data)["sha256"] == entry["sha256"] else "has other contents than were written"


def remove(paths: Iterable[Path]) -> None:
    """Delete files; those that do not exist are ignored."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
