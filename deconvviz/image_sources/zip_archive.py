"""Zip files. `zipfile` reads the directory once; after that, members are read by their offsets.

A ZipFile keeps an object of half a kilobyte for each member, and every worker process would have to read the
directory again. This module keeps five numbers for each member instead.
"""

from __future__ import annotations

import bz2
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources.archive_reader import MAX_MEMBER_BYTES, ArchiveFiles, member_id
from deconvviz.image_sources.folder import is_hidden, is_input
from deconvviz.image_sources.image_files import absolute_path_text
from deconvviz.image_sources.image_ids import Names, sorted_once
from deconvviz.image_sources.labels import folder_labels, folder_of_image
from deconvviz.image_sources.source import Sizes, Skipped, Source
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.images.input_files import InputFiles
from deconvviz.paths import reason_of
from deconvviz.wording import counted

_PLACES = np.dtype([("header", "<i8"), ("packed", "<i8"), ("size", "<i8"), ("crc", "<u4"), ("method", "<u2")])
_HEADER_BYTES = 30
_ENCRYPTED = 1
_UTF_8 = 1 << 11
_UTF_8_REMOVED = 1 << 15  # a flag that the zip format does not use
_ENTRY = struct.Struct("<8x H 18x 3H")  # directory entry: flags; lengths of name, extra field and comment
_ENTRY_BYTES = 46
_FLAGS_OFFSET = 8
_UNIX = 3

# Functions that unpack at most a given number of bytes, by the method number of the zip format.
_METHODS: dict[int, Callable[[bytes, int], bytes]] = {
    zipfile.ZIP_STORED: lambda data, most: data[:most],
    zipfile.ZIP_DEFLATED: lambda data, most: zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most),
    zipfile.ZIP_BZIP2: lambda data, most: bz2.BZ2Decompressor().decompress(data, most),
}
_OTHER_METHODS = {9: "deflate64", 14: "lzma", 93: "zstd", 95: "xz"}

# Errors that zipfile raises for a damaged directory.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    struct.error,
)


class Zip(Source):
    """Images in a zip file. The id of an image is the name of its member.

    The label of an image is the name of its folder in the zip file, see `folder_labels`.
    """

    kind = "zip"

    def __init__(
        self,
        place: str,
        size: int,
        names: Names,
        sizes: Sizes,
        skipped: Skipped,
        places: npt.NDArray[np.void],
        files: InputFiles,
    ) -> None:
        super().__init__(
            place,
            names,
            sizes=sizes,
            skipped=skipped,
            lasting_place=absolute_path_text(place),
            labels=folder_labels(map(folder_of_image, names)),
            files=files,
        )
        self._places = places
        self._archives = ArchiveFiles([place], [size])

    def read(self, number: int) -> InputImage | InputArray:
        name = self.names[number]
        header, packed, size, expected_crc, method = self._places[number].item()
        local_header = self._archives.read(0, header, _HEADER_BYTES, name)
        if not local_header.startswith(b"PK\3\4"):
            raise ImageError(f"{name} is not at its offset in {self.place}: the zip file is damaged")
        start = header + _HEADER_BYTES + sum(struct.unpack("<2H", local_header[26:]))
        data = self._archives.read(0, start, packed, name)
        try:
            unpacked = _METHODS[method](data, size + 1)
        except (zlib.error, OSError, ValueError, EOFError) as reason:
            raise ImageError(f"{name} cannot be unpacked: {reason_of(reason)}") from reason
        if len(unpacked) != size or zlib.crc32(unpacked) != expected_crc:
            raise ImageError(
                f"{name} is damaged: its size or checksum differs from its entry in {self.place}"
            )
        return self.files.read(unpacked, name)

    def _keep(self, count: int) -> None:
        super()._keep(count)
        self._places = self._places[:count].copy()


def open_zip(place: str, kind: InputFiles) -> Zip:
    """Return the source of a zip file. Raises SourceError."""
    try:
        size = os.path.getsize(place)
        members = [member for member in _members(place) if not member.is_dir()]
    except _ZIP_ERRORS as reason:
        raise SourceError(f"{place} cannot be read as a zip: {reason_of(reason)}") from reason
    chosen, skipped = list[zipfile.ZipInfo](), list[tuple[str, str]]()
    for member in members:
        if is_input(member.filename, kind):
            problem = _problem(member, size)
            if problem:
                skipped.append((member_id(member.filename), problem))
            else:
                chosen.append(member)
    if not chosen:
        raise SourceError(_no_images_message(place, members, skipped, kind))
    names, order, dropped = sorted_once([member_id(member.filename) for member in chosen])
    skipped += [(name, "it is in the zip file more than once: the last copy is read") for name in dropped]
    chosen = [chosen[one] for one in order]
    sizes = np.array([member.file_size for member in chosen], np.int64)
    places = np.array([_place(member) for member in chosen], _PLACES)
    return Zip(place, size, names, sizes, tuple(sorted(skipped)), places, kind)


def _members(place: str) -> list[zipfile.ZipInfo]:
    """Return the directory of a zip file, even if a name with the UTF-8 flag is not valid UTF-8."""
    try:
        with zipfile.ZipFile(place) as archive:
            return archive.infolist()
    except UnicodeDecodeError:  # a name has the UTF-8 flag but is not UTF-8: `zipfile` rejects the whole file
        with _WithoutUtf8Flags(io.FileIO(place)) as stream, zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
    for member in members:
        if member.flag_bits & _UTF_8_REMOVED:
            with suppress(UnicodeEncodeError):  # the name is from an extra field, already decoded
                member.filename = member.filename.encode("cp437").decode("utf-8", "surrogateescape")
    return members


class _WithoutUtf8Flags(io.BufferedReader):
    """Stream of a zip file that replaces the UTF-8 flag, so that `zipfile` does not decode names as UTF-8."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = bytearray(super().read(size))
        offset = 0
        while data[offset : offset + 4] == b"PK\1\2" and offset + _ENTRY.size <= len(data):
            flags, *lengths = _ENTRY.unpack_from(data, offset)
            if flags & _UTF_8:
                struct.pack_into("<H", data, offset + _FLAGS_OFFSET, flags & ~_UTF_8 | _UTF_8_REMOVED)
            offset += _ENTRY_BYTES + sum(lengths)
        return bytes(data)


def _place(member: zipfile.ZipInfo) -> tuple[int, int, int, int, int]:
    return member.header_offset, member.compress_size, member.file_size, member.CRC, member.compress_type


def _problem(member: zipfile.ZipInfo, zip_size: int) -> str | None:
    """Return the reason why a member cannot be read, or None."""
    if not 0 <= member.header_offset <= member.header_offset + member.compress_size <= zip_size:
        return "the zip file is damaged: it places this member beyond its end"
    if member.file_size > MAX_MEMBER_BYTES:
        return (
            f"it is too large: it has {member.file_size} bytes, and at most {MAX_MEMBER_BYTES} are unpacked"
        )
    if member.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if member.compress_type not in _METHODS:
        method = _OTHER_METHODS.get(member.compress_type, f"method {member.compress_type}")
        return f"it is compressed with {method}: compress it with deflate, or not at all"
    if member.create_system == _UNIX and stat.S_ISLNK(member.external_attr >> 16):
        return "it is a link, not an image"
    return None


def _no_images_message(
    place: str, members: list[zipfile.ZipInfo], skipped: list[tuple[str, str]], kind: InputFiles
) -> str:
    others = sum(not is_hidden(member.filename) for member in members) - len(skipped)
    unread = f", and {len(skipped)} that cannot be read ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
    return (
        f"no {kind.noun}s in {place}: {counted(others, 'other file')}{unread} "
        f"({kind.noun}s end in {' '.join(kind.suffixes)}; hidden files are ignored)"
    )
