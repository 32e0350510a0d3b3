"""`dv.trust`: measure how far the maps of some methods can be trusted, on some images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from deconvviz.errors import ImageError, LayerError, MethodError, RefusedOp, UnitError
from deconvviz.layers import Layer
from deconvviz.methods.method import DEFAULT_METHODS, Method, Subject, method
from deconvviz.network import Network
from deconvviz.notebook_bar import or_bar
from deconvviz.printable_names import printable
from deconvviz.trust_measures.deletion import Deletion
from deconvviz.trust_measures.identification import Identification
from deconvviz.trust_measures.likeness import Likeness
from deconvviz.trust_measures.part_controls import PartControls
from deconvviz.trust_measures.parts import Parts
from deconvviz.trust_measures.pictures import Picture, Pictures, pictures_of
from deconvviz.trust_measures.place import Case, Place, place_in
from deconvviz.trust_measures.random_weights import random_weights, weight_groups
from deconvviz.trust_measures.result import Trust
from deconvviz.trust_measures.switches import Switches
from deconvviz.trust_measures.weights import PICTURES, Original, Weights, states
from deconvviz.wording import listed

Report: TypeAlias = Callable[[int, int], None]

LEAST_UNITS = 2


def trust(
    net: Network,
    images: Pictures,
    layer: str | Layer,
    k: int = 9,
    methods: Sequence[str] = DEFAULT_METHODS,
    seed: int = 0,
    report: Report | None = None,
    *,
    limit: int | None = None,
) -> Trust:
    """Measure how far to trust what methods show of the units of a layer.

    In each image, the place of the strongest unit is chosen, and its k strongest units. Images are
    examined one at a time, so memory does not grow with their number.

    Args:
        net: The network. Some of its weights are replaced for a while and put back bit for bit.
        images: Images as for `Network.record`; or a source of images, such as a folder; or scenes, such as
            ``"scenes:20"``, for which the true effect of each part is known; or a search, of which the peaks
            of some channels are examined.
        layer: The layer of the units.
        k: Largest number of units for each image, from 2.
        methods: Names of the methods (`deconvviz.methods.method.METHODS`). A method that does not support
            the network is left out, with the reason.
        seed: Seed of random signals, pixels, weights and resamples.
        report: Called with the number of finished steps and the number of all steps.
        limit: Number of images, the first ones. A search has 20 by default.

    Returns:
        The measures of each method. Each has a value, a 95 % interval, a baseline and a meaning.

    Raises:
        LayerError: If the layer does not exist or has no units.
        MethodError: If a method does not exist, or none can be used.
        RefusedOp: If the layer cannot be projected.
        UnitError: If `k` is below 2, or no image has two units above zero at one place.
        ImageError: If no image can be read.
        SourceError: If a source cannot be opened.
        SearchError: If the layer was not searched.
    """
    names = tuple(dict.fromkeys(methods))
    chosen = [method(name) for name in names]
    if not chosen:
        raise MethodError("no method was given: name one or more")
    if k < LEAST_UNITS:
        raise UnitError(f"{k} units at a place were requested: units are compared, so request 2 or more")
    net.preprocessing.check_reads_pictures(net.name)
    found = _checked(net.layers.find(layer))
    pictures = pictures_of(images, found, limit=limit, seed=seed)
    job = _Job(net, found, chosen, k, seed, len(pictures), or_bar(report, "measuring"))
    for number, picture in enumerate(pictures):
        job.see(picture, number)
    job.check()
    job.see_random_weights()
    return job.result(pictures.place)


def _checked(layer: Layer) -> Layer:
    if not layer.has_channels:
        raise LayerError(f"{layer.name} has no units: its output is not a map (C, H, W) or a vector (F)")
    if layer.unsupported:
        raise RefusedOp(f"{layer.name} cannot be projected: {layer.unsupported}")
    if layer.is_constant:
        raise RefusedOp(f"{layer.name} is treated as a constant, so its projections are zero")
    return layer


class _Measures:
    """All measures of one method on images."""

    def __init__(self) -> None:
        self.likeness, self.identification = Likeness(), Identification()
        self.switches, self.deletion, self.parts = Switches(), Deletion(), Parts()

    def see(self, case: Case) -> None:
        for measure in (self.likeness, self.identification, self.switches, self.deletion, self.parts):
            measure.see(case)

    def to_json(self, seed: int) -> dict[str, Any]:
        switches = {**self.switches.measure(seed).to_json(), "dense": self.switches.dense}
        areas = {
            kind: {**self.deletion.measure(kind, seed).to_json(), "curve": self.deletion.curve(kind)}
            for kind in ("deletion", "insertion")
        }
        return {
            "likeness": self.likeness.measure(seed).to_json(),
            "identification": self.identification.measure(seed).to_json(),
            "switches": switches,
            **areas,
            "parts": self.parts.to_json(seed),
        }


class _Job:
    """One run of `trust`: the measures of all methods, and the images that could not be used."""

    def __init__(
        self,
        net: Network,
        layer: Layer,
        methods: Sequence[Method],
        k: int,
        seed: int,
        count: int,
        report: Report | None,
    ) -> None:
        self._net, self._layer, self._k, self._seed = net, layer, k, seed
        self._info = net.info()
        self._measures = {one.name: _Measures() for one in methods}
        self._methods = {one.name: one for one in methods}
        self._controls = PartControls()
        self._groups = weight_groups(net, layer)
        self._states = states(self._groups, count)
        self._originals: list[Original] = []
        self._weights: Weights | None = None
        self._left_out: dict[str, str] = {}
        self._skipped: list[tuple[str, str]] = []
        self._used: list[str] = []
        self._units = 0
        self._each = len(methods)  # steps of an image
        self._total, self._done = count * self._each + len(self._states), 0
        self._report = report

    def see(self, picture: Picture, number: int) -> None:
        """Examine one image with all methods."""
        try:
            names = list(self._methods)
            subject = Subject.record(self._net, picture.open(), self._layer, names)
            place = place_in(picture, number, subject, self._k, self._seed, names)
        except ImageError as reason:
            place = str(reason)
        if isinstance(place, Place):
            self._see_place(place)
        else:
            self._skipped.append((picture.name, place))
        self._reach((number + 1) * self._each)

    def _see_place(self, place: Place) -> None:
        for name, one in list(self._methods.items()):
            if reason := one.unsupported(place.subject):
                self._left_out[name] = reason
                del self._methods[name], self._measures[name]
        if not self._methods:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self._left_out.items())
            raise MethodError(f"no method can be used for {self._layer.name}: {reasons}")
        cases = []
        for name, one in self._methods.items():
            case = Case.of(place, one)
            self._measures[name].see(case)
            cases.append(case)
            self._reach(self._done + 1)
        self._controls.see(place)
        self._used.append(place.picture.name)
        self._units += len(place.units)
        if len(self._originals) < PICTURES:
            self._originals.append(Original.of(place, cases))

    def check(self) -> None:
        """Raise an error if no image could be used."""
        if self._used:
            return
        reasons = listed([f"{name}: {reason}" for name, reason in self._skipped])
        raise UnitError(f"no image can be used for {self._layer.name}. {printable(reasons)}")

    def see_random_weights(self) -> None:
        """Repeat the maps of the first images with random weights."""
        modules = [state.module for state in self._states if state.order == "bottom_up"]
        self._weights = Weights(list(self._methods.values()), list(dict.fromkeys(modules)))
        for original in self._originals:
            self._weights.see_original(original)
        for state in self._states:
            original = self._originals[state.number % len(self._originals)]
            with random_weights(self._net, state.groups, self._seed + state.number):
                self._weights.see(state, original)
            self._reach(self._done + 1)

    def _reach(self, done: int) -> None:
        if self._report is not None and done > self._done:
            self._report(done, self._total)
        self._done = done

    def result(self, place: str) -> Trust:
        assert self._weights is not None
        return Trust(
            network=self._info,
            layer=self._layer,
            place=place,
            pictures=tuple(self._used),
            units=self._units,
            k=self._k,
            seed=self._seed,
            measures={
                name: {**own.to_json(self._seed), "weights": self._weights.to_json(name, self._seed)}
                for name, own in self._measures.items()
            },
            titles={name: one.title for name, one in self._methods.items()},
            controls=self._controls.to_json(),
            left_out=self._left_out,
            skipped=tuple(self._skipped),
        )
