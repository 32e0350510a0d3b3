"""Results of a search as Arrow tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch

from deconvviz.dataset_search.peak_finder import Numbers
from deconvviz.dataset_search.plan import Plan
from deconvviz.dataset_search.summary import Summary
from deconvviz.dataset_search.top_k import Top
from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp
from deconvviz.layers import Layer
from deconvviz.recording import Recording

AXES = ("z", "y", "x")
"""Columns of a position. A signal has x alone, an image y and x, a volume or a video all three."""


def peaks_table(plan: Plan, top: Top) -> pa.Table:
    """Return a table with one row for each peak, ordered by layer, channel and rank.

    The columns are layer, channel, rank (1 is the strongest), activation, image, y, x, x0, y0, x1 and y1. For
    signals, there are only x, x0 and x1; for volumes and video, also z, z0 and z1. Peaks that are 0 in a
    rectified channel have no row (see `Top.silent`). z, y and x are null for a unit without position, and the
    first of them for a unit of a map that lacks an axis of the input. x0 to z1, the receptive field, are null
    where the projection is unsupported or reaches no pixel.
    """
    kept = min(plan.top, top.image_count)
    rows, width = top.activation.shape[0] * kept, slice(0, kept)
    image = top.image[:, width].reshape(-1)
    layers, channels = _numbered(plan.layers)
    places = _places(plan, top.place[:, width])
    table = pa.table(
        {
            "layer": pa.array(np.repeat(layers, kept), pa.string()),
            "channel": pa.array(np.repeat(channels, kept), pa.int32()),
            "rank": pa.array(np.tile(np.arange(1, kept + 1), len(channels)), pa.int32()),
            "activation": pa.array(top.activation[:, width].reshape(-1)),
            "image": pa.array([plan.source.names[int(number)] for number in image], pa.string()),
            **{
                name: pa.array(column, pa.int32(), mask=~known if rows else None)
                for name, (column, known) in places.items()
            },
        }
    )
    return table.filter(pa.array(~top.silent[:, width].reshape(-1)))


def channels_table(plan: Plan, top: Top) -> pa.Table:
    """Return a table with one row for each channel, with statistics of its peaks over all images.

    The columns are layer, channel, pictures (number of images), mean, density, maximum, dead and kept.
    density is the share of images on which the channel is active, that is, has a peak above zero. A dead
    channel is never active. kept is the number of rows of the channel in the table of peaks.
    """
    layers, channels = _numbered(plan.layers)
    images = top.image_count
    return pa.table(
        {
            "layer": pa.array(layers, pa.string()),
            "channel": pa.array(channels, pa.int32()),
            "pictures": pa.array(np.full(len(channels), images), pa.int64()),
            "mean": pa.array(top.mean),
            "density": pa.array(top.fired / max(images, 1)),
            "maximum": pa.array(top.activation[:, 0]),
            "dead": pa.array(top.fired == 0),
            "kept": pa.array((~top.silent[:, : min(plan.top, images)]).sum(axis=1), pa.int32()),
        }
    )


def statistics_table(plan: Plan, top: Top, summary: Summary | None) -> pa.Table:
    """Return a table with one row for each channel, with the summary of all its peaks.

    The columns are layer, channel, start, width and counts (histogram: first edge, width of a bin, number of
    images in each bin), sketch (see `Sketch.vectors`) and class_means (mean peak of each class that has
    images, in the order of their names). class_means is missing if there are no labels or too many classes.
    Without a summary, there are the first two columns only.
    """
    layers, channels = _numbered(plan.layers)
    columns = {"layer": pa.array(layers, pa.string()), "channel": pa.array(channels, pa.int32())}
    if summary is not None:
        columns["start"] = pa.array(summary.histogram.starts)
        columns["width"] = pa.array(summary.histogram.widths)
        columns["counts"] = _rows(summary.histogram.counts.astype(np.int64))
        columns["sketch"] = _rows(summary.sketch.vectors(top.mean, top.image_count))
        if summary.class_sums is not None and summary.class_sums.images.any():
            columns["class_means"] = _rows(summary.class_sums.means)
    return pa.table(columns)


def images_table(plan: Plan, skipped: Collection[int]) -> pa.Table:
    """Return a table with the columns image and label, and one row for each image that is not skipped."""
    numbers = [number for number in range(len(plan.source)) if number not in skipped]
    labels = plan.labels
    return pa.table(
        {
            "image": pa.array((plan.source.names[number] for number in numbers), pa.string()),
            "label": pa.array(
                (None if labels is None else labels[number] for number in numbers), pa.string()
            ),
        }
    )


def _rows(numbers: Numbers) -> pa.Array:
    """Return a column with one row of an array (N, n) in each of its N cells."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(numbers).reshape(-1)), numbers.shape[1]
    )


def _numbered(layers: Sequence[Layer]) -> tuple[Numbers, Numbers]:
    """Return the layer names (N) and the channel numbers (N) of all channels."""
    names = np.repeat([layer.name for layer in layers], [layer.shape[0] for layer in layers])
    return names, np.concatenate([np.arange(layer.shape[0]) for layer in layers])


def _places(plan: Plan, places: Numbers) -> dict[str, tuple[Numbers, Numbers]]:
    """Return columns for the units at flat indices (N, k): position and edges of the receptive field.

    Each column is a pair of values (N * k) and booleans that state which values are known.
    """
    shape = plan.network.preprocessing.input_shape
    axes, edges = AXES[-len(shape) + 1 :], field_columns(len(shape) - 1)
    found: dict[str, list[tuple[Numbers, Numbers]]] = {name: [] for name in (*axes, *edges)}
    blank = torch.zeros(1, *shape, dtype=plan.network.dtype)
    recording = plan.network.record(blank, plan.layers)
    for layer, of_layer in _by_layer(plan.layers, places):
        flat = of_layer.reshape(-1)
        position = np.unravel_index(flat, layer.shape[1:]) if layer.shape[1:] else ()
        lacks = len(axes) - len(position)
        for name, numbers in zip(axes, (*[flat] * lacks, *position), strict=True):
            found[name].append((numbers, np.full(len(flat), name in axes[lacks:])))
        boxes = _boxes(recording, layer, position, len(flat))
        below = boxes[:, : len(axes)] < boxes[:, len(axes) :]
        reaches_pixels = np.array(below.all(axis=1))
        for edge, name in enumerate(edges):
            found[name].append((boxes[:, edge], reaches_pixels))
    return {
        name: (np.concatenate([column for column, _ in parts]), np.concatenate([known for _, known in parts]))
        for name, parts in found.items()
    }


def _by_layer(layers: Sequence[Layer], numbers: Numbers) -> Iterator[tuple[Layer, Numbers]]:
    first = 0
    for layer in layers:
        yield layer, numbers[first : first + layer.shape[0]]
        first += layer.shape[0]


def field_columns(axes: int) -> tuple[str, ...]:
    """Return the columns of a receptive field in an input with so many axes, in the order of a box."""
    names = AXES[::-1][:axes]
    return (*(f"{name}0" for name in names), *(f"{name}1" for name in names))


def _boxes(recording: Recording, layer: Layer, position: Sequence[Numbers], count: int) -> Numbers:
    """Return boxes (n, 2 * axes) of `count` units; zeros if no signal reaches a pixel.

    `position` has the index (n) of the units along each axis of the layer's map.
    """
    try:
        if position:
            found = recording.boxes_at(layer, *(numbers.tolist() for numbers in position))
            return found.numpy().astype(np.int32)
        boxes = recording.boxes(layer, [Unit(0, 0)])
    except RefusedOp:
        boxes = [(0,) * (2 * (recording.inputs.dim() - 2))]
    return np.tile(np.array(boxes, np.int32), (count, 1))


def dead(layers: Sequence[Layer], top: Top) -> dict[str, list[int]]:
    """Return the channels of each layer that were never above zero."""
    return {layer.name: np.flatnonzero(fired == 0).tolist() for layer, fired in _by_layer(layers, top.fired)}
