"""Sentences on the claims of the paper about invariance."""

from __future__ import annotations

import numpy as np

from deconvviz.experiments.invariance.canvas import Floats
from deconvviz.experiments.invariance.measured import Measured
from deconvviz.experiments.invariance.names import PAPER, TRANSFORMS

CLEAR = 0.1
"""Smallest relative difference of two layers that is called a difference (ours)."""


def middle(values: Floats) -> Floats:
    """Return the median over images (axis 0), ignoring unknown values; NaN where none is known."""
    known = np.isfinite(values)
    filled = np.where(known.any(axis=0), values, 0.0)
    found: Floats = np.where(known.any(axis=0), np.nanmedian(filled, axis=0), np.nan)
    return found


def sentences(one: Measured) -> list[str]:
    """Return the sentences on each transformation: features, moved maps, linear growth, class probability."""
    lines = []
    for name in one.transforms:
        parts = [_change(one, name), _moved(one, name), _growth(one, name)]
        parts += [_probability(one, name)] if one.classes else []
        lines.append(" ".join(filter(None, parts)))
    return lines


def mean_change(one: Measured, transform: str, measure: str = "normalised") -> list[float]:
    """Return for each layer the mean over amounts of the median of a measure."""
    changed = one.amounts[transform] != TRANSFORMS[transform].identity
    medians = middle(one.measure(measure, transform))[changed]  # (A, L)
    return [
        float(np.nanmean(of_layer)) if np.isfinite(of_layer).any() else float("nan") for of_layer in medians.T
    ]


def linearity(one: Measured, transform: str) -> list[float]:
    """Return for each layer the correlation of the median distance with the size of the change."""
    identity = TRANSFORMS[transform].identity
    assert identity is not None
    sizes = np.abs(one.amounts[transform] - identity)
    medians = middle(one.measure("normalised", transform))  # (A, L)
    if len(sizes) < 3:
        return [float("nan")] * medians.shape[1]
    return [
        float(np.corrcoef(sizes, of_layer)[0, 1]) if of_layer.std() > 0 else float("nan")
        for of_layer in medians.T
    ]


def _moved(one: Measured, transform: str) -> str:
    """Return a sentence on maps that are moved like the picture; empty if there are none."""
    means = mean_change(one, transform, "equivariance")
    known = [
        f"{value:.2f} in {layer.name}"
        for value, layer in zip(means, one.layers, strict=True)
        if np.isfinite(value)
    ]
    return f"If the map is moved like the picture, {', '.join(known)} remains." if known else ""


def _growth(one: Measured, transform: str) -> str:
    """Return a sentence on the paper's claim of linear growth, which is about translation and scale."""
    if transform not in ("translate", "scale"):
        return ""
    found = linearity(one, transform)
    named = [
        f"{value:.2f} in {layer.name}"
        for value, layer in zip(found, one.layers, strict=True)
        if np.isfinite(value)
    ]
    if not named:
        return ""
    return (
        f"The correlation of the distance with the size of the change is {', '.join(named)} (1: the distance "
        "grows linearly)."
    )


def _change(one: Measured, transform: str) -> str:
    means = mean_change(one, transform)
    named = ", ".join(f"{value:.2f} in {layer.name}" for value, layer in zip(means, one.layers, strict=True))
    title = TRANSFORMS[transform].title
    start = f"{title[0].upper()}{title[1:]} changes features by {named} on average"
    if len(means) < 2:
        return f"{start} (distance over length)."
    if means[-1] < (1 - CLEAR) * means[0]:
        how, verdict = "less than", ", as the paper claims"
    elif means[-1] > (1 + CLEAR) * means[0]:
        how, verdict = "more than", ", which is not what the paper claims"
    else:
        how, verdict = "about as much as", ", which is not what the paper claims"
    return (
        f"{start} (distance over length): the top layer changes {how} the first"
        f"{verdict if transform in PAPER else ''}."
    )


def _probability(one: Measured, transform: str) -> str:
    found = one.values[transform]
    medians = middle(found.probability)
    lowest = int(np.nanargmin(medians))
    amount, units = one.amounts[transform][lowest], TRANSFORMS[transform].units
    where = (
        f"{units} {amount:.3g}" if transform in ("scale", "brightness", "jpeg") else f"{amount:.3g} {units}"
    )
    highest = float(np.nanmax(medians))
    return (
        f"The median probability of the class is between {medians[lowest]:.2f} (at {where}) and "
        f"{highest:.2f}."
    )
