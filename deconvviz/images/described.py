"""Find the image file that a manifest names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deconvviz.errors import ManifestError
from deconvviz.files import existing
from deconvviz.images.standard_input import NAME as STANDARD_INPUT


def described_file(one: Mapping[str, Any], manifest: Path) -> Path:
    """Return the file of an image of a manifest.

    Raises ManifestError if the file no longer exists, or the image was not a file.
    """
    if one["path"] is None and one.get("name") == STANDARD_INPUT:
        raise ManifestError(
            f"{manifest} was made from an image on standard input, which was not kept. Save that image as a "
            "file and use the file"
        )
    if one["path"] is None:
        raise ManifestError(
            f"{manifest} was made from an image in memory: only the program that made it can make it again"
        )
    place = existing(one, manifest.resolve().parent)
    if place is None:
        raise ManifestError(f"the image of {manifest} no longer exists: it was {one['path']}")
    return place
