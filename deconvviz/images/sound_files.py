"""Read sound files as signals (C, T)."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError, MissingExtra
from deconvviz.paths import reason_of

SUFFIXES = (".flac", ".wav")


def read_sound(stream: BinaryIO, name: str) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return the samples (C, T) in [-1, 1] as float32, and a note on the sample rate.

    The signal is not resampled, because a network does not know its sample rate. Messages call the file
    `name`. Raises ImageError, and MissingExtra if soundfile is not installed.
    """
    try:
        import soundfile
    except ImportError as reason:
        raise MissingExtra(f"reading {name}", "signals") from reason
    try:
        samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as reason:
        raise ImageError(f"{name} cannot be read: {reason_of(reason)}") from reason
    if not len(samples):
        raise ImageError(f"{name} has no samples")
    return np.ascontiguousarray(samples.T), (f"{rate} samples per second",)
