"""Statistics of correspondence: Hamming distances of signs, bootstrap over images, and a permutation test."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats: TypeAlias = npt.NDArray[np.float64]

RESAMPLES = 1000
"""Number of resamples of the bootstrap (ours)."""
PERMUTATIONS = 5000
"""Number of random permutations (ours)."""
INTERVAL = (2.5, 97.5)

_TOGETHER = 250  # permutations that are computed at once
_CHUNK = 1 << 16  # entries of a vector that are compared at once


class Compared(NamedTuple):
    """Comparison of the changes of N images with F entries; (N, N) except `changed`."""

    differ: Floats  # share of entries whose signs differ
    differ_of_changed: Floats  # share among the entries that are not zero in at least one of the two
    cosine: Floats  # 0 for a change that is zero everywhere
    changed: Floats  # share of entries that are not zero, (N,)


def compared(changes: Tensor) -> Compared:
    """Compare changes (N, F) and their signs, which are -1, 0 or 1."""
    count, length = changes.shape
    equal, both, products = (torch.zeros(count, count, dtype=torch.float64) for _ in range(3))
    for part in changes.split(_CHUNK, dim=1):
        hot = [(part.sign() == sign).float() for sign in (-1, 0, 1)]
        equal += sum((one @ one.T).double().cpu() for one in hot)  # sums of at most _CHUNK ones are exact
        moved = 1 - hot[1]
        both += (moved @ moved.T).double().cpu()
        exact = part.double()
        products += (exact @ exact.T).cpu()
    own, size = both.diagonal(), products.diagonal().sqrt()
    either = own[:, None] + own[None] - both
    differ = length - equal
    least = torch.finfo(torch.float64).tiny
    return Compared(
        (differ / length).numpy(),
        torch.where(either > 0, differ / either.clamp(min=1), torch.zeros_like(differ)).numpy(),
        (products / (size[:, None] * size[None]).clamp(min=least)).numpy(),
        (own / length).numpy(),
    )


def off_diagonal(table: Floats) -> Floats:
    """Return the entries of all ordered pairs of two different images."""
    entries: Floats = table[~np.eye(len(table), dtype=bool)]
    return entries


def bootstrap(table: Floats, random: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the 95 % interval of the mean of all pairs, by resampling images.

    Pairs of an image with its own copy are left out. The interval is NaN with two images, because every
    resample has the same pair.
    """
    count = len(table)
    if count < 3:
        return float("nan"), float("nan")
    weights = random.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)  # (R, n)
    pairs = np.einsum("ri,rj->rij", weights, weights) * ~np.eye(count, dtype=bool)
    sums = pairs.sum((1, 2))
    means = (pairs * table).sum((1, 2))[sums > 0] / sums[sums > 0]
    low, high = np.percentile(means, INTERVAL)
    return float(low), float(high)


def permutation_test(
    table: Floats, images: int, random: np.random.Generator, permutations: int = PERMUTATIONS
) -> float:
    """Return the two-sided p-value that a part differs from random places.

    The statistic is the mean over pairs for the part minus that for the draws. If the part is only one
    more place, the places of an image can be exchanged, so they are permuted within each image.

    Args:
        table: Comparison of pairs, (images * P, images * P). Entry i * P + a is place a of image i; place 0
            is the part.
        images: Number of images.
        random: Generator of the permutations.
        permutations: Number of permutations.
    """
    places = len(table) // images
    plain = np.tile(np.arange(places), (1, images, 1))  # (1, images, P)
    seen = abs(_statistics(table, plain)[0])
    as_far = 0
    for first in range(0, permutations, _TOGETHER):
        count = min(_TOGETHER, permutations - first)
        orders = random.permuted(np.repeat(plain, count, axis=0), axis=2)
        as_far += int((np.abs(_statistics(table, orders)) >= seen - 1e-12).sum())
    return (1 + as_far) / (1 + permutations)


def _statistics(table: Floats, orders: npt.NDArray[np.int64]) -> Floats:
    """Return the statistic of R assignments (R, images, P) of places to the part and the draws."""
    images, places = orders.shape[1:]
    index = orders + (np.arange(images) * places)[None, :, None]
    means = []
    for number in range(places):
        own = index[:, :, number]  # (R, images)
        chosen = table[own[:, :, None], own[:, None, :]]  # (R, images, images)
        diagonal = np.trace(chosen, axis1=1, axis2=2)
        means.append((chosen.sum((1, 2)) - diagonal) / (images * (images - 1)))
    found: Floats = means[0] - np.mean(means[1:], axis=0)
    return found
