"""Projected peaks of a search as a stream: one batch of images after another, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from deconvviz.engine.units import Unit, strongest_others
from deconvviz.errors import RefusedOp, SearchError
from deconvviz.image_sources import Source
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.projection import Projection
from deconvviz.recording import Recording
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.peak_crops import (
    OtherUnit,
    PeakCrop,
    Picture,
    box_of,
    cropped,
    projected_array,
    projected_peak,
)

BATCH = 8  # number of images that are recorded together
_PIXELS = 30 << 20  # bytes of projections that exist at the same time; above 32 MiB, new memory is slow
_RELATIVE = 1e-3  # largest difference from the activation in the search index, relative to the activation
_ROUNDING = 1e-5  # the same, relative to the largest activation of the layer

Report: TypeAlias = Callable[[int, int], None]
OnProjection: TypeAlias = Callable[[Recording, Projection], None]


def stream_peaks(
    network: Network,
    source: Source,
    peaks: Sequence[Peak],
    largest: Mapping[str, float],
    *,
    layers: Iterable[Layer] = (),
    others: int = 0,
    memory: int | None = None,
    report: Report | None = None,
) -> Iterator[PeakCrop]:
    """Project the peaks of a search back to pixels, and yield them one batch of images after another.

    Images are recorded in the order of the source, each once, with all layers that have a peak in the batch.
    So it is fastest to request the peaks of all layers in one call. Peaks are yielded by batch, then by
    layer, then by image. Only the current batch is in memory. A result does not depend on the other peaks,
    except for rounding.

    Args:
        network: Network of the search.
        source: Source of the images.
        peaks: Peaks to project.
        largest: Largest activation of each layer in the search.
        layers: Layers of the network that are already known.
        others: For the strongest peak of each channel (rank 1), also project this number of other channels
            at its place: those with the highest activations above zero. None are projected for a peak that
            is not above zero.
        memory: Memory in bytes for projecting units in one batch.
        report: Called with the number of finished images and the total number of images.

    Returns:
        An iterator over the projected peaks. It raises SearchError at the first activation that does not
        match the search, and ImageError if an image cannot be read.

    Raises:
        SearchError: An image is missing.
        RefusedOp: A layer cannot be projected.
    """
    stream = PeakStream.of(network, source, peaks, layers=layers, others=others, memory=memory)
    return _checked(stream.run(report=report), largest)


def _checked(found: Iterable[tuple[PeakCrop, Unit]], largest: Mapping[str, float]) -> Iterator[PeakCrop]:
    for one, unit in found:
        peak = one.shown.peak
        if message := difference(peak, unit, largest[peak.layer]):
            raise SearchError(
                f"an activation does not match the search index: {message}. "
                "The images or the weights have changed. Run the search again"
            )
        yield one


@dataclass(frozen=True, eq=False)
class PeakStream:
    """A plan for projecting peaks: the images to record and the peaks in each."""

    network: Network
    source: Source
    layers: Mapping[str, Layer]
    of_image: Mapping[str, Sequence[Peak]]
    indices: Mapping[str, int]  # of the images in the source
    others: int
    memory: int | None

    @classmethod
    def of(
        cls,
        network: Network,
        source: Source,
        peaks: Sequence[Peak],
        *,
        layers: Iterable[Layer] = (),
        others: int = 0,
        memory: int | None = None,
    ) -> PeakStream:
        """Plan the projection of peaks. Raises SearchError and RefusedOp as `stream_peaks`."""
        known = {layer.name: layer for layer in layers}
        found = {
            name: known.get(name) or network.layers.find(name)
            for name in dict.fromkeys(peak.layer for peak in peaks)
        }
        for layer in found.values():
            if layer.unsupported:
                raise RefusedOp(f"{layer.name} cannot be projected: {layer.unsupported}")
        of_image: dict[str, list[Peak]] = {}
        for peak in peaks:
            of_image.setdefault(peak.image_id, []).append(peak)
        indices = _image_indices(source, of_image)
        return cls(network, source, found, of_image, indices, others, memory)

    def run(
        self, *, report: Report | None = None, on_projection: OnProjection | None = None
    ) -> Iterator[tuple[PeakCrop, Unit]]:
        """Yield the projected peaks, each with its unit in the recording of its image.

        `on_projection` is called with each recording and the projection of a layer's peaks in its images.
        """
        in_order = sorted(self.of_image, key=self.indices.__getitem__)
        size = self._batch
        for first in range(0, len(in_order), size):
            batch = in_order[first : first + size]
            yield from self._of_batch(batch, on_projection)
            if report is not None:
                report(first + len(batch), len(in_order))

    @property
    def _batch(self) -> int:
        """Number of inputs that are recorded together: fewer of large arrays."""
        shape = self.source.files.shape
        return BATCH if shape is None else max(1, min(BATCH, _PIXELS // (4 * math.prod(shape))))

    def _of_batch(
        self, ids: Sequence[str], on_projection: OnProjection | None
    ) -> Iterator[tuple[PeakCrop, Unit]]:
        """Yield the peaks of some images. Nothing of them is referenced after that."""
        images = [self.source.input(self.indices[image_id]) for image_id in ids]
        here = {peak.layer for image_id in ids for peak in self.of_image[image_id]}
        layers = [layer for name, layer in self.layers.items() if name in here]
        for recording, recorded in _recordings(self.network, images, ids, layers):
            preprocessing = self.network.preprocessing
            views = (
                preprocessing.view(recording.inputs)
                if preprocessing.reads_images
                else [preprocessing.array_of(one).astype(np.float32) for one in recording.inputs]
            )
            pictures = {
                image_id: Picture(image_id, image, view)
                for image_id, image, view in zip(recorded, recording.input_images, views, strict=True)
            }
            for layer in layers:
                yield from self._of_layer(recording, layer, pictures, on_projection)

    def _of_layer(
        self,
        recording: Recording,
        layer: Layer,
        pictures: Mapping[str, Picture],
        on_projection: OnProjection | None,
    ) -> Iterator[tuple[PeakCrop, Unit]]:
        wanted = [
            (peak, peak.unit(row))
            for row, image_id in enumerate(pictures)
            for peak in self.of_image[image_id]
            if peak.layer == layer.name
        ]
        crop = projected_peak if self.network.preprocessing.reads_images else projected_array
        std = np.asarray(self.network.preprocessing.std, dtype=np.float32)
        at_once = max(1, _PIXELS // (4 * recording.inputs[0].numel()))
        for first in range(0, len(wanted), at_once):
            block = wanted[first : first + at_once]
            others = self._others(recording, layer, block)
            units = [unit for _, unit in block] + [unit for _, unit in others]
            projection = recording.project(layer, units, memory=self.memory)
            if on_projection is not None:
                on_projection(recording, projection[: len(block)] if others else projection)
            pixels = projection.pixels.detach().cpu().float().numpy()  # all of them in one copy
            beside: dict[int, list[OtherUnit]] = {}
            for other, (number, _) in enumerate(others, len(block)):
                peak = block[number][0]
                part = cropped(pixels[other], box_of(peak, pictures[peak.image_id]))
                unit = projection.units[other]
                beside.setdefault(number, []).append(OtherUnit(unit.channel, unit.activation, part))
            for number, (peak, _) in enumerate(block):
                picture = pictures[peak.image_id]
                shown = crop(pixels[number], peak, layer, picture, std)
                yield PeakCrop(shown, picture, tuple(beside.get(number, ()))), projection.units[number]

    def _others(
        self, recording: Recording, layer: Layer, block: Sequence[tuple[Peak, Unit]]
    ) -> list[tuple[int, Unit]]:
        """Return other units at the places of the strongest peaks, each with the number of the peak."""
        if self.others < 1:
            return []
        activations = recording.activations(layer)
        return [
            (number, other)
            for number, (peak, unit) in enumerate(block)
            if peak.rank == 1 and peak.activation > 0
            for other in strongest_others(activations, unit, self.others)
        ]


def _image_indices(source: Source, ids: Mapping[str, Any]) -> dict[str, int]:
    """Return the index of each image in the source, or raise SearchError if some are missing."""
    noun = source.files.noun
    missing = [image_id for image_id in ids if image_id not in source.names]
    if missing:
        raise SearchError(
            f"{len(missing)} of {len(ids)} {noun}s are not in {source.place}: {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''}. Use {{option}} to say where they are",
            option="source=PLACE",
        )
    return {image_id: source.names.index(image_id) for image_id in ids}


def _recordings(
    network: Network, images: Sequence[InputImage | InputArray], ids: Sequence[str], layers: Sequence[Layer]
) -> Iterator[tuple[Recording, list[str]]]:
    """Yield one recording of all images, or one for each image if the batch cannot be projected."""
    batch = network.record(list(images), layers)
    if len(images) == 1 or all(batch.coverage(layer).unsupported == () for layer in layers):
        yield batch, list(ids)
        return
    for image, image_id in zip(images, ids, strict=True):
        yield network.record([image], layers), [image_id]


def difference(peak: Peak, unit: Unit, largest: float) -> str:
    """Return a message if the activation differs from the one in the search, else an empty string."""
    if math.isclose(unit.activation, peak.activation, rel_tol=_RELATIVE, abs_tol=_ROUNDING * largest):
        return ""
    return (
        f"channel {peak.channel} of {peak.layer} in {peak.image_id} was {peak.activation:.6g} and is "
        f"{unit.activation:.6g}"
    )
