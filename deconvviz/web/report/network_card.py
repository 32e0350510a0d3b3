"""Facts about a network, and its layers as a strip drawn to the scale of their receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from deconvviz.coverage import Coverage
from deconvviz.layers import Layer, LayerTable, cells
from deconvviz.models.model_spec import PLAIN
from deconvviz.web.report.document import Fact
from deconvviz.wording import counted

if TYPE_CHECKING:
    from deconvviz.network import Network

_NEAR = 4.0  # percent of the strip; numbers of chosen layers that are nearer are written in different rows
_END = 2.0  # percent
_LEAST = 0.02  # height of the bar of a small field, as a share of the strip
_CLASSES = 5


@dataclass(frozen=True)
class StripBar:
    """One layer of the strip: left side and width in percent, height as a share of the image's side."""

    x: float
    width: float
    height: float
    kind: str  # field, whole, unknown or without (cannot be projected, or a constant)


@dataclass(frozen=True)
class ChosenLayer:
    """A layer of the results. `row` is the row of its number above the strip."""

    number: int
    name: str
    text: str
    x: float
    row: int
    bar: StripBar

    @property
    def anchor(self) -> str:
        """Where the number is relative to `x`, so that it is not cut at the ends of the strip."""
        return "start" if self.x < _END else "end" if self.x > 100 - _END else "middle"


@dataclass(frozen=True)
class LayerStrip:
    """Layers from the image (left) to the output (right)."""

    bars: tuple[StripBar, ...]
    chosen: tuple[ChosenLayer, ...]
    rows: int
    side: int  # of the image in pixels
    whole: bool  # whether all layers of the network are shown
    name: str


@dataclass(frozen=True)
class Operation:
    """An operation and the support of its projection rule."""

    name: str
    calls: str
    support: str
    how: str


@dataclass(frozen=True)
class NetworkCard:
    """Everything that a report says about one network."""

    name: str
    digest: str
    facts: tuple[Fact, ...]
    strip: LayerStrip | None
    support: str
    operations: tuple[Operation, ...]
    layers: tuple[tuple[str, ...], ...]  # rows of the table of layers; empty without the network


@dataclass(frozen=True)
class Asked:
    """A layer of the results, with the largest receptive field of its units as far as it is known."""

    name: str
    field: tuple[int, int] | None  # (rows, columns), cut at the border


def card_of(described: Sequence[Mapping[str, Any]], asked: Sequence[Asked]) -> NetworkCard:
    """Return the card of one network from the descriptions of its results."""
    network, first = described[0]["network"], described[0]
    approximate: dict[str, Operation] = {}
    for one in described:
        for use in one.get("by_analogy") or ():
            calls = counted(int(use["count"]), "call")
            approximate.setdefault(use["op"], Operation(use["op"], calls, "approximate", use["how"]))
    known = any("by_analogy" in one for one in described)
    support = ""
    if known:
        support = "All operations in the projections are exact."
        if approximate:
            count = counted(len(approximate), "operation")
            support = f"{count} in the projections {'is' if len(approximate) == 1 else 'are'} approximate."
    side = _side(_lengths(network.get("preprocessing") or {}))
    return NetworkCard(
        str(network.get("name")),
        str(network.get("digest")),
        (*_facts(network), *_versions(first)),
        _short_strip(asked, side) if side else None,
        support,
        tuple(approximate.values()),
        (),
    )


def with_network(card: NetworkCard, network: Network, asked: Sequence[Asked]) -> NetworkCard:
    """Return a card with the classes, the operations and all layers of a network."""
    table = network.layers
    known = set(table.names)
    names = [one.name for one in asked if one.name in known]
    coverage = network.coverage(names)
    side = _side(network.preprocessing.input_shape[1:])
    classes = [("Classes", _classes(network.classes))] if network.classes else []
    return replace(
        card,
        facts=(*card.facts, *classes, ("Layers", f"{len(table)}, listed below")),
        strip=_whole_strip(table, names, side) if side else None,
        support=_support(coverage),
        operations=tuple(
            Operation(use.op, counted(use.count, "call"), use.support.value, use.note)
            for use in coverage.uses
        ),
        layers=tuple(cells(layer) for layer in table),
    )


def _facts(network: Mapping[str, Any]) -> list[Fact]:
    model = network.get("model") or {}
    registry = "" if model.get("registry") == PLAIN else model.get("registry")
    found = [("Network", str(network.get("name")) + (f" ({registry})" if registry else ""))]
    if arguments := model.get("arguments"):
        found.append(("Arguments", ", ".join(f"{name}={value}" for name, value in arguments.items())))
    weights = _without_folder(str(network.get("source", "unknown")), network.get("weights"))
    seed = network.get("seed")
    found.append(("Weights", weights if seed is None else f"{weights}, seed {seed}"))
    found.append(("Digest", str(network.get("digest"))))
    if missing := network.get("missing"):
        found.append(("Missing weights", ", ".join(missing)))
    if preprocessing := network.get("preprocessing"):
        found.append(("Preprocessing", _preprocessing(preprocessing)))
    if network.get("dtype"):
        found.append(("Computed", f"in {network['dtype']} on {network.get('device')}"))
    return found


def _without_folder(source: str, given: str | None) -> str:
    """Return the source of the weights; of a file, only the name, because a report is handed to others."""
    return PurePath(source).name if source == given else source


def _versions(described: Mapping[str, Any]) -> list[Fact]:
    versions = described.get("versions") or {}
    return (
        [("Versions", ", ".join(f"{name} {value}" for name, value in versions.items()))] if versions else []
    )


def _preprocessing(settings: Mapping[str, Any]) -> str:
    if "array" in settings or len(settings["mean"]) not in (1, 3):
        shape = (len(settings["mean"]), *_lengths(settings))
        parts = [f"arrays of {' x '.join(map(str, shape))}, channels first"]
    else:
        rows, columns = _lengths(settings)
        parts = [
            f"resize to {_px(settings['resize'])} ({settings['interpolation']}, {settings['crop_mode']})",
            f"crop {columns} x {rows} px",
        ]
    parts += [
        f"mean {_numbers(settings['mean'])}",
        f"standard deviation {_numbers(settings['std'])}",
    ]
    return ", ".join(parts)


def _lengths(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the lengths of the network's input: rows and columns of a picture; empty if unknown."""
    if "array" in settings:
        return tuple(map(int, settings["array"][1:]))
    crop = settings.get("crop", ())
    return (crop, crop) if isinstance(crop, int) else tuple(map(int, crop))


def _side(lengths: Sequence[int]) -> int:
    """Return the longer side of a picture, and 0 for other inputs, whose fields are not drawn."""
    return max(lengths) if len(lengths) == 2 else 0


def _px(size: Any) -> str:
    return f"{size} px" if isinstance(size, int) else f"{size[1]} x {size[0]} px"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_CLASSES])
    more = f" and {len(names) - _CLASSES:,} more" if len(names) > _CLASSES else ""
    return f"{len(names):,}: {shown}{more}"


def _support(coverage: Coverage) -> str:
    counts = [
        f"{sum(use.count for use in uses)} {word}"
        for uses, word in (
            (coverage.exact, "exact"),
            (coverage.approximate, "approximate"),
            (coverage.unsupported, "unsupported"),
        )
    ]
    calls = counted(coverage.calls, "call")
    return f"{calls} of operations in the projections of these layers: {', '.join(counts)}."


def _whole_strip(table: LayerTable, names: Sequence[str], side: int) -> LayerStrip:
    step = 100 / len(table)
    bars = tuple(_bar(layer, number * step, step, side) for number, layer in enumerate(table))
    numbers = {table.find(name).name: None for name in names}
    found = [(number, layer) for number, layer in enumerate(table) if layer.name in numbers]
    chosen = [
        ChosenLayer(place, layer.name, f"{layer.kind}, {layer.field_text}", (number + 0.5) * step, 0,
                    bars[number])
        for place, (number, layer) in enumerate(found, 1)
    ]  # fmt: skip
    return _strip(bars, chosen, side, whole=True)


def _short_strip(asked: Sequence[Asked], side: int) -> LayerStrip | None:
    """Return a strip of the layers of the results only. Their fields are those of their units."""
    if not asked:
        return None
    order = sorted(asked, key=lambda one: max(one.field or (side + 1,)))
    step = 100 / len(order)
    chosen = []
    for number, one in enumerate(order):
        kind, text = "unknown", "receptive field: unknown"
        if one.field is not None:
            kind = "whole" if min(one.field) >= side else "field"
            text = (
                f"largest receptive field of its units, cut at the border: {one.field[1]} x {one.field[0]} px"
            )
        height = 1.0 if one.field is None else min(1.0, max(one.field) / side)
        width = min(step * 0.6, 8.0)
        bar = StripBar((number + 0.5) * step - width / 2, width, max(height, _LEAST), kind)
        chosen.append(ChosenLayer(number + 1, one.name, text, (number + 0.5) * step, 0, bar))
    return _strip((), chosen, side, whole=False)


def _strip(
    bars: tuple[StripBar, ...], chosen: Sequence[ChosenLayer], side: int, *, whole: bool
) -> LayerStrip:
    placed: list[ChosenLayer] = []
    last: list[float] = []  # of each row, the position of its last number
    for one in chosen:
        row = next((row for row, x in enumerate(last) if one.x - x >= _NEAR), len(last))
        last[row : row + 1] = [one.x]
        placed.append(replace(one, row=row))
    names = ", ".join(f"{one.number}: {one.name}, {one.text}" for one in placed)
    return LayerStrip(bars, tuple(placed), len(last), side, whole, f"Layers of the results: {names}")


def _bar(layer: Layer, x: float, step: float, side: int) -> StripBar:
    if layer.unsupported or layer.is_constant or layer.lacks_weights:
        kind, height = "without", _LEAST
    elif layer.sees_all:
        kind, height = "whole", 1.0
    elif layer.field is None:
        kind, height = "unknown", 1.0
    else:
        height = min(1.0, max(layer.field) / side)
        kind = "whole" if height == 1.0 else "field"
    return StripBar(round(x, 3), round(step * 0.9, 3), round(max(height, _LEAST), 4), kind)
