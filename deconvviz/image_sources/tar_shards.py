"""Tar shards, as WebDataset writes them. A shard is listed from header to header, past the data."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from deconvviz.errors import SourceError
from deconvviz.image_sources.archive_reader import ArchiveFiles, compression
from deconvviz.image_sources.folder import is_hidden, is_picture
from deconvviz.image_sources.image_files import lasting
from deconvviz.image_sources.image_ids import Names, as_id, sorted_once
from deconvviz.image_sources.source import Sizes, Skipped, Source
from deconvviz.images.discovery import SUFFIXES
from deconvviz.images.image import Picture, read_picture
from deconvviz.paths import spoken

_PLACES = np.dtype([("shard", "<i4"), ("start", "<i8"), ("size", "<i8")])
_END = bytes(tarfile.BLOCKSIZE)
_COMPLAINTS = (tarfile.TarError, OSError, ValueError, OverflowError, EOFError)


class Shards(Source):
    """A picture's id is the path of its shard below their folder, and in it the name of its member."""

    kind = "tar"

    def __init__(
        self,
        place: str,
        shards: Mapping[str, int],
        names: Names,
        sizes: Sizes,
        skipped: Skipped,
        places: npt.NDArray[np.void],
    ) -> None:
        super().__init__(place, names, sizes=sizes, skipped=skipped, lasting_place=lasting(place))
        self._places = places
        self._files = ArchiveFiles(list(shards), list(shards.values()))

    def read(self, number: int) -> Picture:
        name = self.names[number]
        shard, start, size = self._places[number].item()
        return read_picture(self._files.piece(shard, start, size, name), name)

    def _keep(self, count: int) -> None:
        super()._keep(count)
        self._places = self._places[:count].copy()


@dataclass
class Members:
    """What was found in all shards; `where` has (shard, start, size) of each picture."""

    ids: list[str] = field(default_factory=list)
    where: list[tuple[int, int, int]] = field(default_factory=list)
    others: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def open_shards(place: str, shards: Sequence[str], folder: str) -> Shards:
    """`shards` below `folder`. Raises SourceError."""
    shards = sorted(shards)
    members, whole = Members(), dict[str, int]()
    for number, shard in enumerate(shards):
        told = as_id(os.path.relpath(shard, folder).replace(os.sep, "/"))
        whole[shard] = _list_shard(shard, number, told, members)
    if not members.ids:
        raise SourceError(_no_pictures(place, len(shards), members))
    names, order, again = sorted_once(members.ids)
    members.skipped += [
        (name, "it stands in its shard more than once: the last one is read") for name in again
    ]
    places = np.array(members.where, _PLACES)[order]
    return Shards(place, whole, names, places["size"].copy(), tuple(sorted(members.skipped)), places)


def _list_shard(path: str, number: int, told: str, members: Members) -> int:
    """How many bytes the shard has. One that is damaged gives what stands before, one that is no tar nothing.

    Raises SourceError for one that is compressed.
    """
    size, data = -1, dict[str, tuple[int, int, int]]()  # of ordinary files, which links may mean
    try:
        size = os.path.getsize(path)
        packed = compression(path)
        if packed:
            raise SourceError(
                f"{path} is compressed by {packed}: its pictures cannot be read one by one; "
                "unpack it, or pack it anew as plain .tar"
            )
        with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            try:
                while (member := tar.next()) is not None:
                    _check_way_on(member, tar.offset)
                    _sort_in(member, number, told, data, members)
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                damage = _after_the_end(path, tar.offset)
            except _COMPLAINTS as reason:
                damage = f"it is broken off or damaged after byte {tar.offset}: {spoken(reason)}"
    except _COMPLAINTS as reason:
        damage = "it is empty (0 bytes)" if size == 0 else f"it cannot be read as a tar: {spoken(reason)}"
    if damage:
        members.skipped.append((told, damage))
    return size


def _check_way_on(member: tarfile.TarInfo, following: int) -> None:
    """Sizes may be given as anything; a negative one leads back, and some versions of `tarfile` follow it."""
    if not (0 <= member.size < 2**62 and member.offset < following < 2**62):
        raise tarfile.ReadError(f"a member says that it has {member.size} bytes")


def _sort_in(
    member: tarfile.TarInfo,
    number: int,
    told: str,
    data: dict[str, tuple[int, int, int]],
    members: Members,
) -> None:
    if member.isdir():
        return
    name = member.name.removeprefix("./")
    where = (number, member.offset_data, member.size)
    if member.isreg() and not member.issparse():
        data[name] = where
    if is_hidden(name):
        return
    if not is_picture(name):
        members.others += 1
        return
    found = data.get(_meant(name, member))
    if found is None:
        members.skipped.append((f"{told}/{as_id(name)}", _refused(member)))
    else:
        members.ids.append(f"{told}/{as_id(name)}")
        members.where.append(found)


def _meant(name: str, member: tarfile.TarInfo) -> str:
    if member.islnk():
        return member.linkname.removeprefix("./")
    if member.issym():
        return posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
    return name if member.isreg() and not member.issparse() else ""


def _refused(member: tarfile.TarInfo) -> str:
    if member.islnk() or member.issym():
        return f"it is a link to {as_id(member.linkname)}, which does not stand before it in its shard"
    return "it is stored with holes (sparse)" if member.issparse() else "it is no ordinary file"


def _after_the_end(path: str, end: int) -> str | None:
    """What is wrong where the list ended. `tarfile` stops at a damaged header as if it were the end."""
    with open(path, "rb") as stream:
        stream.seek(end)
        mark, rest = stream.read(tarfile.BLOCKSIZE), stream.read(2**20)
    if mark == _END:
        joined = bool(rest.strip(b"\0"))
        return "more data follow its end, and are not read (several tars in one file?)" if joined else None
    if not mark:
        return "it has no end mark: it may be broken off"
    return f"it is damaged at byte {end}: what stands there and after it is not read"


def _no_pictures(place: str, shards: int, members: Members) -> str:
    lost = members.skipped
    unread = f", and {len(lost)} that cannot be read ({lost[0][0]}: {lost[0][1]})" if lost else ""
    return (
        f"no pictures in {place}: {members.others} other file{'s' * (members.others != 1)} in "
        f"{shards} shard{'s' * (shards != 1)}{unread} (pictures end in {' '.join(SUFFIXES)}; hidden ones are "
        "left out)"
    )
