"""Read arrays from files: .npy and .npz."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError
from deconvviz.paths import reason_of
from deconvviz.printable_names import printable_path

SUFFIXES = (".npy", ".npz")


def load_array(file: Path) -> npt.NDArray[Any]:
    """Return the array in a .npy file, or the only one in a .npz file. Raise ImageError.

    Files that hold Python objects are refused, because loading them can run code.
    """
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                there = ", ".join(loaded.files) or "none"
                raise ImageError(f"{printable_path(file)} holds {there}: give a file with one array")
            return np.asarray(loaded[loaded.files[0]])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as reason:
        raise ImageError(f"{printable_path(file)} cannot be read: {reason_of(reason)}") from reason
