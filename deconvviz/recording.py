"""One forward pass, remembered: activations of the layers asked for, and what the way down needs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from deconvviz.coverage import Coverage, Survey
from deconvviz.engine import projection_pass as mirror
from deconvviz.engine.receptive_fields import UnitFields
from deconvviz.engine.tape import Tape
from deconvviz.engine.units import Seed, TensorSeed, Unit, UnitSeed, checked, strongest
from deconvviz.errors import LayerError, UnitError
from deconvviz.images.image import Picture
from deconvviz.layers import Layer, LayerTable
from deconvviz.models.classes import class_index
from deconvviz.network_info import NetworkInfo
from deconvviz.projection import Box, Projection


class Recording:
    """What `Network.record` gives: ask it for activations, for its strongest units, and for projections.

    It refers to the network's weights and does not copy them: once they have changed it refuses to project.
    """

    def __init__(
        self,
        network: NetworkInfo,
        table: LayerTable,
        layers: Sequence[Layer],
        pictures: Sequence[Picture],
        inputs: Tensor,
        tape: Tape,
        survey: Survey,
        values: dict[Layer, int],
        activations: dict[Layer, Tensor],
    ) -> None:
        self.network = network
        self._table = table  # of all layers, for errors that say what there is
        self.layers = tuple(layers)
        self.pictures = tuple(pictures)  # none, if a prepared tensor was recorded
        self.inputs = inputs  # (B, C, H, W), as the network got them
        self._tape, self._survey = tape, survey
        self._values, self._activations = values, activations
        self._coverages: dict[Layer, Coverage] = {}
        self._by_name = {layer.dotted: layer for layer in layers} | {layer.name: layer for layer in layers}

    def __len__(self) -> int:
        """How many pictures were recorded."""
        return len(self.inputs)

    def __repr__(self) -> str:
        pictures = f"{len(self)} pictures" if len(self) != 1 else "1 picture"
        names = ", ".join(layer.name for layer in self.layers)
        return f"<Recording of {pictures} in {self.network.name}: {names}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{t}</th>" for t in ("layer", "output", "channels above zero", "strongest unit"))
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in self._summary(layer)) + "</tr>"
            for layer in self.layers
        )
        return f"<p>{escape(repr(self)[1:-1])}</p><table><tr>{head}</tr>{rows}</table>"

    def _summary(self, layer: Layer) -> tuple[str, str, str, str]:
        said = self._activations[layer]
        alive = int((said.transpose(0, 1).flatten(1) > 0).any(1).sum())
        top = str(strongest(said, 1, layer.name)[0]) if said.dim() in (2, 4) else ""
        return layer.name, " x ".join(map(str, layer.shape)), f"{alive} of {layer.shape[0]}", top

    def activations(self, layer: str | Layer) -> Tensor:
        """What a layer said: (B, C, H, W), or (B, F) for a fully connected one. A copy."""
        return self._activations[self._find(layer)].clone()

    def strongest(self, layer: str | Layer, k: int = 9, channel: int | None = None) -> list[Unit]:
        """The peaks of the k strongest channels, one unit each; with `channel`, its k highest positions.

        Strongest first, over all pictures; ties go to the lower channel, picture, row, column.
        Raises UnitError if there are fewer than k.
        """
        found = self._find(layer)
        return strongest(self._units_of(found), k, found.name, channel)

    def coverage(self, layer: str | Layer) -> Coverage:
        """Each operation on the way down from a layer, exact, by analogy or refused, as it was recorded."""
        found = self._find(layer)
        if found not in self._coverages:
            self._coverages[found] = self._survey.coverage(
                self.network.name,
                [(found.name, found.dotted)],
                see=self.network.origin.see_coverage([found.name]),
            )
        return self._coverages[found]

    def class_unit(self, asked: str | int, image: int = 0) -> Unit:
        """The unit of the layer ``output`` that is a class's score, by the class's name or number."""
        count = self._table.last.shape[0]
        return Unit(image, class_index(asked, self.network.classes, outputs=count))

    def project(
        self,
        layer: str | Layer,
        units: Unit | Sequence[Unit] | Tensor | None = None,
        *,
        images: Sequence[int] | None = None,
        memory: int | None = None,
    ) -> Projection:
        """Carry units of a layer down to the picture (paper, section 2.1).

        `units`: one or several `Unit`s, each kept alone; one without position keeps its whole channel. Or a
        tensor (K, *layer) of whatever is to be kept, everything else being zero, with `images` (K) saying
        which picture each belongs to. None: the nine strongest channels' peaks. All go down together, as
        many at once as fit in `memory` bytes (None: a share of what is free), and at least one.

        Raises LayerError, UnitError, RefusedOp (before anything is computed), StaleRecording.
        """
        found = self._find(layer)
        said = self._units_of(found)
        kept: list[Unit] = []
        seed: Seed
        if isinstance(units, Tensor):
            seed = TensorSeed(said, units, self._images_of(units, images), found.name)
        else:
            chosen = [units] if isinstance(units, Unit) else units
            chosen = strongest(said, min(9, said.shape[1]), found.name) if chosen is None else chosen
            if not chosen:
                raise UnitError(f"no unit of {found.name} was given: name one or more")
            kept = checked(said, chosen, found.name)
            seed = UnitSeed(said, kept)
        value = self._values[found]
        with torch.no_grad():
            fields = UnitFields(self._tape, value, seed.seen)
            pixels = mirror.project(fields, seed, said, memory=memory)
            boxes = fields.boxes()
        return Projection(
            pixels=pixels,
            units=tuple(kept),
            boxes=tuple(boxes),
            images=tuple(seed.images.tolist()),
            layer=found,
            network=self.network,
            pictures=self.pictures,
            inputs=self.inputs,
            coverage=self.coverage(layer),
        )

    def boxes(self, layer: str | Layer, units: Sequence[Unit]) -> list[Box]:
        """The receptive fields of units in the network's input: x0, y0, x1, y1, half open, cut at its border.

        All zero where nothing flows down. Raises LayerError, UnitError, RefusedOp.
        """
        found = self._find(layer)
        said = self._units_of(found)
        seed = UnitSeed(said, checked(said, units, found.name))
        value = self._values[found]
        self._tape.require(self._tape.path(value))
        return UnitFields(self._tape, value, seed.seen).boxes()

    def _images_of(self, units: Tensor, images: Sequence[int] | None) -> Sequence[int]:
        if images is None:
            if len(self) > 1 and len(units) != len(self):
                raise UnitError(
                    f"{len(units)} tensors for {len(self)} pictures: "
                    "say with images=[...] which belongs to which"
                )
            images = [0] * len(units) if len(self) == 1 else range(len(self))
        if outside := [image for image in images if not 0 <= image < len(self)]:
            raise UnitError(f"no picture {outside[0]} in this recording: it has {len(self)}")
        return images

    def _find(self, name: str | Layer) -> Layer:
        layer = name if isinstance(name, Layer) else self._by_name.get(name)
        layer = self._table.find(name) if layer is None else layer
        if layer not in self._activations:
            there = ", ".join(one.name for one in self.layers)
            raise LayerError(f"{layer.name} was not recorded: this recording has {there}")
        return layer

    def _units_of(self, layer: Layer) -> Tensor:
        """A layer's activations, if they are channels of a map or a vector."""
        if not layer.has_channels:
            raise LayerError(
                f"{layer.name} gives {' x '.join(map(str, layer.shape))} for a picture; "
                "units are positions of a map (C, H, W) or entries of a vector (F)"
            )
        return self._activations[layer]
