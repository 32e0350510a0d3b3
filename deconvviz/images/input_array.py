"""Arrays as inputs of a network: signals (C, T), bands (C, H, W), volumes and video (C, D, H, W)."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError
from deconvviz.images.array_files import SUFFIXES as ARRAYS
from deconvviz.images.array_files import load_array
from deconvviz.images.band_files import SUFFIXES as BANDS
from deconvviz.images.band_files import read_bands
from deconvviz.images.nifti_files import SUFFIXES as VOLUMES
from deconvviz.images.nifti_files import read_nifti
from deconvviz.images.sound_files import SUFFIXES as SOUNDS
from deconvviz.images.sound_files import read_sound
from deconvviz.images.video_files import SUFFIXES as VIDEOS
from deconvviz.images.video_files import read_video
from deconvviz.paths import existing_file, reason_of
from deconvviz.printable_names import printable_path
from deconvviz.wording import with_article


@dataclass(frozen=True, eq=False)
class InputArray:
    """Array (C, ...) with notes on how it was read; `path` is None if it is not a file."""

    values: npt.NDArray[Any]
    path: Path | None = None
    notes: tuple[str, ...] = ()
    name: str = ""

    def __repr__(self) -> str:
        name = printable_path(self.path.name) if self.path else self.name or "in memory"
        return ", ".join([f"InputArray({name}, {_times(self.values.shape)}", *self.notes]) + ")"

    @property
    def described(self) -> str:
        """The array in messages."""
        return printable_path(self.path) if self.path else self.name or "the array"


def read_array(given: Any, shape: Sequence[int]) -> InputArray:
    """Return the array in a path, or a NumPy array, for a network that reads arrays of a shape (C, ...).

    An array without channels gets one. A file is cut to the centre, or padded with zeros, to this shape.
    Raises ImageError, and MissingExtra if the package that reads a file is not installed.
    """
    if isinstance(given, InputArray):
        return given
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        name = printable_path(path)
        try:
            with existing_file(path, ImageError, "file").open("rb") as stream:
                return replace(array_in(stream, name, shape), path=path, name="")
        except OSError as reason:
            raise ImageError(f"{name} cannot be read: {reason_of(reason)}") from reason
    if isinstance(given, np.ndarray):
        return InputArray(_with_channels(given, shape).copy())
    raise ImageError(
        f"{with_article(type(given).__name__)} is not an array: give a path, a NumPy array (C, ...), or a "
        "prepared tensor (B, C, ...)"
    )


def array_in(data: bytes | BinaryIO, name: str, shape: Sequence[int]) -> InputArray:
    """Return the array in the contents of a file, as `read_array`. The end of `name` says how to read it."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    values, notes = _read_file(stream, name, shape)
    fitted, done = _fitted(_with_channels(values, shape), shape, name)
    return InputArray(fitted, None, (*notes, *done), name)


def is_band_file(given: Any) -> bool:
    """Return whether a value is the path of a file that can have any number of bands."""
    return isinstance(given, (str, os.PathLike)) and os.fspath(given).lower().endswith((*ARRAYS, *BANDS))


def _read_file(stream: BinaryIO, name: str, shape: Sequence[int]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return the array in a file, by its suffix, and notes on how it was read."""
    if not stream.seek(0, os.SEEK_END):
        raise ImageError(f"{name} is empty (0 bytes)")
    stream.seek(0)
    lower = name.lower()
    if lower.endswith(ARRAYS):
        return load_array(stream, name), ()
    if lower.endswith(SOUNDS):
        return read_sound(stream, name)
    if lower.endswith(VOLUMES):
        return read_nifti(stream, name)
    if lower.endswith(VIDEOS):
        return read_video(stream, name, shape)
    if lower.endswith(BANDS):
        return read_bands(stream, name)
    known = " ".join((*ARRAYS, *SOUNDS, *VOLUMES, *VIDEOS, *BANDS))
    raise ImageError(f"{name} is not a file that can be read as an array. There are {known}")


def _with_channels(values: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    return values[None] if values.ndim == len(shape) - 1 and shape[0] == 1 else values


def _fitted(
    values: npt.NDArray[Any], shape: Sequence[int], name: str
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return an array cut or padded to a shape, with a note on what was done."""
    if values.ndim != len(shape) or values.shape[0] != shape[0]:
        raise ImageError(f"{name} has shape {values.shape}: the network reads {tuple(shape)}, channels first")
    before = values.shape
    for axis, (have, want) in enumerate(zip(before, shape, strict=True)):
        first = max(0, (have - want) // 2)
        values = values.take(range(first, first + min(have, want)), axis=axis)
    missing = [want - have for have, want in zip(values.shape, shape, strict=True)]
    if any(missing):
        values = np.pad(values, [(n // 2, n - n // 2) for n in missing])
    done = [
        f"{word} from {_times(before[1:])} to {_times(shape[1:])}"
        for word, some in (
            ("cut", any(have > want for have, want in zip(before, shape, strict=True))),
            ("padded with zeros", any(missing)),
        )
        if some
    ]
    return values, tuple(done)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
