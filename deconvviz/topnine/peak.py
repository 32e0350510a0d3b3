"""The strongest unit of a channel in one image of a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from deconvviz.projection import Box


@dataclass(frozen=True)
class Peak:
    """The strongest unit of a channel in one image.

    Attributes:
        layer: Name of the layer.
        channel: Number of the channel, from 0.
        rank: Rank among the images of the channel; 1 is the strongest.
        activation: Activation of the unit.
        image_id: Id of the image in its source.
        y: Row in the layer's feature map; None for a unit without position.
        x: Column in the layer's feature map; None for a unit without position.
        box: Receptive field (x0, y0, x1, y1) in pixels of the network's input, half-open and cut at the
            border; None if no signal reaches the pixels.
    """

    layer: str
    channel: int
    rank: int
    activation: float
    image_id: str
    y: int | None
    x: int | None
    box: Box | None

    def to_json(self) -> dict[str, Any]:
        """Return the peak as JSON values, with the keys that manifests use."""
        values = asdict(self)
        return {"image" if name == "image_id" else name: value for name, value in values.items()}

    def __str__(self) -> str:
        where = "" if self.y is None else f" at ({self.y}, {self.x})"
        return f"{self.rank}. {self.image_id}{where} = {self.activation:.4g}"
