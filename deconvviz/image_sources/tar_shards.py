"""Tar shards, as WebDataset writes them. Listing a shard reads the headers and skips the data."""

from __future__ import annotations

import os
import posixpath
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from deconvviz.errors import SourceError
from deconvviz.image_sources.archive_reader import ArchiveFiles, compression, member_id
from deconvviz.image_sources.folder import is_hidden, is_input
from deconvviz.image_sources.image_files import absolute_path_text
from deconvviz.image_sources.image_ids import Names, sorted_once
from deconvviz.image_sources.labels import Labels, folder_labels, folder_of_image
from deconvviz.image_sources.source import Sizes, Skipped, Source
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.images.input_files import InputFiles
from deconvviz.paths import reason_of
from deconvviz.printable_names import path_to_text
from deconvviz.wording import counted

_PLACES = np.dtype([("shard", "<i4"), ("start", "<i8"), ("size", "<i8")])
_END_BLOCK = bytes(tarfile.BLOCKSIZE)
CLS = ".cls"
_LONGEST_CLASS = 4096  # bytes
_TAR_ERRORS = (tarfile.TarError, OSError, ValueError, OverflowError, EOFError)


class Shards(Source):
    """Images in tar shards. The id of an image is the path of its shard, a slash and the name of its member.

    Paths of shards are relative to their common folder. The label of an image is the text of the member with
    the same key that ends in .cls, as in WebDataset. If no shard has such members, it is the name of the
    image's folder in its shard, see `folder_labels`.
    """

    kind = "tar"

    def __init__(
        self,
        place: str,
        shards: Mapping[str, int],
        names: Names,
        sizes: Sizes,
        skipped: Skipped,
        places: npt.NDArray[np.void],
        labels: Labels | None,
        files: InputFiles,
    ) -> None:
        super().__init__(
            place,
            names,
            sizes=sizes,
            skipped=skipped,
            lasting_place=absolute_path_text(place),
            labels=labels,
            files=files,
        )
        self._places = places
        self._archives = ArchiveFiles(list(shards), list(shards.values()))

    def read(self, number: int) -> InputImage | InputArray:
        name = self.names[number]
        shard, start, size = self._places[number].item()
        return self.files.read(self._archives.read(shard, start, size, name), name)

    def _keep(self, count: int) -> None:
        super()._keep(count)
        self._places = self._places[:count].copy()


@dataclass
class Members:
    """Members of all shards; `positions` has (shard, start, size) of each image."""

    ids: list[str] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    folders: list[str | None] = field(default_factory=list)  # name of the folder of each image in its shard
    classes: list[str | None] = field(default_factory=list)  # text of the .cls member of each image
    other_count: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Shard:
    """Members of one shard that other members of it refer to."""

    number: int
    id: str
    positions: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # of files: targets of links
    classes: dict[str, str] = field(default_factory=dict)  # text of the .cls member, by key
    keys: list[str] = field(default_factory=list)  # key of each image


def open_shards(place: str, shards: Sequence[str], folder: str, kind: InputFiles) -> Shards:
    """Return the source of `shards`, files below `folder`. Raises SourceError."""
    shards = sorted(shards)
    members, shard_sizes = Members(), dict[str, int]()
    for number, shard in enumerate(shards):
        shard_id = path_to_text(os.path.relpath(shard, folder).replace(os.sep, "/"))
        shard_sizes[shard] = _list_shard(shard, number, shard_id, members, kind)
    if not members.ids:
        raise SourceError(_no_images_message(place, len(shards), members, kind))
    names, order, dropped = sorted_once(members.ids)
    members.skipped += [
        (name, "it is in its shard more than once: the last copy is read") for name in dropped
    ]
    places = np.array(members.positions, _PLACES)[order]
    found = Labels.of(members.classes[one] for one in order)
    if found is None:
        found = folder_labels(members.folders[one] for one in order)
    skipped = tuple(sorted(members.skipped))
    return Shards(place, shard_sizes, names, places["size"].copy(), skipped, places, found, kind)


def _list_shard(path: str, number: int, shard_id: str, members: Members, kind: InputFiles) -> int:
    """Add the members of one shard, and return its size in bytes.

    From a damaged shard, the members before the damage are added; from a file that is not a tar file, none.
    Raises SourceError for a compressed shard.
    """
    size, shard = -1, Shard(number, shard_id)
    try:
        size = os.path.getsize(path)
        packed = compression(path)
        if packed:
            raise SourceError(
                f"{path} is compressed with {packed}: its images cannot be read one by one. "
                "Unpack it, or write it again as a plain .tar"
            )
        with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            try:
                while (member := tar.next()) is not None:
                    _check_offsets(member, tar.offset)
                    _add_class(member, tar, shard)
                    _add_member(member, shard, members, kind)
                    tar.members = []  # type: ignore[attr-defined]  # saves memory: tarfile keeps all members
                damage = _damage_at_end(path, tar.offset)
            except _TAR_ERRORS as reason:
                damage = f"it is truncated or damaged after byte {tar.offset}: {reason_of(reason)}"
    except _TAR_ERRORS as reason:
        damage = "it is empty (0 bytes)" if size == 0 else f"it cannot be read as a tar: {reason_of(reason)}"
    members.classes += [shard.classes.get(key) for key in shard.keys]  # it may be before or after its image
    if damage:
        members.skipped.append((shard_id, damage))
    return size


def _check_offsets(member: tarfile.TarInfo, following: int) -> None:
    """Raise ReadError for a member of invalid size.

    A negative size points to an earlier header, and some versions of `tarfile` would read it again and again.
    """
    if not (0 <= member.size < 2**62 and member.offset < following < 2**62):
        raise tarfile.ReadError(f"a member has the invalid size {member.size}")


def _key(name: str) -> str:
    """Return the key of a member: its name up to the first dot after its folders."""
    folder, name = posixpath.split(name)
    return posixpath.join(folder, name.partition(".")[0])


def _add_class(member: tarfile.TarInfo, tar: tarfile.TarFile, shard: Shard) -> None:
    """Keep the text of a member that ends in .cls."""
    name = member.name.removeprefix("./")
    if not name.endswith(CLS) or not member.isreg() or not 0 < member.size <= _LONGEST_CLASS:
        return
    stream = tar.extractfile(member)
    text = b"" if stream is None else stream.read().strip()
    if text:
        shard.classes[_key(name)] = sys.intern(path_to_text(text))


def _add_member(member: tarfile.TarInfo, shard: Shard, members: Members, kind: InputFiles) -> None:
    if member.isdir():
        return
    name = member.name.removeprefix("./")
    if member.isreg() and not member.issparse():
        shard.positions[name] = (shard.number, member.offset_data, member.size)
    if is_hidden(name):
        return
    if not is_input(name, kind):
        members.other_count += 1
        return
    position = shard.positions.get(_name_of_data(name, member))
    image = member_id(name)
    if position is None:
        members.skipped.append((f"{shard.id}/{image}", _problem(member)))
        return
    members.ids.append(f"{shard.id}/{image}")
    members.positions.append(position)
    folder = folder_of_image(image)
    members.folders.append(folder if folder is None else sys.intern(folder))
    shard.keys.append(_key(name))


def _name_of_data(name: str, member: tarfile.TarInfo) -> str:
    """Return the name of the member that has the data: the target of a link, or the member itself."""
    if member.islnk():
        return member.linkname.removeprefix("./")
    if member.issym():
        return posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
    return name if member.isreg() and not member.issparse() else ""


def _problem(member: tarfile.TarInfo) -> str:
    if member.islnk() or member.issym():
        return f"it is a link to {member_id(member.linkname)}, which is not before it in its shard"
    return "it is a sparse file" if member.issparse() else "it is not a regular file"


def _damage_at_end(path: str, end: int) -> str | None:
    """Return what is wrong at the offset where `tarfile` stopped, or None.

    `tarfile` treats a damaged header like the end of the file.
    """
    with open(path, "rb") as stream:
        stream.seek(end)
        block, rest = stream.read(tarfile.BLOCKSIZE), stream.read(2**20)
    if block == _END_BLOCK:
        more = bool(rest.strip(b"\0"))
        return "the data after its end mark are not read (several tar files in one?)" if more else None
    if not block:
        return "it has no end mark and may be truncated"
    return f"it is damaged at byte {end}: nothing from there on is read"


def _no_images_message(place: str, shards: int, members: Members, kind: InputFiles) -> str:
    skipped, others = members.skipped, members.other_count
    unread = f", and {len(skipped)} that cannot be read ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
    return (
        f"no {kind.noun}s in {place}: {counted(others, 'other file')} in "
        f"{counted(shards, 'shard')}{unread} "
        f"({kind.noun}s end in {' '.join(kind.suffixes)}; hidden files are ignored)"
    )
