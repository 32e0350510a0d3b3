"""Read an image from standard input, which is written ``-`` on the command line."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import BinaryIO

from deconvviz.errors import ImageError
from deconvviz.images.image import InputImage, read_image

NAME = "stdin"
"""Name of the image in figures, manifests and file names."""

MOST_BYTES = 512 * 2**20  # more than an image of the default maximum size has
_ADVICE = "pipe an image into the command (cat photo.jpg | deconvviz project - ...)"


def read_standard_input() -> InputImage:
    """Read an image from standard input, to its end. Raises ImageError."""
    if sys.stdin is None:
        raise ImageError(f"standard input is closed: {_ADVICE}")
    if sys.stdin.isatty():
        raise ImageError(f"standard input is a terminal, not an image: {_ADVICE}")
    return image_from(sys.stdin.buffer)


def image_from(stream: BinaryIO) -> InputImage:
    """Read an image from all the bytes of a stream, which need not be seekable. Raises ImageError."""
    try:
        data = stream.read(MOST_BYTES + 1)
    except OSError as reason:
        raise ImageError(f"standard input cannot be read ({reason.strerror}): {_ADVICE}") from reason
    if not data:
        raise ImageError(f"standard input is empty (0 bytes): {_ADVICE}")
    if len(data) > MOST_BYTES:
        raise ImageError(f"standard input has more than {MOST_BYTES} bytes: give the image as a file instead")
    return replace(read_image(data, "standard input"), name=NAME)
