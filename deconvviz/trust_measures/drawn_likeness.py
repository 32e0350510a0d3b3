"""Likeness of the units that a figure shows to other units of the same places, at a small cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from deconvviz.engine.entries import Entry
from deconvviz.engine.units import Unit, strongest_others
from deconvviz.likeness import PlaceLikeness
from deconvviz.projection import Projection, ranges_of
from deconvviz.recording import Recording
from deconvviz.trust_measures.statistics import Sample, absolute_correlations

SHARE = 0.25  # largest additional cost
MOST = 9  # other units, however little they cost

Position: TypeAlias = tuple[int, ...]  # image, row, column


def likeness_of(
    recording: Recording, projection: Projection, *, budget: int | None = None, memory: int | None = None
) -> PlaceLikeness | None:
    """Return how alike the projections of different units are at the places of projected units.

    A few other strong channels of these places are projected as well, in one batch. Their number is chosen so
    that this is cheap (see `affordable`). Units that were projected at a common place are compared without
    further projections.

    Args:
        recording: The recording of the projection.
        projection: Projections of units.
        budget: Number of other units to project. Default: as many as are cheap.
        memory: As for `Recording.project`.

    Returns:
        The likeness, or None if there is nothing to compare: no other unit of these places is above zero, or
        whole channels or tensors were projected.
    """
    likeness = DrawnLikeness()
    likeness.add(recording, projection, budget=budget, memory=memory)
    return likeness.result


class DrawnLikeness:
    """Likeness at the places of several projections, such as those of a top-nine figure."""

    def __init__(self) -> None:
        self._sample = Sample(np.median)

    def add(
        self,
        recording: Recording,
        projection: Projection,
        *,
        budget: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Compare the units of a projection with others of their places. See `likeness_of`."""
        shown = _by_position(projection)
        count = affordable(projection) if budget is None else budget
        others = _others(recording, projection, shown, count)
        extra = [unit for units in others.values() for unit in units]
        waiting: Iterator[Tensor] = iter(())
        if extra:
            waiting = iter(
                recording.project(projection.layer, extra, method=projection.method, memory=memory).pixels
            )
        for position, numbers in shown.items():
            maps = [projection.pixels[number] for number in numbers]
            maps += [next(waiting) for _ in others.get(position, ())]
            inside = ranges_of(projection.boxes[numbers[0]])
            if len(maps) > 1 and all(some.start < some.stop for some in inside):
                where = (slice(None), slice(None), *inside)
                cut = torch.stack(maps)[where].detach().cpu().float().numpy()
                self._sample.add_pairs(absolute_correlations(cut, cut))

    @property
    def result(self) -> PlaceLikeness | None:
        """The likeness of everything that was added; None if nothing could be compared."""
        value = self._sample.value
        return None if value is None else PlaceLikeness(value, self._sample.pictures, self._sample.units)


def affordable(projection: Projection) -> int:
    """Return how many other units can be projected for a quarter of the cost of recording and projecting.

    A unit is projected in a window, which is at most its receptive field, and a projection of the whole image
    costs about as much as recording the image. So recording costs at least as much as 1/s units, where s is
    the receptive field as a share of the image. At least one unit is affordable: if one or two units see the
    whole image, it costs more than a quarter, but drawing takes longer than projecting.
    """
    whole = math.prod(projection.inputs.shape[2:])
    areas = [
        math.prod(max(0, some.stop - some.start) for some in ranges_of(box)) / whole
        for box in projection.boxes
    ]
    share = sum(areas) / len(areas) if areas else 0.0
    if share == 0:
        return 0
    images = len(set(projection.image_indices))
    return min(MOST, max(1, int(SHARE * (len(projection) + images / share))))


def _by_position(projection: Projection) -> dict[Position, list[int]]:
    """Return the numbers of the projected units above zero at each place. Whole channels have no place."""
    found: dict[Position, list[int]] = {}
    for number, unit in enumerate(projection.units):
        whole_channel = not unit.position and len(projection.layer.shape) > 1
        if not (whole_channel or isinstance(unit, Entry)) and unit.activation > 0:
            found.setdefault((unit.image, *unit.position), []).append(number)
    return found


def _others(
    recording: Recording, projection: Projection, shown: dict[Position, list[int]], budget: int
) -> dict[Position, list[Unit]]:
    """Return other strong units of the places that show a single unit.

    Every place gets one, then every place a second one, until the budget is spent.
    """
    values = recording.activations(projection.layer)
    alone = [position for position, numbers in shown.items() if len(numbers) == 1]
    own = {position: projection.units[shown[position][0]] for position in alone}
    waiting = {
        position: iter(strongest_others(values, own[position], budget))
        for position in alone[: max(budget, 0)]
    }
    found: dict[Position, list[Unit]] = {}
    while budget > 0 and waiting:
        for position in list(waiting):
            unit = next(waiting[position], None)
            if unit is None:
                del waiting[position]
            elif budget > 0:
                found.setdefault(position, []).append(unit)
                budget -= 1
    return {position: found[position] for position in shown if position in found}
