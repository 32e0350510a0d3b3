"""Weights: how much maps change if the weights of the network are replaced at random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvviz.engine.units import Unit
from deconvviz.methods.method import Method, Subject
from deconvviz.trust_measures.edges import edges
from deconvviz.trust_measures.place import Case, Place
from deconvviz.trust_measures.random_weights import WeightGroup
from deconvviz.trust_measures.statistics import Array, Sample, pearson, spearman
from deconvviz.trust_measures.switches import one_channel_signals

PICTURES = 3  # the first ones, each with random weights of its own
UNITS = 3  # of each image
LEAST_SEEDS = 2  # a single image gets as many
STEPS = 8  # modules that get an entry; networks with more are thinned out
ORDERS = ("cascading", "independent", "bottom_up")
SIMILARITIES = ("spearman", "ssim", "pearson")
MEANING = (
    "similarity of a map to itself after the weights were shuffled, from the layer down to the image "
    "(cascading), in one module (independent), or from the image up to the layer (bottom_up); 1: the map "
    "does not depend on these weights"
)
SOURCE = "Adebayo et al. 2018; bottom-up order after Binder et al. 2023"
_WINDOW = 7  # pixels, for SSIM


@dataclass(frozen=True, eq=False)
class State:
    """One state of the weights: which groups are random, for an entry of an order."""

    order: str
    module: str
    number: int  # of the seed
    groups: tuple[WeightGroup, ...]


def states(groups: Sequence[WeightGroup], images: int) -> list[State]:
    """Return all states that are examined for a number of images.

    The order of the groups is that of the forward pass. Each of the first images is examined in the states of
    one seed, so that the results of different images are independent.
    """
    chosen = _thinned(len(groups))  # always with the first and the last group
    found = []
    for number in range(min(max(images, LEAST_SEEDS), PICTURES)):
        for index in reversed(chosen):
            found.append(State("cascading", groups[index].module, number, tuple(groups[index:])))
            found.append(State("independent", groups[index].module, number, (groups[index],)))
        for index in chosen:
            found.append(State("bottom_up", groups[index].module, number, tuple(groups[: index + 1])))
    return found


def _thinned(count: int) -> list[int]:
    if count <= STEPS:
        return list(range(count))
    return sorted({round(number * (count - 1) / (STEPS - 1)) for number in range(STEPS)})


@dataclass(frozen=True, eq=False)
class Original:
    """Maps with the original weights, and what is needed to make them again."""

    place: Place
    units: tuple[Unit, ...]
    maps: Mapping[str, Array]  # by method, (k, C, h, w) inside the receptive field
    edges: Array  # (h, w)
    noise: Array  # (k, C, h, w), uniform

    @classmethod
    def of(cls, place: Place, cases: Sequence[Case]) -> Original:
        units = place.units[:UNITS]
        maps = {case.method.name: place.cut(case.maps[: len(units)]).copy() for case in cases}
        shape = next(iter(maps.values())).shape
        return cls(place, units, maps, place.cut(edges(place)), place.random("noise").random(shape))


class Weights:
    """Similarities of the maps of all methods, for each state of the weights."""

    def __init__(self, methods: Sequence[Method], modules: Sequence[str]) -> None:
        self._methods, self._modules = list(methods), list(modules)
        self._samples: dict[tuple[str, str, str, str], _Grouped] = {}
        self._baselines: dict[tuple[str, str, str], Sample] = {}
        self.silent: dict[str, int] = {method.name: 0 for method in methods}  # maps that were zero
        self.pictures, self.units = 0, 0

    def see_original(self, original: Original) -> None:
        """Compare the original maps with noise and with the edges of the image."""
        self.pictures += 1
        self.units += len(original.units)
        for name, maps in original.maps.items():
            edge = np.broadcast_to(original.edges, maps.shape) / np.sqrt(maps.shape[1])
            for other, values in (("noise", original.noise), ("sobel", edge)):
                found = similarities(maps, values)
                for measure in SIMILARITIES:
                    self._baselines.setdefault((name, other, measure), Sample()).add_values(found[measure])

    def see(self, state: State, original: Original) -> None:
        """Make the maps of an image again while the weights are in a state, and compare them."""
        place = original.place
        subject = Subject.record(place.network, place.subject.inputs, place.layer, list(original.maps))
        for method in self._methods:
            maps = place.cut(_maps(method, place, subject, original.units))
            found = similarities(original.maps[method.name], maps)
            self.silent[method.name] += int((maps.reshape(len(maps), -1) == 0).all(axis=1).sum())
            for measure in SIMILARITIES:
                key = (method.name, state.order, state.module, measure)
                self._samples.setdefault(key, _Grouped()).add(place.number, found[measure])

    def to_json(self, method: str, seed: int = 0) -> dict[str, Any]:
        """Return the part ``weights`` of the contract for one method."""
        untouched = {"module": "", **dict.fromkeys(SIMILARITIES, 1.0)}
        down = list(reversed(self._modules))
        return {
            "cascading": [untouched, *self._entries(method, "cascading", down, seed)],
            "independent": list(self._entries(method, "independent", down, seed)),
            "bottom_up": [untouched, *self._entries(method, "bottom_up", self._modules, seed)],
            "baselines": {
                other: {
                    measure: self._baselines.get((method, other, measure), Sample()).value
                    for measure in SIMILARITIES
                }
                for other in ("noise", "sobel")
            },
            "meaning": MEANING,
            "source": SOURCE,
            "pictures": self.pictures,
            "units": self.units,
            "seeds": max(self.pictures, LEAST_SEEDS),
            "zero_maps": self.silent.get(method, 0),
        }

    def _entries(
        self, method: str, order: str, modules: Sequence[str], seed: int
    ) -> Iterator[dict[str, Any]]:
        for module in modules:
            entry: dict[str, Any] = {"module": module}
            intervals = {}
            for measure in SIMILARITIES:
                sample = self._samples.get((method, order, module, measure), _Grouped()).sample()
                entry[measure], intervals[measure] = sample.value, list(sample.interval(seed))
            yield {**entry, "intervals": intervals}


class _Grouped:
    """Numbers of units by image, from several seeds."""

    def __init__(self) -> None:
        self._values: dict[int, list[float]] = {}

    def add(self, picture: int, values: Array) -> None:
        self._values.setdefault(picture, []).extend(values.tolist())

    def sample(self) -> Sample:
        found = Sample()
        for values in self._values.values():
            found.add_values(np.array(values))
        return found


def _maps(method: Method, place: Place, subject: Subject, units: Sequence[Unit]) -> Array:
    """Return the maps of units (k, C, H, W), from the same signals if the method takes signals.

    A unit that is silent with random weights then still has a map.
    """
    asked: Any = list(units)
    if method.takes_signals:
        asked = one_channel_signals(place, [unit.channel for unit in units])
    found: Array = method.maps(subject, asked).detach().cpu().float().numpy()
    return found


def similarities(one: Array, other: Array) -> dict[str, Array]:
    """Return the similarities of maps (k, C, h, w) with other maps, (k,) each; NaN for a zero map.

    Spearman is that of absolute values, Pearson that of signed values, both over all pixels and colours. SSIM
    is that of the absolute values (root of the sum of squares over colours), scaled to a maximum of 1.
    """
    pairs = list(zip(one, other, strict=True))
    return {
        "spearman": np.array([spearman(np.abs(a), np.abs(b)) for a, b in pairs]),
        "pearson": np.array([pearson(a, b) for a, b in pairs]),
        "ssim": np.array([ssim(a, b) for a, b in pairs]),
    }


def ssim(one: Array, other: Array) -> float:
    """Return the structural similarity of two maps (C, h, w); NaN for a zero map or one below 3 px."""
    from skimage.metrics import structural_similarity

    left, right = (np.sqrt((values.astype(np.float64) ** 2).sum(axis=0)) for values in (one, other))
    window = min(_WINDOW, *left.shape)
    window -= 1 - window % 2
    if window < 3 or not left.any() or not right.any():
        return float("nan")
    found = structural_similarity(left / left.max(), right / right.max(), data_range=1.0, win_size=window)
    return float(found)
