"""Which picture files a person meant: files as named, folders as what pictures they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from deconvviz.errors import PictureError
from deconvviz.paths import missing, spoken

# In a folder, only files with these suffixes count; a file that is named itself may have any.
SUFFIXES = (
    ".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

StrPath = str | os.PathLike[str]


def find_pictures(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    """The files named, and of each folder its pictures by name (not of folders inside it, none hidden).

    The same file comes once. Raises PictureError.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not named:
        raise PictureError("no picture was named: give a file or a folder of pictures")
    found = [file for path in named for file in _pictures_at(path)]
    once: dict[Path, Path] = {}
    for file in found:
        once.setdefault(file.resolve(), file)
    return list(once.values())


def _pictures_at(path: StrPath) -> list[Path]:
    if os.path.isdir(path):
        return _pictures_in(Path(path))
    if not os.path.exists(path):
        raise PictureError(missing(path, "picture"))
    return [Path(path)]


def _pictures_in(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        files = [entry for entry in entries if not entry.name.startswith(".") and not entry.is_dir()]
    except OSError as reason:
        raise PictureError(f"the folder {folder} cannot be read: {spoken(reason)}") from reason
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not pictures:
        folders = sum(entry.is_dir() for entry in entries if not entry.name.startswith("."))
        also = f" and {folders} folder{'s' * (folders != 1)}, which are not searched" if folders else ""
        raise PictureError(
            f"no pictures in {folder}: {len(files)} other file{'s' * (len(files) != 1)}{also} "
            f"(pictures end in {' '.join(SUFFIXES)})"
        )
    return pictures
