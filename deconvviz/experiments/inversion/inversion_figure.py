"""Figure of an `Inversion`: image, inverse, projections of the strongest units, and curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deconvviz.experiments.inversion.measures import PictureMeasures
from deconvviz.experiments.inversion.names import PRIOR_TEXT
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves
from deconvviz.figures.spec.panels import Panels
from deconvviz.figures.spec.style import PERCENTILE, CurvesStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, Mark, TileGrid
from deconvviz.figures.spec.validation import check_percentile
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.projection import Projection


@dataclass(frozen=True)
class InversionStyle:
    """The style of a figure of inversion.

    Args:
        percentile: Each projection is clipped at this percentile of its non-zero absolute values (100: no
            clipping).
    """

    percentile: float = PERCENTILE

    def __post_init__(self) -> None:
        check_percentile(self.percentile)


class Settings(Protocol):
    """What the figure needs of the settings."""

    @property
    def prior(self) -> str: ...
    @property
    def prior_weight(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Inverted(Protocol):
    """What the figure needs of an `Inversion`."""

    @property
    def network(self) -> NetworkInfo: ...
    @property
    def layer(self) -> Layer: ...
    @property
    def name(self) -> str: ...
    @property
    def original(self) -> np.ndarray[Any, Any]: ...
    @property
    def shown(self) -> np.ndarray[Any, Any]: ...
    @property
    def curve(self) -> Mapping[str, np.ndarray[Any, Any]]: ...
    @property
    def relative_error(self) -> float: ...
    @property
    def measures(self) -> PictureMeasures: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def projection(self) -> Projection | None: ...


def figure_of(one: Inverted, style: InversionStyle) -> Panels:
    """Return the content of the figure."""
    settings = one.settings
    weight = f" (weight {settings.prior_weight:g})" if settings.prior_weight else ""
    return Panels(
        title=(
            f"{one.network.name} · {one.layer.name} · {printable(one.name)} · inversion",
            f"prior: {PRIOR_TEXT[settings.prior]}{weight} · {settings.steps} steps · seed {settings.seed} · "
            f"weights: {one.network.origin.short} · {one.layer.field_text}",
        ),
        rows=((_pictures(one, style),), (_curves(one),)),
        footer=(
            "the inverse is one of many pictures with nearly the features of the image at this layer · a "
            "projection shows what reached one unit; the box is its receptive field"
        ),
    )


def _pictures(one: Inverted, style: InversionStyle) -> TileGrid:
    ssim = "" if one.measures.ssim is None else f" · SSIM {one.measures.ssim:.2f}"
    tiles = [
        GridTile(one.original, "image", ("as the network gets it",)),
        GridTile(
            one.shown,
            "image",
            (
                f"relative error {one.relative_error:.3g}",
                f"PSNR {one.measures.psnr:.1f} dB{ssim}",
            ),
        ),
        *_projections(one),
    ]
    labels = ["image", "inverse", *(["projection"] * (len(tiles) - 2))]
    return TileGrid(
        title=(),
        tiles=(tuple(tiles),),
        column_labels=tuple(labels),
        style=TileGridStyle("tile", style.percentile, limits=False),
        units="in pixel values",
    )


def _projections(one: Inverted) -> list[GridTile]:
    found = one.projection
    if found is None:
        return []
    height, width = one.original.shape[:2]
    tiles = []
    for number, unit in enumerate(found.units):
        x0, y0, x1, y1 = found.boxes[number]
        seen = x1 > x0 and y1 > y0
        where = "" if unit.y is None else f" at ({unit.y}, {unit.x})"
        tiles.append(
            GridTile(
                found.crop_at(number, (0, 0, width, height)),
                "signed",
                (f"channel {unit.channel}{where}", f"activation {unit.activation:.3g}"),
                marks=(Mark((x0, y0, x1, y1)),) if seen else (),
            )
        )
    return tiles


def _curves(one: Inverted) -> Curves:
    distance = np.sqrt(one.curve["distance"])
    steps = np.arange(len(distance))
    loss = one.curve["loss"]
    parts = [Curve("loss", steps, loss, markers=False)]
    if one.settings.prior != "none":
        parts += [
            Curve("distance of the features", steps, one.curve["distance"], markers=False),
            Curve("prior", steps, one.curve["prior"] + one.curve["range"], markers=False),
        ]
    error = Curve("relative error", steps, distance, markers=False)
    return Curves(
        (),
        (
            CurvePanel((error,), "step", "relative error of the features", y_range=(0.0, _top(distance))),
            CurvePanel(tuple(parts), "step", "loss and its parts", y_range=(0.0, _top(loss))),
        ),
        CurvesStyle(shared_y=False, columns=2),
    )


def _top(values: np.ndarray[Any, Any]) -> float:
    """Return an upper limit of an axis that shows all but the first few steps."""
    late = float(values[len(values) // 50 :].max())
    return 1.1 * max(late, float(values.min())) or 1.0
