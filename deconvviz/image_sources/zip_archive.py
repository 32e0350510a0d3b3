"""A zip. `zipfile` reads its directory once; members are then read by their places.

A ZipFile holds an object for each member, half a kilobyte, and each process would have to read the directory
again; here a member is five numbers.
"""

from __future__ import annotations

import bz2
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources.archive_reader import LARGEST, ArchiveFiles
from deconvviz.image_sources.folder import is_hidden, is_picture
from deconvviz.image_sources.image_files import lasting
from deconvviz.image_sources.image_ids import Names, as_id, sorted_once
from deconvviz.image_sources.source import Sizes, Skipped, Source
from deconvviz.images.discovery import SUFFIXES
from deconvviz.images.image import Picture, read_picture
from deconvviz.paths import spoken

_PLACES = np.dtype([("header", "<i8"), ("packed", "<i8"), ("size", "<i8"), ("sum", "<u4"), ("method", "<u2")])
_HEADER = 30
_ENCRYPTED = 1
_UNIX = 3

# What unpacks at most so many bytes, by the zip's number of the method.
_METHODS: dict[int, Callable[[bytes, int], bytes]] = {
    zipfile.ZIP_STORED: lambda data, most: data[:most],
    zipfile.ZIP_DEFLATED: lambda data, most: zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most),
    zipfile.ZIP_BZIP2: lambda data, most: bz2.BZ2Decompressor().decompress(data, most),
}
_OTHER_METHODS = {9: "deflate64", 14: "lzma", 93: "zstd", 95: "xz"}

# What zipfile raises for a damaged directory.
_COMPLAINTS = (
    zipfile.BadZipFile,
    NotImplementedError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    struct.error,
)


class Zip(Source):
    """A picture's id is the name of its member."""

    kind = "zip"

    def __init__(
        self,
        place: str,
        size: int,
        names: Names,
        sizes: Sizes,
        skipped: Skipped,
        places: npt.NDArray[np.void],
    ) -> None:
        super().__init__(place, names, sizes=sizes, skipped=skipped, lasting_place=lasting(place))
        self._places = places
        self._files = ArchiveFiles([place], [size])

    def read(self, number: int) -> Picture:
        name = self.names[number]
        header, packed, size, told_sum, method = self._places[number].item()
        local = self._files.piece(0, header, _HEADER, name)
        if not local.startswith(b"PK\3\4"):
            raise PictureError(f"{name} is not where {self.place} says it is: the zip is damaged")
        data = self._files.piece(0, header + _HEADER + sum(struct.unpack("<2H", local[26:])), packed, name)
        try:
            unpacked = _METHODS[method](data, size + 1)
        except (zlib.error, OSError, ValueError, EOFError) as reason:
            raise PictureError(f"{name} cannot be unpacked: {spoken(reason)}") from reason
        if len(unpacked) != size or zlib.crc32(unpacked) != told_sum:
            raise PictureError(f"{name} is damaged: its size or checksum is not what {self.place} says")
        return read_picture(unpacked, name)

    def _keep(self, count: int) -> None:
        super()._keep(count)
        self._places = self._places[:count].copy()


def open_zip(place: str) -> Zip:
    """Raises SourceError."""
    try:
        size = os.path.getsize(place)
        with zipfile.ZipFile(place) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except _COMPLAINTS as reason:
        raise SourceError(f"{place} cannot be read as a zip: {spoken(reason)}") from reason
    chosen, skipped = list[zipfile.ZipInfo](), list[tuple[str, str]]()
    for member in members:
        if is_picture(member.filename):
            refused = _refused(member, size)
            if refused:
                skipped.append((as_id(member.filename), refused))
            else:
                chosen.append(member)
    if not chosen:
        raise SourceError(_no_pictures(place, members, skipped))
    names, order, again = sorted_once([as_id(member.filename) for member in chosen])
    skipped += [(name, "it stands in the zip more than once: the last one is read") for name in again]
    chosen = [chosen[one] for one in order]
    sizes = np.array([member.file_size for member in chosen], np.int64)
    places = np.array([_place(member) for member in chosen], _PLACES)
    return Zip(place, size, names, sizes, tuple(sorted(skipped)), places)


def _place(member: zipfile.ZipInfo) -> tuple[int, int, int, int, int]:
    return member.header_offset, member.compress_size, member.file_size, member.CRC, member.compress_type


def _refused(member: zipfile.ZipInfo, whole: int) -> str | None:
    if not 0 <= member.header_offset <= member.header_offset + member.compress_size <= whole:
        return "the zip is damaged: it says that this stands beyond its end"
    if member.file_size > LARGEST:
        return f"it says that it has {member.file_size} bytes; more than {LARGEST} are not unpacked"
    if member.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if member.compress_type not in _METHODS:
        how = _OTHER_METHODS.get(member.compress_type, f"method {member.compress_type}")
        return f"it is packed by {how}: pack it anew by deflate, or not at all"
    if member.create_system == _UNIX and stat.S_ISLNK(member.external_attr >> 16):
        return "it is a link, not a picture"
    return None


def _no_pictures(place: str, members: list[zipfile.ZipInfo], skipped: list[tuple[str, str]]) -> str:
    others = sum(not is_hidden(member.filename) for member in members) - len(skipped)
    unread = f", and {len(skipped)} that cannot be read ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
    return (
        f"no pictures in {place}: {others} other file{'s' * (others != 1)}{unread} "
        f"(pictures end in {' '.join(SUFFIXES)}; hidden ones are left out)"
    )
