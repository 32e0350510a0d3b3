"""Detection of truncated JPEG files, whose missing part decoders fill with grey."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from deconvviz.images.reduced import decode_at

_END = b"\xff\xd9"
_SCAN = 0xDA
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_BLOCK = 8


def end_of_image(stream: BinaryIO) -> int | None:
    """Return the offset of the marker that ends the image; None if the file ends before it."""
    data = _read(stream)
    place = data.rfind(_END, _first_scan(data))
    return None if place < 0 else place


def is_filled_in(stream: BinaryIO, decoded: Image.Image, by: int = 1) -> bool:
    """Return True if the pixel data ends before its end marker, as after a repair of a truncated file.

    Decoders fill the missing pixels with mid-grey. If the last block is mid-grey, the image is decoded again
    with noise in front of the marker: a truncated image changes, because it reads the noise as its missing
    pixels, and a complete one does not.

    `by` is 2, 4 or 8 if the pixels were decoded at that fraction of their size.
    """
    if not _ends_grey(decoded, _BLOCK // by):
        return False
    data, place = _read(stream), end_of_image(stream)
    # noise without 0xff, which starts a marker
    noise = np.random.default_rng(0).integers(0, 255, 4096, dtype=np.uint8).tobytes()
    with JpegImageFile(io.BytesIO(b"".join([data[:place], noise, data[place:]]))) as again:
        if by > 1:
            decode_at(again, by)
        again.load()
        return bytes(again.tobytes()) != bytes(decoded.tobytes())


def _ends_grey(decoded: Image.Image, block: int) -> bool:
    pixels = np.asarray(decoded)
    height, width = pixels.shape[:2]
    last = pixels[(height - 1) // block * block :, (width - 1) // block * block :].astype(int)
    return bool((abs(last - 128) <= 1).all())


def _first_scan(data: bytes) -> int:
    """Return the offset of the first scan, after the headers: a preview in them has its own end marker."""
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
