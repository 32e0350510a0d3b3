"""The units of one place in one image, and what the measures of all methods share about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.layers import Layer
from deconvviz.methods.blur import blurred
from deconvviz.methods.method import Method, Subject
from deconvviz.network import Network
from deconvviz.projection import Box
from deconvviz.trust_measures.pictures import Picture
from deconvviz.trust_measures.statistics import Array, generator

ELSEWHERE = 3  # units of another place
FAINT = (
    0.05  # units below this share of the strongest of their place are left out: relative changes are noise
)


@dataclass(frozen=True, eq=False)
class Place:
    """One place of one image, with its strongest units.

    Attributes:
        picture: The image, to open it again.
        number: Its number, for random seeds.
        subject: The recorded image.
        units: The strongest units of the place, strongest first. All of them are above zero, and at least 5 %
            of the strongest.
        elsewhere: The three strongest units of another place, at least half a receptive field away if there
            is one.
        box: Receptive field of the units (x0, y0, x1, y1).
        elsewhere_box: Receptive field of the units elsewhere.
        seed: Seed of all random numbers.
        methods: Names of the methods that the image was recorded for.
    """

    picture: Picture
    number: int
    subject: Subject
    units: tuple[Unit, ...]
    elsewhere: tuple[Unit, ...]
    box: Box
    elsewhere_box: Box | None
    seed: int
    methods: tuple[str, ...] = ()
    shared: dict[str, Any] = field(default_factory=dict)  # what several methods use, computed once

    @property
    def network(self) -> Network:
        return self.subject.network

    @property
    def layer(self) -> Layer:
        return self.subject.layer

    @cached_property
    def inputs(self) -> Tensor:
        """The prepared image (1, C, H, W), on the CPU."""
        return self.subject.inputs.detach().cpu()

    @cached_property
    def blurred(self) -> Tensor:
        """The prepared image, blurred, (1, C, H, W)."""
        return blurred(self.inputs)

    @cached_property
    def mirrored(self) -> Subject:
        """The image mirrored left to right, recorded: an image with other switches."""
        names = list(self.methods)
        return Subject.record(self.network, self.subject.inputs.flip(-1), self.layer, names)

    @property
    def activations(self) -> Array:
        """Activations of the units (K,)."""
        return np.array([unit.activation for unit in self.units])

    def cut(self, maps: Array, box: Box | None = None) -> Array:
        """Return maps (..., H, W) inside a box, by default the receptive field of the units."""
        x0, y0, x1, y1 = self.box if box is None else box
        return maps[..., y0:y1, x0:x1]

    def of_units(self, activations: Tensor, units: Sequence[Unit] | None = None) -> Array:
        """Return the activations (B, K) of units in activations (B, C, h, w) or (B, F) of other images."""
        columns = [
            activations[:, unit.channel]
            if unit.y is None or unit.x is None
            else activations[:, unit.channel, unit.y, unit.x]
            for unit in (self.units if units is None else units)
        ]
        return torch.stack(columns, dim=1).double().numpy()

    def random(self, *keys: object) -> np.random.Generator:
        """Return a random generator for this image and a purpose."""
        return generator(self.seed, self.number, *keys)


@dataclass(frozen=True, eq=False)
class Case:
    """One method at one place, with its maps (K, C, H, W) of the units and of the units elsewhere."""

    place: Place
    method: Method
    maps: Array
    elsewhere: Array

    @classmethod
    def of(cls, place: Place, method: Method) -> Case:
        """Compute the maps of the units of a place."""
        everything = [*place.units, *place.elsewhere]
        maps = method.maps(place.subject, everything).detach().cpu().float().numpy()
        return cls(place, method, maps[: len(place.units)], maps[len(place.units) :])

    def reading(self, name: str) -> Array:
        """Return what the maps say of each pixel, (K, H, W).

        ``energy`` is the sum of squares over colours. ``contribution`` is the sum over colours of the map
        times the image minus the blurred image, or of the map alone if the method is signed.
        """
        return reading(self.maps, name, self.place, signed=self.method.signed)

    @property
    def importance(self) -> Array:
        """Importance of each pixel (K, H, W): the contribution for a signed method, else the energy."""
        return self.reading("contribution" if self.method.signed else "energy")


def reading(maps: Array, name: str, place: Place, *, signed: bool) -> Array:
    """Return a reading of maps (K, C, H, W) as `Case.reading` does."""
    values = maps.astype(np.float64)
    if name == "energy":
        found: Array = (values**2).sum(axis=1)
        return found
    if not signed:
        values = values * (place.inputs - place.blurred).double().numpy()
    summed: Array = values.sum(axis=1)
    return summed


def place_in(
    picture: Picture, number: int, subject: Subject, k: int, seed: int, methods: Sequence[str]
) -> Place | str:
    """Return the place of the strongest unit with its k strongest units, or why there is none."""
    values = subject.activations()[0].cpu()  # (C, h, w) or (F,)
    if not bool(values.isfinite().all()):
        return "the layer has NaN or infinite activations"
    named, y, x = picture.unit or (None, None, None)
    if values.dim() == 1:
        place, other = None, None
    else:
        peaks = values.amax(dim=0)  # (h, w)
        place = (y, x) if y is not None and x is not None else _unflat(int(peaks.argmax()), peaks)
        other = _elsewhere(peaks, place, subject.layer, subject.inputs.shape[-2:])
    units = _strongest(values, place, k, named)
    if len(units) < 2:
        return f"only {len(units)} of the layer's units fire at the strongest place"
    elsewhere = () if other is None else _strongest(values, other, min(ELSEWHERE, len(units)), None)
    box = subject.recording.boxes(subject.layer, [units[0]])[0]
    if box[0] >= box[2] or box[1] >= box[3]:
        return "no signal of the units reaches the pixels"
    far = subject.recording.boxes(subject.layer, [elsewhere[0]])[0] if elsewhere else None
    return Place(picture, number, subject, units, elsewhere, box, far, seed, tuple(methods))


def _strongest(values: Tensor, place: tuple[int, int] | None, k: int, named: int | None) -> tuple[Unit, ...]:
    """Return the k strongest units at a place, without faint ones, but with the channel `named`."""
    here = values if place is None else values[:, place[0], place[1]]
    order = torch.sort(here, descending=True, stable=True).indices.tolist()
    least = FAINT * float(here[order[0]])
    chosen = [channel for channel in order if float(here[channel]) > 0 and float(here[channel]) >= least][:k]
    if named is not None and named not in chosen and float(here[named]) > 0:
        chosen = [*chosen[: k - 1], named]
    y, x = (None, None) if place is None else place
    return tuple(Unit(0, channel, y, x, float(here[channel])) for channel in chosen)


def _elsewhere(
    peaks: Tensor, place: tuple[int, int], layer: Layer, image: tuple[int, ...]
) -> tuple[int, int] | None:
    """Return the strongest place whose field is at least half a field away, else the farthest one."""
    rows, columns = torch.meshgrid(*(torch.arange(length) for length in peaks.shape), indexing="ij")
    apart = torch.stack([(rows - place[0]).abs(), (columns - place[1]).abs()]).double()  # (2, h, w)
    needed = [
        max(1.0, _half_field(layer, axis, length, side))
        for axis, (length, side) in enumerate(zip(peaks.shape, image[-2:], strict=True))
    ]
    far = (apart[0] >= needed[0]) | (apart[1] >= needed[1])
    candidates = far & (peaks > 0)
    if bool(candidates.any()):
        return _unflat(int(peaks.where(candidates, torch.tensor(-math.inf)).argmax()), peaks)
    distance = apart.sum(dim=0).where(peaks > 0, torch.tensor(0.0, dtype=torch.double))
    return _unflat(int(distance.argmax()), peaks) if float(distance.max()) > 0 else None


def _half_field(layer: Layer, axis: int, length: int, side: int) -> float:
    """Return half a receptive field in steps of the map; half of the map if the field is not known."""
    if layer.field is None or layer.stride is None or not layer.stride[axis]:
        return length / 2
    return min(layer.field[axis], side) / 2 / layer.stride[axis]


def _unflat(index: int, like: Tensor) -> tuple[int, int]:
    return index // like.shape[1], index % like.shape[1]
