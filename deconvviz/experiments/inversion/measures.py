"""How far an inverse is from the picture: PSNR and SSIM of scikit-image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_WINDOW = 7  # side of the window of SSIM in scikit-image


@dataclass(frozen=True)
class PictureMeasures:
    """Likeness of two pictures with colours from 0 to 1.

    Attributes:
        psnr: Peak signal-to-noise ratio in decibels; infinite if the pictures are equal.
        psnr_of_grey: The same for a picture of one colour, the mean colour of the original.
        ssim: Structural similarity; None if a side has fewer than 7 pixels.
        ssim_of_grey: The same for a picture of one colour.
    """

    psnr: float
    psnr_of_grey: float
    ssim: float | None
    ssim_of_grey: float | None

    @classmethod
    def of(cls, original: npt.NDArray[Any], picture: npt.NDArray[Any]) -> PictureMeasures:
        """Compare a picture (H, W, 3) with the original."""
        flat = np.broadcast_to(original.mean((0, 1)), original.shape)
        return cls(
            _psnr(original, picture), _psnr(original, flat), _ssim(original, picture), _ssim(original, flat)
        )

    def to_json(self) -> dict[str, float | None]:
        """Return the measures as JSON values; an infinite number is None."""
        return {
            "psnr": self.psnr if math.isfinite(self.psnr) else None,
            "psnr_of_grey": self.psnr_of_grey if math.isfinite(self.psnr_of_grey) else None,
            "ssim": self.ssim,
            "ssim_of_grey": self.ssim_of_grey,
        }


def _psnr(original: npt.NDArray[Any], picture: npt.NDArray[Any]) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(original, picture):
        return math.inf
    return float(peak_signal_noise_ratio(original, picture, data_range=1.0))


def _ssim(original: npt.NDArray[Any], picture: npt.NDArray[Any]) -> float | None:
    from skimage.metrics import structural_similarity

    if min(original.shape[:2]) < _WINDOW:
        return None
    return float(structural_similarity(original, picture, data_range=1.0, channel_axis=2))
