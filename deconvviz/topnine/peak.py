"""The strongest unit of a channel in one image of a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from deconvviz.engine.units import Unit
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
        y: Row in the layer's feature map; None for a unit without position, and for signals.
        x: Column in the layer's feature map, or the position in a signal; None for a unit without position.
        box: Receptive field (x0, y0, x1, y1) in pixels of the network's input, half-open and cut at the
            border; None if no signal reaches the pixels. For signals (x0, x1), for volumes and video
            (x0, y0, z0, x1, y1, z1).
        z: Slice or frame in the layer's feature map, of a volume or a video; otherwise None.
    """

    layer: str
    channel: int
    rank: int
    activation: float
    image_id: str
    y: int | None
    x: int | None
    box: Box | None
    z: int | None = None

    def unit(self, image: int) -> Unit:
        """Return the unit of the peak in an image of a recording."""
        return Unit(image, self.channel, self.y, self.x, z=self.z)

    def to_json(self) -> dict[str, Any]:
        """Return the peak as JSON values, with the keys that manifests use, without `z` if it has none."""
        values = {name: value for name, value in asdict(self).items() if (name, value) != ("z", None)}
        return {"image" if name == "image_id" else name: value for name, value in values.items()}

    def __str__(self) -> str:
        position = self.unit(0).position_text
        where = f" at {position}" if position else ""
        return f"{self.rank}. {self.image_id}{where} = {self.activation:.4g}"
