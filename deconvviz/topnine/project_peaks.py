"""Project the peaks of a search: each image is recorded once, each activation is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp, SearchError
from deconvviz.figures.spec.top_nine import Crop
from deconvviz.image_sources import Source
from deconvviz.images.image import Picture
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.projection import Projection, analogies
from deconvviz.recording import Recording
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.result import ProjectedPeak, Searched, TopNine

TOGETHER = 8  # pictures that are recorded at once
_SAME = 1e-3  # how far an activation may be off what the index says, as a share of itself
_ROUNDING = 1e-5  # and of the strongest of its layer

Report: TypeAlias = Callable[[int, int], None]


def project_peaks(
    network: Network,
    source: Source,
    peaks: Sequence[Peak],
    largest: Mapping[str, float],
    searched: Searched,
    *,
    k: int,
    notes: tuple[str, ...] = (),
    memory: int | None = None,
    report: Report | None = None,
) -> TopNine:
    """Project peaks of a search; each image of `source` is recorded once.

    `largest` is the largest activation of each layer in the search. Every activation is computed again; one
    that differs from the search is an error. `report` gets how many of how many images are done. Raises
    SearchError, PictureError, RefusedOp, UnitError.
    """
    layers = {name: network.layers.find(name) for name in dict.fromkeys(peak.layer for peak in peaks)}
    for layer in layers.values():
        if layer.refused:
            raise RefusedOp(f"{layer.name} cannot be projected: {layer.refused}")
    of_picture: dict[str, list[Peak]] = {}
    for peak in peaks:
        of_picture.setdefault(peak.image, []).append(peak)
    numbers = _numbers(source, of_picture)
    shown: dict[tuple[str, int, int], ProjectedPeak] = {}
    by_analogy: dict[str, Sequence[Mapping[str, Any]]] = {}
    changed: list[str] = []
    done = 0
    in_order = sorted(of_picture, key=numbers.__getitem__)
    while done < len(in_order):
        together = in_order[done : done + TOGETHER]
        pictures = [source.picture(numbers[image]) for image in together]
        for recording, images in _recorded(network, pictures, together, list(layers)):
            for name, layer in layers.items():
                wanted = [peak for image in images for peak in of_picture[image] if peak.layer == name]
                if not wanted:
                    continue
                units = [Unit(images.index(peak.image), peak.channel, peak.y, peak.x) for peak in wanted]
                projection = recording.project(name, units, memory=memory)
                by_analogy[name] = analogies(projection.coverage)
                for number, peak in enumerate(wanted):
                    changed += _difference(peak, projection.units[number], largest[name])
                    shown[name, peak.channel, peak.rank] = _shown(projection, number, peak, layer)
        done += len(together)
        if report is not None:
            report(done, len(of_picture))
    if changed:
        raise SearchError(
            f"{len(changed)} of {len(peaks)} activations are not those of the index, and nothing is drawn: "
            f"{'; '.join(changed[:3])}{'; ...' if len(changed) > 3 else ''} (pictures or weights have "
            "changed: search again)"
        )
    return TopNine(network.info(), layers, searched, _arranged(peaks, shown), by_analogy, k, notes)


def _numbers(source: Source, images: Mapping[str, Any]) -> dict[str, int]:
    missing = [image for image in images if image not in source.names]
    if missing:
        raise SearchError(
            f"{len(missing)} of {len(images)} pictures are not in {source.place}: {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''} ({{option}} says where they are now)",
            option="source=PLACE",
        )
    return {image: source.names.index(image) for image in images}


def _recorded(
    network: Network, pictures: Sequence[Picture], images: Sequence[str], layers: Sequence[str]
) -> Iterator[tuple[Recording, list[str]]]:
    """Recordings of several pictures at once, or of one after the other where several are refused."""
    together = network.record(list(pictures), layers)
    if len(pictures) == 1 or all(together.coverage(layer).refused == () for layer in layers):
        yield together, list(images)
        return
    for picture, image in zip(pictures, images, strict=True):
        yield network.record([picture], layers), [image]


def _difference(peak: Peak, unit: Unit, strongest: float) -> list[str]:
    if math.isclose(unit.activation, peak.activation, rel_tol=_SAME, abs_tol=_ROUNDING * strongest):
        return []
    return [
        f"channel {peak.channel} of {peak.layer} in {peak.image} was {peak.activation:.6g} and is "
        f"{unit.activation:.6g}"
    ]


def _shown(projection: Projection, number: int, peak: Peak, layer: Layer) -> ProjectedPeak:
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
    return ProjectedPeak(peak, pixels.copy(), crop)


def _arranged(
    peaks: Sequence[Peak], shown: Mapping[tuple[str, int, int], ProjectedPeak]
) -> dict[str, dict[int, tuple[ProjectedPeak, ...]]]:
    found: dict[str, dict[int, tuple[ProjectedPeak, ...]]] = {}
    for peak in peaks:
        of_layer = found.setdefault(peak.layer, {})
        one = shown[peak.layer, peak.channel, peak.rank]
        of_layer[peak.channel] = (*of_layer.get(peak.channel, ()), one)
    return found
