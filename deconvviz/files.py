"""Write files whole or not at all (under a temporary name in the same folder, then renamed); read arrays."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from deconvviz.errors import OutputError
from deconvviz.paths import path_as_written
from deconvviz.printable_names import path_to_text, printable_path, quoted

# What to do about failures that the user can fix. Others are reported in the words of the system.
_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
}
# Errors of file systems without hard links (FAT, some network shares).
NO_LINKS = {
    errno.EPERM,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EINVAL,
    errno.EXDEV,
}


def write_whole(
    path: str | os.PathLike[str], write: Callable[[BinaryIO], None], *, force: bool = False
) -> Path:
    """Write a new file with `write` and move it to `path` when it is complete. Return the path.

    Missing folders are created. A symbolic link is followed, not replaced. After a failure or an interrupt,
    `path` is unchanged and no temporary file or new folder remains. Raises OutputError; other exceptions of
    `write` that are not OSErrors are passed on.
    """
    asked = Path(path)
    try:
        target = _checked_target(asked, force)
        with made_folder(target.parent) as folder, _temporary(folder) as temporary:
            with open(temporary, "wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            if force:
                _keep_mode(target, temporary)
                os.replace(temporary, target)
            else:
                _place_if_free(temporary, target, asked)
    except OSError as error:
        raise OutputError(cannot_write(asked, error)) from error
    return asked


def write_text(path: str | os.PathLike[str], text: str, *, force: bool = False) -> Path:
    """Write text in UTF-8, as `write_whole`."""

    def write(stream: BinaryIO) -> None:
        stream.write(text.encode("utf-8"))

    return write_whole(path, write, force=force)


def _checked_target(asked: Path, force: bool) -> Path:
    shown = printable_path(asked)
    if "\0" in str(asked):
        raise OutputError(f"cannot write {quoted(asked)}: a file name cannot contain a zero byte")
    target = Path(os.path.realpath(asked))
    if target.is_dir():
        raise OutputError(
            f"cannot write {shown}: it is a folder. Name a file in it, such as "
            f"{printable_path(asked / 'name.ext')}"
        )
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {shown}: it is a device or a pipe. Name a regular file")
    if target.exists() and not force:
        raise _taken(asked)
    return target


def _taken(asked: Path) -> OutputError:
    return OutputError(
        f"{printable_path(asked)} already exists. Overwrite it with {{option}}, or choose another name",
        option="force=True",
    )


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[Path]:
    """Create a folder with its missing parents; remove what was created after a failure."""
    made = []
    for missing in (folder, *folder.parents):
        if os.path.lexists(missing):
            break
        made.append(missing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except BaseException:
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()
        raise


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    # not derived from the target's name, which may have the maximum length already
    temporary = folder / f".deconvviz-{secrets.token_hex(6)}.part"
    try:
        # os.open instead of tempfile, so that the file gets the permissions of the user's umask
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _keep_mode(target: Path, temporary: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.copymode(target, temporary)


def _place_if_free(temporary: Path, target: Path, asked: Path) -> None:
    """Move a file to a free name. A link, unlike a rename, fails if the name was taken in the meantime."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise _taken(asked) from None
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(target):
            raise _taken(asked) from None
        os.rename(temporary, target)


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an .npz file by name, without unpickling.

    Raises OSError, ValueError, EOFError or zipfile.BadZipFile if the file is not such an archive.
    """
    import numpy as np

    with open(path, "rb") as stream:
        stored = np.load(stream, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("it is a single array")
        return {name: stored[name] for name in stored.files}


def cannot_write(asked: Path, error: OSError) -> str:
    """Return the message for a file or folder that could not be written."""
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0)
    advice = f"; {remedy}" if remedy else ""
    words = f"{reason[:1].lower()}{reason[1:]} (nothing was written){advice}"
    return f"cannot write {printable_path(asked)}: {words}"


def place_of(file: Path | None, folder: Path) -> dict[str, str | None]:
    """Return the absolute path of a file and its path relative to a folder; `existing` reads both."""
    if file is None:
        return {"path": None, "beside": None}
    whole = file.resolve()
    beside = os.path.relpath(whole, folder.resolve())
    return {"path": path_to_text(whole), "beside": path_to_text(beside)}


def existing(one: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the file described by `place_of`, or None if it does not exist any more."""
    places = [path_as_written(one["path"]), path_as_written(one["beside"], folder.resolve())]
    return next((place for place in places if place.is_file()), None)
