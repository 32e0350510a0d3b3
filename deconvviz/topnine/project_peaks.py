"""Project the peaks of a search. Each image is recorded once, and each activation is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp, SearchError
from deconvviz.figures.spec.effective_crop import reachable
from deconvviz.figures.spec.top_nine import Crop
from deconvviz.image_sources import Source
from deconvviz.images.image import InputImage
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.projection import Projection, approximations
from deconvviz.recording import Recording
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.result import ProjectedPeak, Searched, Surroundings, TopNine

BATCH = 8  # number of images that are recorded together
_RELATIVE = 1e-3  # largest difference from the activation in the search index, relative to the activation
_ROUNDING = 1e-5  # the same, relative to the largest activation of the layer

Report: TypeAlias = Callable[[int, int], None]
OnProjection: TypeAlias = Callable[[Recording, Projection], None]


def project_peaks(
    network: Network,
    source: Source,
    peaks: Sequence[Peak],
    largest: Mapping[str, float],
    searched: Searched,
    *,
    layers: Iterable[Layer] = (),
    k: int,
    notes: tuple[str, ...] = (),
    memory: int | None = None,
    report: Report | None = None,
    on_projection: OnProjection | None = None,
) -> TopNine:
    """Project the peaks of a search back to pixels.

    Each image is recorded once. Every activation is computed again and compared with the search.

    Args:
        network: Network of the search.
        source: Source of the images.
        peaks: Peaks to project.
        largest: Largest activation of each layer in the search.
        searched: Facts about the search, for title and manifest.
        layers: Layers of the network that are already known.
        k: Number of images for each channel.
        notes: Notes for the result.
        memory: Memory in bytes for projecting units in one batch.
        report: Called with the number of finished images and the total number of images.
        on_projection: Called with each recording and the projection of a layer's peaks in its images.

    Raises:
        SearchError: An image is missing, or an activation does not match the search.
        ImageError: An image cannot be read.
        RefusedOp: A layer cannot be projected.
        UnitError: A peak is not in its layer.
    """
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
    shown: dict[tuple[str, int, int], ProjectedPeak] = {}
    approximate: dict[str, Sequence[Mapping[str, Any]]] = {}
    changed: list[str] = []
    most = {name: _largest_side(peaks, name) for name in found}
    done = 0
    in_order = sorted(of_image, key=indices.__getitem__)
    while done < len(in_order):
        batch = in_order[done : done + BATCH]
        images = [source.image(indices[image_id]) for image_id in batch]
        for recording, ids in _recordings(network, images, batch, list(found.values())):
            for name, layer in found.items():
                wanted = [peak for image_id in ids for peak in of_image[image_id] if peak.layer == name]
                if not wanted:
                    continue
                units = [Unit(ids.index(peak.image_id), peak.channel, peak.y, peak.x) for peak in wanted]
                projection = recording.project(layer, units, memory=memory)
                if on_projection is not None:
                    on_projection(recording, projection)
                approximate[name] = approximations(projection.coverage)
                for number, peak in enumerate(wanted):
                    changed += _difference(peak, projection.units[number], largest[name])
                    shown[name, peak.channel, peak.rank] = _projected_peak(
                        projection, number, peak, layer, most[name]
                    )
        done += len(batch)
        if report is not None:
            report(done, len(of_image))
    if changed:
        raise SearchError(
            f"{len(changed)} of {len(peaks)} activations do not match the search index; no figure was "
            f"written: {'; '.join(changed[:3])}{'; ...' if len(changed) > 3 else ''}. "
            "The images or the weights have changed. Run the search again"
        )
    return TopNine(
        network.info(), found, searched, _by_layer_and_channel(peaks, shown), approximate, k, notes
    )


def _image_indices(source: Source, ids: Mapping[str, Any]) -> dict[str, int]:
    """Return the index of each image in the source, or raise SearchError if some are missing."""
    missing = [image_id for image_id in ids if image_id not in source.names]
    if missing:
        raise SearchError(
            f"{len(missing)} of {len(ids)} images are not in {source.place}: {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''}. Use {{option}} to say where they are",
            option="source=PLACE",
        )
    return {image_id: source.names.index(image_id) for image_id in ids}


def _recordings(
    network: Network, images: Sequence[InputImage], ids: Sequence[str], layers: Sequence[Layer]
) -> Iterator[tuple[Recording, list[str]]]:
    """Yield one recording of all images, or one for each image if the batch cannot be projected."""
    batch = network.record(list(images), layers)
    if len(images) == 1 or all(batch.coverage(layer).unsupported == () for layer in layers):
        yield batch, list(ids)
        return
    for image, image_id in zip(images, ids, strict=True):
        yield network.record([image], layers), [image_id]


def _difference(peak: Peak, unit: Unit, largest: float) -> list[str]:
    """Return a message if the activation differs from the one in the search, else an empty list."""
    if math.isclose(unit.activation, peak.activation, rel_tol=_RELATIVE, abs_tol=_ROUNDING * largest):
        return []
    return [
        f"channel {peak.channel} of {peak.layer} in {peak.image_id} was {peak.activation:.6g} and is "
        f"{unit.activation:.6g}"
    ]


def _largest_side(peaks: Sequence[Peak], layer: str) -> int:
    """Return the longest side of the receptive fields of a layer's peaks, or 0 if none is known."""
    boxes = [peak.box for peak in peaks if peak.layer == layer and peak.box is not None]
    return max((max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes), default=0)


def _projected_peak(
    projection: Projection, number: int, peak: Peak, layer: Layer, most: int
) -> ProjectedPeak:
    height, width = projection.inputs.shape[-2:]
    box = peak.box or (0, 0, width, height)
    x0, y0, x1, y1 = box
    pixels = projection.pixels[number, :, y0:y1, x0:x1].detach().cpu().float().numpy()
    field = None if peak.y is None or peak.x is None else layer.field_of(peak.y, peak.x)
    left, top, right, bottom = field or (0, 0, width, height)
    crop = Crop(
        projection.crop_at(number, box),
        projection.patch_at(number, box),
        cut_left=left < 0,
        cut_top=top < 0,
        cut_right=right > width,
        cut_bottom=bottom > height,
        note=None if pixels.any() else ("silent" if peak.activation <= 0 else "zero"),
    )
    around = reachable(box, most, (height, width))
    return ProjectedPeak(
        peak, pixels.copy(), crop, Surroundings(around, projection.patch_at(number, around).copy())
    )


def _by_layer_and_channel(
    peaks: Sequence[Peak], shown: Mapping[tuple[str, int, int], ProjectedPeak]
) -> dict[str, dict[int, tuple[ProjectedPeak, ...]]]:
    found: dict[str, dict[int, tuple[ProjectedPeak, ...]]] = {}
    for peak in peaks:
        of_layer = found.setdefault(peak.layer, {})
        one = shown[peak.layer, peak.channel, peak.rank]
        of_layer[peak.channel] = (*of_layer.get(peak.channel, ()), one)
    return found
