"""Names and ranges of the transformations. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deconvviz.errors import MethodError


@dataclass(frozen=True)
class Described:
    """A transformation in words and numbers.

    `low` to `high` is the default range, for pictures of 224 pixels if the amount is `in_pixels`. `least` and
    `most` are the limits of all possible amounts.
    """

    title: str
    units: str
    identity: float | None
    low: float
    high: float
    steps: int
    in_pixels: bool = False
    least: float = -math.inf
    most: float = math.inf


TRANSFORMS: Mapping[str, Described] = {
    "translate": Described("vertical translation", "pixels", 0.0, -60, 60, 41, in_pixels=True),
    "scale": Described("scale", "ratio", 1.0, 1.0, 1.8, 17, least=0.1, most=20),
    "rotate": Described("rotation", "degrees", 0.0, 0, 350, 36),
    "translate-x": Described("horizontal translation", "pixels", 0.0, -60, 60, 41, in_pixels=True),
    "blur": Described("blur", "pixels", 0.0, 0, 8, 17, in_pixels=True, least=0, most=1e3),
    "brightness": Described("brightness", "factor", 1.0, 0.4, 1.6, 25, least=0, most=100),
    "jpeg": Described("JPEG", "quality", None, 5, 100, 20, least=1, most=100),
}
"""All transformations. The first three and their ranges are those of the paper's Figure 5; the numbers of
steps and the other transformations are ours, because the paper does not state the steps."""

PAPER = ("translate", "scale", "rotate")


def check_transforms(names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise MethodError for a transformation or a range that does not exist."""
    if not names:
        raise MethodError(f"no transformation was given: there are {', '.join(TRANSFORMS)}")
    for name in (*names, *ranges):
        if name not in TRANSFORMS:
            raise MethodError(f"no transformation {name!r}: there are {', '.join(TRANSFORMS)}")
    for name, (low, high) in ranges.items():
        if name not in names:
            raise MethodError(
                f"a range of {name} was given, but the transformations are {', '.join(names)}. "
                f"Name {name}, too"
            )
        described = TRANSFORMS[name]
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise MethodError(f"{name}: the range {low:g}:{high:g} is empty. Give the smaller number first")
        if low < described.least or high > described.most:
            raise MethodError(
                f"{name}: the range {low:g}:{high:g} is impossible: amounts are from {described.least:g} to "
                f"{described.most:g}"
            )
