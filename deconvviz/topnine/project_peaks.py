"""Project the peaks of a search for a figure. Each image is recorded once, and each activation is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deconvviz.errors import SearchError
from deconvviz.image_sources import Source
from deconvviz.images.input_array import InputArray
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.projection import Projection, approximations
from deconvviz.recording import Recording
from deconvviz.topnine.array_figures import notes_of_inputs
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.peak_stream import OnProjection as OnProjection
from deconvviz.topnine.peak_stream import PeakStream, difference
from deconvviz.topnine.peak_stream import Report as Report
from deconvviz.topnine.projected_peak import ProjectedPeak
from deconvviz.topnine.result import Searched, TopNine


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
    stream = PeakStream.of(network, source, peaks, layers=layers, memory=memory)
    shown: dict[tuple[str, int, int], ProjectedPeak] = {}
    approximate: dict[str, Sequence[Mapping[str, Any]]] = {}
    changed: list[str] = []
    read: dict[str, list[str]] = {}  # ids of the arrays by the notes on how they were read

    def note(recording: Recording, projection: Projection) -> None:
        approximate[projection.layer.name] = approximations(projection.coverage)
        if on_projection is not None:
            on_projection(recording, projection)

    for one, unit in stream.run(report=report, on_projection=note):
        peak = one.shown.peak
        shown[peak.layer, peak.channel, peak.rank] = one.shown
        for text in one.picture.image.notes if isinstance(one.picture.image, InputArray) else ():
            read.setdefault(text, []).append(peak.image_id)
        if message := difference(peak, unit, largest[peak.layer]):
            changed.append(message)
    if changed:
        raise SearchError(
            f"{len(changed)} of {len(peaks)} activations do not match the search index; no figure was "
            f"written: {'; '.join(changed[:3])}{'; ...' if len(changed) > 3 else ''}. "
            f"The {source.files.noun}s or the weights have changed. Run the search again"
        )
    return TopNine(
        network.info(),
        stream.layers,
        searched,
        _by_layer_and_channel(peaks, shown),
        approximate,
        k,
        (*notes, *notes_of_inputs(read)),
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
