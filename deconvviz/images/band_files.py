"""Read TIFF files with several bands as (C, H, W)."""

from __future__ import annotations

import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError
from deconvviz.paths import reason_of

SUFFIXES = (".tif", ".tiff")


def read_bands(stream: BinaryIO, name: str) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return the bands (C, H, W) of the first picture in a file, with the numbers of the file, and notes.

    Bands may be the samples of one page, or pages of one size. Messages call the file `name`. Raises
    ImageError.
    """
    import tifffile  # scikit-image needs it, so it is installed

    try:
        with tifffile.TiffFile(stream) as opened:
            pictures = opened.series
            pages = {(one.shape, one.axes) for one in pictures}
            stacked = len(pictures) > 1 and len(pages) == 1 and pictures[0].axes == "YX"
            used = pictures if stacked else pictures[:1]
            values = np.stack([one.asarray() for one in used]) if stacked else np.asarray(used[0].asarray())
            axes = f"{'C' * stacked}{pictures[0].axes}"
    except (OSError, ValueError, LookupError, zlib.error, tifffile.TiffFileError) as reason:
        raise ImageError(f"{name} cannot be read: {reason_of(reason)}") from reason
    if values.ndim not in (2, 3) or not {"Y", "X"} <= set(axes):
        raise ImageError(f"{name} has the axes {axes}: a picture has rows, columns and bands")
    rows, columns = axes.index("Y"), axes.index("X")
    found = np.moveaxis(values, (rows, columns), (-2, -1))
    return (found[None] if values.ndim == 2 else found), (
        (f"first of {len(pictures)} pictures",) if len(pictures) > len(used) else ()
    )
