"""Pictures of several bands: which bands are shown as red, green and blue, and in which range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import Array, FloatArray

_LOW, _HIGH = 2, 98  # percentiles of a band that are black and white


@dataclass(frozen=True)
class ShownBands:
    """One band in grey, or three as red, green and blue.

    `numbers` are counted from 1, as usual for satellite images. `limits` are black and white of each band.
    """

    numbers: tuple[int, ...]
    limits: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, pictures: Sequence[Array], given: tuple[int, ...] | None) -> ShownBands:
        """Return the bands to show of pictures (C, H, W), with one range for all of them."""
        numbers = chosen_bands(len(pictures[0]), given)
        values = [np.concatenate([one[number - 1].ravel() for one in pictures]) for number in numbers]
        limits = tuple(
            (float(low), float(high)) for low, high in (np.percentile(v, (_LOW, _HIGH)) for v in values)
        )
        return cls(numbers, limits)

    def colours(self, values: Array) -> FloatArray:
        """Return a part (C, h, w) of a picture as colours (h, w, 3), or (h, w), in [0, 1]."""
        shown = [
            np.clip((values[number - 1] - low) / ((high - low) or 1.0), 0, 1)
            for number, (low, high) in zip(self.numbers, self.limits, strict=True)
        ]
        return _stacked(shown)

    def signed(self, projection: Array) -> FloatArray:
        """Return the bands of a projection (C, h, w) as (h, w, 3), or (h, w)."""
        return _stacked([projection[number - 1] for number in self.numbers])

    def text(self, pixels: Sequence[Array], of: str = "picture") -> str:
        """Return a line on the bands, with their share of the energy of projections (C, H, W).

        `of` is what the percentiles are of.
        """
        which = ", ".join(map(str, self.numbers))
        shown = [number - 1 for number in self.numbers]
        energy = np.sum([np.square(one, dtype=np.float64).sum((1, 2)) for one in pixels], axis=0)
        share = f", with {energy[shown].sum() / energy.sum():.0%} of the energy" if energy.any() else ""
        count = len(pixels[0])
        three = len(shown) == 3
        what = (
            f"bands {which} of {count} as red, green and blue"
            if three
            else f"band {which} of {count} in grey"
        )
        each = "each of them" if three else "it"
        return (
            f"{what}{share.replace('%', ' %')} · "
            f"black and white in the {of}: percentiles {_LOW} and {_HIGH} of {each}"
        )


def chosen_bands(count: int, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the bands to show, of `count`: the given ones, or the first three, or the first of fewer.

    Raises FigureError.
    """
    if given is None:
        return (1, 2, 3) if count >= 3 else (1,)
    for number in given:
        if number > count:
            raise FigureError(f"no band {number}: there are 1 to {count}")
    return given


def _stacked(bands: Sequence[Array]) -> FloatArray:
    found: FloatArray = np.stack(bands, axis=-1) if len(bands) > 1 else bands[0]
    return found
