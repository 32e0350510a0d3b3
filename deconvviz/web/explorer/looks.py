"""Look at units of one recording: choose them, project them in small groups, compare them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deconvviz.engine.units import Unit, checked
from deconvviz.errors import UnitError
from deconvviz.figures.spec.colour import limit_of
from deconvviz.figures.spec.effective_crop import effective_boxes
from deconvviz.figures.spec.style import PERCENTILE
from deconvviz.layers import Layer
from deconvviz.projection import Box, Projection
from deconvviz.recording import Recording
from deconvviz.trust_measures.drawn_likeness import likeness_of
from deconvviz.trust_measures.statistics import absolute_correlations
from deconvviz.web.explorer.messages import Message, Quantised

GROUPS = (1, 7, 8)
"""Sizes of the groups that are projected one after another; the last size is repeated.

The first projection appears soon. More groups take longer in all, because each reads all weights again."""


def strongest_at(recording: Recording, layer: Layer, y: int, x: int, k: int) -> list[Unit]:
    """Return the strongest units above zero at one position of a map.

    Raises:
        UnitError: The layer has no such position.
    """
    values = recording.activations(layer)[0]
    if values.dim() != 3:
        raise UnitError(f"the units of {layer.name} have no position")
    rows, columns = values.shape[1:]
    if y >= rows or x >= columns:
        raise UnitError(f"no position ({y}, {x}) in {layer.name}: its maps have {rows} x {columns} positions")
    here = values[:, y, x]
    found = torch.topk(here, min(k, len(here)))
    return [
        Unit(0, int(channel), y, x, float(value))
        for value, channel in zip(found.values, found.indices, strict=True)
        if value > 0
    ]


def strongest_of(recording: Recording, layer: Layer, k: int, channel: int | None) -> list[Unit]:
    """Return the strongest units of the picture that are above zero and not close to a stronger one.

    With a channel, its strongest positions.
    """
    channels, *positions = layer.shape
    if channel is not None and channel >= channels:
        raise UnitError(f"no channel {channel} in {layer.name}: there are 0 to {channels - 1}")
    count = channels if channel is None else math.prod(positions)
    chosen = recording.choose(layer, min(k, count), channel, apart=True)
    return [unit for unit in chosen if unit.activation > 0]


def strongest_of_channels(recording: Recording, layer: Layer, channels: Sequence[int]) -> list[Unit]:
    """Return the strongest unit of each of some channels, also if it is 0."""
    return [recording.strongest(layer, 1, channel)[0] for channel in channels]


def units_with_activations(recording: Recording, layer: Layer, units: Sequence[Unit]) -> list[Unit]:
    """Return units with their activations. A channel of maps without a position gets its strongest one.

    Raises:
        UnitError: The layer has no such unit.
    """
    values, found = recording.activations(layer), []
    for unit in units:
        if values.dim() == 4 and unit.y is None and unit.x is None:
            found += recording.strongest(layer, 1, unit.channel)
        else:
            found += checked(values, [unit], layer.name)
    return found


def cards(recording: Recording, layer: Layer, units: Sequence[Unit]) -> Message:
    """Return the units with their receptive fields, before anything is projected."""
    boxes = recording.boxes(layer, units) if units else []
    return Message(
        {
            "kind": "cards",
            "layer": layer.name,
            "units": [
                {"channel": unit.channel, "y": unit.y, "x": unit.x, "activation": unit.activation, "box": box}
                for unit, box in zip(units, map(list, boxes), strict=True)
            ],
        }
    )


def projections(recording: Recording, layer: Layer, units: Sequence[Unit]) -> Iterator[Message]:
    """Yield the projection of each unit, and at the end what they share: scale, crops, likeness."""
    parts: list[Projection] = []
    crops: list[npt.NDArray[Any]] = []
    limit = 0.0
    while len(crops) < len(units):
        start, size = len(crops), GROUPS[min(len(parts), len(GROUPS) - 1)]
        part = recording.project(layer, units[start : start + size])
        parts.append(part)
        crops += [part.crop_at(number, box) for number, box in enumerate(part.boxes)]
        limit = limit_of(crops, percentile=PERCENTILE).value
        for number, box in enumerate(part.boxes, start):
            yield _projection(number, crops[number], box, limit)
    if units:
        shared = _shared(recording, units, parts, crops)
        yield Message({"kind": "looked", "limit": limit, **shared})


def _projection(number: int, crop: npt.NDArray[Any], box: Box, limit: float) -> Message:
    values = Quantised.of(crop)
    body = {"kind": "projection", "number": number, "box": list(box), "limit": limit, **values.to_json()}
    return Message(body, [values.data])


def _shared(
    recording: Recording,
    units: Sequence[Unit],
    parts: Sequence[Projection],
    crops: Sequence[npt.NDArray[Any]],
) -> dict[str, Any]:
    boxes = [box for part in parts for box in part.boxes]
    rows, columns = recording.inputs.shape[-2:]
    squares = effective_boxes([np.moveaxis(crop, -1, 0) for crop in crops], boxes, (int(rows), int(columns)))
    likeness, alike = _likeness(recording, units, parts, crops)
    return {
        "crops": [list(box) for box in squares],
        "likeness": likeness,
        "alike": alike,
        "approximate": [use.short for use in parts[0].coverage.approximate],
    }


def _likeness(
    recording: Recording,
    units: Sequence[Unit],
    parts: Sequence[Projection],
    crops: Sequence[npt.NDArray[Any]],
) -> tuple[float | None, list[float | None]]:
    """Return how alike projections of one place are: of all pairs, and of each unit with the others.

    The values are medians of absolute correlations. They are None where nothing can be compared, and for
    single units at different places.
    """
    places = {(unit.y, unit.x) for unit in units}
    if len(places) > 1 or len(units) == 1:
        found = likeness_of(recording, parts[0], budget=2)
        return None if found is None else found.value, [None] * len(units)
    stack = np.stack([np.moveaxis(crop, -1, 0) for crop in crops])
    pairs = absolute_correlations(stack, stack)
    np.fill_diagonal(pairs, np.nan)
    return _median(pairs[np.triu_indices(len(units), 1)]), [_median(row) for row in pairs]


def _median(values: npt.NDArray[Any]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None
