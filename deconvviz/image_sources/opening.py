"""From what a person typed to a source of pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from deconvviz.errors import SourceError
from deconvviz.image_sources import drawn_scenes as generated
from deconvviz.image_sources import huggingface
from deconvviz.image_sources import path_list as listing
from deconvviz.image_sources.folder import TAR, folder_of, list_folder
from deconvviz.image_sources.glob_pattern import fixed_folder, is_pattern, matching
from deconvviz.image_sources.source import Source, of_pictures
from deconvviz.image_sources.tar_shards import open_shards
from deconvviz.image_sources.zip_archive import open_zip
from deconvviz.images.discovery import SUFFIXES
from deconvviz.paths import missing

FORMS = (
    "a folder, a text file of paths (.txt, .lst), a .zip, tar shards (.tar, 'shard-*.tar', "
    "'shard-{000..012}.tar'), hf:NAME[:SPLIT], a dataset saved by datasets, or scenes:COUNT[@SEED]"
)


def open_source(source: str | os.PathLike[str] | Source, *, limit: int | None = None) -> Source:
    """A folder, list, zip, tar shards, dataset or scenes; a Source of your own is taken as it is.

    `limit`: only so many pictures, the first by id. Raises SourceError.
    """
    opened = source if isinstance(source, Source) else _open(source)
    if not len(opened):
        raise SourceError(
            f"no pictures in {opened.place}: it is a source of kind {opened.kind!r} without names"
        )
    return opened if limit is None else opened.limited(limit)


def reopen(described: Mapping[str, Any], place: str | os.PathLike[str] | Source | None = None) -> Source:
    """The source that `describe()` told of; `place` if it has moved. Raises SourceError if it is another."""
    kind, pictures, limit = described["kind"], described["pictures"], described["limit"]
    was = described["place"]
    if place is None and kind not in KINDS:
        raise SourceError(f"{was} is a source of kind {kind!r}, made in Python: give that source itself")
    again = open_source(was if place is None else place, limit=limit)
    if again.digest != described["digest"]:
        counts = f"{of_pictures(pictures)} then, {len(again)} now"
        how = counts if len(again) != pictures else f"{counts}, but not the same names and sizes"
        raise SourceError(f"{again.place} is not the source that was searched, {was}: {how}")
    return again


KINDS = ("folder", "list", "zip", "tar", "hf", "scenes")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def _open(source: str | os.PathLike[str]) -> Source:
    place = os.fspath(source)
    if isinstance(source, str) and place.startswith(generated.PREFIX):
        return generated.open_scenes(place)
    if isinstance(source, str) and place.startswith(huggingface.PREFIX):
        return huggingface.open_named(place)
    if os.path.isdir(place):
        return _open_folder(place)
    if os.path.isfile(place):
        return _open_file(place)
    if not os.path.exists(place) and is_pattern(place):
        return _open_pattern(place)
    if not os.path.exists(place):
        raise SourceError(missing(place, "source of pictures"))
    raise SourceError(f"{place} is no ordinary file: give {FORMS}")


def _open_folder(place: str) -> Source:
    if huggingface.is_saved_dataset(place):
        return huggingface.open_saved(place)
    found = list_folder(place)
    if found.tars and not (found.pictures or found.others or found.skipped):
        return open_shards(place, [os.path.join(place, tar) for tar in found.tars], place)
    return folder_of(place, found)


def _open_file(place: str) -> Source:
    name = place.lower()
    if name.endswith(listing.SUFFIXES):
        return listing.open_list(place)
    if name.endswith(".zip"):
        return open_zip(place)
    if name.endswith((TAR, *_COMPRESSED)):
        return open_shards(place, [place], os.path.dirname(place) or os.curdir)
    if name.endswith(SUFFIXES):
        raise SourceError(f"{place} is one picture: give the folder that it is in, or a list of pictures")
    raise SourceError(f"{place} is no source of pictures: give {FORMS}")


def _open_pattern(place: str) -> Source:
    shards = matching(place)
    wrong = [path for path in shards if not path.lower().endswith(TAR)]
    if wrong:
        raise SourceError(
            f"{place!r} stands for {len(shards)} files, but {wrong[0]} is no .tar: a pattern stands for tar "
            "shards alone; for pictures give their folder or a list of them"
        )
    return open_shards(place, shards, fixed_folder(place))
