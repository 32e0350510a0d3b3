"""How a figure is drawn, apart from what it shows. A style is checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from deconvviz.figures.spec.validation import check_choice, check_columns, check_flag, check_percentile

PERCENTILE = 99.5
"""Default clipping percentile. A few outliers would otherwise make the rest look grey."""

SHEET_SCALES = ("sheet", "row", "tile")
GRID_SCALES = ("grid", "row", "column", "tile")
LAYOUTS = ("panels", "pairs")


@dataclass(frozen=True)
class SheetStyle:
    """The style of a sheet.

    `scale` says which tiles share one colour scale: all of the ``sheet``, those of a ``row``, or each
    ``tile`` has its own. Projections are clipped at this `percentile` of their non-zero absolute values
    (100: no clipping). `columns` is the number of tiles in a full row; None chooses it.
    """

    scale: str = "sheet"
    percentile: float = PERCENTILE
    columns: int | None = None
    projection_only: bool = False

    def __post_init__(self) -> None:
        check_choice(self.scale, SHEET_SCALES, "scale")
        check_percentile(self.percentile)
        check_columns(self.columns)


@dataclass(frozen=True)
class TopNineStyle:
    """The style of a top-nine figure.

    With the layout ``panels`` all projections of a layer are on the left and all its patches on the right,
    as in the paper; with ``pairs`` each channel's patches are next to its projections. Each channel's
    projections are clipped at this `percentile` of their non-zero absolute values (100: no clipping).
    `columns` is the number of channels side by side; None chooses it.
    """

    layout: str = "panels"
    percentile: float = PERCENTILE
    columns: int | None = None

    def __post_init__(self) -> None:
        check_choice(self.layout, LAYOUTS, "layout")
        check_percentile(self.percentile)
        check_columns(self.columns)


@dataclass(frozen=True)
class TileGridStyle:
    """The style of a tile grid.

    `scale` says which tiles share one colour scale: all of the ``grid``, those of a ``row`` or a ``column``,
    or each ``tile`` has its own. Signed tiles are clipped at this `percentile` of their non-zero absolute
    values (100: no clipping); maps are never clipped.
    """

    scale: str = "grid"
    percentile: float = PERCENTILE

    def __post_init__(self) -> None:
        check_choice(self.scale, GRID_SCALES, "scale")
        check_percentile(self.percentile)


@dataclass(frozen=True)
class CurvesStyle:
    """The style of curves: whether all panels have one y range, and the number of panels side by side."""

    shared_y: bool = True
    columns: int | None = None

    def __post_init__(self) -> None:
        check_flag(self.shared_y, "shared_y")
        check_columns(self.columns)
