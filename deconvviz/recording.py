"""One forward pass, remembered: activations of the layers asked for, and what the way down needs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from deconvviz.coverage import Coverage, Survey
from deconvviz.engine import projection_pass
from deconvviz.engine.choice import UnitChoice, choose
from deconvviz.engine.pixel_fields import PixelFields
from deconvviz.engine.receptive_fields import UnitFields
from deconvviz.engine.tape import Tape
from deconvviz.engine.units import Seed, TensorSeed, Unit, UnitSeed, checked, strongest
from deconvviz.errors import LayerError, UnitError
from deconvviz.images.image import InputImage
from deconvviz.layers import Layer, LayerTable
from deconvviz.models.classes import class_index
from deconvviz.network_info import NetworkInfo
from deconvviz.projection import Box, Projection
from deconvviz.top_class import TopClass
from deconvviz.wording import counted, missing_number


class Recording:
    """What `Network.record` gives: ask it for activations, for its strongest units, and for projections.

    It refers to the network's weights and does not copy them: once they have changed it refuses to project.
    """

    def __init__(
        self,
        network: NetworkInfo,
        table: LayerTable,
        layers: Sequence[Layer],
        input_images: Sequence[InputImage],
        inputs: Tensor,
        tape: Tape,
        survey: Survey,
        values: dict[Layer, int],
        activations: dict[Layer, Tensor],
        top_classes: Sequence[TopClass | None] = (),
    ) -> None:
        self.network = network
        self._table = table  # of all layers, for errors that say what there is
        self.layers = tuple(layers)
        self.input_images = tuple(input_images)  # none, if a prepared tensor was recorded
        self.inputs = inputs  # (B, C, H, W), as the network got them
        self._tape, self._survey = tape, survey
        self._values, self._activations = values, activations
        self._pixel_fields = PixelFields(tape)
        self._top_classes = tuple(top_classes)
        self._coverages: dict[Layer, Coverage] = {}
        self._by_name = {layer.module: layer for layer in layers} | {layer.name: layer for layer in layers}

    def __len__(self) -> int:
        """Return the number of recorded images."""
        return len(self.inputs)

    def __repr__(self) -> str:
        names = ", ".join(layer.name for layer in self.layers)
        return f"<Recording of {counted(len(self), 'image')} in {self.network.name}: {names}>"

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

    def strongest(
        self,
        layer: str | Layer,
        k: int = 9,
        channel: int | None = None,
        *,
        apart: bool = False,
        whole_fields: bool = False,
    ) -> list[Unit]:
        """Return the peaks of the k strongest channels; with `channel`, its k highest positions.

        Strongest first, over all images; ties go to the lower channel, image, row, column. With `apart`
        there may be fewer than k: see `choose`. Raises UnitError if the layer has fewer than k.
        """
        return list(self.choose(layer, k, channel, apart=apart, whole_fields=whole_fields))

    def choose(
        self,
        layer: str | Layer,
        k: int = 9,
        channel: int | None = None,
        *,
        apart: bool = True,
        whole_fields: bool = False,
    ) -> UnitChoice:
        """Return the strongest units that do not show one spot of an image, and how many were passed over.

        The candidates are those of `strongest`. With `apart`, a candidate is passed over if it lies in the
        same image as a stronger one that was taken, and the centres of their receptive fields are less than
        half a field apart, both vertically and horizontally. Units with activation 0 are left out too, but
        for the first. Fewer than k may remain. With `whole_fields`, units whose receptive field is cut by the
        border of the image are no candidates. Neither changes anything where units have no position or see
        the whole image.

        `project` takes the result, and the figure then states what was left out. Raises UnitError.
        """
        found = self._find(layer)
        activations = self._units_of(found)
        rows, columns = self.inputs.shape[-2:]
        inside = found.whole_fields((rows, columns), activations.shape[2:]) if whole_fields else None
        grid = found.field_grid((rows, columns)) if apart else None
        return choose(activations, k, found.name, channel, apart=grid, inside=inside)

    def top_class(self, image_index: int = 0) -> TopClass | None:
        """Return the class that the network gives an image.

        None unless the image was recorded with ``scores=True`` or with the layer ``output``, the network's
        output is one score for each class, and its weights are trained.
        """
        if not 0 <= image_index < len(self):
            raise UnitError(f"no image {image_index} in this recording: it has {len(self)}")
        return self._top_classes[image_index] if self._top_classes else None

    def coverage(self, layer: str | Layer) -> Coverage:
        """Each operation on the way down from a layer, exact, by analogy or refused, as it was recorded."""
        found = self._find(layer)
        if found not in self._coverages:
            self._coverages[found] = self._survey.coverage(
                self.network.name,
                [(found.name, found.module)],
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
        image_indices: Sequence[int] | None = None,
        memory: int | None = None,
    ) -> Projection:
        """Carry units of a layer down to the picture (paper, section 2.1).

        `units`: one or several `Unit`s, each kept alone; one without position keeps its whole channel. Or a
        tensor (K, *layer) of whatever is to be kept, everything else being zero, with `image_indices` (K) saying
        which picture each belongs to. None: the nine strongest channels' peaks. All go down together, as
        many at once as fit in `memory` bytes (None: a share of what is free), and at least one.

        Raises LayerError, UnitError, RefusedOp (before anything is computed), StaleRecording.
        """
        found = self._find(layer)
        said = self._units_of(found)
        kept: list[Unit] = []
        choice: UnitChoice | None = None
        seed: Seed
        if isinstance(units, Tensor):
            seed = TensorSeed(said, units, self._image_indices_of(units, image_indices), found.name)
        else:
            choice = units if isinstance(units, UnitChoice) else None
            chosen = [units] if isinstance(units, Unit) else units
            chosen = strongest(said, min(9, said.shape[1]), found.name) if chosen is None else chosen
            if not chosen:
                raise UnitError(f"no unit of {found.name} was given: name one or more")
            kept = checked(said, chosen, found.name)
            seed = UnitSeed(said, kept)
        value = self._values[found]
        with torch.no_grad():
            fields = UnitFields(self._tape, value, seed.seen)
            pixels = projection_pass.project(fields, seed, said, memory=memory)
            boxes = fields.boxes(self._pixel_fields)
        return Projection(
            pixels=pixels,
            units=tuple(kept),
            boxes=tuple(boxes),
            image_indices=tuple(seed.image_indices.tolist()),
            layer=found,
            network=self.network,
            input_images=self.input_images,
            inputs=self.inputs,
            coverage=self.coverage(layer),
            choice=choice,
            top_classes=self._top_classes,
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
        return UnitFields(self._tape, value, seed.seen).boxes(self._pixel_fields)

    def boxes_at(self, layer: str | Layer, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
        """Return the receptive fields of positions of a map: (K, 4), each row as in `boxes`.

        Raises LayerError, UnitError, RefusedOp.
        """
        found = self._find(layer)
        said = self._units_of(found)
        if said.dim() != 4:
            raise UnitError(f"the units of {found.name} have no position")
        if len(rows) != len(columns):
            raise UnitError(f"{len(rows)} rows and {len(columns)} columns: give one of each for a position")
        places = [torch.as_tensor(axis, dtype=torch.long, device="cpu") for axis in (rows, columns)]
        for what, axis, length in zip(("row", "column"), places, said.shape[2:], strict=True):
            for outside in axis[(axis < 0) | (axis >= length)].tolist():
                raise UnitError(missing_number(what, outside, found.name, length))
        value = self._values[found]
        self._tape.require_rules(self._tape.path(value))
        return self._pixel_fields.boxes_at(value, *places)

    def _image_indices_of(self, units: Tensor, image_indices: Sequence[int] | None) -> Sequence[int]:
        if image_indices is None:
            if len(self) > 1 and len(units) != len(self):
                raise UnitError(
                    f"{len(units)} tensors for {len(self)} images: "
                    "say with image_indices=[...] which belongs to which"
                )
            image_indices = [0] * len(units) if len(self) == 1 else range(len(self))
        if outside := [image for image in image_indices if not 0 <= image < len(self)]:
            raise UnitError(f"no picture {outside[0]} in this recording: it has {len(self)}")
        return image_indices

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
