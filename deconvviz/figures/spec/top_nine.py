"""A top-nine figure, as Figure 2 of the paper: the strongest units of several channels.

A panel is one layer, a block is one channel, and a crop is one unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from deconvviz.errors import FigureError
from deconvviz.figures.spec.arrays import Array, check_pair
from deconvviz.figures.spec.colour import Limit, limit_of
from deconvviz.figures.spec.crop import Cut, Projected, Size, largest
from deconvviz.figures.spec.style import TopNineStyle
from deconvviz.figures.spec.validation import check_count, check_flag, check_text, lines_of
from deconvviz.wording import counted


@dataclass(frozen=True, eq=False, repr=False)
class Crop(Projected):
    """Projection and patch of a unit, both (height, width, 3) and cropped to the same box.

    `projection` is signed; `patch` has colours from 0 to 1. `cut_left`, `cut_top`, `cut_right` and
    `cut_bottom` are True if the receptive field is cut at that side of the image. `note` is written into the
    crop, for example to say why it is zero.
    """

    projection: Array
    patch: Array
    cut_left: bool = False
    cut_top: bool = False
    cut_right: bool = False
    cut_bottom: bool = False
    note: str | None = None

    def __post_init__(self) -> None:
        check_pair(self.projection, self.patch, "crop")
        check_text(self.note, "crop: note")

    @property
    def cut(self) -> Cut:
        """Sides on which the receptive field is cut at the image border."""
        return Cut(self.cut_left, self.cut_top, self.cut_right, self.cut_bottom)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Crop({width}x{height} px)"


@dataclass(frozen=True, eq=False, repr=False)
class ChannelBlock:
    """One channel: its crops, strongest first, on one colour scale.

    `caption` are lines about the activations, `size` is the size of the crops as text.
    """

    name: str
    caption: tuple[str, ...]
    crops: tuple[Crop, ...]
    size: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise FigureError(
                f"block name {self.name!r}: it must be text that is not empty. Give the name of the channel"
            )
        object.__setattr__(self, "caption", lines_of(self.caption, f"{self.name}: caption"))
        check_text(self.size, f"{self.name}: size")
        object.__setattr__(self, "crops", tuple(self.crops))
        if not self.crops:
            raise FigureError(f"{self.name} has no crops: a block needs at least one")

    @cached_property
    def largest_crop(self) -> Size:
        """Largest height and largest width of the crops, in pixels."""
        return largest(crop.size for crop in self.crops)

    def limit(self, percentile: float) -> Limit:
        """Return the limit of the colour scale that all crops share."""
        return limit_of([crop.projection for crop in self.crops], percentile=percentile, what=self.name)

    def __repr__(self) -> str:
        return f"ChannelBlock({' · '.join((self.name, *self.caption))}; {counted(len(self.crops), 'crop')})"


@dataclass(frozen=True, eq=False, repr=False)
class LayerPanel:
    """One layer: the blocks of its channels. The first line of `title` is its name; others explain it."""

    title: tuple[str, ...]
    blocks: tuple[ChannelBlock, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "panel title"))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.title or not self.title[0].strip():
            raise FigureError("a panel has no title. Give the name of the layer")
        if not self.blocks:
            raise FigureError(f"{self.title[0]} has no blocks. Choose at least one channel")

    @cached_property
    def largest_crop(self) -> Size:
        """Largest height and largest width of the crops, in pixels."""
        return largest(crop.size for block in self.blocks for crop in block.crops)

    def __repr__(self) -> str:
        return f"LayerPanel({self.title[0]!r}: {counted(len(self.blocks), 'block')})"


@dataclass(frozen=True, eq=False, repr=False)
class TopNineFigure:
    """Figure of one or more layers, each with one or more channels.

    `top` is the number of frames in a block; None uses the largest number of crops in a block. `units` names
    the units of the projections' values. `crop_text` is the part of the caption that says how the crops are
    cut out. The crops of a layer share one zoom; with `zoom_each`, each channel has its own zoom. `across` is
    the number of frames side by side in a block, for strips of one row for each unit; None makes blocks as
    square as possible.
    """

    title: tuple[str, ...]
    panels: tuple[LayerPanel, ...]
    style: TopNineStyle = field(default_factory=TopNineStyle)
    top: int | None = None
    footer: str = ""
    units: str = "network input units"
    crop_text: str = ""
    zoom_each: bool = False
    across: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "panels", tuple(self.panels))
        check_text(self.crop_text, "crop text")
        check_flag(self.zoom_each, "zoom_each")
        if not self.panels:
            raise FigureError("a top-nine figure needs at least one panel. Choose at least one layer")
        check_count(self.top, "top")
        check_count(self.across, "across")
        for panel in self.panels:
            for block in panel.blocks:
                if self.top is not None and len(block.crops) > self.top:
                    raise FigureError(
                        f"{panel.title[0]}, {block.name} has {len(block.crops)} crops, but top is "
                        f"{self.top}. Leave out the weakest crops, or increase top"
                    )

    def fills_frame(self, panel: LayerPanel, block: ChannelBlock) -> Size:
        """Return the size of a crop that fills a frame of this block."""
        return block.largest_crop if self.zoom_each else panel.largest_crop

    @cached_property
    def block_shape(self) -> tuple[int, int]:
        """(rows, columns) of the frames in a block, as square as possible."""
        count = self.top or max(len(block.crops) for panel in self.panels for block in panel.blocks)
        columns = self.across or math.ceil(math.sqrt(count))
        return math.ceil(count / columns), columns

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"TopNineFigure({name!r}: {counted(len(self.panels), 'panel')}, layout {self.style.layout})"
