"""The arrays in a spec: checked without a copy, and converted to (h, w, 3) where they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.errors import FigureError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_ROUNDING = 1e-3  # how far outside [0, 1] preprocessing that was undone may leave a value


def size_of(array: Array) -> tuple[int, int]:
    """(height, width) in pixels."""
    height, width = np.shape(array)[:2]
    return height, width


def check_signed(array: Array, what: str) -> None:
    """(h, w), (h, w, 1) or (h, w, 3) real numbers, all finite."""
    _check_form(np.asarray(array), what)
    _range(array, what)


def check_true_colours(array: Array, what: str) -> None:
    """As `check_signed`, in true colours from 0 to 1."""
    _check_form(np.asarray(array), what)
    low, high = _range(array, what)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise FigureError(
            f"{what} has values from {low:.3g} to {high:.3g}: true colours lie from 0 to 1 "
            "(undo the preprocessing, or divide 8-bit values by 255)"
        )


def check_pair(projection: Array, patch: Array | None, what: str) -> None:
    """A projection that can be shown, and a patch in true colours of the same height and width."""
    check_signed(projection, f"{what}: projection")
    if patch is None:
        return
    check_true_colours(patch, f"{what}: patch")
    (height, width), (patch_height, patch_width) = size_of(projection), size_of(patch)
    if (patch_height, patch_width) != (height, width):
        raise FigureError(
            f"{what}: the patch is {patch_width}x{patch_height} px and the projection {width}x{height} px: "
            "cut both at the same box"
        )


def check_finite(array: Array, what: str) -> None:
    _range(array, what)


def as_rgb(array: Array, what: str) -> FloatArray:
    """(h, w), (h, w, 1) or (h, w, 3) numbers -> a new (h, w, 3) float64 array, all finite."""
    check_signed(array, what)
    given = np.asarray(array)
    if given.ndim == 2:
        given = given[:, :, None]
    return np.repeat(given, 3 // given.shape[2], axis=2).astype(np.float64)


def true_colours(array: Array, what: str) -> FloatArray:
    """A new (h, w, 3) array in [0, 1]; rounding errors of undone preprocessing are clipped."""
    check_true_colours(array, what)
    colours: FloatArray = np.clip(as_rgb(array, what), 0, 1)
    return colours


def _check_form(given: Array, what: str) -> None:
    if given.ndim not in (2, 3) or (given.ndim == 3 and given.shape[2] not in (1, 3)) or 0 in given.shape:
        raise FigureError(
            f"{what} has shape {given.shape}: a sheet shows (height, width), (height, width, 1) or "
            "(height, width, 3); for a network with other channels choose one or three of them"
        )
    if given.dtype.kind not in "fiub":
        raise FigureError(f"{what} holds {given.dtype}: a sheet shows real numbers")


def _range(array: Array, what: str) -> tuple[float, float]:
    """The least and the largest value, (0, 0) of an empty array; all must be finite."""
    if not np.size(array):
        return 0.0, 0.0
    low, high = float(np.min(array)), float(np.max(array))  # NaN wherever there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = np.size(array) - int(np.isfinite(array).sum())
        raise FigureError(
            f"{what} cannot be shown, {bad} of its values {'are' if bad > 1 else 'is'} NaN or infinite: "
            "look for overflow in the network's weights or in the picture"
        )
    return low, high
