"""Opening a source of images from the text that a user gives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from deconvviz.errors import SourceError
from deconvviz.image_sources import drawn_scenes, huggingface, path_list
from deconvviz.image_sources.folder import TAR, folder_of, list_folder
from deconvviz.image_sources.glob_pattern import fixed_folder, is_pattern, matching_files
from deconvviz.image_sources.in_memory import InMemory
from deconvviz.image_sources.source import Source
from deconvviz.image_sources.tar_shards import open_shards
from deconvviz.image_sources.zip_archive import open_zip
from deconvviz.images.input_files import EVERY_SUFFIX, IMAGE_FILES, InputFiles
from deconvviz.paths import SCENES, missing, path_as_typed, path_as_written
from deconvviz.printable_names import printable_path, quoted
from deconvviz.wording import counted

FORMS = (
    "a folder, a text file of paths (.txt, .lst), a .zip file, tar shards (.tar, 'shard-*.tar', "
    "'shard-{000..012}.tar'), hf:NAME[:SPLIT], a saved Hugging Face dataset, or scenes:COUNT[@SEED]"
)


Given: TypeAlias = "str | os.PathLike[str] | Source | Sequence[Any] | np.ndarray[Any, Any]"
"""A place, a source, or arrays in memory."""


def open_source(source: Given, *, limit: int | None = None, files: InputFiles = IMAGE_FILES) -> Source:
    """Open a source of images, or of arrays for a network that reads them.

    Args:
        source: A folder, list, zip file, tar shards, dataset or scenes; or a sequence of arrays or images in
            memory. A `Source` is returned as it is.
        limit: Number of images, the first ones by id (default: all).
        files: What the network reads.

    Raises:
        SourceError: The source does not exist, cannot be read, or has no images.
    """
    opened = source if isinstance(source, Source) else _open(source, files)
    if not len(opened):
        raise SourceError(f"no images in {opened.place}: the source of kind {opened.kind!r} has no names")
    return opened if limit is None else opened.limited(limit)


def open_listed(source: str, *, limit: int | None = None) -> Source | None:
    """Return a source of images that is opened by listing files; None for a dataset of Hugging Face.

    Raises SourceError.
    """
    place = path_as_typed(source)
    if place.startswith(huggingface.PREFIX) or huggingface.is_saved_dataset(place):
        return None
    return open_source(source, limit=limit)


def reopen(
    described: Mapping[str, Any], place: Given | None = None, *, files: InputFiles = IMAGE_FILES
) -> Source:
    """Open the source that `Source.describe` described, and verify that it is unchanged.

    Args:
        described: Result of `Source.describe`.
        place: Current location, if the source has moved.
        files: What the network reads.

    Raises:
        SourceError: The source cannot be opened, or its ids or sizes have changed.
    """
    count, limit, old_place = described["pictures"], described["limit"], described["place"]
    again = open_source(place_of_source(described) if place is None else place, limit=limit, files=files)
    if again.digest != described["digest"]:
        counts = f"{counted(count, 'image')} then, {len(again)} now"
        difference = counts if len(again) != count else f"{counts}, but other names or sizes"
        raise SourceError(f"{again.place} is not the source that was searched, {old_place}: {difference}")
    return again


def place_of_source(described: Mapping[str, Any]) -> str:
    """Return the location in the result of `Source.describe`, in the form that `open_source` expects.

    Raises SourceError for a source that was made in Python.
    """
    place = str(described["place"])
    if described["kind"] not in KINDS:
        raise SourceError(
            f"{place} is a source of kind {described['kind']!r} that was made in Python: pass that source "
            "itself"
        )
    return str(path_as_written(place)) if os.path.isabs(place) else place


KINDS = ("folder", "list", "zip", "tar", "hf", "scenes")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def _open(source: str | os.PathLike[str] | Sequence[Any] | np.ndarray[Any, Any], files: InputFiles) -> Source:
    if not isinstance(source, (str, os.PathLike)):
        return InMemory(list(source), files)
    place = path_as_typed(os.fspath(source))
    _check_has(place, files)
    if isinstance(source, str) and place.startswith(SCENES):
        return drawn_scenes.open_scenes(place)
    if isinstance(source, str) and place.startswith(huggingface.PREFIX):
        return huggingface.open_named(place)
    if place == "-":
        raise SourceError(f"- is standard input, which is one image and not a source of images: give {FORMS}")
    if os.path.isdir(place):
        return _open_folder(place, files)
    if os.path.isfile(place):
        return _open_file(place, files)
    if not os.path.exists(place) and is_pattern(place):
        return _open_pattern(place, files)
    if not os.path.exists(place):
        raise SourceError(missing(place, "source of images"))
    raise SourceError(f"{place} is not a regular file: give {FORMS}")


def _check_has(place: str, files: InputFiles) -> None:
    """Raise SourceError for a source that has images only, if the network reads arrays."""
    if files.shape is None:
        return
    what = "scenes" if place.startswith(SCENES) else "a dataset of Hugging Face"
    if place.startswith((SCENES, huggingface.PREFIX)) or huggingface.is_saved_dataset(place):
        raise SourceError(
            f"{place} is a source of images, but the network reads arrays of shape {files.shape}. Instead of "
            f"{what}, give a folder, a list, a .zip or tar shards of files ({' '.join(files.suffixes)})"
        )


def _open_folder(place: str, files: InputFiles) -> Source:
    if huggingface.is_saved_dataset(place):
        return huggingface.open_saved(place)
    found = list_folder(place, files)
    if found.tars and not (found.images or found.other_count or found.skipped):
        return open_shards(place, [os.path.join(place, tar) for tar in found.tars], place, files)
    return folder_of(place, found, files)


def _open_file(place: str, files: InputFiles) -> Source:
    name = place.lower()
    if name.endswith(path_list.SUFFIXES):
        return path_list.open_list(place, files)
    if name.endswith(".zip"):
        return open_zip(place, files)
    if name.endswith((TAR, *_COMPRESSED)):
        return open_shards(place, [place], os.path.dirname(place) or os.curdir, files)
    if name.endswith(EVERY_SUFFIX):
        noun = files.noun if files.fit(name) else "file"
        raise SourceError(f"{place} is a single {noun}: give its folder or a list of {noun}s")
    raise SourceError(f"{place} is not a source of images: give {FORMS}")


def _open_pattern(place: str, files: InputFiles) -> Source:
    shards = matching_files(place)
    others = [path for path in shards if not path.lower().endswith(TAR)]
    if others:
        raise SourceError(
            f"{quoted(place)} matches {len(shards)} files, but {printable_path(others[0])} is not a .tar: "
            "patterns are for tar shards only. For image files, give their folder or a list of paths"
        )
    return open_shards(place, shards, fixed_folder(place), files)
