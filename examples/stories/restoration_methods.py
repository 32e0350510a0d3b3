"""Restoration of a picture whose blur is known: a function for each regulariser, and settings to try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import convolve
from skimage import restoration

Floats = np.ndarray[Any, Any]
HAAR = np.array([[1, 1], [1, -1]]) / np.sqrt(2)  # its own inverse


def inverse(blurred: Floats, kernel: Floats, _: float = 0) -> Floats:
    """Divide by the transfer function, without regularisation."""
    padded = np.zeros(blurred.shape)
    padded[: len(kernel), : len(kernel)] = kernel
    filter_ = np.fft.fft2(np.roll(padded, [-(len(kernel) // 2)] * 2, (0, 1)))
    return np.fft.ifft2(np.fft.fft2(blurred) / filter_).real


def wiener(blurred: Floats, kernel: Floats, balance: float) -> Floats:
    """Regularise all frequencies equally, as if the picture were white noise."""
    return restoration.wiener(blurred, kernel, balance, reg=np.ones((1, 1)), clip=False)


def least_squares(blurred: Floats, kernel: Floats, balance: float) -> Floats:
    """Constrained least squares: the regulariser is the energy of the Laplacian."""
    return restoration.wiener(blurred, kernel, balance, clip=False)


def unsupervised(blurred: Floats, kernel: Floats, _: float = 0) -> Floats:
    """Estimate the balance from the picture, by sampling."""
    return restoration.unsupervised_wiener(blurred, kernel, clip=False, rng=0)[0]


def richardson_lucy(blurred: Floats, kernel: Floats, iterations: float) -> Floats:
    """Multiply by corrections; stopping early is the regulariser."""
    return restoration.richardson_lucy(np.clip(blurred, 1e-3, 1), kernel, int(iterations))


def total_variation(blurred: Floats, kernel: Floats, weight: float) -> Floats:
    """Alternate a step towards the data with one that makes the gradients of the picture sparse."""
    found = blurred
    for _ in range(40):
        found = found - convolve(convolve(found, kernel, mode="reflect") - blurred, kernel, mode="reflect")
        found = restoration.denoise_tv_chambolle(found, weight, max_num_iter=20)
    return found


def sparse_wavelets(blurred: Floats, kernel: Floats, weight: float) -> Floats:
    """Alternate a step towards the data with one that makes the coefficients of a Haar transform sparse."""
    found = blurred
    for step in range(40):
        found = found - convolve(convolve(found, kernel, mode="reflect") - blurred, kernel, mode="reflect")
        shift = (3 * step % 8, 5 * step % 8)  # another grid of blocks in each step
        found = np.roll(shrunk(np.roll(found, shift, (0, 1)), weight), (-shift[0], -shift[1]), (0, 1))
    return found


def shrunk(image: Floats, weight: float, levels: int = 3) -> Floats:
    """Move the detail coefficients of an orthonormal Haar transform towards zero by the weight.

    The sides of the image (h, w) must be multiples of 2 to the power of the levels.
    """
    if levels == 0:
        return image
    blocks = np.moveaxis(image.reshape(len(image) // 2, 2, -1, 2), 2, 1)  # (h / 2, w / 2, 2, 2)
    found = HAAR @ blocks @ HAAR
    mean = shrunk(found[..., 0, 0], weight, levels - 1)
    found = np.sign(found) * np.maximum(np.abs(found) - weight, 0)
    found[..., 0, 0] = mean
    return np.moveaxis(HAAR @ found @ HAAR, 1, 2).reshape(image.shape)


METHODS: dict[str, tuple[Callable[[Floats, Floats, float], Floats], tuple[float, ...]]] = {
    "inverse filter": (inverse, (0,)),
    "Wiener": (wiener, (0.001, 0.003, 0.01, 0.03)),
    "constrained least squares": (least_squares, (0.0003, 0.001, 0.003, 0.01)),
    "unsupervised Wiener": (unsupervised, (0,)),
    "Richardson-Lucy": (richardson_lucy, (5, 10, 20, 40)),
    "total variation": (total_variation, (0.0003, 0.001, 0.003)),
    "sparse wavelets": (sparse_wavelets, (0.0003, 0.001, 0.003)),
}
