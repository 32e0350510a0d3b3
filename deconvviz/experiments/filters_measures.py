"""Measures of the filters of a convolution: size, frequencies, orientation, colour, and doubles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

DEAD = 0.01
"""A filter is dead if its root mean square is below this share of the median (ours)."""
DOMINANT = 5.0
"""A filter is dominant if its root mean square is above this multiple of the median (ours)."""
DOUBLE = 0.95
"""Two filters are doubles if the correlation of their weights is above this number (ours)."""
ALIASED = 0.5
"""A filter is aliased if more than this share of its energy is above the Nyquist frequency (ours)."""
BANDS = (0.125, 0.25)
"""Upper limits of the low and of the middle frequencies, in cycles per pixel (ours)."""
GRID = 64
"""Side of the grid on which spectra are computed; filters are padded with zeros (ours)."""


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of F filters. Shares are of a filter's energy, the sum of its squared weights.

    Attributes:
        rms: Root mean square of the weights, (F,).
        bands: Shares at low, middle and high frequencies, (F, 3).
        orientations: Shares of horizontal, vertical, rising (/) and falling (\\) structure, (F, 4). Energy at
            frequency 0 has no orientation and is left out.
        colour: Share that differs between the input channels; 0 is grey, (F,).
        above_nyquist: Share above the Nyquist frequency of the stride, in either direction, (F,).
        correlation: Correlation with the most similar other filter, (F,).
        nearest: Number of that filter, (F,); -1 if there is no other.
    """

    rms: Floats
    bands: Floats
    orientations: Floats
    colour: Floats
    above_nyquist: Floats
    correlation: Floats
    nearest: npt.NDArray[np.int64]

    @property
    def dead(self) -> npt.NDArray[np.bool_]:
        """Filters that are small compared with the median."""
        dead: npt.NDArray[np.bool_] = self.rms < DEAD * np.median(self.rms)
        dead |= self.rms == 0
        return dead

    @property
    def dominant(self) -> npt.NDArray[np.bool_]:
        """Filters that are large compared with the median."""
        dominant: npt.NDArray[np.bool_] = self.rms > DOMINANT * np.median(self.rms)
        return dominant

    @property
    def aliased(self) -> npt.NDArray[np.bool_]:
        """Filters with more than half of their energy above the Nyquist frequency of the stride."""
        aliased: npt.NDArray[np.bool_] = self.above_nyquist > ALIASED
        return aliased

    @property
    def doubles(self) -> npt.NDArray[np.bool_]:
        """Filters that are nearly equal to another one, apart from scale."""
        doubles: npt.NDArray[np.bool_] = self.correlation > DOUBLE
        return doubles


def measure(weights: npt.NDArray[Any], stride: tuple[int, int]) -> Measures:
    """Return the measures of filters (F, C, h, w) of a convolution with a stride (rows, columns)."""
    exact = weights.astype(np.float64)
    energy = spectrum(exact)  # (F, G, G)
    total = np.maximum(energy.sum((1, 2)), np.finfo(float).tiny)
    y, x = frequencies(energy.shape[1])
    radius = np.hypot(y, x)
    low, middle = radius < BANDS[0], (radius >= BANDS[0]) & (radius < BANDS[1])
    bands = np.stack([energy[:, chosen].sum(1) for chosen in (low, middle, radius >= BANDS[1])], 1)
    oriented = np.stack([energy[:, chosen].sum(1) for chosen in _orientations(y, x)], 1)
    sums = np.maximum(oriented.sum(1, keepdims=True), np.finfo(float).tiny)
    beyond = (np.abs(y) > 0.5 / stride[0]) | (np.abs(x) > 0.5 / stride[1])
    squares = (exact**2).sum((1, 2, 3))
    grey = exact.shape[1] * (exact.mean(1) ** 2).sum((1, 2))
    correlation, nearest = _most_similar(exact.reshape(len(exact), -1))
    return Measures(
        rms=np.sqrt((exact**2).mean((1, 2, 3))),
        bands=bands / total[:, None],
        orientations=oriented / sums,
        colour=1 - grey / np.where(squares > 0, squares, 1) if exact.shape[1] > 1 else np.zeros(len(exact)),
        above_nyquist=energy[:, beyond].sum(1) / total,
        correlation=correlation,
        nearest=nearest,
    )


def spectrum(values: Floats) -> Floats:
    """Return the energy (N, G, G) of values (N, C, h, w) by frequency, summed over C.

    G is 64, or the next power of two for larger values.
    """
    side = max(GRID, 1 << (max(values.shape[2:]) - 1).bit_length())
    energy: Floats = (np.abs(np.fft.fft2(values, (side, side))) ** 2).sum(1)
    return energy


def frequencies(side: int) -> tuple[Floats, Floats]:
    """Return the vertical and the horizontal frequency of each entry of a spectrum, in cycles per pixel."""
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    return y, x


def _orientations(y: Floats, x: Floats) -> list[npt.NDArray[np.bool_]]:
    """Return the frequencies of horizontal, vertical, rising and falling structure.

    Structure runs at right angles to its frequency: vertical bars change horizontally. Rows count downwards,
    so that bars that rise to the right have frequencies of the same sign in both directions.
    """
    angle = np.degrees(np.arctan2(y, x)) % 180  # 0: changes horizontally
    some = (y != 0) | (x != 0)
    wide = 22.5
    return [
        some & (np.abs(angle - 90) < wide),
        some & ((angle < wide) | (angle >= 180 - wide)),
        some & (np.abs(angle - 45) <= wide),
        some & (angle >= 90 + wide) & (angle < 180 - wide),
    ]


def _most_similar(rows: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return for each row its highest correlation with another row, and the number of that row."""
    count = len(rows)
    if count < 2:
        return np.zeros(count), np.full(count, -1)
    centred = rows - rows.mean(1, keepdims=True)
    sizes = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, sizes, out=np.zeros_like(centred), where=sizes > 0)
    table = unit @ unit.T
    np.fill_diagonal(table, -np.inf)
    nearest = table.argmax(1)
    return table[np.arange(count), nearest], nearest


def peak_at_stride(projections: list[Floats], stride: tuple[int, int]) -> float | None:
    """Return how much the spectrum of projections rises at the frequency of a stride and its harmonics.

    The spectra of projections (C, h, w) are divided by their sums, averaged, and averaged over directions.
    The result is the largest ratio of this radial spectrum at k / stride to its median around it (from 2/64
    to 6/64 cycles per pixel away). About 1 means that nothing is seen; None if the stride is 1.

    Strides of rows and columns may differ; the larger one is used.
    """
    step = max(stride)
    spectra = [spectrum(one[None].astype(np.float64))[0] for one in projections if one.any()]
    if step < 2 or not spectra:
        return None
    side = max(len(one) for one in spectra)
    mean = np.mean([one / one.sum() for one in spectra if len(one) == side], axis=0)
    y, x = frequencies(side)
    width = 1 / GRID
    bins = np.floor(np.hypot(y, x) / width + 0.5).astype(int).ravel()
    radial = np.bincount(bins, mean.ravel()) / np.maximum(np.bincount(bins), 1)
    ratios = []
    for harmonic in range(1, step // 2 + 1):
        centre = round(harmonic / step / width)
        around = [n for n in range(len(radial)) if 2 <= abs(n - centre) <= 6]
        ratios.append(radial[max(centre - 1, 0) : centre + 2].max() / np.median(radial[around]))
    return float(max(ratios))
