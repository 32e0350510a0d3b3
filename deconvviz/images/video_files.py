"""Read some frames of video files as (C, D, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError, MissingExtra
from deconvviz.paths import reason_of

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


def read_video(stream: BinaryIO, name: str, shape: Sequence[int]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return frames (C, D, H, W) in [0, 1] as float32, with notes on them. `shape` is C, D, H and W.

    The D frames are the middle ones of D equal parts of the video. Each is resized to cover (H, W), and its
    centre is cropped, as the images of `Network(size=(H, W))`. C is 3 for red, green and blue, 1 for grey.
    Messages call the file `name`. Raises ImageError, and MissingExtra if PyAV is not installed.
    """
    if len(shape) != 4 or shape[0] not in (1, 3):
        raise ImageError(
            f"{name} is a video of shape (3, D, H, W), or (1, D, H, W) in grey: the network reads "
            f"{tuple(shape)}"
        )
    from deconvviz.images.preprocessing import Preprocessing  # it needs torch; listing files does not

    channels, wanted, rows, columns = shape
    prepare = Preprocessing.simple((rows, columns), (0.0,) * channels, (1.0,) * channels)
    count = sum(1 for _ in _decoded(stream, name))
    if not count:
        raise ImageError(f"{name} has no frames")
    numbers = sampled(count, wanted)
    found: dict[int, npt.NDArray[Any]] = {}
    notes: dict[str, None] = dict.fromkeys([_note(numbers, count)])
    for number, frame in enumerate(_decoded(stream, name)):
        if number in numbers:
            turns = round(frame.rotation / 90) % 4
            pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            found[number] = prepare.apply(pixels).numpy()
            if turns:
                notes["rotation of the file applied"] = None
            notes.update(dict.fromkeys(_fit(pixels.shape[:2], (rows, columns))))
    return np.stack([found[number] for number in numbers], axis=1), tuple(notes)


def sampled(count: int, wanted: int) -> list[int]:
    """Return the numbers of the middle frames of `wanted` equal parts of a video of `count` frames.

    Numbers are repeated if there are fewer frames than parts.
    """
    return [(2 * part + 1) * count // (2 * wanted) for part in range(wanted)]


def _decoded(stream: BinaryIO, name: str) -> Any:
    """Return an iterator over the decoded frames of the first video stream of a file."""
    try:
        import av
    except ImportError as reason:
        raise MissingExtra(f"reading {name}", "video") from reason
    try:
        stream.seek(0)
        with av.open(stream) as container:
            if not container.streams.video:
                raise ImageError(f"{name} has no pictures: its streams are not video")
            yield from container.decode(video=0)
    except (av.FFmpegError, OSError) as reason:
        raise ImageError(f"{name} cannot be read: {reason_of(reason)}") from reason


def _note(numbers: Sequence[int], count: int) -> str:
    several = len(set(numbers))
    what = (
        f"{len(numbers)} of {count} frames"
        if several == len(numbers)
        else (f"{count} frames, some repeated to get {len(numbers)}")
    )
    if len(numbers) <= 8:
        return f"{what}: {', '.join(map(str, numbers))}"
    return f"{what}: {numbers[0]} to {numbers[-1]} at equal distances"


def _fit(have: tuple[int, ...], want: tuple[int, int]) -> list[str]:
    """Return a note on how frames were fitted; empty if they have the wanted size."""
    if have == want:
        return []
    (high, wide), (rows, columns) = have, want
    cropped = high * columns != wide * rows
    return [f"resized from {wide} x {high} to {columns} x {rows}{', centre cropped' if cropped else ''}"]
