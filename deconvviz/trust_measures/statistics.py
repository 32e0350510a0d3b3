"""Correlations of maps, and means over images with a bootstrap interval."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float64]
Centre: TypeAlias = Callable[..., Any]

RESAMPLES = 2000
CONFIDENCE = 0.95
_CONSTANT = 1e-9  # a range below this share of the largest value is rounding


def generator(seed: int, *keys: object) -> np.random.Generator:
    """Return a random generator for a seed and a purpose, the same in every process."""
    return np.random.default_rng([seed, *(zlib.crc32(str(key).encode()) for key in keys)])


def correlations(one: Array, other: Array) -> Floats:
    """Return the Pearson correlation of each row of `one` (N, n) with each row of `other` (M, n): (N, M).

    It is NaN for a constant row.
    """
    left, right = _standardised(one), _standardised(other)
    found: Floats = np.einsum("in,jn->ij", left, right)  # not BLAS: its threads wait for busy cores
    return np.clip(found, -1, 1)


def absolute_correlations(one: Array, other: Array) -> Floats:
    """Return the absolute correlation of each of N maps with each of M maps, (N, M): their likeness.

    The maps are (N, C, h, w) and (M, C, h, w), inside the same box. The result is NaN for a constant map.
    """
    found: Floats = np.abs(correlations(one.reshape(len(one), -1), other.reshape(len(other), -1)))
    return found


def pearson(one: Array, other: Array) -> float:
    """Return the Pearson correlation of two arrays of equal size; NaN if one is constant."""
    left, right = _standardised(one.reshape(1, -1)), _standardised(other.reshape(1, -1))
    return float(np.clip((left * right).sum(), -1, 1))


def spearman(one: Array, other: Array) -> float:
    """Return the rank correlation of two arrays of equal size; NaN if one is constant. Ties share a rank."""
    from scipy.stats import rankdata

    if is_constant(one) or is_constant(other):
        return float("nan")
    return pearson(rankdata(one), rankdata(other))


def is_constant(values: Array) -> bool:
    """Return whether all values are equal, apart from rounding."""
    spread = float(np.ptp(values))
    return spread <= _CONSTANT * float(np.abs(values).max(initial=0.0))


def _standardised(rows: Array) -> Floats:
    centred = rows.astype(np.float64) - rows.mean(axis=1, dtype=np.float64, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    whole = np.abs(rows).max(axis=1, keepdims=True, initial=0.0) * np.sqrt(rows.shape[1])
    length[length <= _CONSTANT * whole] = np.nan
    found: Floats = centred / length
    return found


@dataclass(frozen=True)
class Group:
    """Result for one image, as a function of its units: `at` takes indices of units, with repetition.

    `values` are the numbers of the units, if the result is their centre.
    """

    units: int
    at: Callable[[Array], float]
    values: Floats | None = None

    @property
    def value(self) -> float:
        return self.at(np.arange(self.units))


class Sample:
    """Results of a measure for several images.

    The value is the mean (or another `centre`) over the images. The interval resamples images, because
    the units of one image are not independent. With a single image it resamples the units.
    """

    def __init__(self, centre: Centre = np.mean) -> None:
        self._centre = centre
        self.groups: list[Group] = []

    def add(self, group: Group) -> None:
        """Add the result for an image, unless it is NaN."""
        if group.units and np.isfinite(group.value):
            self.groups.append(group)

    def add_values(self, values: Array) -> None:
        """Add one number for each unit of an image, (n,); NaN is left out."""
        kept = np.asarray(values, np.float64)
        kept = kept[np.isfinite(kept)]

        def at(units: Array) -> float:
            return float(self._centre(kept[units])) if len(kept) else float("nan")

        self.add(Group(len(kept), at, kept))

    def add_pairs(self, table: Array) -> None:
        """Add one number for each pair of units of an image, (n, n). The diagonal is left out."""
        pairs = np.array(table, np.float64)
        np.fill_diagonal(pairs, np.nan)  # so that a unit that was drawn twice is not a pair with itself

        def at(units: Array) -> float:
            drawn = pairs[np.ix_(units, units)]
            finite = drawn[np.isfinite(drawn)]
            return float(self._centre(finite)) if finite.size else float("nan")

        self.add(Group(len(pairs), at))

    @property
    def pictures(self) -> int:
        return len(self.groups)

    @property
    def units(self) -> int:
        return sum(group.units for group in self.groups)

    @property
    def value(self) -> float | None:
        """Centre over the images; None without images."""
        return float(self._centre(self.values)) if self.groups else None

    @property
    def values(self) -> Floats:
        """One number for each image."""
        return np.array([group.value for group in self.groups], np.float64)

    def interval(self, seed: int = 0) -> tuple[float, float] | tuple[None, None]:
        """Return the 95 % percentile interval of the bootstrap; (None, None) if it cannot be computed."""
        if len(self.groups) > 1:
            return _interval(self.values, self._centre, seed, vectorized=True)
        if not self.groups or self.groups[0].units == 1:
            return None, None
        (group,) = self.groups
        if group.values is not None:
            return _interval(group.values, self._centre, seed, vectorized=True)
        units = np.arange(group.units)
        return _interval(units, lambda drawn: group.at(drawn.astype(int)), seed, vectorized=False)


def _interval(
    values: Array, statistic: Callable[..., Any], seed: int, *, vectorized: bool
) -> tuple[float, float] | tuple[None, None]:
    """Return the percentile interval of a statistic. A vectorized one takes `axis`."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        # a resample of a single image can consist of one unit, which has no pairs: its statistic is NaN
        warnings.simplefilter("ignore", DegenerateDataWarning)
        drawn = bootstrap(
            (values,),
            statistic,
            n_resamples=RESAMPLES,
            vectorized=vectorized,
            method="percentile",
            rng=generator(seed, "bootstrap"),
        ).bootstrap_distribution
    finite = drawn[np.isfinite(drawn)]
    if not finite.size:
        return None, None
    low, high = np.quantile(finite, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
