"""The parts of a projection and of an image that are shown for a peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconvviz.figures.spec.effective_crop import reachable
from deconvviz.figures.spec.top_nine import Crop
from deconvviz.images.image import InputImage
from deconvviz.layers import Layer
from deconvviz.projection import Box
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.result import Floats, ProjectedPeak, Surroundings


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of the source, as read and as the network sees it. All its peaks share one object.

    Attributes:
        image_id: Id of the image in its source.
        image: The image as it was read.
        view: The preprocessed image (H, W, 3), colours from 0 to 1. Boxes of peaks refer to it.
    """

    image_id: str
    image: InputImage
    view: Floats


@dataclass(frozen=True, eq=False)
class OtherUnit:
    """A unit of another channel at the place of a peak, projected back to pixels.

    Attributes:
        channel: Number of its channel.
        activation: Its activation.
        pixels: Signed values (C, h, w) in the network's input space, cropped like those of the peak.
    """

    channel: int
    activation: float
    pixels: Floats


@dataclass(frozen=True, eq=False)
class PeakCrop:
    """A peak of a stream.

    Attributes:
        shown: The peak, its projection and its patch, as in a top-nine figure.
        picture: The image of the peak.
        others: The strongest units of other channels at the place of the peak, strongest first; empty for
            peaks for which none were requested.
    """

    shown: ProjectedPeak
    picture: Picture
    others: tuple[OtherUnit, ...] = ()


def box_of(peak: Peak, picture: Picture) -> Box:
    """Return the receptive field of a peak; the whole image if no signal reaches the pixels."""
    height, width = picture.view.shape[:2]
    return peak.box or (0, 0, width, height)


def projected_peak(
    projection: Floats, peak: Peak, layer: Layer, picture: Picture, std: Floats
) -> ProjectedPeak:
    """Crop the projection of a peak in a picture, (C, H, W). All arrays of the result are copies.

    `std` are the values in [0, 1] that 1 stands for in each channel of a projection.
    """
    height, width = picture.view.shape[:2]
    box = box_of(peak, picture)
    pixels = cropped(projection, box)
    field = None if peak.y is None or peak.x is None else layer.field_of(peak.y, peak.x)
    left, top, right, bottom = field or (0, 0, width, height)
    scaled = pixels.transpose(1, 2, 0) * std  # (C, h, w) -> (h, w, C)
    crop = Crop(
        scaled if scaled.shape[2] == 3 else np.broadcast_to(scaled, (*scaled.shape[:2], 3)),
        _part(picture, box),
        cut_left=left < 0,
        cut_top=top < 0,
        cut_right=right > width,
        cut_bottom=bottom > height,
        note=None if pixels.any() else ("silent" if peak.activation <= 0 else "zero"),
    )
    side = max(layer.field or (height, width))  # independent of the other peaks
    around = reachable(box, side, (height, width))
    return ProjectedPeak(peak, pixels, crop, Surroundings(around, _part(picture, around)))


def cropped(projection: Floats, box: Box) -> Floats:
    """Return a copy of the part of a projection (C, H, W) inside a box."""
    x0, y0, x1, y1 = box
    part: Floats = projection[:, y0:y1, x0:x1].copy()
    return part


def _part(picture: Picture, box: Box) -> Floats:
    x0, y0, x1, y1 = box
    part: Floats = picture.view[y0:y1, x0:x1].copy()
    return part
