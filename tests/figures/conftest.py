"""Sheets of random tiles for the tests in this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.figures.spec.style import SheetStyle

SETTINGS = {field.name for field in fields(SheetStyle)}
TITLE = ("vgg19 · conv3_4 · cat.jpg", "weights: IMAGENET1K_V1 (sha256 dcbb9e9d0000)")


def build(
    count: int,
    size: tuple[int, int] = (60, 80),
    field: int | None = 15,
    zero: tuple[int, ...] = (),
    **sheet: object,
) -> Sheet:
    """Return a sheet of `count` tiles on an image of `size` (height, width).

    `field` is the side of the receptive fields in pixels; None is the whole image. Tiles in `zero` are zero.
    """
    random = np.random.default_rng(count)
    height, width = size
    image = random.random((height, width, 3))
    tiles = []
    for number in range(1, count + 1):
        y, x = int(random.integers(height)), int(random.integers(width))
        box = (0, 0, width, height)
        if field is not None:
            half = field // 2
            box = (max(x - half, 0), max(y - half, 0), min(x + half + 1, width), min(y + half + 1, height))
        x0, y0, x1, y1 = box
        projection = random.standard_normal((y1 - y0, x1 - x0, 3)) * number * (number not in zero)
        tiles.append(
            Tile(
                number,
                (f"conv3_4 · channel {number * 7}", f"at ({y}, {x}) · activation {number * 1.7:.4g}"),
                projection,
                image[y0:y1, x0:x1],
                box,
                note="zero: this unit is not active here" if number in zero else None,
            )
        )
    style = {name: sheet.pop(name) for name in SETTINGS if name in sheet}
    return Sheet(
        **{
            "title": TITLE,
            "tiles": tuple(tiles),
            "image": image,
            "footer": "deconvviz",
            "style": SheetStyle(**{"percentile": 100, **style}),
            **sheet,
        }
    )


@pytest.fixture
def make_sheet() -> Callable[..., Sheet]:
    return build
