"""Compare methods: maps of the same units by several methods, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

from deconvviz.engine.units import Unit
from deconvviz.errors import MethodError
from deconvviz.layers import Layer
from deconvviz.methods.comparison import Comparison, UsedMethod
from deconvviz.methods.method import DEFAULT_METHODS, Method, Subject, method
from deconvviz.network import Images, Network
from deconvviz.notebook_bar import or_bar

Progress: TypeAlias = Callable[[str, int, int], None]
"""Progress callback: name of the method, number of finished steps and number of all steps."""


def compare(
    net: Network,
    image: Images,
    layer: str | Layer,
    k: int = 3,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    units: Unit | Sequence[Unit] | None = None,
    channel: int | None = None,
    class_name: str | int | None = None,
    report: Progress | None = None,
) -> Comparison:
    """Ask several methods what in an image activates the same units of a layer.

    Every map is that of the unit's own activation. deconvnet, guided, gradient and input_x_gradient start
    with the activation as the signal; the maps of other methods are described in `Comparison.methods`. A
    method that cannot be used for this network is left out, with the reason in `Comparison.left_out`.

    Args:
        net: The network.
        image: One image, or a prepared tensor (1, C, H, W), as for `Network.record`.
        layer: A layer name or a `Layer`.
        k: Number of units.
        methods: Names of methods (`deconvviz.methods.method.METHODS` has all of them).
        units: Units to explain. Default: the strongest unit of each of the k strongest channels.
        channel: If given, the k strongest positions of this channel instead.
        class_name: Class for Grad-CAM: a name, a part of a name that only one class has, or an index.
            Default: the top class of the image, if it is known.
        report: Called with the name of the method, the number of finished steps and the number of all steps.

    Returns:
        The maps, (K, C, H, W) for each method.

    Raises:
        MethodError: If a method does not exist, or none of the methods can be used.
        LayerError: If the layer does not exist.
        UnitError: If a unit does not exist, or there are fewer than k.
        RefusedOp: If units of this layer cannot be projected.

    Example:
        >>> from deconvviz.scenes import scene
        >>> net, methods = dv.load("minivgg"), ["deconvnet", "gradient"]
        >>> both = dv.compare(net, scene(7).image, "conv4_2", k=2, methods=methods)
        >>> {name: tuple(maps.shape) for name, maps in both.maps.items()}
        {'deconvnet': (2, 3, 96, 96), 'gradient': (2, 3, 96, 96)}
    """
    asked = [method(name) for name in dict.fromkeys([methods] if isinstance(methods, str) else methods)]
    if not asked:
        raise MethodError("no method was given: name one or more")
    subject = Subject.record(net, image, layer, [one.name for one in asked], class_name=class_name)
    recording = subject.recording
    if units is None:
        units = recording.strongest(subject.layer, k, channel)
    return compare_units(subject, units, asked, report=report)


def compare_units(
    subject: Subject,
    units: Unit | Sequence[Unit],
    methods: Sequence[Method],
    *,
    report: Progress | None = None,
) -> Comparison:
    """Return the maps of units of a subject, which was recorded for these methods."""
    projection = subject.recording.project(subject.layer, units)
    maps: dict[str, Tensor] = {}
    used: list[UsedMethod] = []
    left_out: dict[str, str] = {}
    for one in methods:
        if reason := one.unsupported(subject):
            left_out[one.name] = reason
            continue
        if one.name == "deconvnet":
            maps[one.name] = projection.pixels.detach().cpu().float()
        else:
            maps[one.name] = one.maps(subject, projection.units, _named(report, one.name))
        used.append(
            UsedMethod(one.name, one.title, one.source, one.meaning, one.cost(len(projection)), one.summed)
        )
    if not maps:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise MethodError(f"none of the methods can be used. {reasons}")
    return Comparison(maps, tuple(used), left_out, projection, _class_of(subject, maps))


def _named(report: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if report is None:
        return or_bar(None, name)
    return lambda done, total: report(name, done, total)


def _class_of(subject: Subject, maps: dict[str, Tensor]) -> str:
    """Return the class that Grad-CAM explains; empty without Grad-CAM."""
    index = subject.explained_class
    if index is None or "gradcam" not in maps:
        return ""
    classes = subject.network.classes
    return classes[index] if index < len(classes) else f"output {index}"
