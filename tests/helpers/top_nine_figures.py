"""Top-nine figures of random crops of a 100x100 image, some of them cut at its border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from deconvviz.figures.spec.style import TopNineStyle
from deconvviz.figures.spec.top_nine import ChannelBlock, Crop, LayerPanel, TopNineFigure

IMAGE_SIZE = 100
SETTINGS = {field.name for field in fields(TopNineStyle)}


def random_crop(
    random: np.random.Generator, field: int, *, zero: bool = False, note: str | None = None
) -> Crop:
    """Return a square crop of `field` pixels at a random position; it may be cut at the image border."""
    x, y = (int(begin) for begin in random.integers(-field // 3, IMAGE_SIZE - field // 2, 2))
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + field, IMAGE_SIZE), min(y + field, IMAGE_SIZE)
    size = (y1 - y0, x1 - x0, 3)
    return Crop(
        random.standard_normal(size) * random.uniform(0.1, 3) * (not zero),
        random.random(size),
        cut_left=x < 0,
        cut_top=y < 0,
        cut_right=x + field > IMAGE_SIZE,
        cut_bottom=y + field > IMAGE_SIZE,
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
    """Return a figure with one panel for each number in `channels`.

    In each block, the crops whose numbers are in `zero` are zero and have the `note`.
    """
    counts = [channels] if isinstance(channels, int) else list(channels)
    fields = [field] * len(counts) if isinstance(field, int) else list(field)
    random = np.random.default_rng(sum(counts))
    panels = [
        LayerPanel(
            (f"conv{number}_1 · receptive field {size} px",),
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
            "title": ("vgg19 · top 9 of 300 images", "weights"),
            "panels": panels,
            "style": style,
            **figure,
        }
    )
