"""Deletion and insertion: how a unit's activation changes if pixels of most energy are blurred, or kept."""

from __future__ import annotations

import math

import numpy as np
import torch

from deconvviz.trust_measures.forward import activations
from deconvviz.trust_measures.measure import Measure
from deconvviz.trust_measures.place import Case, Place
from deconvviz.trust_measures.statistics import Array, Sample

PERCENT = (1, 2, 5, 10, 20, 50)
UNITS = 3  # units of each image; every curve costs a dozen passes
DELETION = (
    "mean share of the activation that is left while the 1 to 50 % of the field's pixels with most energy "
    "are blurred (lower is better; baseline: random pixels)"
)
INSERTION = (
    "mean share of the activation that returns while the 1 to 50 % of the field's pixels with most energy "
    "are shown on the blurred field (higher is better; baseline: random pixels)"
)
SOURCE = "Petsiuk et al. 2018"


class Deletion:
    """Area under the deletion and insertion curves of the strongest units of each place.

    The pixels of the receptive field are ordered by energy (by contribution for a signed method). Blurred
    pixels come from the blurred image. Activations are rectified and relative to that on the image.
    """

    def __init__(self) -> None:
        self._areas = {kind: Sample() for kind in ("deletion", "insertion")}
        self._random = {kind: Sample() for kind in ("deletion", "insertion")}
        self._curves: dict[str, list[Array]] = {"deletion": [], "insertion": []}
        self._random_curves: dict[str, list[Array]] = {"deletion": [], "insertion": []}

    def see(self, case: Case) -> None:
        place = case.place
        count = min(UNITS, len(place.units))
        rng = place.random("ties", case.method.name)
        orders = [pixel_order(place.cut(case.importance[number]), rng) for number in range(count)]
        found = curves(place, orders, list(range(count)))
        random = random_curves(place, count)
        for number, kind in enumerate(("deletion", "insertion")):
            self._areas[kind].add_values(areas(found[number]))
            self._random[kind].add_values(areas(random[number]))
            self._curves[kind].append(found[number].mean(axis=0))
            self._random_curves[kind].append(random[number].mean(axis=0))

    def measure(self, kind: str, seed: int = 0) -> Measure:
        """Return the area under the curve of ``deletion`` or ``insertion``."""
        meaning = DELETION if kind == "deletion" else INSERTION
        return Measure.of(self._areas[kind], self._random[kind].value, meaning, SOURCE, seed=seed)

    def curve(self, kind: str) -> dict[str, list[float]]:
        """Return the mean curve over the images, with that of random pixels."""
        if not self._curves[kind]:
            return {"percent": [], "value": [], "random": []}
        return {
            "percent": [0.0, *map(float, PERCENT)],
            "value": np.mean(self._curves[kind], axis=0).tolist(),
            "random": np.mean(self._random_curves[kind], axis=0).tolist(),
        }


def pixel_order(importance: Array, rng: np.random.Generator) -> Array:
    """Return the flat indices of pixels (h, w), the most important first. Ties are in random order."""
    flat = importance.ravel()
    return np.lexsort((rng.random(flat.size), -flat))


def curves(place: Place, orders: list[Array], units: list[int]) -> tuple[Array, Array]:
    """Return the deletion and insertion curves of n units, (n, 1 + levels) each, for orders of their pixels.

    The first point of a curve is that of 0 %.
    """
    x0, y0, x1, y1 = place.box
    sharp, soft = place.inputs[0, :, y0:y1, x0:x1], place.blurred[0, :, y0:y1, x0:x1]
    channels = sharp.shape[0]
    images = []
    for order in orders:
        for percent in PERCENT:
            most = torch.zeros(order.size, dtype=torch.bool)
            most[torch.from_numpy(order[: math.ceil(order.size * percent / 100)])] = True
            mask = most.view(1, y1 - y0, x1 - x0).expand(channels, -1, -1)
            images += [torch.where(mask, soft, sharp), torch.where(mask, sharp, soft)]
    images.append(soft)
    whole = place.inputs.repeat(len(images), 1, 1, 1)
    whole[:, :, y0:y1, x0:x1] = torch.stack(images)
    found = place.of_units(activations(place.network, place.layer, whole))  # (2 n levels + 1, K)
    left = np.maximum(found, 0) / place.activations
    by_unit = left[:-1].reshape(len(orders), 2 * len(PERCENT), -1)
    own = np.stack([by_unit[row, :, unit] for row, unit in enumerate(units)])
    sharp_start, soft_start = np.ones((len(orders), 1)), left[-1][units][:, None]
    return (
        np.concatenate([sharp_start, own[:, ::2]], axis=1),
        np.concatenate([soft_start, own[:, 1::2]], axis=1),
    )


def random_curves(place: Place, count: int) -> tuple[Array, Array]:
    """Return the curves of random pixels for the first units of a place, computed once for all methods."""
    key = f"random curves of {count}"
    if key not in place.shared:
        x0, y0, x1, y1 = place.box
        rng = place.random("random pixels")
        orders = [rng.permutation((y1 - y0) * (x1 - x0)) for _ in range(count)]
        place.shared[key] = curves(place, orders, list(range(count)))
    deletion, insertion = place.shared[key]
    return deletion, insertion


def areas(lines: Array) -> Array:
    """Return the mean height of curves (n, 1 + levels) between 0 and the last percentage, (n,)."""
    steps = np.array([0, *PERCENT], np.float64)
    found: Array = ((lines[:, 1:] + lines[:, :-1]) / 2 * np.diff(steps)).sum(axis=1) / steps[-1]
    return found
