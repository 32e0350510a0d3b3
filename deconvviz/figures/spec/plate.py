"""What a plate shows, checked whole before anything is drawn: the strongest crops of several channels.

A plate is the paper's Figure 2. A panel is one layer, a block one channel, a crop one unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from deconvviz.errors import FigureError
from deconvviz.figures.spec.colour import Array, Limit, limit_of
from deconvviz.figures.spec.validation import check_columns, check_pair, check_percentile, is_whole, lines_of

Layout = Literal["panels", "pairs"]
LAYOUTS: tuple[str, ...] = get_args(Layout)


@dataclass(frozen=True, eq=False, repr=False)
class Crop:
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
        if self.note is not None and not isinstance(self.note, str):
            raise FigureError(f"crop: note must be text, not {self.note!r}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = np.shape(self.projection)[:2]
        return height, width

    @property
    def zero(self) -> bool:
        return not np.any(self.projection)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Crop({width}x{height} px)"


@dataclass(frozen=True, eq=False, repr=False)
class Block:
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
        return f"Block({' · '.join((self.name, *self.caption))}; {_count(self.crops, 'crop')})"


@dataclass(frozen=True, eq=False, repr=False)
class Panel:
    """One layer: its channels at one zoom. The first line of `title` is its name, more lines explain it."""

    title: tuple[str, ...]
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "panel title"))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.title or not self.title[0].strip():
            raise FigureError("a panel has no title: say which layer it is")
        if not self.blocks:
            raise FigureError(f"{self.title[0]} has no blocks: choose at least one channel")

    @cached_property
    def largest_crop(self) -> tuple[int, int]:
        """(height, width) in pixels, each the largest of all crops: the size of a frame."""
        sizes = [crop.size for block in self.blocks for crop in block.crops]
        return max(height for height, _ in sizes), max(width for _, width in sizes)

    def __repr__(self) -> str:
        return f"Panel({self.title[0]!r}: {_count(self.blocks, 'block')})"


@dataclass(frozen=True, eq=False, repr=False)
class Plate:
    """Several layers to a page, each with several channels.

    `layout` "panels" has all projections of a layer on the left and all its patches on the right, as in the
    paper; "pairs" has each channel's patches directly beside its projections. `percentile` below 100 clips
    the largest values (see `colour.limit_of`); the plate says so. `top` is how many crops a block has room
    for; None: as many as the fullest has. `columns` counts the channels side by side; None chooses. `units`
    names what the projections' numbers are.
    """

    title: tuple[str, ...]
    panels: tuple[Panel, ...]
    layout: Layout = "panels"
    percentile: float = 99.5
    top: int | None = None
    columns: int | None = None
    footer: str = ""
    units: str = "network input units"

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", lines_of(self.title, "title"))
        object.__setattr__(self, "panels", tuple(self.panels))
        if not self.panels:
            raise FigureError("a plate needs at least one panel: choose at least one layer")
        if self.layout not in LAYOUTS:
            raise FigureError(f"no layout {self.layout!r}; there are {', '.join(LAYOUTS)}")
        check_percentile(self.percentile)
        check_columns(self.columns)
        if self.top is not None and (not is_whole(self.top) or self.top < 1):
            raise FigureError(f"top {self.top!r}: it must be a whole number from 1 on, or None")
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
        return f"Plate({name!r}: {_count(self.panels, 'panel')}, layout {self.layout})"


def _count(things: tuple[object, ...], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
