"""A picture file, decoded whole or refused. Pillow does the work; here stands what it leaves open.

Pillow has settings for the whole process: how many pixels it takes for an attack, and whether it makes up the
missing half of a broken file. They are the user's. Here the header is parsed without asking them, and while
pixels are decoded they are held at a fixed value, for as long as any thread is decoding.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from PIL import Image, ImageFile

from deconvviz.errors import ImageError
from deconvviz.images.jpeg_truncation import breaks_off, end_of_picture
from deconvviz.paths import existing_file, spoken

# Formats for photographs and drawings. Left out on purpose: those that run programs (EPS) or have no mark.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

# What Pillow's decoders raise, depending on where a broken file makes them stumble.
COMPLAINTS = (
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


class _Held:
    """A setting of a module that has our value while anyone is inside, and then the user's again."""

    def __init__(self, owner: ModuleType, name: str, ours: Any) -> None:
        self._owner, self._name, self._ours = owner, name, ours
        self._inside, self._lock = 0, threading.Lock()
        self._theirs: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._theirs = getattr(self._owner, self._name)
                setattr(self._owner, self._name, self._ours)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                setattr(self._owner, self._name, self._theirs)


class _NoWarnings:
    """Python's warning filters belong to the process, too: one thread at a time changes them."""

    _lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        self._caught.__exit__(None, None, None)
        self._lock.release()


_NOTHING_MADE_UP = _Held(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
_OUR_LIMIT_COUNTS = _Held(Image, "MAX_IMAGE_PIXELS", None)


def decode(path: str | Path, limit: int) -> tuple[Image.Image, str, list[str]]:
    """The first frame, decoded and upright; how its samples were packed (Pillow's raw mode); what was done.

    Raises ImageError, for a picture of more than `limit` pixels before anything is decoded.
    """
    file = existing_file(path, ImageError, "picture")
    try:
        stream = file.open("rb")
    except OSError as reason:
        raise ImageError(f"cannot read {file}: {spoken(reason)}") from reason
    with stream:
        return decode_stream(stream, str(file), limit)


def decode_stream(stream: BinaryIO, told: str, limit: int) -> tuple[Image.Image, str, list[str]]:
    """`decode` for what is open already, and can seek; messages call it `told`."""
    try:
        _check_not_empty(stream, told)
        image: Image.Image = _header(stream, told)
        check_size(image.size, limit, told)
        notes = _frames(stream, told, image)
        _check_marks(stream, image)
        packed, orientation = packing(image), _orientation_of_tiff(image)
        load_whole(image)
        if image.format == "JPEG" and _made_up(stream, image):
            raise EOFError
        image, turned = upright(image, orientation)
    except COMPLAINTS as reason:
        raise ImageError(_refusal(told, reason)) from reason
    return image, packed, [*notes, *turned]


def _check_not_empty(stream: BinaryIO, told: str) -> None:
    if stream.seek(0, os.SEEK_END) == 0:
        raise ImageError(f"{told} is empty (0 bytes): fetch or write the picture again")
    stream.seek(0)


def check_size(size: tuple[int, int], limit: int, told: object) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{told} has no pixels: {width} x {height}")
    if width * height > limit:
        raise ImageError(
            f"{told} has {width} x {height} pixels, {width * height / 1e6:.4g} megapixels; more than "
            f"{limit / 1e6:.4g} are not opened unless you say so: max_pixels={width * height} or the "
            f"environment variable DECONVVIZ_MAX_PIXELS={width * height}"
        )


def load_whole(image: Image.Image) -> None:
    """Decode all pixels. Raises one of COMPLAINTS."""
    with _NOTHING_MADE_UP:
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            with _OUR_LIMIT_COUNTS:
                image.load()
        else:
            image.load()


def upright(image: Image.Image, was: int = 1) -> tuple[Image.Image, list[str]]:
    """The picture turned as its EXIF says. `was`: the orientation before TIFF's plugin saw to it itself."""
    orientation = _orientation(image)
    if orientation in _TURNS:
        turned = image.transpose(_TURNS[orientation])
        turned.format = image.format
        image = turned
    return image, ["turned as its EXIF says"] if orientation in _TURNS or was in _TURNS else []


def packing(image: Image.Image) -> str:
    """Pillow's raw mode, such as 'RGB;16B'; to be asked before the pixels are decoded."""
    tiles = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else None
    return str(args[0]) if isinstance(args, tuple) and args else str(args or image.mode)


def _header(stream: BinaryIO, told: str) -> ImageFile.ImageFile:
    """Image.open without its limit of pixels, which is not ours, and for FORMATS alone."""
    Image.preinit()  # the usual formats
    beginning = stream.read(16)
    unsupported = []
    with _NoWarnings():
        for name in FORMATS:
            if name not in Image.OPEN:
                Image.init()  # all formats
            if name not in Image.OPEN:
                continue
            factory, accept = Image.OPEN[name]
            accepted = accept(beginning) if accept else True
            if isinstance(accepted, str):
                unsupported.append(accepted)
            elif accepted:
                stream.seek(0)
                return factory(stream, "")  # with a name, Pillow opens bitmaps once more, by that name
    raise ImageError(_no_picture(stream, told, unsupported))


def _frames(stream: BinaryIO, told: str, image: Image.Image) -> list[str]:
    try:
        stream.seek(0)
        with _NoWarnings():  # counting goes through all frames of a GIF, so on a second look at the file
            count = getattr(_header(stream, told), "n_frames", 1)
    except COMPLAINTS:
        return ["first of several frames"]  # a later one is broken
    word = {"TIFF": "pages", "MPO": "pictures in the file"}.get(image.format or "", "frames")
    return [f"first of {count} {word}"] if count > 1 else []


def _check_marks(stream: BinaryIO, image: Image.Image) -> None:
    """What Pillow does not look at: JPEG's end, and the checksums of PNG's pixels."""
    if image.format == "JPEG" and end_of_picture(stream) is None:
        raise EOFError
    if image.format == "PNG":
        _check_sums(stream)


def _check_sums(stream: BinaryIO) -> None:
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        data, told = stream.read(length), stream.read(4)
        if len(told) < 4:
            raise EOFError
        critical = kind[:1].isupper()
        if critical and told != struct.pack(">I", zlib.crc32(kind + data)):
            raise ValueError(f"the checksum of its {kind.decode('latin-1')} chunk is wrong")
        if kind == b"IEND":
            break


def _orientation(image: Image.Image) -> int:
    try:
        with _NoWarnings():
            return int(image.getexif().get(_ORIENTATION, 1))
    except COMPLAINTS:  # broken EXIF is no reason to refuse the picture
        return 1


def _orientation_of_tiff(image: Image.Image) -> int:
    return _orientation(image) if image.format == "TIFF" else 1


def _made_up(stream: BinaryIO, image: Image.Image) -> bool:
    with _NOTHING_MADE_UP:
        return breaks_off(stream, image)


def _refusal(told: str, reason: BaseException) -> str:
    words = str(reason)
    if isinstance(reason, EOFError) or "truncated" in words.lower() or "incomplete" in words.lower():
        return f"{told} is broken off: the file ends before its picture does (fetch it again)"
    if isinstance(reason, MemoryError):
        return f"{told} does not fit into memory"
    return f"{told} is damaged, or of a kind that Pillow does not read: {spoken(reason)}"


def _no_picture(stream: BinaryIO, told: str, unsupported: list[str]) -> str:
    stream.seek(0)
    beginning = stream.read(256)
    kinds = ", ".join(FORMATS)
    if unsupported:
        return f"{told} cannot be read by this Pillow: {unsupported[0]}"
    if beginning.startswith(b"version https://git-lfs"):
        return f"{told} is the pointer of a file that Git LFS keeps: fetch it with git lfs pull"
    if beginning[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        return f"{told} is a HEIC picture, which Pillow does not read: save it as JPEG or PNG"
    if beginning.lstrip()[:1] == b"<":
        kind = "an SVG drawing" if b"<svg" in beginning else "a web page or XML"
        return f"{told} is no picture but {kind} (read are {kinds})"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in beginning):
        return f"{told} is no picture but text: {beginning[:24].decode()!r} (read are {kinds})"
    return f"{told} is no picture that is known here: it begins with {beginning[:12]!r} (read are {kinds})"
