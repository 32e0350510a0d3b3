"""`dv.maximise`: make pictures that activate units or channels of a layer strongly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from deconvviz.dataset_search.result import Search
from deconvviz.engine.units import Unit
from deconvviz.errors import LayerError, MethodError, NetworkError, SearchError, UnitError
from deconvviz.experiments.inversion.colours import InputColours, working_type
from deconvviz.experiments.inversion.descent import LOSS, Floats, descend, layer_function
from deconvviz.experiments.inversion.made_up import MadeUp, MaximisationSettings, Natural
from deconvviz.experiments.inversion.maximisation_result import Maximisation
from deconvviz.experiments.inversion.moves import Moves
from deconvviz.experiments.inversion.names import (
    CONTRAST,
    JITTER,
    MAXIMISE_LR,
    MAXIMISE_STEPS,
    OBJECTIVES,
    PARAMETRISATIONS,
    ROTATE,
    SCALE,
    check_choice,
    check_numbers,
)
from deconvviz.experiments.inversion.parametrisation import parametrisation_of
from deconvviz.experiments.inversion.rectifiers import redirected_rectifiers
from deconvviz.layers import Layer
from deconvviz.network import Network
from deconvviz.notebook_bar import or_bar
from deconvviz.wording import missing_number

Report: TypeAlias = Callable[[int, int], None]


def maximise(
    net: Network,
    layer: str | Layer,
    channels: int | Sequence[int] | None = None,
    *,
    units: Unit | Sequence[Unit] | None = None,
    objective: str = "mean",
    parametrisation: str = "fourier",
    pictures: int = 1,
    steps: int = MAXIMISE_STEPS,
    lr: float = MAXIMISE_LR,
    jitter: int = JITTER,
    scale: float = SCALE,
    rotate: float = ROTATE,
    contrast: float = CONTRAST,
    seed: int = 0,
    search: Search | None = None,
    report: Report | None = None,
) -> Maximisation:
    """Make pictures that activate channels or units strongly: activation maximisation.

    Erhan et al. (2009) introduced the method. The defaults follow lucid (Olah et al. 2017): the parameters
    are a spectrum with decorrelated colours, the picture is moved at random in each step, and a rectifier
    that no gradient passes lets the gradient through that would raise its input. The matrix of colours, the
    scale of frequencies, the standard deviation of the start and the learning rate are lucid's.

    Such a picture is made up by optimisation: it is not an image of a dataset, and another seed gives another
    picture. Its activation is often far above that of all natural images; `search` puts both side by side.

    - ``fourier``: a spectrum; a sigmoid keeps the colours between 0 and 1 (lucid).
    - ``pixels``: pixels; a sigmoid keeps the colours between 0 and 1.
    - ``norm``: pixels with a fixed distance from a grey picture (Erhan et al. 2009). Colours may be outside
      0 to 1.

    On a CPU, the same seed gives the same picture bit for bit, whatever other channels are requested.

    Args:
        net: The network. It is left as it was.
        layer: A layer name or a `Layer`.
        channels: Numbers of channels.
        units: Units (`Unit`) instead of channels. `Unit.image` is ignored.
        objective: For channels of a map: ``mean`` over all positions, or ``centre``, the unit in the middle.
        parametrisation: ``fourier``, ``pixels`` or ``norm``.
        pictures: Number of pictures of each channel or unit, with the seeds ``seed``, ``seed + 1``, ...
        steps: Number of steps for each picture.
        lr: Learning rate of the first step. It falls to zero.
        jitter: In each step, move the picture by at most this number of pixels in each direction.
        scale: In each step, change its size by at most this share.
        rotate: In each step, rotate it by at most this number of degrees.
        contrast: For ``norm``: root mean square of the distance of colours from mid-grey.
        seed: Seed of the first picture.
        search: A search of the layer with this network, for the strongest activation in natural images.
        report: Called with the number of finished and of all steps.

    Returns:
        One picture for each channel or unit and seed, with its activation and the curve.

    Raises:
        LayerError: If the layer does not exist or has no channels.
        UnitError: If a channel or unit does not exist, or none was named.
        MethodError: If a choice does not exist, a number is impossible, or an activation is not finite.
        SearchError: If the search has other weights, or lacks the layer.
        ImageError: If the input of the network is not an image.
    """
    check_choice(objective, OBJECTIVES, "objective")
    check_choice(parametrisation, PARAMETRISATIONS, "parametrisation")
    check_numbers(steps, lr)
    if not contrast > 0:
        raise MethodError(f"a contrast of {contrast:g} was requested: give a number above 0")
    if pictures < 1:
        raise MethodError(f"{pictures} pictures were requested: request 1 or more")
    net.preprocessing.check_reads_images(net.name)
    found = net.layers.find(layer)
    if not found.has_channels:
        raise LayerError(f"{found.name} has no channels: its output is not a map (C, H, W) or a vector (F)")
    _, rows, columns = net.preprocessing.shape
    moves = Moves(jitter, scale, rotate)
    moves.check((rows, columns))
    targets = _targets(found, channels, units, objective)
    natural = {} if search is None else _natural(search, net, found, targets)
    settings = MaximisationSettings(
        objective="unit" if units is not None or len(found.shape) == 1 else objective,
        parametrisation=parametrisation,
        steps=steps,
        lr=lr,
        jitter=jitter,
        scale=scale,
        rotate=rotate,
        contrast=contrast if parametrisation == "norm" else None,
        seed=seed,
        pictures=pictures,
    )
    job = _Job(net, found, settings, moves, len(targets), or_bar(report, f"maximising {found.name}"))
    made = tuple(job.make(one, number) for one in targets for number in range(seed, seed + pictures))
    return Maximisation(
        network=net.info(), layer=found, pictures=made, settings=settings, natural=natural,
        searched=None if search is None else (search.image_count, str(search.manifest["source"]["kind"])),
    )  # fmt: skip


@dataclass(frozen=True)
class _Target:
    """A channel (y and x are None), or one of its units."""

    channel: int
    y: int | None = None
    x: int | None = None

    def value(self, features: Tensor) -> Tensor:
        """Return the objective of each image, (B,), for features (B, C, h, w) or (B, F)."""
        own = features[:, self.channel]
        if own.dim() == 1:
            return own
        if self.y is None or self.x is None:
            return own.mean((1, 2))
        return own[:, self.y, self.x]


def _targets(
    layer: Layer,
    channels: int | Sequence[int] | None,
    units: Unit | Sequence[Unit] | None,
    objective: str,
) -> list[_Target]:
    if (channels is None) == (units is None):
        raise UnitError("name channels or units, and not both: for example channels=[0, 1]")
    if units is not None:
        wanted = [units] if isinstance(units, Unit) else list(units)
        found = [_Target(unit.channel, unit.y, unit.x) for unit in wanted]
    else:
        numbers = [channels] if isinstance(channels, int) else list(channels or ())
        centre = (layer.shape[1] // 2, layer.shape[2] // 2) if len(layer.shape) == 3 else (None, None)
        where = centre if objective == "centre" else (None, None)
        found = [_Target(number, *where) for number in numbers]
    if not found:
        raise UnitError(f"no channel of {layer.name} was given: name one or more")
    for one in found:
        _check_exists(one, layer)
    return list(dict.fromkeys(found))


def _check_exists(one: _Target, layer: Layer) -> None:
    if not 0 <= one.channel < layer.shape[0]:
        raise UnitError(missing_number("channel", one.channel, layer.name, layer.shape[0]))
    if one.y is None and one.x is None:
        return
    if len(layer.shape) == 1:
        raise UnitError(f"units of {layer.name} have no position: leave y and x out")
    if one.y is None or one.x is None:
        raise UnitError(f"a unit of {layer.name} has a row and a column: give both y and x, or neither")
    for what, number, count in (("row", one.y, layer.shape[1]), ("column", one.x, layer.shape[2])):
        if not 0 <= number < count:
            raise UnitError(missing_number(what, number, layer.name, count))


def _natural(
    search: Search, net: Network, layer: Layer, targets: Sequence[_Target]
) -> dict[int, Natural | None]:
    """Return the strongest peak of each channel; None for a channel that is silent in all images."""
    name = search.name_of(layer)
    search.check_channels(name, [one.channel for one in targets])
    if search.manifest["network"]["digest"] != net.digest:
        raise SearchError(
            f"the search has other weights than {net.name}: its activations cannot be compared. Search again "
            "with this network"
        )
    found: dict[int, Natural | None] = {}
    for one in targets:
        peaks = search.top(name, one.channel, 1)
        found[one.channel] = Natural(peaks[0].activation, peaks[0].image_id) if peaks else None
    return found


class _Job:
    """One run of `maximise`."""

    def __init__(
        self,
        net: Network,
        layer: Layer,
        settings: MaximisationSettings,
        moves: Moves,
        targets: int,
        report: Report | None,
    ) -> None:
        self._net, self._layer, self._settings, self._moves, self._report = (
            net,
            layer,
            settings,
            moves,
            report,
        )
        self._done, self._total = 0, targets * settings.pictures * settings.steps
        self._dtype = working_type(net)
        self._how = parametrisation_of(
            settings.parametrisation,
            net.preprocessing.shape,
            self._dtype,
            contrast=settings.contrast or CONTRAST,
        )

    def make(self, target: _Target, seed: int) -> MadeUp:
        """Make one picture."""
        generator = torch.Generator().manual_seed(seed)
        with (
            layer_function(self._net, self._layer) as features,
            redirected_rectifiers(self._net.module),
        ):
            to = InputColours(self._net, self._dtype)
            parameters = self._how.start(generator).to(self._net.device)
            with torch.no_grad():
                self._check_finite(features(to.to_input(self._how.colours(parameters))), target)

            def terms(parameters: Tensor) -> dict[str, Tensor]:
                colours = self._moves.apply(self._how.colours(parameters), generator)
                activation = target.value(features(to.to_input(colours)))[0].to(self._dtype)
                return {LOSS: -activation}

            settings = self._settings
            curve = descend(parameters, terms, steps=settings.steps, lr=settings.lr, on_step=self._reach)
            self._done += settings.steps
            with torch.no_grad():
                colours = self._how.colours(parameters)
                seen = features(to.to_input(colours))
        return MadeUp(
            channel=target.channel,
            y=target.y,
            x=target.x,
            seed=seed,
            picture=_picture(colours),
            objective=float(target.value(seen)[0]),
            activation=float(seen[0, target.channel].max()),
            curve=-curve[LOSS],
        )

    def _check_finite(self, features: Tensor, target: _Target) -> None:
        if not bool(target.value(features).isfinite().all()):
            raise NetworkError(
                f"the activation of channel {target.channel} of {self._layer.name} is not finite for a "
                f"random picture. Check the weights of {self._net.name}"
            )

    def _reach(self, done: int) -> None:
        if self._report is not None:
            self._report(self._done + done, self._total)


def _picture(colours: Tensor) -> Floats:
    """Return colours (1, C, H, W) as an array (H, W, 3)."""
    array = np.moveaxis(colours.detach().double().cpu().numpy()[0], 0, -1)
    found: Floats = np.broadcast_to(array, (*array.shape[:2], 3)).copy()
    return found
