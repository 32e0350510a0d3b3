"""Pictures that are files of their own, below one folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from deconvviz.errors import PictureError
from deconvviz.image_sources.image_ids import Names, as_id
from deconvviz.image_sources.source import Sizes, Skipped, Source
from deconvviz.images.image import Picture, read_picture
from deconvviz.paths import spoken


class LooseFiles(Source):
    """Each id is a path from `folder` on; `odd` has the paths, by id, whose ids are written otherwise."""

    def __init__(
        self, place: str, folder: str, names: Names, sizes: Sizes, skipped: Skipped, odd: Mapping[str, str]
    ) -> None:
        super().__init__(place, names, sizes=sizes, skipped=skipped, lasting_place=lasting(place))
        self._folder = folder
        self._odd = dict(odd)

    def path(self, number: int) -> Path:
        name = self.names[number]
        return Path(self._folder, self._odd.get(name, name))

    def read(self, number: int) -> Picture:
        name, path = self.names[number], self.path(number)
        try:
            stream = path.open("rb")
        except FileNotFoundError as reason:
            raise PictureError(f"{name} is gone: it was there when the pictures were listed") from reason
        except OSError as reason:
            raise PictureError(f"cannot read {name}: {spoken(reason)}") from reason
        with stream:
            picture = read_picture(stream, name)
        return Picture(picture.rgb, path, picture.notes)


class Found(NamedTuple):
    """One look at a path: how many bytes a file has, or why it is no file to read."""

    size: int
    refused: str | None = None


def look_at(path: str | os.DirEntry[str]) -> Found:
    """Follows links; never opens anything."""
    try:
        seen = path.stat() if isinstance(path, os.DirEntry) else os.stat(path)
    except FileNotFoundError:
        link = os.path.islink(path)
        return Found(-1, "it is a link to a picture that is not there" if link else "it is not there")
    except (OSError, ValueError) as reason:
        return Found(-1, f"it cannot be seen: {spoken(reason)}")
    if stat.S_ISDIR(seen.st_mode):
        return Found(-1, "it is a folder, not a picture")
    if not stat.S_ISREG(seen.st_mode):
        return Found(-1, "it is no ordinary file")
    return Found(seen.st_size)


def lasting(path: str) -> str:
    """A path that holds from every folder, and that JSON can hold."""
    return as_id(os.path.abspath(path))
