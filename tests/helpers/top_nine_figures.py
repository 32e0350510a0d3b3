"""Top-nine figures of random crops, some of them cut by the border of a picture of 100x100 px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from deconvviz.figures.spec.style import TopNineStyle
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure

PICTURE = 100
SETTINGS = {field.name for field in fields(TopNineStyle)}


def random_crop(
    random: np.random.Generator, field: int, *, zero: bool = False, note: str | None = None
) -> Crop:
    """A field of `field` pixels around a random middle, which the picture's border may cut."""
    x, y = (int(begin) for begin in random.integers(-field // 3, PICTURE - field // 2, 2))
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + field, PICTURE), min(y + field, PICTURE)
    size = (y1 - y0, x1 - x0, 3)
    return Crop(
        random.standard_normal(size) * random.uniform(0.1, 3) * (not zero),
        random.random(size),
        cut_left=x < 0,
        cut_top=y < 0,
        cut_right=x + field > PICTURE,
        cut_bottom=y + field > PICTURE,
        note=note,
    )


def random_top_nine(
    channels: int | Sequence[int],
    field: int | Sequence[int] = 9,
    k: int = 9,
    *,
    zero: Sequence[int] = (),
    note: str | None = None,
    **figure: object,
) -> TopNineFigure:
    """A panel for each count of `channels`; in each block those in `zero` are zero, with the `note`."""
    counts = [channels] if isinstance(channels, int) else list(channels)
    fields = [field] * len(counts) if isinstance(field, int) else list(field)
    random = np.random.default_rng(sum(counts))
    panels = [
        LayerPanel(
            (f"conv{number}_1 · sees {size} px",),
            tuple(
                ChannelBlock(
                    f"channel {7 * index}",
                    (f"{40 - index:.4g} … {20 - index / 3:.4g}",),
                    tuple(random_crop(random, size, zero=i in zero, note=note if i in zero else None)
                          for i in range(k)),
                )
                for index in range(count)
            ),
        )
        for number, (count, size) in enumerate(zip(counts, fields, strict=True), start=1)
    ]  # fmt: skip
    style = TopNineStyle(**{name: figure.pop(name) for name in SETTINGS if name in figure})
    return TopNineFigure(
        **{
            "title": ("vgg19 · the nine strongest of 300 pictures", "weights"),
            "panels": panels,
            "style": style,
            **figure,
        }
    )
