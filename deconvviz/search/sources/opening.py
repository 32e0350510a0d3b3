"""From what a person typed to a source of pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from deconvviz.errors import SourceError
from deconvviz.nets.given import missing
from deconvviz.search.sources import generated
from deconvviz.search.sources.folder import folder_of, list_folder
from deconvviz.search.sources.source import Source, of_pictures

FORMS = (
    "a folder, a text file of paths (.txt, .lst), a .zip, tar shards (.tar, 'shard-*.tar', "
    "'shard-{000..012}.tar'), hf:NAME[:SPLIT], a dataset saved by datasets, or scenes:COUNT[@SEED]"
)


def open_source(source: str | os.PathLike[str] | Source, *, limit: int | None = None) -> Source:
    """A folder, list, zip, tar shards, dataset or scenes; a Source of your own is taken as it is.

    `limit`: only so many pictures, the first by id. Raises SourceError.
    """
    opened = source if isinstance(source, Source) else _open(source)
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


def _open(source: str | os.PathLike[str]) -> Source:
    place = os.fspath(source)
    if isinstance(source, str) and place.startswith(generated.PREFIX):
        return generated.open_scenes(place)
    if os.path.isdir(place):
        return folder_of(place, list_folder(place))
    if not os.path.exists(place):
        raise SourceError(missing(place, "source of pictures"))
    raise SourceError(f"{place} is no source of pictures: give {FORMS}")
