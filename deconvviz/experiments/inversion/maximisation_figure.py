"""Figure of a `Maximisation`: pictures with their activations, and curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.style import CurvesStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.figures.spec.validation import check_columns
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo

COLUMNS = 5
"""Default number of pictures side by side."""
LINES = 8
"""Largest number of pictures whose curves have a legend entry of their own (ours)."""

_OBJECTIVE = {"mean": "mean of the channel", "centre": "centre unit", "unit": "activation of the unit"}


@dataclass(frozen=True)
class MaximisationStyle:
    """The style of a figure of maximisation.

    Args:
        columns: Number of pictures side by side; None chooses it: the pictures of one channel, else 5.
    """

    columns: int | None = None

    def __post_init__(self) -> None:
        check_columns(self.columns)


class Settings(Protocol):
    """What the figure needs of the settings."""

    @property
    def objective(self) -> str: ...
    @property
    def parametrisation(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def pictures(self) -> int: ...


class Picture(Protocol):
    """What the figure needs of a picture."""

    @property
    def channel(self) -> int: ...
    @property
    def y(self) -> int | None: ...
    @property
    def x(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def shown(self) -> np.ndarray[Any, Any]: ...
    @property
    def activation(self) -> float: ...
    @property
    def curve(self) -> np.ndarray[Any, Any]: ...


class Found(Protocol):
    """What the figure needs of an activation in natural images."""

    @property
    def activation(self) -> float: ...


class Maximised(Protocol):
    """What the figure needs of a `Maximisation`."""

    @property
    def network(self) -> NetworkInfo: ...
    @property
    def layer(self) -> Layer: ...
    @property
    def pictures(self) -> tuple[Picture, ...]: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def natural(self) -> Mapping[int, Found | None]: ...
    @property
    def searched(self) -> tuple[int, str] | None: ...


def figure_of(one: Maximised, style: MaximisationStyle) -> Panels:
    """Return the content of the figure."""
    settings = one.settings
    return Panels(
        title=(
            f"{one.network.name} · {one.layer.name} · activation maximisation",
            f"made up by optimisation, not images of a dataset · objective: {_OBJECTIVE[settings.objective]} "
            f"· {settings.parametrisation}, {settings.steps} steps · weights: {one.network.origin.short} · "
            f"{one.layer.field_text}",
        ),
        rows=((_grid(one, style),), (_curves(one),)),
        footer=(
            "each picture is one of many that activate its channel strongly; another seed gives another one "
            "· highest: strongest activation of the channel at any position"
        ),
    )


def _grid(one: Maximised, style: MaximisationStyle) -> TileGrid:
    of_channel = one.settings.pictures
    usual = of_channel if of_channel > 1 else min(COLUMNS, len(one.pictures))
    columns = min(style.columns or usual, len(one.pictures))
    tiles: list[GridTile | None] = [_tile(one, picture) for picture in one.pictures]
    tiles += [None] * (-len(tiles) % columns)
    rows = [tuple(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    return TileGrid((), tuple(rows), style=TileGridStyle("tile", limits=False))


def _tile(one: Maximised, picture: Picture) -> GridTile:
    lines = [_name(one, picture), f"highest {picture.activation:.3g}"]
    if one.searched is not None:
        found = one.natural.get(picture.channel)
        if found is None:
            lines.append(f"silent in {one.searched[0]:,} images")
        else:
            lines.append(f"in {one.searched[0]:,} images {found.activation:.3g}")
    return GridTile(picture.shown, "image", tuple(lines))


def _name(one: Maximised, picture: Picture) -> str:
    place = "" if picture.y is None else f" at ({picture.y}, {picture.x})"
    seed = f", seed {picture.seed}" if one.settings.pictures > 1 else ""
    return f"channel {picture.channel}{place}{seed}"


def _curves(one: Maximised) -> Curves:
    steps = np.arange(one.settings.steps + 1)
    if len(one.pictures) <= LINES:
        lines = [Curve(_name(one, picture), steps, picture.curve, markers=False) for picture in one.pictures]
    else:
        every = np.stack([picture.curve for picture in one.pictures])
        label = f"median of {len(every)} pictures, 10-90 %"
        low, high = np.percentile(every, [10, 90], axis=0)
        lines = [Curve(label, steps, np.median(every, axis=0), (low, high), markers=False)]
    panel = CurvePanel(tuple(lines), "step", _OBJECTIVE[one.settings.objective])
    return Curves((), (panel,), CurvesStyle(columns=2))
