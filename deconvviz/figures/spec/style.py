"""Style of a figure, apart from its content. Styles are validated when created."""

from __future__ import annotations

from dataclasses import dataclass

from deconvviz.figures.spec.validation import (
    check_bands,
    check_choice,
    check_columns,
    check_flag,
    check_percentile,
    check_width,
)

PERCENTILE = 99.5
"""Default clipping percentile. A few outliers would otherwise make the rest look grey."""

SHEET_SCALES = ("sheet", "row", "tile")
GRID_SCALES = ("grid", "row", "column", "tile")
LAYOUTS = ("panels", "pairs")
CROPS = ("effective", "field")
MEDIA = ("screen", "paper", "slide")
DPI = {"screen": 200.0, "paper": 300.0, "slide": 200.0}
"""Default dots per inch of a saved figure, by medium."""


@dataclass(frozen=True)
class SheetStyle:
    """The style of a sheet.

    Args:
        scale: Tiles that share one colour scale: all of the ``sheet``, those of a ``row``, or each ``tile``
            on its own.
        percentile: Projections are clipped at this percentile of their non-zero absolute values (100: no
            clipping).
        columns: Number of tiles in a full row; None chooses it.
        projection_only: Draw projections without patches.
        crop: How patches and projections are cropped. ``effective``: the smallest square that contains 98 %
            of each projection's energy, with one size for the sheet; ``field``: the receptive field.
        medium: ``screen``, ``paper`` (one column, 86 mm wide) or ``slide`` (16:9, large type).
        bands: Bands that are shown of a picture with other channels than red, green and blue: three of them,
            or one, counted from 1; None for the first three.
    """

    scale: str = "sheet"
    percentile: float = PERCENTILE
    columns: int | None = None
    projection_only: bool = False
    crop: str = "effective"
    medium: str = "screen"
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_choice(self.scale, SHEET_SCALES, "scale")
        check_percentile(self.percentile)
        check_columns(self.columns)
        check_choice(self.crop, CROPS, "crop")
        check_choice(self.medium, MEDIA, "medium")
        if self.bands is not None:
            object.__setattr__(self, "bands", check_bands(self.bands))


@dataclass(frozen=True)
class TopNineStyle:
    """The style of a top-nine figure.

    Args:
        layout: ``panels``: all projections of a layer on the left and all its patches on the right, as in
            Figure 2 of the paper. ``pairs``: the patches of each channel next to its projections.
        percentile: Each channel's projections are clipped at this percentile of their non-zero absolute
            values (100: no clipping).
        columns: Number of channels side by side; None chooses it.
        crop: How patches and projections are cropped. ``effective``: the smallest square that contains 98 %
            of each projection's energy, with one size for each channel; ``field``: the receptive field.
        medium: ``screen``, ``paper`` (one column, 86 mm wide) or ``slide`` (16:9, large type).
        bands: Bands that are shown of pictures with other channels than red, green and blue, as in
            `SheetStyle`.

    A figure of signals has one row of signals above one of projections for each channel, and neither
    `layout`, `columns` nor `crop`.
    """

    layout: str = "panels"
    percentile: float = PERCENTILE
    columns: int | None = None
    crop: str = "effective"
    medium: str = "screen"
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_choice(self.layout, LAYOUTS, "layout")
        check_percentile(self.percentile)
        check_columns(self.columns)
        check_choice(self.crop, CROPS, "crop")
        check_choice(self.medium, MEDIA, "medium")
        if self.bands is not None:
            object.__setattr__(self, "bands", check_bands(self.bands))


@dataclass(frozen=True)
class TileGridStyle:
    """The style of a tile grid.

    Args:
        scale: Tiles that share one colour scale: all of the ``grid``, those of a ``row`` or a ``column``, or
            each ``tile`` on its own.
        percentile: Signed tiles are clipped at this percentile of their non-zero absolute values (100: no
            clipping). Maps are never clipped at a percentile.
        medium: ``screen``, ``paper`` (one column, 86 mm wide, or two if the tiles do not fit) or ``slide``
            (16:9, large type).
        limits: Write the limits of the colour scales next to the tiles, unless all tiles share one.
    """

    scale: str = "grid"
    percentile: float = PERCENTILE
    medium: str = "screen"
    limits: bool = True

    def __post_init__(self) -> None:
        check_choice(self.scale, GRID_SCALES, "scale")
        check_percentile(self.percentile)
        check_choice(self.medium, MEDIA, "medium")
        check_flag(self.limits, "limits")


@dataclass(frozen=True)
class ComparisonStyle:
    """The style of a comparison of methods. Each tile has its own colour scale.

    Args:
        percentile: Maps are clipped at this percentile of their non-zero absolute values (100: no clipping).
        crop: How patches and maps are cropped. ``effective``: the smallest square that contains 98 % of the
            energy of each deconvnet projection, with one size for the figure; ``field``: the receptive field.
        medium: ``screen``, ``paper`` (one column, 86 mm wide, or two if the tiles do not fit) or ``slide``
            (16:9, large type).
    """

    percentile: float = PERCENTILE
    crop: str = "effective"
    medium: str = "screen"

    def __post_init__(self) -> None:
        check_percentile(self.percentile)
        check_choice(self.crop, CROPS, "crop")
        check_choice(self.medium, MEDIA, "medium")


@dataclass(frozen=True)
class OcclusionStyle:
    """The style of a figure of occlusion. Each tile has its own colour scale.

    Args:
        percentile: Projections are clipped at this percentile of their non-zero absolute values (100: no
            clipping). Maps are never clipped.
        medium: ``screen``, ``paper`` (one column, 86 mm wide, or two if the tiles do not fit) or ``slide``
            (16:9, large type).
    """

    percentile: float = PERCENTILE
    medium: str = "screen"

    def __post_init__(self) -> None:
        check_percentile(self.percentile)
        check_choice(self.medium, MEDIA, "medium")


@dataclass(frozen=True)
class FiltersStyle:
    """The style of a figure of filters.

    Args:
        percentile: Weights and projections are clipped at this percentile of their non-zero absolute values
            (100: no clipping).
        medium: ``screen``, ``paper`` (one column, 86 mm wide, or two if the tiles do not fit) or ``slide``
            (16:9, large type).
    """

    percentile: float = PERCENTILE
    medium: str = "screen"

    def __post_init__(self) -> None:
        check_percentile(self.percentile)
        check_choice(self.medium, MEDIA, "medium")


@dataclass(frozen=True)
class CurvesStyle:
    """The style of curves.

    Args:
        shared_y: Use one y range for all panels.
        columns: Number of panels side by side; None chooses it.
        legend: Draw the legend.
    """

    shared_y: bool = True
    columns: int | None = None
    legend: bool = True

    def __post_init__(self) -> None:
        check_flag(self.shared_y, "shared_y")
        check_columns(self.columns)
        check_flag(self.legend, "legend")


@dataclass(frozen=True)
class PanelsStyle:
    """The style of a figure of panels.

    Args:
        width: Width in inches; None is one page.
    """

    width: float | None = None

    def __post_init__(self) -> None:
        check_width(self.width)


@dataclass(frozen=True)
class MeasuresStyle:
    """The style of a figure of measures.

    Args:
        columns: Number of panels of bars side by side; None chooses it.
    """

    columns: int | None = None

    def __post_init__(self) -> None:
        check_columns(self.columns)
