"""A top-nine figure, the paper's Figure 2: the strongest crops of several channels.

A panel is one layer, a block one channel, a crop one unit.
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
from deconvviz.figures.spec.validation import check_count, check_text, lines_of


@dataclass(frozen=True, eq=False, repr=False)
class Crop(Projected):
    """A unit's projection and its patch, (height, width, 3) each, cut at the same box.

    `projection` is signed, `patch` in true colours from 0 to 1. `cut_left` and the others say where the
    picture's border cut the receptive field. `note` says why a crop is zero, or what else to know of it.
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
        return Cut(self.cut_left, self.cut_top, self.cut_right, self.cut_bottom)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Crop({width}x{height} px)"


@dataclass(frozen=True, eq=False, repr=False)
class ChannelBlock:
    """One channel: its crops, strongest first, on one colour scale. `caption` says how strong they are."""

    name: str
    caption: tuple[str, ...]
    crops: tuple[Crop, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise FigureError(f"block name {self.name!r}: say which channel it is")
        object.__setattr__(self, "caption", lines_of(self.caption, f"{self.name}: caption"))
        object.__setattr__(self, "crops", tuple(self.crops))
        if not self.crops:
            raise FigureError(f"{self.name} has no crops: a block needs at least one")

    def limit(self, percentile: float) -> Limit:
        """The value in full colour, one for all crops."""
        return limit_of([crop.projection for crop in self.crops], percentile=percentile, what=self.name)

    def __repr__(self) -> str:
        return f"ChannelBlock({' · '.join((self.name, *self.caption))}; {_count(self.crops, 'crop')})"


@dataclass(frozen=True, eq=False, repr=False)
class LayerPanel:
    """One layer: its channels at one zoom. The first line of `title` is its name, more lines explain it."""

    title: tuple[str, ...]
    blocks: tuple[ChannelBlock, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "panel title"))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.title or not self.title[0].strip():
            raise FigureError("a panel has no title: say which layer it is")
        if not self.blocks:
            raise FigureError(f"{self.title[0]} has no blocks: choose at least one channel")

    @cached_property
    def largest_crop(self) -> Size:
        """The size of a frame."""
        return largest(crop.size for block in self.blocks for crop in block.crops)

    def __repr__(self) -> str:
        return f"LayerPanel({self.title[0]!r}: {_count(self.blocks, 'block')})"


@dataclass(frozen=True, eq=False, repr=False)
class TopNineFigure:
    """Several layers to a page, each with several channels.

    `top` is how many crops a block has room for; None: as many as the fullest has. `units` names what the
    projections' numbers are.
    """

    title: tuple[str, ...]
    panels: tuple[LayerPanel, ...]
    style: TopNineStyle = field(default_factory=TopNineStyle)
    top: int | None = None
    footer: str = ""
    units: str = "network input units"

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "panels", tuple(self.panels))
        if not self.panels:
            raise FigureError("a top-nine figure needs at least one panel: choose at least one layer")
        check_count(self.top, "top")
        for panel in self.panels:
            for block in panel.blocks:
                if self.top is not None and len(block.crops) > self.top:
                    raise FigureError(
                        f"{panel.title[0]}, {block.name} has {len(block.crops)} crops and top is {self.top}: "
                        "leave the weakest out, or make room for them"
                    )

    @cached_property
    def block_shape(self) -> tuple[int, int]:
        """(rows, columns) of frames in a block, as square as it can be."""
        count = self.top or max(len(block.crops) for panel in self.panels for block in panel.blocks)
        columns = math.ceil(math.sqrt(count))
        return math.ceil(count / columns), columns

    def __repr__(self) -> str:
        name = self.title[0] if self.title else "no title"
        return f"TopNineFigure({name!r}: {_count(self.panels, 'panel')}, layout {self.style.layout})"


def _count(things: tuple[object, ...], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
