"""The parts of a projection and of an image that are shown for a peak."""

from __future__ import annotations

from dataclasses import dataclass

from deconvviz.figures.spec.crop import Cut
from deconvviz.figures.spec.effective_crop import reachable
from deconvviz.figures.spec.signals import with_margin
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.layers import Layer
from deconvviz.projection import Box, inside, ranges_of
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.projected_peak import Floats, ProjectedPeak, Surroundings


@dataclass(frozen=True, eq=False)
class Picture:
    """An image or array of the source, as read and as the network sees it. All its peaks share one object.

    Attributes:
        image_id: Id of the image in its source.
        image: The image, or the array, as it was read.
        view: The preprocessed image (H, W, 3), colours from 0 to 1; or the array (C, ...), in its units.
            Boxes of peaks refer to it.
    """

    image_id: str
    image: InputImage | InputArray
    view: Floats


@dataclass(frozen=True, eq=False)
class OtherUnit:
    """A unit of another channel at the place of a peak, projected back to pixels.

    Attributes:
        channel: Number of its channel.
        activation: Its activation.
        pixels: Signed values (C, h, w), or (C, ...), in the network's input space, cropped like those of the
            peak.
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
    """Return the receptive field of a peak; the whole input if no signal reaches the pixels."""
    lengths = picture.view.shape[:2] if isinstance(picture.image, InputImage) else picture.view.shape[1:]
    return peak.box or (0,) * len(lengths) + tuple(reversed(lengths))


def projected_peak(
    projection: Floats, peak: Peak, layer: Layer, picture: Picture, std: Floats
) -> ProjectedPeak:
    """Crop the projection of a peak in a picture, (C, H, W). All arrays of the result are copies.

    `std` are the values in [0, 1] that 1 stands for in each channel of a projection.
    """
    height, width = picture.view.shape[:2]
    box = box_of(peak, picture)
    field = None if peak.y is None or peak.x is None else layer.field_of(peak.y, peak.x)
    left, top, right, bottom = field or (0, 0, width, height)
    cut = Cut(left < 0, top < 0, right > width, bottom > height)
    side = max(layer.field or (height, width))  # independent of the other peaks
    around = reachable(box, side, (height, width))
    return ProjectedPeak(
        peak, box, cropped(projection, box), Surroundings(around, _part(picture, around)), std, cut
    )


def projected_array(
    projection: Floats, peak: Peak, layer: Layer, picture: Picture, std: Floats
) -> ProjectedPeak:
    """Crop the projection of a peak in an array, (C, ...). All arrays of the result are copies.

    The surroundings are as long as a receptive field that the border does not cut, for figures that show
    parts of one size; of a signal, they also have a margin on both sides.
    """
    lengths = picture.view.shape[1:]
    axes, box = len(lengths), box_of(peak, picture)
    around: Box
    if axes == 1:
        around = with_margin(box[0], box[1], lengths[0])
        shown = Surroundings(around, picture.view[:, slice(*around)].copy())
        return ProjectedPeak(peak, box, cropped(projection, box), shown, std)
    own = lengths if layer.field is None or layer.axes is not None else layer.field
    side = max(own[-2:])  # of the squares that are shown of frames, slices and bands
    spans = [
        _around(some.start, some.stop, longest, length)
        for some, longest, length in zip(ranges_of(box), (*own[:-2], side, side), lengths, strict=True)
    ]
    around = (*(first for first, _ in reversed(spans)), *(past for _, past in reversed(spans)))
    shown = Surroundings(around, picture.view[inside(around)].copy())
    position = peak.unit(0).position
    field = layer.field_of(*position) if position and layer.axes is None else None
    first, past = (field or box)[:2], (field or box)[axes : axes + 2]
    cut = Cut(first[0] < 0, first[1] < 0, past[0] > lengths[-1], past[1] > lengths[-2])
    return ProjectedPeak(peak, box, cropped(projection, box), shown, std, cut)


def _around(first: int, past: int, longest: int, length: int) -> tuple[int, int]:
    """Return the first and past position of every part of `longest` positions that contains a span."""
    return max(min(first, past - longest), 0), min(max(past, first + longest), length)


def cropped(projection: Floats, box: Box) -> Floats:
    """Return a copy of the part of a projection (C, ...) inside a box."""
    part: Floats = projection[inside(box)].copy()
    return part


def _part(picture: Picture, box: Box) -> Floats:
    x0, y0, x1, y1 = box
    part: Floats = picture.view[y0:y1, x0:x1].copy()
    return part
