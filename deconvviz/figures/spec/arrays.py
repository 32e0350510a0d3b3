"""Arrays in a spec: checked without a copy, and converted to (h, w, 3) when they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.errors import FigureError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_ROUNDING = 1e-3  # tolerance outside [0, 1] for images whose preprocessing was undone


def size_of(array: Array) -> tuple[int, int]:
    """Return (height, width) in pixels."""
    height, width = np.shape(array)[:2]
    return height, width


def check_signed(array: Array, what: str) -> None:
    """Raise FigureError unless the array is (h, w), (h, w, 1) or (h, w, 3) with finite real numbers."""
    _check_form(np.asarray(array), what)
    _range(array, what)


def check_true_colours(array: Array, what: str) -> None:
    """Raise FigureError unless the array is an image (h, w), (h, w, 1) or (h, w, 3) with values in [0, 1]."""
    _check_form(np.asarray(array), what)
    low, high = _range(array, what)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise FigureError(
            f"{what} has values from {low:.3g} to {high:.3g}: colours must be from 0 to 1. "
            "Undo the preprocessing, or divide 8-bit values by 255"
        )


def check_pair(projection: Array, patch: Array | None, what: str) -> None:
    """Raise FigureError unless projection and patch can be drawn and have the same height and width."""
    check_signed(projection, f"{what}: projection")
    if patch is None:
        return
    check_true_colours(patch, f"{what}: patch")
    (height, width), (patch_height, patch_width) = size_of(projection), size_of(patch)
    if (patch_height, patch_width) != (height, width):
        raise FigureError(
            f"{what}: the patch has {patch_width}x{patch_height} px and the projection {width}x{height} px. "
            "Crop both to the same box"
        )


def check_finite(array: Array, what: str) -> None:
    _range(array, what)


def as_rgb(array: Array, what: str) -> FloatArray:
    """Convert (h, w), (h, w, 1) or (h, w, 3) finite numbers to a new (h, w, 3) float64 array."""
    check_signed(array, what)
    given = np.asarray(array)
    if given.ndim == 2:
        given = given[:, :, None]
    return np.repeat(given, 3 // given.shape[2], axis=2).astype(np.float64)


def true_colours(array: Array, what: str) -> FloatArray:
    """Convert an image to a new (h, w, 3) array in [0, 1]; rounding errors are clipped."""
    check_true_colours(array, what)
    colours: FloatArray = np.clip(as_rgb(array, what), 0, 1)
    return colours


def _check_form(given: Array, what: str) -> None:
    if given.ndim not in (2, 3) or (given.ndim == 3 and given.shape[2] not in (1, 3)) or 0 in given.shape:
        raise FigureError(
            f"{what} has shape {given.shape}: it must be (height, width), (height, width, 1) or "
            "(height, width, 3). If the network has other input channels, choose one or three of them"
        )
    if given.dtype.kind not in "fiub":
        raise FigureError(f"{what} has dtype {given.dtype}: it must contain real numbers")


def _range(array: Array, what: str) -> tuple[float, float]:
    """Return the smallest and the largest value, or (0, 0) for an empty array. Raise if one is not finite."""
    if not np.size(array):
        return 0.0, 0.0
    low, high = float(np.min(array)), float(np.max(array))  # NaN if any value is NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = np.size(array) - int(np.isfinite(array).sum())
        raise FigureError(
            f"{what} cannot be drawn: {bad} of its values {'are' if bad > 1 else 'is'} NaN or infinite. "
            "Check the image and the network's weights for overflow"
        )
    return low, high
