"""Read arrays from files: .npy and .npz."""

from __future__ import annotations

import zipfile
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError
from deconvviz.paths import reason_of

SUFFIXES = (".npy", ".npz")


def load_array(stream: BinaryIO, name: str) -> npt.NDArray[Any]:
    """Return the array in a .npy file, or the only one in a .npz file. Messages call it `name`.

    Raises ImageError.

    Files that hold Python objects are refused, because loading them can run code.
    """
    try:
        loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                there = ", ".join(loaded.files) or "none"
                raise ImageError(f"{name} holds {there}: give a file with one array")
            return np.asarray(loaded[loaded.files[0]])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as reason:
        raise ImageError(f"{name} cannot be read: {reason_of(reason)}") from reason
