"""Projections of the strongest units of all checkpoints, compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from deconvviz.coverage import Coverage
from deconvviz.experiments.evolution.measures import Median, correlation, linear_cka
from deconvviz.experiments.evolution.states import States
from deconvviz.experiments.evolution.strongest import Strongest
from deconvviz.experiments.evolution.units import Channels, Geometry, Shown, place_of, project
from deconvviz.experiments.tables import table_of
from deconvviz.image_sources import Source
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.network_info import NetworkInfo
from deconvviz.topnine.peak import Peak

Key: TypeAlias = tuple[str, int]  # (layer, channel)

COLUMNS = {
    "checkpoint": pa.string(),
    "layer": pa.string(),
    "channel": pa.int32(),
    "activation": pa.float64(),
    "image": pa.string(),
    "y": pa.int32(),
    "x": pa.int32(),
    "box": pa.list_(pa.int32(), 4),
    "jump": pa.bool_(),
    "similarity": pa.float64(),
    "fixed_activation": pa.float64(),
    "final_similarity": pa.float64(),
    "response_similarity": pa.float64(),
    "shown": pa.bool_(),
}
LAYER_COLUMNS = {
    "checkpoint": pa.string(),
    "layer": pa.string(),
    **{
        f"{name}{part}": pa.float64()
        for name in ("final_similarity", "response_similarity", "similarity")
        for part in ("", "_low", "_high")
    },
    "cka": pa.float64(),
    "dead": pa.float64(),
    "jumps": pa.float64(),
    "channels": pa.int32(),
}


@dataclass(frozen=True, eq=False)
class Cell:
    """A channel at one checkpoint.

    Attributes:
        activation: The maximum over all images.
        peak: The strongest unit; None for a channel that is dead at this checkpoint.
        strongest: Its projection; None for a channel that is not in the figure, or dead.
        fixed: The projection of the unit that is strongest at the last checkpoint, with the weights of this
            checkpoint; None for a channel that is not in the figure, or dead at the last checkpoint.
        fixed_activation: The activation of that unit at this checkpoint; NaN if there is no such unit.
        similarity: Correlation of the strongest unit's projection with that of the same unit and image at
            the checkpoint before; NaN at the first checkpoint and for a dead channel.
        final_similarity: Correlation of the fixed unit's projection with that at the last checkpoint; 0 if
            the projection is zero at this checkpoint.
        response_similarity: Correlation of the channel's peaks over images with those at the last
            checkpoint.
    """

    activation: float
    peak: Peak | None
    strongest: Shown | None
    fixed: Shown | None
    fixed_activation: float
    similarity: float
    final_similarity: float
    response_similarity: float


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Cells of all measured channels, in the order of checkpoints, and numbers of whole layers."""

    network: NetworkInfo  # with the weights of the last checkpoint
    cells: Mapping[Key, tuple[Cell, ...]]
    cka: Mapping[str, tuple[float, ...]]  # by layer: similarity with the last checkpoint
    dead: Mapping[str, tuple[float, ...]]  # by layer: share of dead channels
    coverages: Mapping[str, Coverage] = field(default_factory=dict)

    def table(self, labels: Sequence[str], channels: Channels) -> pa.Table:
        """Return a table with one row for each checkpoint and measured channel."""
        rows = [
            _row(label, key, cells, number, shown=key[1] in channels.shown[key[0]])
            for number, label in enumerate(labels)
            for key, cells in self.cells.items()
        ]
        return table_of(rows, COLUMNS)

    def layer_table(self, labels: Sequence[str], seed: int) -> pa.Table:
        """Return a table with one row for each checkpoint and layer: medians over channels."""
        rows = []
        for number, label in enumerate(labels):
            for layer in self.cka:
                of_layer = [cells for key, cells in self.cells.items() if key[0] == layer]
                row: dict[str, Any] = {"checkpoint": label, "layer": layer, "channels": len(of_layer)}
                for name in ("final_similarity", "response_similarity", "similarity"):
                    median = Median.of([getattr(cells[number], name) for cells in of_layer], seed)
                    row[name] = None if median is None else median.value
                    row[f"{name}_low"] = None if median is None else median.low
                    row[f"{name}_high"] = None if median is None else median.high
                jumps = [jump for cells in of_layer if (jump := _jump(cells, number)) is not None]
                row["cka"] = _known(self.cka[layer][number])
                row["dead"] = self.dead[layer][number]
                row["jumps"] = sum(jumps) / len(jumps) if jumps else None
                rows.append(row)
        return table_of(rows, LAYER_COLUMNS)


def compare_states(
    states: States,
    layers: Sequence[Layer],
    source: Source,
    channels: Channels,
    geometry: Geometry,
    strongest: Sequence[Strongest],
    on_state: Callable[[], None],
) -> Comparisons:
    """Project the strongest units with the weights of each checkpoint, and compare the projections.

    The last checkpoint is projected first, because the others are compared with it. Units of the next
    checkpoint are projected together with those of a checkpoint, so that each is opened once.
    """
    keys = [(layer, channel) for layer, of_layer in channels.measured.items() for channel in of_layer]
    peaks = [{key: geometry.peak(source, *key, found) for key in keys} for found in strongest]
    last = len(states) - 1
    network = states.open(last)
    final = project(network, source, _found(network, layers), list(peaks[last].values()))
    info = network.info()
    coverages = {layer.name: network.coverage(layer.name) for layer in layers}
    del network
    shown = {(layer, channel) for layer, of_layer in channels.shown.items() for channel in of_layer}
    before: dict[Key, Shown] = {}
    cells: dict[Key, list[Cell]] = {key: [] for key in keys}
    for number in range(last + 1):
        if number == last:
            projected = final
        else:
            network = states.open(number)
            wanted = [*peaks[number].values(), *peaks[number + 1].values(), *peaks[last].values()]
            projected = project(network, source, _found(network, layers), wanted)
            del network
        for key in keys:
            own = _look_up(projected, peaks[number][key])
            fixed = _look_up(projected, peaks[last][key])
            end = _look_up(final, peaks[last][key])
            index = geometry.index(*key)
            cells[key].append(
                Cell(
                    activation=float(strongest[number].activation[index]),
                    peak=peaks[number][key],
                    strongest=own if key in shown else None,
                    fixed=fixed if key in shown else None,
                    fixed_activation=float("nan") if fixed is None else fixed.activation,
                    similarity=_similarity(own, before.get(key)),
                    final_similarity=_similarity(fixed, end),
                    response_similarity=_response(strongest[number], strongest[last], index),
                )
            )
        if number < last:
            before = {
                key: one for key, peak in peaks[number + 1].items() if (one := _look_up(projected, peak))
            }
        on_state()
    return Comparisons(
        info,
        {key: tuple(of_channel) for key, of_channel in cells.items()},
        {layer.name: tuple(_cka(one, strongest[last], geometry, layer.name) for one in strongest)
         for layer in layers},
        {layer.name: tuple(float(one.dead[geometry.columns(layer.name)].mean()) for one in strongest)
         for layer in layers},
        coverages,
    )  # fmt: skip


def _found(network: Network, layers: Sequence[Layer]) -> list[Layer]:
    return [network.layers.find(layer.name) for layer in layers]


def _look_up(projected: Mapping[Any, Shown], peak: Peak | None) -> Shown | None:
    return None if peak is None else projected[place_of(peak)]


def _similarity(one: Shown | None, other: Shown | None) -> float:
    if one is None or other is None:
        return float("nan")
    return correlation(one.pixels, other.pixels)


def _response(one: Strongest, last: Strongest, index: int) -> float:
    """Return the correlation of a channel's peaks over images; NaN if the channel is dead at the end."""
    if last.dead[index]:
        return float("nan")
    a, b = one.responses[:, index], last.responses[:, index]
    known = np.isfinite(a) & np.isfinite(b)
    return correlation(a[known], b[known])


def _cka(one: Strongest, last: Strongest, geometry: Geometry, layer: str) -> float:
    columns = geometry.columns(layer)
    a, b = one.responses[:, columns], last.responses[:, columns]
    known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    return linear_cka(a[known], b[known])


def _jump(cells: Sequence[Cell], number: int) -> bool | None:
    """Return whether the strongest image differs from the checkpoint before; None if one of both is dead."""
    now, then = cells[number].peak, cells[number - 1].peak if number else None
    return None if now is None or then is None else now.image_id != then.image_id


def _row(label: str, key: Key, cells: Sequence[Cell], number: int, *, shown: bool) -> dict[str, Any]:
    cell = cells[number]
    peak = cell.peak
    return {
        "checkpoint": label,
        "layer": key[0],
        "channel": key[1],
        "activation": cell.activation,
        "image": None if peak is None else peak.image_id,
        "y": None if peak is None else peak.y,
        "x": None if peak is None else peak.x,
        "box": None if peak is None or peak.box is None else list(peak.box),
        "jump": _jump(cells, number),
        "similarity": _known(cell.similarity),
        "fixed_activation": _known(cell.fixed_activation),
        "final_similarity": _known(cell.final_similarity),
        "response_similarity": _known(cell.response_similarity),
        "shown": shown,
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
