"""Content of the figure of a `Trust`: bars for single numbers, curves for weights, deletion and insertion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from deconvviz.figures.spec.curves import Curve, CurvePanel, Reference
from deconvviz.figures.spec.measures import Bar, BarPanel, MeasuresFigure
from deconvviz.figures.spec.style import MeasuresStyle
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.wording import counted

_BARS = (  # key, title, note, which direction is better
    ("likeness", "Likeness", "correlation of the maps of different units at one place", ""),
    ("identification", "Identification", "share of maps that excite their own unit most", "higher"),
    ("switches", "Switches", "correlation with maps of random signals through the same switches", "lower"),
    ("deletion", "Deletion", "activation left while the pixels of most energy are blurred", "lower"),
    ("insertion", "Insertion", "activation back while only these pixels are shown", "higher"),
)
_PARTS = (
    ("finds", "Finds parts", "rank correlation with the true effect of each part", "higher"),
    ("tells_apart", "Tells units apart", "the same between units of one place", "higher"),
    ("energy_over_area", "Energy over area", "on the part of largest effect", "higher"),
    ("pointing", "Pointing game", "highest pixel in the part of largest effect", "higher"),
)


class Measured(Protocol):
    """What a figure needs of a `Trust`."""

    @property
    def network(self) -> NetworkInfo: ...
    @property
    def layer(self) -> Layer: ...
    @property
    def place(self) -> str: ...
    @property
    def pictures(self) -> tuple[str, ...]: ...
    @property
    def units(self) -> int: ...
    @property
    def measures(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def titles(self) -> Mapping[str, str]: ...
    def summary(self) -> list[str]: ...


def figure_of(trust: Measured, style: MeasuresStyle) -> MeasuresFigure:
    """Return the content of the figure."""
    count = counted(len(trust.pictures), "image")
    facts = [f"weights: {trust.network.origin.short}", f"{counted(trust.units, 'unit')} of {count}"]
    title = (
        f"{trust.network.name} · {trust.layer.name} · how far to trust the maps of its units",
        " · ".join([*facts, *filter(None, [trust.place])]),
    )
    return MeasuresFigure(
        title=title,
        methods=tuple(trust.titles[name] for name in trust.measures),
        bars=tuple(_bar_panels(trust)),
        curves=tuple(_curve_panels(trust)),
        sentences=tuple(trust.summary()),
        style=style,
    )


def _bar_panels(trust: Measured) -> list[BarPanel]:
    every = list(trust.measures.values())
    panels = [
        BarPanel(title, note, tuple(_bar(one[key]) for one in every), better)
        for key, title, note, better in _BARS
    ]
    if any(one["parts"] for one in every):
        panels += [
            BarPanel(title, note, tuple(_bar((one["parts"] or {}).get(key)) for one in every), better)
            for key, title, note, better in _PARTS
        ]
    return [panel for panel in panels if any(bar is not None for bar in panel.bars)]


def _bar(measure: Mapping[str, Any] | None) -> Bar | None:
    if measure is None or measure["value"] is None:
        return None
    return Bar(measure["value"], measure["low"], measure["high"], measure["baseline"])


def _curve_panels(trust: Measured) -> list[CurvePanel]:
    names = list(trust.measures)
    panels = [
        _weights(trust, names, "cascading", "Weights shuffled from the layer down"),
        _weights(trust, names, "independent", "Weights of one module shuffled"),
        _pixels(trust, names, "deletion", "Deletion: pixels of most energy blurred", "activation left"),
        _pixels(trust, names, "insertion", "Insertion: pixels of most energy shown", "activation back"),
    ]
    return [panel for panel in panels if panel is not None]


def _weights(trust: Measured, names: Sequence[str], order: str, title: str) -> CurvePanel | None:
    curves = []
    entries: Sequence[Mapping[str, Any]] = ()
    for name in names:
        entries = trust.measures[name]["weights"][order]
        values = [float("nan") if entry["spearman"] is None else entry["spearman"] for entry in entries]
        if any(value == value for value in values):
            curves.append(Curve(trust.titles[name], _array(range(len(values))), _array(values)))
    if not curves:
        return None
    modules = [entry["module"] for entry in entries if entry["module"]]
    if order == "cascading":
        label = f"modules with random weights: 0, then {modules[0]} down to {modules[-1]}"
    else:
        label = f"module: {modules[0]} down to {modules[-1]}"
    baselines = trust.measures[names[0]]["weights"]["baselines"]
    lines = [
        Reference(value, f"{trust.titles[names[0]]} map against {what}")
        for key, what in (("sobel", "the image's edges"), ("noise", "noise"))
        if (value := baselines[key]["spearman"]) is not None
    ]
    return CurvePanel(tuple(curves), label, "similarity (Spearman)", title, references=tuple(lines))


def _pixels(trust: Measured, names: Sequence[str], kind: str, title: str, label: str) -> CurvePanel | None:
    curves = []
    for name in names:
        curve = trust.measures[name][kind]["curve"]
        if curve["percent"]:
            curves.append(Curve(trust.titles[name], _array(curve["percent"]), _array(curve["value"])))
    if not curves:
        return None
    first = trust.measures[names[0]][kind]["curve"]
    curves.append(Curve("random pixels", _array(first["percent"]), _array(first["random"]), markers=False))
    return CurvePanel(tuple(curves), "pixels of the receptive field", label, title, x_units="%")


def _array(values: Sequence[float]) -> Any:
    return np.array(values, np.float64)
