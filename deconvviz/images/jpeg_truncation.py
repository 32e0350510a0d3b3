"""Does a JPEG hold all of its picture? Decoders fill what is missing with grey and only murmur about it."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

_END = b"\xff\xd9"
_SCAN = 0xDA
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_BLOCK = 8


def end_of_picture(stream: BinaryIO) -> int | None:
    """Where the mark stands that ends the picture; None where the file stops before it."""
    data = _read(stream)
    place = data.rfind(_END, _first_scan(data))
    return None if place < 0 else place


def breaks_off(stream: BinaryIO, decoded: Image.Image) -> bool:
    """Whether the pixels stop before the mark that ends them, as after a repair of a broken file.

    A decoder then paints the rest mid-grey. If the last block is, the picture is decoded once more with noise
    before the mark: a whole picture has no use for it, a broken one takes it for its missing pixels.
    """
    if not _ends_grey(decoded):
        return False
    data, place = _read(stream), end_of_picture(stream)
    noise = np.random.default_rng(0).integers(0, 255, 4096, dtype=np.uint8).tobytes()  # no 0xff: no marks
    with JpegImageFile(io.BytesIO(b"".join([data[:place], noise, data[place:]]))) as again:
        again.load()
        return bytes(again.tobytes()) != bytes(decoded.tobytes())


def _ends_grey(decoded: Image.Image) -> bool:
    pixels = np.asarray(decoded)
    height, width = pixels.shape[:2]
    last = pixels[(height - 1) // _BLOCK * _BLOCK :, (width - 1) // _BLOCK * _BLOCK :].astype(int)
    return bool((abs(last - 128) <= 1).all())


def _first_scan(data: bytes) -> int:
    """Past the headers: a small preview in them has an end of its own."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, (length,) = data[place + 1], struct.unpack_from(">H", data, place + 2)
        if marker == _SCAN:
            return place
        place += 1 if marker == 0xFF else 2 if marker in _WITHOUT_LENGTH else 2 + length
    return min(place, len(data))


def _read(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()
