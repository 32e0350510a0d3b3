"""Images or arrays that are separate files below one folder."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from deconvviz.errors import ImageError
from deconvviz.image_sources.image_ids import Names
from deconvviz.image_sources.labels import folder_labels, folder_of_image
from deconvviz.image_sources.source import Sizes, Skipped, Source
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.images.input_files import InputFiles
from deconvviz.paths import reason_of
from deconvviz.printable_names import path_from_text, path_to_text


class SeparateFiles(Source):
    """Source of image files. Each id is a path relative to `folder`, written by `path_to_text`.

    The label of an image is the name of its folder, see `folder_labels`.
    """

    def __init__(
        self, place: str, folder: str, names: Names, sizes: Sizes, skipped: Skipped, files: InputFiles
    ) -> None:
        super().__init__(
            place,
            names,
            sizes=sizes,
            skipped=skipped,
            lasting_place=absolute_path_text(place),
            labels=folder_labels(map(folder_of_image, names)),
            files=files,
        )
        self._folder = folder

    def path(self, number: int) -> Path:
        return Path(self._folder, path_from_text(self.names[number]))

    def read(self, number: int) -> InputImage | InputArray:
        name, path = self.names[number], self.path(number)
        try:
            stream = path.open("rb")
        except FileNotFoundError as reason:
            raise ImageError(f"{name} no longer exists: it existed when the images were listed") from reason
        except OSError as reason:
            raise ImageError(f"cannot read {name}: {reason_of(reason)}") from reason
        with stream:
            return replace(self.files.read(stream, name), path=path)


class FileCheck(NamedTuple):
    """Size of a file in bytes, or the reason why it cannot be read as an image."""

    size: int
    problem: str | None = None


def check_file(path: str | os.DirEntry[str]) -> FileCheck:
    """Return the size of a file, or why it cannot be read, without opening it. Links are followed."""
    try:
        status = path.stat() if isinstance(path, os.DirEntry) else os.stat(path)
    except FileNotFoundError:
        link = os.path.islink(path)
        return FileCheck(-1, "it is a link to a file that does not exist" if link else "it does not exist")
    except (OSError, ValueError) as reason:
        return FileCheck(-1, f"it cannot be accessed: {reason_of(reason)}")
    if stat.S_ISDIR(status.st_mode):
        return FileCheck(-1, "it is a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        return FileCheck(-1, "it is not a regular file")
    return FileCheck(status.st_size)


def absolute_path_text(path: str) -> str:
    """Return the absolute path as text for JSON (see `path_to_text`)."""
    return path_to_text(os.path.abspath(path))
