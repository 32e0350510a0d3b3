"""Compute projections a second time, without the engine, and compare.

The engine is used here only to run the network without changing it. The second computation is in
`deconvviz.verification`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from deconvviz.coverage import OpUse
from deconvviz.engine.entries import Entry
from deconvviz.engine.hooks import evaluation, exclusive
from deconvviz.engine.network_inputs import ONE
from deconvviz.engine.preservation import preserved
from deconvviz.engine.region import Region
from deconvviz.engine.units import Unit
from deconvviz.engine.wrappers import eager, named_parts
from deconvviz.errors import MethodError, StaleRecording, UnitError, VerificationError
from deconvviz.models.providers import provider_of
from deconvviz.models.stdout import stdout_to_stderr
from deconvviz.network import Network
from deconvviz.projection import Projection
from deconvviz.verification.passes import Place, SecondPass, Target, relative_difference, turns
from deconvviz.verification.result import ALLOWED, AUTOGRAD, CAPTUM, Verification
from deconvviz.verification.unverifiable import Unverifiable
from deconvviz.verification.with_captum import CLASSES, captum_maps, copied, same_output

Report: TypeAlias = Callable[[int, int], None]
"""Progress callback: number of finished units and number of all units."""

VERIFIED_METHODS = tuple(CLASSES)
"""Methods that can be computed a second time."""

_words = str.split

_CAPTUM_KNOWS = frozenset(
    _words("""
        convolution relu max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d mean addmm mm linear add cat
        native_batch_norm _native_batch_norm_legit_no_training clone view _unsafe_view reshape flatten t
        permute transpose squeeze unsqueeze expand slice select
    """)
)
"""Operations that are projected by their gradients, and ReLU."""


def verify(net: Network, projection: Projection, *, report: Report | None = None) -> Verification:
    """Compute projections a second time by an independent route, and compare.

    The route is captum if it is right for this network: all operations are exact, every ReLU is a module that
    is called once and overwrites nothing that is read later, one image was recorded, and no activation is
    negative. Otherwise it is autograd, where the
    gradients of nonlinear calls are replaced in a function mode. Neither shares code with the engine. Every
    unit takes a pass over whole maps of its own, so this is slow. The network is left as it was.

    Args:
        net: The network of the projection, with the same weights.
        projection: Projections of units. Projections of tensors cannot be verified.
        report: Called with the number of finished units and the number of all units.

    Returns:
        The differences. `Verification.passed` is True if none is larger than 1e-4, the limit for float32
        (float64: 1e-10, float16: 1e-2, bfloat16: 5e-2). To keep it in the manifest, use
        ``dataclasses.replace(projection, verification=...)``.

    Raises:
        VerificationError: If the second computation does not know the network; says which operation.
        MethodError: If the method has no second computation.
        StaleRecording: If the weights are not those of the projection.
        UnitError: If tensors were projected.

    Example:
        >>> from deconvviz.scenes import scene
        >>> net = dv.load("minivgg")
        >>> dv.verify(net, dv.project(net, scene(7).image, "conv4_2", k=2)).passed
        True
    """
    if projection.method not in VERIFIED_METHODS:
        raise MethodError(
            f"{projection.method} cannot be verified: only {', '.join(VERIFIED_METHODS)} are computed twice"
        )
    if not projection.units:
        raise UnitError("projections of tensors cannot be verified: project units")
    if net.info().digest != projection.network.digest:
        raise StaleRecording(
            f"the weights of {net.name} are not those of the projection: record the image again"
        )
    places = [_place(unit) for unit in projection.units]
    ours = _of_every_input(projection)
    differences = [0.0] * len(places)
    done = 0
    try:
        with _as_it_was(net):
            route, maps = _route(net, projection, places)
            for number, theirs in maps:
                apart = [
                    relative_difference(one[number], other) for one, other in zip(ours, theirs, strict=True)
                ]
                differences[number] = _largest(apart)
                done += 1
                if report is not None:
                    report(done, len(places))
    except Unverifiable as reason:
        raise _unknown(net, projection, str(reason)) from reason
    return Verification(route, tuple(differences), ALLOWED[projection.network.dtype])


def confirmed(found: Verification, projection: Projection) -> Verification:
    """Return a verification that passed. Raise VerificationError if it did not."""
    if found.passed:
        return found
    unit = projection.units[found.worst]
    method = "" if projection.method == "deconvnet" else f" by {projection.method}"
    raise VerificationError(
        f"the projection of {unit} of {projection.layer.name}{method} differs from that of {found.route} by "
        f"{found.differences[found.worst]:.2g} of its largest value; {found.allowed:g} is allowed. No figure "
        "was written"
    )


def _of_every_input(projection: Projection) -> list[Tensor]:
    """Return the pixels of each input that receives a signal, in the order of the call."""
    every = {one: projection.of_input(one).pixels for one in projection.input_names}
    return [every[name] for name in projection.call.names if name in every]


def _largest(differences: list[float]) -> float:
    """Return the largest difference; NaN if one is NaN."""
    return max(differences, key=lambda one: (one != one, one))


def _place(unit: Unit) -> Place:
    if isinstance(unit, Entry):
        return Place(unit.image, unit.channel, entry=unit.index)
    if isinstance(unit, Region):
        return Place(unit.image, unit.channel, *unit.places())
    return Place(unit.image, unit.channel, unit.y, unit.x, unit.z)


def _route(
    net: Network, projection: Projection, places: list[Place]
) -> tuple[str, Iterator[tuple[int, list[Tensor]]]]:
    """Return the name of the route, and the numbers of units with their second maps in each input."""
    parts = dict(named_parts(net.module))
    layer, inputs = projection.layer, projection.inputs
    call, *keys = layer.module.replace("]", "").split("[")
    name, _, number = call.partition(":")
    if _captum_is_right(projection, parts) and (network := copied(net.module)) is not None:
        part = dict(named_parts(network))[name]
        with _errors_of_the_second_pass():
            same = same_output(net.module, parts[name], network, part, inputs)
        if same:
            return CAPTUM, _by_captum(network, part, inputs, projection.method, places)
    rank = 0 if any(place.entry for place in places) else len(layer.shape)
    target = Target(parts[name], int(number or 1), layer.shape[0], rank, layer.channels_last, tuple(keys))
    return AUTOGRAD, _by_autograd(net, projection, target, places)


def _by_captum(
    network: nn.Module, layer: nn.Module, image: Tensor, method: str, places: list[Place]
) -> Iterator[tuple[int, list[Tensor]]]:
    with _errors_of_the_second_pass():
        for number, one in enumerate(captum_maps(network, layer, image, method, places)):
            yield number, [one]


def _by_autograd(
    net: Network, projection: Projection, target: Target, places: list[Place]
) -> Iterator[tuple[int, list[Tensor]]]:
    call = projection.call

    def run(tensors: list[Tensor]) -> Any:
        return replace(call, tensors=tuple(tensors)).call(net.module)

    with _errors_of_the_second_pass():
        second = SecondPass(net.module, run, call.tensors, target, projection.method)
        for numbers in turns([place.image for place in places]):
            maps = second.maps([places[number] for number in numbers])
            for place, number in enumerate(numbers):
                yield number, [one[place] for one in maps]


@contextmanager
def _errors_of_the_second_pass() -> Iterator[None]:
    """Raise Unverifiable for any error of the second pass, except if there is no memory left."""
    try:
        yield
    except (Unverifiable, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as reason:  # code of a network may raise anything if its calls are replaced
        text = " ".join(str(reason).split())
        if "can't allocate memory" in text:
            raise
        raise Unverifiable(f"the second pass failed with {type(reason).__name__}: {text}") from reason


def _captum_is_right(projection: Projection, parts: dict[str, nn.Module]) -> bool:
    """Return whether captum computes these projections, as far as known from the recorded calls.

    captum replaces the gradients of nn.ReLU modules alone, and starts with a signal of 1 at one position.
    """
    layer, uses = projection.layer, projection.coverage.uses
    positions = len(layer.shape) == 1 or all(unit.position for unit in projection.units)
    return (
        projection.call.form == ONE
        and len(projection.inputs) == 1
        and positions
        and all(unit.activation >= 0 for unit in projection.units)
        and layer.module in parts
        and layer.module != ""
        and not layer.channels_last
        and not projection.coverage.approximate
        and all(_captum_knows(use, parts) for use in uses)
    )


def _captum_knows(use: OpUse, parts: dict[str, nn.Module]) -> bool:
    if use.short not in _CAPTUM_KNOWS:
        return False
    if use.short != "relu":
        return True
    return use.count == len(use.modules) and all(type(parts.get(name)) is nn.ReLU for name in use.modules)


@contextmanager
def _as_it_was(net: Network) -> Iterator[None]:
    """Run a network in evaluation mode with gradients, and restore everything at the end."""
    model = net.origin.model
    runs_code = model is not None and provider_of(model).runs_code
    with ExitStack() as undo:
        parts = undo.enter_context(exclusive(net.module))
        for context in (
            eager(net.module),
            torch.inference_mode(False),
            torch.enable_grad(),
            preserved(parts, weights=True),
            evaluation(parts),
            stdout_to_stderr() if runs_code else nullcontext(),
        ):
            undo.enter_context(context)
        yield


def _unknown(net: Network, projection: Projection, reason: str) -> VerificationError:
    return VerificationError(
        f"the projections of {projection.layer.name} in {net.name} cannot be verified: {reason}. "
        "No figure was written. Leave out {option} to draw them without a second computation",
        option="verify=True",
    )
