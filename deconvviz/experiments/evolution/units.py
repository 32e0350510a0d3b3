"""Units of an evolution: the strongest one of a channel at a checkpoint, as a peak that can be projected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deconvviz.dataset_search.peak_finder import Numbers
from deconvviz.engine.units import Unit
from deconvviz.errors import LayerError, RefusedOp, UnitError
from deconvviz.experiments.evolution.strongest import Strongest
from deconvviz.image_sources import Source
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.projection import Box
from deconvviz.topnine.peak import Peak
from deconvviz.topnine.peak_stream import PeakStream
from deconvviz.topnine.result import ProjectedPeak
from deconvviz.wording import missing_number

BY = ("random", "activation", "density")
"""How the channels in the figure are chosen."""
MEASURED = 50
"""Number of channels of a layer whose projections are compared. Our choice: enough for an interval."""


@dataclass(frozen=True)
class Channels:
    """Channels of each layer, by its name: those in the figure, and all whose projections are compared."""

    shown: Mapping[str, tuple[int, ...]]
    measured: Mapping[str, tuple[int, ...]]

    @classmethod
    def choose(
        cls,
        layers: Sequence[Layer],
        channels: int | Sequence[int] | Mapping[str, Sequence[int]],
        measured: int,
        seed: int,
        ranked: Mapping[str, Sequence[int]] | None = None,
    ) -> Channels:
        """Draw channels at random, or check those that are named. Raises UnitError.

        With `ranked`, channels of each layer in an order, the first ones are shown. All others that are
        measured are always drawn at random, so that curves of whole layers do not depend on the order.
        """
        if isinstance(channels, int) and channels < 1:
            raise UnitError(f"{channels} channels of a layer were requested: request 1 or more")
        shown: dict[str, tuple[int, ...]] = {}
        compared: dict[str, tuple[int, ...]] = {}
        for layer in layers:
            order = np.random.default_rng(seed).permutation(layer.shape[0]).tolist()
            if not isinstance(channels, int):
                chosen = _named(layer, channels)
            elif ranked is None:
                chosen = sorted(order[:channels])
            else:
                chosen = list(ranked[layer.name][:channels])
            others = [channel for channel in order if channel not in chosen]
            shown[layer.name] = tuple(chosen)
            compared[layer.name] = tuple(sorted([*chosen, *others[: max(0, measured - len(chosen))]]))
        return cls(shown, compared)


def _named(layer: Layer, channels: Sequence[int] | Mapping[str, Sequence[int]]) -> list[int]:
    if isinstance(channels, Mapping):
        named = {str(name) for name in channels}
        key = next((name for name in (layer.name, layer.module) if name in named), None)
        if key is None:
            raise UnitError(f"no channels of {layer.name} were given: there are some of {', '.join(named)}")
        channels = channels[key]
    chosen = list(dict.fromkeys(int(channel) for channel in channels))
    if not chosen:
        raise UnitError(f"no channels of {layer.name} were given: name one or more")
    for channel in chosen:
        if not 0 <= channel < layer.shape[0]:
            raise UnitError(missing_number("channel", channel, layer.name, layer.shape[0]))
    return chosen


def check_by(by: str) -> None:
    """Raise UnitError if channels cannot be chosen in this way."""
    if by not in BY:
        raise UnitError(f"unknown order {by!r} of channels: choose from {', '.join(BY)}")


def ranked_channels(layers: Sequence[Layer], last: Strongest, by: str) -> dict[str, list[int]]:
    """Return the channels of each layer in the order of a number of the last checkpoint, largest first.

    `by` is ``activation``, the maximum over all images, or ``density``, the number of images with a peak
    above zero.
    """
    numbers = last.activation if by == "activation" else last.fired
    ranked, first = {}, 0
    for layer in layers:
        own = numbers[first : first + layer.shape[0]]
        ranked[layer.name] = np.argsort(-own.astype(np.float64), kind="stable").tolist()
        first += layer.shape[0]
    return ranked


def check_layers(layers: Sequence[Layer]) -> None:
    """Raise an error if a layer cannot be projected."""
    for layer in layers:
        if not layer.has_channels:
            raise LayerError(f"{layer.name} has no units: its output is not a map (C, H, W) or a vector (F)")
        if layer.unsupported:
            raise RefusedOp(f"{layer.name} cannot be projected: {layer.unsupported}")
        if layer.is_constant:
            raise RefusedOp(f"{layer.name} is treated as a constant, so its projections are zero")


class Geometry:
    """Receptive fields of the units of some layers. They do not depend on the weights."""

    def __init__(self, network: Network, layers: Sequence[Layer]) -> None:
        blank = torch.zeros(1, *network.preprocessing.shape, dtype=network.dtype)
        self._recording = network.record(blank, layers)
        self._layers = {layer.name: layer for layer in layers}
        self._first: dict[str, int] = {}
        count = 0
        for layer in layers:
            self._first[layer.name] = count
            count += layer.shape[0]

    def index(self, layer: str, channel: int) -> int:
        """Return the index of a channel in the arrays of `Strongest`."""
        return self._first[layer] + channel

    def columns(self, layer: str) -> slice:
        """Return the indices of all channels of a layer in the arrays of `Strongest`."""
        first = self._first[layer]
        return slice(first, first + self._layers[layer].shape[0])

    def peak(self, source: Source, layer: str, channel: int, found: Strongest) -> Peak | None:
        """Return the strongest unit of a channel; None if the channel is not above zero in any image."""
        index = self.index(layer, channel)
        if found.dead[index]:
            return None
        described = self._layers[layer]
        y: int | None = None
        x: int | None = None
        if len(described.shape) == 3:
            y, x = divmod(int(found.place[index]), described.shape[2])
        return Peak(
            layer=layer,
            channel=channel,
            rank=1,
            activation=float(found.activation[index]),
            image_id=source.names[int(found.image[index])],
            y=y,
            x=x,
            box=self._box(described, y, x),
        )

    def _box(self, layer: Layer, y: int | None, x: int | None) -> Box | None:
        if y is None or x is None:
            box = self._recording.boxes(layer, [Unit(0, 0)])[0]
        else:
            x0, y0, x1, y1 = self._recording.boxes_at(layer, [y], [x])[0].tolist()
            box = (x0, y0, x1, y1)
        return box if box[2] > box[0] and box[3] > box[1] else None


def place_of(peak: Peak) -> tuple[str, int, str, int | None, int | None]:
    """Return what identifies a unit and its image, without its activation."""
    return peak.layer, peak.channel, peak.image_id, peak.y, peak.x


@dataclass(frozen=True, eq=False)
class Shown:
    """A unit in its image, projected with the weights of one checkpoint.

    `activation` is that of the unit with these weights; it can differ from that of the peak.
    """

    peak: ProjectedPeak
    activation: float

    @property
    def pixels(self) -> Numbers:
        """The projection (C, h, w) in the receptive field, in the network's input space."""
        return self.peak.pixels


def project(
    network: Network, source: Source, layers: Sequence[Layer], peaks: Sequence[Peak | None]
) -> dict[tuple[str, int, str, int | None, int | None], Shown]:
    """Project units with the weights of a network. Each image is recorded once."""
    distinct = {place_of(peak): peak for peak in peaks if peak is not None}
    stream = PeakStream.of(network, source, list(distinct.values()), layers=layers)
    return {
        place_of(crop.shown.peak): Shown(crop.shown, float(unit.activation)) for crop, unit in stream.run()
    }
