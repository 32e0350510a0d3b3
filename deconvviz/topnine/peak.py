"""The strongest unit of a channel in one image of a dataset."""

from __future__ import annotations

from dataclasses import dataclass

from deconvviz.projection import Box


@dataclass(frozen=True)
class Peak:
    """The strongest unit of a channel in one image.

    `y` and `x` are row and column of the layer's map, None for a unit without position. `box` is its
    receptive field in the network's input (x0, y0, x1, y1, half open, cut at the border); None where no
    signal reaches the pixels.
    """

    layer: str
    channel: int
    rank: int  # 1 is the strongest
    activation: float
    image: str  # the image's id in the source
    y: int | None
    x: int | None
    box: Box | None

    def __str__(self) -> str:
        where = "" if self.y is None else f" at ({self.y}, {self.x})"
        return f"{self.rank}. {self.image}{where} = {self.activation:.4g}"
