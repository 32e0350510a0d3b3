"""Pictures for the explorer from what a user names: files, folders, sources, images in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deconvviz.image_sources import open_source
from deconvviz.paths import path_as_typed
from deconvviz.web.explorer.pictures import Shelf

SCENES = range(12)
"""Seeds of the scenes that are shown if no picture is named."""


def add_pictures(shelf: Shelf, images: Any) -> None:
    """Add images to a shelf. None adds some scenes.

    Args:
        shelf: The shelf.
        images: A path of an image file, a source (a folder, ``scenes:N``, and others that `search` accepts),
            a PIL image or a uint8 array (H, W, 3), or a sequence of these.
    """
    if images is None:
        for seed in SCENES:
            shelf.add_scene(seed)
        return
    several = isinstance(images, Sequence) and not isinstance(images, str)
    for number, image in enumerate(images if several else [images]):
        if not isinstance(image, str | os.PathLike):
            shelf.add_image(image, f"image {number}")
            continue
        path = Path(path_as_typed(os.fspath(image)))
        if path.is_file() and not _is_archive(path):
            shelf.add_file(path)
        else:
            shelf.add_source(open_source(os.fspath(image)))


def _is_archive(path: Path) -> bool:
    """Return whether a file holds several images: an archive, or a list of paths."""
    return path.suffix.lower() in {".zip", ".tar", ".tgz", ".gz", ".txt", ".csv"}
