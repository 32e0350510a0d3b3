"""Measures of how similar two states of a network are, and intervals by resampling channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

RESAMPLES = 1000
"""Number of bootstrap resamples. Our choice: the paper has no intervals."""
SETTLED = 0.9
"""A layer is called settled from the checkpoint on at which its median correlation with the final state
reaches this value and stays above it. Our choice: the paper judges by eye."""


@dataclass(frozen=True)
class Median:
    """Median over channels, with the limits of its 95 % bootstrap interval and the number of channels."""

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float], seed: int) -> Median | None:
        """Return the median of the values that are not NaN; None if there are none."""
        known = np.asarray([value for value in values if not np.isnan(value)], np.float64)
        if not known.size:
            return None
        drawn = np.random.default_rng(seed).integers(0, len(known), (RESAMPLES, len(known)))
        low, high = np.percentile(np.median(known[drawn], axis=1), (2.5, 97.5))
        return cls(float(np.median(known)), float(low), float(high), len(known))


def correlation(one: Floats, other: Floats) -> float:
    """Return Pearson's correlation of two arrays of equal shape.

    If only one of them is constant, such as the projection of an inactive unit, it is 0: they have nothing
    in common. If both are constant it is NaN.
    """
    a, b = (np.asarray(values, np.float64).ravel() for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not any(lengths):
        return float("nan")
    if not all(lengths):
        return 0.0
    return float(np.clip(a @ b / lengths[0] / lengths[1], -1, 1))


def linear_cka(one: Floats, other: Floats) -> float:
    """Return the linear CKA of two sets of features (n, p) and (n, q) of the same n images.

    Linear centred kernel alignment (Kornblith et al. 2019). 1 means that the features are equal up to
    rotation and scale. NaN if one of them is the same for all images.
    """
    a, b = (np.asarray(values, np.float64) for values in (one, other))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    if len(a) < max(a.shape[1], b.shape[1]):  # the Gram matrices of images are smaller
        ga, gb = a @ a.T, b @ b.T
        cross, own = float((ga * gb).sum()), float(np.linalg.norm(ga) * np.linalg.norm(gb))
    else:
        cross = float(np.linalg.norm(a.T @ b) ** 2)
        own = float(np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    return cross / own if own else float("nan")


def settled_at(medians: Sequence[float | None], threshold: float = SETTLED) -> int | None:
    """Return the first checkpoint from which on all medians are at least `threshold`.

    The last checkpoint is not counted, because it is compared with itself. None if there is no such
    checkpoint before it.
    """
    first = None
    for number in reversed(range(len(medians) - 1)):
        value = medians[number]
        if value is None or value < threshold:
            break
        first = number
    return first
