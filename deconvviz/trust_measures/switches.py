"""Switches: how much of a map comes from the image and not from the unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.methods.method import Method, Subject
from deconvviz.trust_measures.measure import Measure
from deconvviz.trust_measures.place import Case, Place
from deconvviz.trust_measures.statistics import Array, Sample, correlations

DRAWN = 4  # random signals for each image
MEANING = (
    "mean absolute correlation of a unit's map with maps of random signals through the same switches "
    "(1: the image draws all of it; baseline: the switches of the mirrored image)"
)
OF_CHANNELS = (
    "mean absolute correlation of a unit's map with maps of random other channels that fire at the place, as "
    "the method takes no signals (1: the image draws all of it; baseline: the mirrored image)"
)
SOURCE = "Mahendran & Vedaldi 2016"


class Switches:
    """Mean absolute Pearson correlation with maps of random signals, inside the receptive field.

    A random signal has the norm and the sparsity of a unit's signal: it is positive, at the same place, in
    one channel that is drawn at random among those that are not units of the place. `dense` is the same for
    positive noise in all channels of the place.
    """

    name = "switches"

    def __init__(self) -> None:
        self._same, self._other, self._dense = Sample(), Sample(), Sample()
        self._takes_signals = True

    def see(self, case: Case) -> None:
        place, method = case.place, case.method
        self._takes_signals = method.takes_signals
        sparse = _sparse_signals(place) if method.takes_signals else _random_units(place, place.subject)
        self._same.add_values(_likeness(case, method, place.subject, sparse))
        if not method.takes_signals:
            sparse = _random_units(place, place.mirrored)
        self._other.add_values(_likeness(case, method, place.mirrored, sparse))
        if method.takes_signals:
            self._dense.add_values(_likeness(case, method, place.subject, _dense_signals(place)))

    def measure(self, seed: int = 0) -> Measure:
        meaning = MEANING if self._takes_signals else OF_CHANNELS
        return Measure.of(self._same, self._other.value, meaning, SOURCE, seed=seed)

    @property
    def dense(self) -> float | None:
        """The same with positive noise in all channels of the place; None if the method takes no signals."""
        return self._dense.value


def _likeness(case: Case, method: Method, subject: Subject, asked: Sequence[Unit] | Tensor) -> Array:
    """Return the mean absolute correlation of each unit's map with the maps of the signals, (K,)."""
    if not len(asked):
        return np.empty(0)
    maps = method.maps(subject, asked).detach().cpu().float().numpy()
    rows = [case.place.cut(one).reshape(len(one), -1) for one in (case.maps, maps)]
    found = np.abs(correlations(*rows))
    defined = np.isfinite(found).sum(axis=1)
    means: Array = np.where(defined > 0, np.nansum(found, axis=1) / np.maximum(defined, 1), np.nan)
    return means


def _sparse_signals(place: Place) -> Tensor:
    return one_channel_signals(place, _drawn_channels(place, range(place.layer.shape[0])))


def one_channel_signals(place: Place, channels: Sequence[int]) -> Tensor:
    """Return a signal (n, *layer) for each channel, at the place, as strong as its strongest unit."""
    signals = torch.zeros((len(channels), *place.subject.activations().shape[1:]))
    for number, channel in enumerate(channels):
        signals[_index(place, number, channel)] = float(place.activations[0])
    return signals


def _dense_signals(place: Place) -> Tensor:
    """Return positive noise in all channels of the place, with the norm of the strongest unit's signal."""
    signals = torch.zeros((DRAWN, *place.subject.activations().shape[1:]))
    rng = place.random("dense signals")
    for number in range(DRAWN):
        noise = np.abs(rng.standard_normal(signals.shape[1]))
        noise *= place.activations[0] / np.linalg.norm(noise)
        signals[_index(place, number, slice(None))] = torch.from_numpy(noise).float()
    return signals


def _random_units(place: Place, subject: Subject) -> list[Unit]:
    """Return units of random channels that fire at the place."""
    values = subject.activations()[0].cpu()
    y, x = place.units[0].y, place.units[0].x
    here = values if y is None or x is None else values[:, y, x]
    firing = [int(channel) for channel in torch.nonzero(here > 0).flatten()]
    return [Unit(0, channel, y, x) for channel in _drawn_channels(place, firing)]


def _drawn_channels(place: Place, among: Sequence[int]) -> list[int]:
    own = {unit.channel for unit in place.units}
    others = [channel for channel in among if channel not in own] or list(among)
    drawn = place.random("random channels").permutation(len(others))[:DRAWN]
    return [others[number] for number in drawn]


def _index(place: Place, number: int, channel: int | slice) -> tuple[int | slice, ...]:
    y, x = place.units[0].y, place.units[0].x
    return (number, channel) if y is None or x is None else (number, channel, y, x)
