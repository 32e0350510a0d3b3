"""Opening a source of images from the text that a user gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from deconvviz.errors import SourceError
from deconvviz.image_sources import drawn_scenes, huggingface, path_list
from deconvviz.image_sources.folder import TAR, folder_of, list_folder
from deconvviz.image_sources.glob_pattern import fixed_folder, is_pattern, matching_files
from deconvviz.image_sources.source import Source
from deconvviz.image_sources.tar_shards import open_shards
from deconvviz.image_sources.zip_archive import open_zip
from deconvviz.images.discovery import SUFFIXES
from deconvviz.paths import SCENES, missing, path_as_typed, path_as_written
from deconvviz.printable_names import printable_path, quoted
from deconvviz.wording import counted

FORMS = (
    "a folder, a text file of paths (.txt, .lst), a .zip file, tar shards (.tar, 'shard-*.tar', "
    "'shard-{000..012}.tar'), hf:NAME[:SPLIT], a saved Hugging Face dataset, or scenes:COUNT[@SEED]"
)


def open_source(source: str | os.PathLike[str] | Source, *, limit: int | None = None) -> Source:
    """Open a source of images.

    Args:
        source: A folder, list, zip file, tar shards, dataset or scenes. A `Source` is returned as it is.
        limit: Number of images, the first ones by id (default: all).

    Raises:
        SourceError: The source does not exist, cannot be read, or has no images.
    """
    opened = source if isinstance(source, Source) else _open(source)
    if not len(opened):
        raise SourceError(f"no images in {opened.place}: the source of kind {opened.kind!r} has no names")
    return opened if limit is None else opened.limited(limit)


def open_listed(source: str, *, limit: int | None = None) -> Source | None:
    """Return a source that is opened by listing files; None for a dataset of Hugging Face.

    Raises SourceError.
    """
    place = path_as_typed(source)
    if place.startswith(huggingface.PREFIX) or huggingface.is_saved_dataset(place):
        return None
    return open_source(source, limit=limit)


def reopen(described: Mapping[str, Any], place: str | os.PathLike[str] | Source | None = None) -> Source:
    """Open the source that `Source.describe` described, and verify that it is unchanged.

    Args:
        described: Result of `Source.describe`.
        place: Current location, if the source has moved.

    Raises:
        SourceError: The source cannot be opened, or its ids or sizes have changed.
    """
    kind, count, limit = described["kind"], described["pictures"], described["limit"]
    old_place = described["place"]
    if place is None and kind not in KINDS:
        raise SourceError(
            f"{old_place} is a source of kind {kind!r} that was made in Python: pass that source itself"
        )
    again = open_source(place_of_source(described) if place is None else place, limit=limit)
    if again.digest != described["digest"]:
        counts = f"{counted(count, 'image')} then, {len(again)} now"
        difference = counts if len(again) != count else f"{counts}, but other names or sizes"
        raise SourceError(f"{again.place} is not the source that was searched, {old_place}: {difference}")
    return again


def place_of_source(described: Mapping[str, Any]) -> str:
    """Return the location in the result of `Source.describe`, in the form that `open_source` expects."""
    place = str(described["place"])
    return str(path_as_written(place)) if os.path.isabs(place) else place


KINDS = ("folder", "list", "zip", "tar", "hf", "scenes")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def _open(source: str | os.PathLike[str]) -> Source:
    place = path_as_typed(os.fspath(source))
    if isinstance(source, str) and place.startswith(SCENES):
        return drawn_scenes.open_scenes(place)
    if isinstance(source, str) and place.startswith(huggingface.PREFIX):
        return huggingface.open_named(place)
    if place == "-":
        raise SourceError(f"- is standard input, which is one image and not a source of images: give {FORMS}")
    if os.path.isdir(place):
        return _open_folder(place)
    if os.path.isfile(place):
        return _open_file(place)
    if not os.path.exists(place) and is_pattern(place):
        return _open_pattern(place)
    if not os.path.exists(place):
        raise SourceError(missing(place, "source of images"))
    raise SourceError(f"{place} is not a regular file: give {FORMS}")


def _open_folder(place: str) -> Source:
    if huggingface.is_saved_dataset(place):
        return huggingface.open_saved(place)
    found = list_folder(place)
    if found.tars and not (found.images or found.other_count or found.skipped):
        return open_shards(place, [os.path.join(place, tar) for tar in found.tars], place)
    return folder_of(place, found)


def _open_file(place: str) -> Source:
    name = place.lower()
    if name.endswith(path_list.SUFFIXES):
        return path_list.open_list(place)
    if name.endswith(".zip"):
        return open_zip(place)
    if name.endswith((TAR, *_COMPRESSED)):
        return open_shards(place, [place], os.path.dirname(place) or os.curdir)
    if name.endswith(SUFFIXES):
        raise SourceError(f"{place} is a single image: give its folder or a list of images")
    raise SourceError(f"{place} is not a source of images: give {FORMS}")


def _open_pattern(place: str) -> Source:
    shards = matching_files(place)
    others = [path for path in shards if not path.lower().endswith(TAR)]
    if others:
        raise SourceError(
            f"{quoted(place)} matches {len(shards)} files, but {printable_path(others[0])} is not a .tar: "
            "patterns are for tar shards only. For image files, give their folder or a list of paths"
        )
    return open_shards(place, shards, fixed_folder(place))
