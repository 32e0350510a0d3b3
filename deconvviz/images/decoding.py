"""Decode image files completely with Pillow, or raise ImageError for damaged and unsupported files.

Pillow has two settings for the whole process: above how many pixels it assumes an attack, and whether it
fills in the missing part of a truncated file. They belong to the user. This module parses headers without
them. It sets them to fixed values while pixels are decoded, as long as any thread is decoding.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from PIL import Image, ImageFile

from deconvviz.errors import ImageError
from deconvviz.images.jpeg_truncation import end_of_image, is_filled_in
from deconvviz.images.reduced import Reduced, Reduction, decode_at, upright_size
from deconvviz.paths import existing_file, reason_of

# Formats of photographs and drawings, without those that run programs (EPS) or have no signature.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

# Exceptions that Pillow's decoders raise for damaged files.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, AttributeError, AssertionError,
    OverflowError, RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _FixedSetting:
    """Setting of a module that has a fixed value while any thread is inside, and then its old value again."""

    def __init__(self, owner: ModuleType, name: str, value: Any) -> None:
        self._owner, self._name, self._value = owner, name, value
        self._inside, self._lock = 0, threading.Lock()
        self._before: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = getattr(self._owner, self._name)
                setattr(self._owner, self._name, self._value)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                setattr(self._owner, self._name, self._before)


class _NoWarnings:
    """Context without warnings, for one thread at a time: the warning filters belong to the whole process."""

    _lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        self._caught.__exit__(None, None, None)
        self._lock.release()


_NO_TRUNCATED_IMAGES = _FixedSetting(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
_NO_PIXEL_LIMIT = _FixedSetting(Image, "MAX_IMAGE_PIXELS", None)


@dataclass(frozen=True)
class Decoded:
    """First frame of a file.

    Attributes:
        image: Its pixels, upright.
        packed: Pillow's raw mode of the file, such as 'RGB;16B'.
        notes: What was done.
        reduced: Where the whole picture lies in the pixels, if it was decoded at a fraction of its size.
    """

    image: Image.Image
    packed: str
    notes: list[str]
    reduced: Reduced | None = None


def decode(path: str | Path, limit: int, reduction: Reduction | None = None) -> Decoded:
    """Return the first frame of a file.

    `reduction` says by how much a JPEG is reduced while it is decoded; None decodes it whole. Raises
    ImageError. An image of more than `limit` pixels is rejected before it is decoded.
    """
    file = existing_file(path, ImageError, "image")
    try:
        stream = file.open("rb")
    except OSError as reason:
        raise ImageError(f"cannot read {file}: {reason_of(reason)}") from reason
    with stream:
        return decode_stream(stream, str(file), limit, reduction)


def decode_stream(stream: BinaryIO, name: str, limit: int, reduction: Reduction | None = None) -> Decoded:
    """Return the same as `decode` for an open, seekable stream, which messages call `name`."""
    try:
        _check_not_empty(stream, name)
        image: Image.Image = _header(stream, name)
        check_size(image.size, limit, name)
        notes = _frames(stream, name, image)
        _check_integrity(stream, image)
        packed, orientation = packing(image), _orientation_of_tiff(image)
        reduced = None if reduction is None or image.format != "JPEG" else _reduce(image, reduction)
        load_whole(image)
        if image.format == "JPEG" and _is_filled_in(stream, image, 1 if reduced is None else reduced.by):
            raise EOFError
        if reduced is not None:
            notes.append(f"decoded at 1/{reduced.by} of its size")
            reduced = reduced.turned(_orientation(image))
        image, turned = upright(image, orientation)
    except DECODER_ERRORS as reason:
        raise ImageError(_undecodable(name, reason)) from reason
    return Decoded(image, packed, [*notes, *turned], reduced)


def _reduce(image: Image.Image, reduction: Reduction) -> Reduced | None:
    """Make Pillow decode a JPEG at a fraction of its size. Return None if it will be decoded whole."""
    width, height = image.size
    by = reduction(upright_size(image.size, _orientation(image)))
    if by == 1 or not isinstance(image, ImageFile.ImageFile):
        return None
    decode_at(image, by)
    if image.size != (-(-width // by), -(-height // by)):
        raise ValueError(f"Pillow decodes it at {image.size}, not at 1/{by} of {(width, height)}")
    return Reduced.of(by, (width, height))


def _check_not_empty(stream: BinaryIO, name: str) -> None:
    if stream.seek(0, os.SEEK_END) == 0:
        raise ImageError(f"{name} is empty (0 bytes): download or save the image again")
    stream.seek(0)


def check_size(size: tuple[int, int], limit: int, name: object) -> None:
    """Raise ImageError for an image without pixels or with more than `limit` pixels."""
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels: {width} x {height}")
    if width * height > limit:
        raise ImageError(
            f"{name} has {width} x {height} pixels, {width * height / 1e6:.4g} megapixels: the limit is "
            f"{limit / 1e6:.4g}. To open it, set max_pixels={width * height} or the environment variable "
            f"DECONVVIZ_MAX_PIXELS={width * height}"
        )


def load_whole(image: Image.Image) -> None:
    """Decode all pixels. Raises one of DECODER_ERRORS."""
    with _NO_TRUNCATED_IMAGES:
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            with _NO_PIXEL_LIMIT:
                image.load()
        else:
            image.load()


def upright(image: Image.Image, was: int = 1) -> tuple[Image.Image, list[str]]:
    """Return the image with its EXIF orientation applied, and notes.

    `was` is an orientation that Pillow has applied already, as its TIFF plugin does.
    """
    orientation = _orientation(image)
    if orientation in _TURNS:
        turned = image.transpose(_TURNS[orientation])
        turned.format = image.format
        image = turned
    return image, ["EXIF orientation applied"] if orientation in _TURNS or was in _TURNS else []


def packing(image: Image.Image) -> str:
    """Return Pillow's raw mode, such as 'RGB;16B'. It is known only until the pixels are decoded."""
    tiles = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else None
    return str(args[0]) if isinstance(args, tuple) and args else str(args or image.mode)


def _header(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Return the opened image, as Image.open does, but without Pillow's pixel limit and only for FORMATS."""
    Image.preinit()  # registers the usual formats
    beginning = stream.read(16)
    unsupported = []
    with _NoWarnings():
        for kind in FORMATS:
            if kind not in Image.OPEN:
                Image.init()  # registers all formats
            if kind not in Image.OPEN:
                continue
            factory, accept = Image.OPEN[kind]
            accepted = accept(beginning) if accept else True
            if isinstance(accepted, str):
                unsupported.append(accepted)
            elif accepted:
                stream.seek(0)
                return factory(stream, "")  # given a name, Pillow opens bitmaps once more by that name
    raise ImageError(_not_an_image(stream, name, unsupported))


def _frames(stream: BinaryIO, name: str, image: Image.Image) -> list[str]:
    """Return a note on the number of frames if there are several."""
    try:
        stream.seek(0)
        with _NoWarnings():  # counting reads all frames of a GIF, so the file is opened a second time
            count = getattr(_header(stream, name), "n_frames", 1)
    except DECODER_ERRORS:
        return ["first of several frames"]  # a later frame is damaged
    word = {"TIFF": "pages", "MPO": "images in the file"}.get(image.format or "", "frames")
    return [f"first of {count} {word}"] if count > 1 else []


def _check_integrity(stream: BinaryIO, image: Image.Image) -> None:
    """Check what Pillow does not check: the end marker of a JPEG and the checksums of a PNG."""
    if image.format == "JPEG" and end_of_image(stream) is None:
        raise EOFError
    if image.format == "PNG":
        _check_sums(stream)


def _check_sums(stream: BinaryIO) -> None:
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        data, checksum = stream.read(length), stream.read(4)
        if len(checksum) < 4:
            raise EOFError
        critical = kind[:1].isupper()
        if critical and checksum != struct.pack(">I", zlib.crc32(kind + data)):
            raise ValueError(f"the checksum of its {kind.decode('latin-1')} chunk is wrong")
        if kind == b"IEND":
            break


def _orientation(image: Image.Image) -> int:
    try:
        with _NoWarnings():
            return int(image.getexif().get(_ORIENTATION, 1))
    except DECODER_ERRORS:  # damaged EXIF data does not make an image unusable
        return 1


def _orientation_of_tiff(image: Image.Image) -> int:
    return _orientation(image) if image.format == "TIFF" else 1


def _is_filled_in(stream: BinaryIO, image: Image.Image, by: int) -> bool:
    with _NO_TRUNCATED_IMAGES:
        return is_filled_in(stream, image, by)


def _undecodable(name: str, reason: BaseException) -> str:
    """Return the message for an image that cannot be decoded."""
    words = str(reason)
    if isinstance(reason, EOFError) or "truncated" in words.lower() or "incomplete" in words.lower():
        return f"{name} is truncated: the file ends before the image does. Download it again"
    if isinstance(reason, MemoryError):
        return f"{name} does not fit into memory"
    return f"{name} is damaged, or Pillow does not support it: {reason_of(reason)}"


def _not_an_image(stream: BinaryIO, name: str, unsupported: list[str]) -> str:
    """Return the message for a file in none of FORMATS, with what it seems to be."""
    stream.seek(0)
    beginning = stream.read(256)
    formats = f"Supported formats: {', '.join(FORMATS)}"
    if unsupported:
        return f"{name} cannot be read by the installed Pillow: {unsupported[0]}"
    if beginning.startswith(b"version https://git-lfs"):
        return f"{name} is a Git LFS pointer, not an image: download the image with git lfs pull"
    if beginning[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        return f"{name} is a HEIC image, which Pillow does not support: save it as JPEG or PNG"
    if beginning.lstrip()[:1] == b"<":
        kind = "an SVG drawing" if b"<svg" in beginning else "a web page or XML"
        return f"{name} is not an image: it is {kind}. {formats}"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in beginning):
        return f"{name} is not an image: it is text, {beginning[:24].decode()!r}. {formats}"
    return f"{name} is not an image in a supported format: it begins with {beginning[:12]!r}. {formats}"
