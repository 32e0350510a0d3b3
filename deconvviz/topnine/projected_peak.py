"""A projected peak: its projection, and the part of the input that figures show of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deconvviz.figures.spec.crop import WHOLE, Cut
from deconvviz.figures.spec.top_nine import Crop
from deconvviz.projection import Box, ranges_of
from deconvviz.topnine.peak import Peak

Floats: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class ProjectedPeak:
    """One peak, projected back to pixels and cropped to its receptive field.

    Attributes:
        peak: The peak.
        box: Its receptive field; the whole input if no signal reaches the pixels.
        pixels: Signed values (C, h, w) inside the box in the network's input space; (C, ...) for arrays.
        around: The input in the box and around it.
        std: Values in the units of the input that 1 stands for in each channel of `pixels`.
        cut: Sides on which the receptive field is cut at the border of an image.
    """

    peak: Peak
    box: Box
    pixels: Floats
    around: Surroundings
    std: Floats
    cut: Cut = WHOLE

    @property
    def note(self) -> str | None:
        """Why the projection is zero; None if it is not."""
        return None if self.pixels.any() else ("silent" if self.peak.activation <= 0 else "zero")

    @cached_property
    def crop(self) -> Crop:
        """The projection of an image, in pixel values, and its patch."""
        scaled = self.pixels.transpose(1, 2, 0) * self.std  # (C, h, w) -> (h, w, C)
        return Crop(
            scaled if scaled.shape[2] == 3 else np.broadcast_to(scaled, (*scaled.shape[:2], 3)),
            self.around.cut(self.box),
            *self.cut,
            note=self.note,
        )

    def projection_in(self, box: Box) -> Floats:
        """Return the projection in a box (C, ...), in the units of the input; zero outside the field."""
        axes = self.pixels.ndim - 1
        common = (*np.maximum(self.box[:axes], box[:axes]), *np.minimum(self.box[axes:], box[axes:]))
        shape = [some.stop - some.start for some in ranges_of(box)]
        found = np.zeros((len(self.pixels), *shape), np.result_type(self.pixels, self.std))
        values = self.pixels * self.std.reshape(-1, *[1] * axes)
        found[_within(common, box)] = values[_within(common, self.box)]
        return found


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Part of the input that a figure can show: the receptive field and what is around it."""

    box: Box
    patch: Floats  # (h, w, 3), colours from 0 to 1; of an array (C, ...), in its units

    def cut(self, box: Box) -> Floats:
        """Return the patch of a box inside these surroundings."""
        x0, y0 = self.box[:2]
        return self.patch[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]

    def values_in(self, box: Box) -> Floats:
        """Return the part (C, ...) of an array in a box inside these surroundings."""
        return self.patch[_within(box, self.box)]


def _within(box: Box, whole: Box) -> tuple[slice, ...]:
    """Return the index of a box in an array (C, ...) whose axes begin and end as `whole`."""
    parts = zip(ranges_of(box), ranges_of(whole), strict=True)
    return (slice(None), *(slice(one.start - all_.start, one.stop - all_.start) for one, all_ in parts))
