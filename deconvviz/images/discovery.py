"""Find image files from paths to files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from deconvviz.errors import ImageError
from deconvviz.paths import missing, path_as_typed, reason_of
from deconvviz.printable_names import printable_path
from deconvviz.wording import counted

# In a folder, only files with these suffixes are images; a file that is named itself can have any suffix.
SUFFIXES = (
    ".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip

STANDARD_INPUT = "-"
"""Command-line argument for an image on standard input."""

StrPath = str | os.PathLike[str]


def find_images(
    paths: StrPath | Iterable[StrPath], suffixes: tuple[str, ...] = SUFFIXES, noun: str = "image"
) -> list[Path]:
    """Return the named files, and the files with certain suffixes in each named folder, sorted by name.

    `noun` is what messages call such a file. Hidden files and subfolders are not searched. Each file is
    listed once. Raises ImageError.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not named:
        raise ImageError(f"no {noun} is named: give {noun} files or folders of {noun}s")
    found = [file for path in named for file in _images_at(path, suffixes, noun)]
    once: dict[Path, Path] = {}
    for file in found:
        once.setdefault(file.resolve(), file)
    return list(once.values())


def _images_at(given: StrPath, suffixes: tuple[str, ...], noun: str) -> list[Path]:
    path = path_as_typed(os.fspath(given))
    if os.path.isdir(path):
        return _images_in(Path(path), suffixes, noun)
    if not os.path.exists(path):
        raise ImageError(missing(path, noun))
    return [Path(path)]


def _images_in(folder: Path, suffixes: tuple[str, ...], noun: str) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        files = [entry for entry in entries if not entry.name.startswith(".") and not entry.is_dir()]
    except OSError as reason:
        raise ImageError(
            f"the folder {printable_path(folder)} cannot be read: {reason_of(reason)}"
        ) from reason
    images = [file for file in files if file.name.lower().endswith(suffixes)]
    if not images:
        folders = sum(entry.is_dir() for entry in entries if not entry.name.startswith("."))
        also = f" and {counted(folders, 'folder')}, which are not searched" if folders else ""
        raise ImageError(
            f"no {noun}s in {folder}: {counted(len(files), 'other file')}{also}. "
            f"The suffixes of {noun}s are {' '.join(suffixes)}"
        )
    return images
