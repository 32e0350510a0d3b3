"""Scores of maps against the true effects of parts."""

from __future__ import annotations

import numpy as np

from deconvviz.trust_measures.statistics import Array, Group, spearman
from deconvviz.trust_measures.true_effects import MOVED, Effects

_LEAST_SHARE = 1e-4  # added to a share of energy before the logarithm


def shares(effects: Effects, pixels: Array, reading: str, activations: Array | None = None) -> Array:
    """Return what maps (K, h, w) say of each part, (P, K).

    ``energy``: logarithm of the part's share of the map's energy. ``contribution``: the part's sum over the
    unit's activation if `activations` (K,) are given, for maps whose values are parts of the activation.
    Without them it is divided by the sum of absolute values, so that the size of a map has no effect.
    """
    total = np.abs(pixels).sum(axis=(1, 2))
    if activations is not None and reading == "contribution":
        total = activations
    part = effects.sums(pixels) / np.where(total > 0, total, 1)
    return np.log(part + _LEAST_SHARE) if reading == "energy" else part


def finds(said: Array, effects: Effects) -> Array:
    """Return the rank correlation over the parts with the true effect, for each unit that a part moves, (k,).

    `said` is (P, K). A map that says the same of all parts has 0.
    """
    return np.array([_or_zero(spearman(said[:, k], effects.removed[:, k])) for k in _moved(effects)])


def tells_apart(said: Array, effects: Effects) -> Group:
    """Return the rank correlation over all parts and units after the mean over the units is taken out.

    The group is a function of the units that some part moves. Maps that are equal have 0.
    """
    units = _moved(effects)
    said, true = said[:, units], effects.removed[:, units]

    def at(drawn: Array) -> float:
        return _or_zero(spearman(_apart(said[:, drawn]), _apart(true[:, drawn])))

    return Group(len(units) if len(units) > 1 else 0, at)


def energy_over_area(energy: Array, effects: Effects) -> Array:
    """Return the share of energy on the most effective part over its share of the field's area, (k,)."""
    total = energy.sum(axis=(1, 2))
    part = effects.sums(energy) / np.where(total > 0, total, 1)
    area = effects.areas / effects.masks[0].size
    units = _moved(effects)
    best = effects.removed[:, units].argmax(axis=0)
    found: Array = part[best, units] / area[best]
    return found


def pointing(pixels: Array, effects: Effects) -> Array:
    """Return whether the highest pixel of each map lies in the most effective part, (k,) of 0 and 1.

    If several pixels are the highest, the result is the share of them that does.
    """
    units = _moved(effects)
    best = effects.removed[:, units].argmax(axis=0)
    highest = pixels[units] == pixels[units].max(axis=(1, 2), keepdims=True)
    inside = (highest & effects.masks[best]).sum(axis=(1, 2))
    found: Array = inside / highest.sum(axis=(1, 2))
    return found


def area_of_best(effects: Effects) -> Array:
    """Return the share of the field's area of the most effective part of each unit, (k,)."""
    units = _moved(effects)
    found: Array = (effects.areas / effects.masks[0].size)[effects.removed[:, units].argmax(axis=0)]
    return found


def distraction(energy: Array, effects: Effects) -> Array:
    """Return the energy on parts without effect over their area, (k,); NaN if every part has an effect."""
    total = energy.sum(axis=(1, 2))
    part = effects.sums(energy) / np.where(total > 0, total, 1)
    area = effects.areas / effects.masks[0].size
    idle = np.abs(effects.removed) < MOVED  # (P, K)
    covered = (area[:, None] * idle).sum(axis=0)
    over = np.where(covered > 0, (part * idle).sum(axis=0) / np.where(covered > 0, covered, 1), np.nan)
    found: Array = over[_moved(effects)]
    return found


def _moved(effects: Effects) -> Array:
    return np.flatnonzero(effects.moved)


def _apart(values: Array) -> Array:
    """Return values (P, k) without their mean over the units; exactly zero if only rounding is left."""
    left = values - values.mean(axis=1, keepdims=True)
    found: Array = np.zeros_like(left) if np.abs(left).max() <= 1e-9 * np.abs(values).max() else left
    return found


def _or_zero(correlation: float) -> float:
    return 0.0 if np.isnan(correlation) else correlation
