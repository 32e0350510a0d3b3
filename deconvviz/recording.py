"""Recording of one forward pass: the requested activations and the data needed to project them back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import ReferenceType

import torch
from torch import Tensor

from deconvviz.coverage import Coverage, Survey
from deconvviz.engine import projection_pass
from deconvviz.engine.choice import UnitChoice, choose
from deconvviz.engine.entries import Entry, EntrySeed, recorded_entries
from deconvviz.engine.gradient_tape import INPUT_X_GRADIENT, tape_of
from deconvviz.engine.layout import TensorLayout
from deconvviz.engine.network_inputs import NetworkInputs
from deconvviz.engine.pixel_fields import PixelFields
from deconvviz.engine.receptive_fields import UnitFields
from deconvviz.engine.region import recorded, seed_of
from deconvviz.engine.tape import Tape
from deconvviz.engine.units import Seed, TensorSeed, Unit, strongest
from deconvviz.errors import LayerError, MethodError, NetworkError, UnitError
from deconvviz.html_views import table
from deconvviz.images.image import InputImage
from deconvviz.images.recorded_input import RecordedInput
from deconvviz.layers import Layer, LayerTable
from deconvviz.models.class_scores import MaskLike, ScoredImage, class_unit
from deconvviz.models.detections import Detection
from deconvviz.models.top_class import TopClass
from deconvviz.network_info import NetworkInfo
from deconvviz.projection import Box, Projection, missing_input
from deconvviz.views import open_view
from deconvviz.wording import counted, missing_number


class Recording:
    """Result of `Network.record`: gives access to activations, the strongest units and their projections.

    A recording references the weights of the network and does not copy them. If a weight changes, projecting
    raises StaleRecording.
    """

    def __init__(
        self,
        network: NetworkInfo,
        table: LayerTable,
        layers: Sequence[Layer],
        inputs: Sequence[RecordedInput],
        call: NetworkInputs,
        tape: Tape,
        survey: Survey,
        values: dict[Layer, int],
        activations: dict[Layer, Tensor],
        top_classes: Sequence[TopClass | None] = (),
        made_by: ReferenceType[Any] | None = None,
        detections: Sequence[Detection] = (),
    ) -> None:
        self.network = network
        self._made_by = made_by  # the live network, for `explore`
        self._table = table  # all layers of the network, for error messages
        self.layers = tuple(layers)
        self.recorded_inputs = tuple(one for one in inputs if not one.is_constant)  # in the order of the call
        self.constants = tuple(one for one in inputs if one.is_constant)
        self._call = call
        self._first = next((n for n, one in enumerate(self.recorded_inputs) if one.is_picture), 0)
        self.input_images = self.recorded_inputs[
            self._first
        ].images  # empty if a prepared tensor was recorded
        self.inputs = self.recorded_inputs[self._first].tensor  # (B, C, H, W), the network's (first) picture
        self._tape, self._survey = tape, survey
        self._values, self._activations = values, activations
        self._pixel_fields = _pixel_fields(tape)
        self._variants = {name: (one, _pixel_fields(one)) for name, one in tape.variants.items()}
        self._top_classes = tuple(top_classes)
        self.detections = tuple(detections)  # of a detector, if `Network.detections_layer` was recorded
        self._coverages: dict[tuple[Layer, str | None], Coverage] = {}
        self._by_name = {layer.module: layer for layer in layers} | {layer.name: layer for layer in layers}

    def __len__(self) -> int:
        """Return the number of recorded images."""
        return len(self.inputs)

    def __repr__(self) -> str:
        names = ", ".join(layer.name for layer in self.layers)
        return f"<Recording of {counted(len(self), 'image')} in {self.network.name}: {names}>"

    def _repr_html_(self) -> str:
        head = ("layer", "output", "channels above zero", "strongest unit")
        return table(head, [self._summary(layer) for layer in self.layers], repr(self)[1:-1])

    def _summary(self, layer: Layer) -> tuple[str, str, str, str]:
        values = self._activations[layer]
        alive = int((values.transpose(0, 1).flatten(1) > 0).any(1).sum())
        top = str(strongest(values, 1, layer.name)[0]) if layer.has_channels else ""
        return layer.name, " x ".join(map(str, layer.shape)), f"{alive} of {layer.shape[0]}", top

    def activations(self, layer: str | Layer) -> Tensor:
        """Return a copy of a layer's activations: (B, C, H, W), or (B, F) for a fully connected layer."""
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
        """Return the k strongest units of a layer, strongest first, over all images.

        Args:
            layer: A recorded layer.
            k: Number of units.
            channel: If given, the k strongest positions of this channel; otherwise the strongest position of
                each of the k strongest channels.
            apart: Leave out units close to a stronger one (see `choose`); there may then be fewer than k.
            whole_fields: Leave out units whose receptive field is cut by the border.

        Returns:
            Units in descending order of activation. Ties are ordered by channel, image, row, column.

        Raises:
            UnitError: If the layer has fewer than k channels or positions.

        Example:
            >>> from deconvviz.scenes import scene
            >>> rec = dv.load("minivgg").record(scene(7).image, "conv4_2")
            >>> [(unit.channel, unit.y, unit.x) for unit in rec.strongest("conv4_2", k=2)]
            [(19, 3, 9), (36, 2, 7)]
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
        """Return the strongest units at different places of the images, with the number of units left out.

        The candidates are those of `strongest`, in their order. With `apart`, a candidate is left out if a
        stronger chosen unit of the same image has a receptive field whose centre is less than half a field
        away, both vertically and horizontally. Except for the first, units with activation 0 are left out.
        Fewer than k units may remain. With `whole_fields`, units whose receptive field is cut by the border
        are not candidates. Both have no effect if units have no position or depend on the whole image.

        `project` accepts the result, and its figure states what was left out.

        Raises:
            UnitError: As `strongest`.
        """
        found = self._find(layer)
        activations = self._units_of(found)
        lengths = self.inputs.shape[2:]
        inside = found.whole_fields(lengths, activations.shape[2:]) if whole_fields else None
        grid = found.field_grid(lengths) if apart else None
        return choose(activations, k, found.name, channel, apart=grid, inside=inside)

    def top_class(self, image_index: int = 0) -> TopClass | None:
        """Return the top class of an image.

        Return None unless the image was recorded with ``scores=True`` or with the layer ``output``, the
        output is one score for each class, and the weights are trained.
        """
        if not 0 <= image_index < len(self):
            raise UnitError(f"no image {image_index} in this recording: it has {len(self)}")
        return self._top_classes[image_index] if self._top_classes else None

    def coverage(self, layer: str | Layer, method: str = "deconvnet") -> Coverage:
        """Return the operations in the projection of a layer: exact, approximate or unsupported.

        Raises:
            LayerError: If the layer was not recorded.
            MethodError: If the method was not recorded.
        """
        found, (tape, _) = self._find(layer), self._recorded(method)
        key = found, tape_of(method)
        if key not in self._coverages:
            survey = self._survey if tape is self._tape else Survey(tape)
            self._coverages[key] = survey.coverage(
                self.network.name,
                [(found.name, found.module)],
                see=self.network.origin.see_coverage([found.name]),
            )
        return self._coverages[key]

    @property
    def scores_layer(self) -> Layer:
        """The layer of class scores: ``output``, or a part such as ``output.out``.

        Raises:
            LayerError: If the network returns several tensors and none is known to be class scores.
        """
        return self._table.scores(self.network.classes)

    def class_unit(
        self,
        asked: str | int,
        image: int = 0,
        *,
        at: tuple[int, int] | None = None,
        mask: MaskLike | None = None,
    ) -> Unit:
        """Return the unit of `scores_layer` that is the score of a class.

        Networks for segmentation have class scores at many positions: give one position or a mask.

        Args:
            asked: Class name, a part of a name that only one class has, or an index.
            image: The image of the recording.
            at: Row and column in the map of class scores.
            mask: Sum of the scores over the positions where this is not 0: an array (rows, columns), an image
                file, a .npy file, or ``wins`` for the positions where the class has the highest score. A mask
                may have the size of the class scores, of the network's input, or of the picture, which is
                then resized and cropped as the picture is.

        Returns:
            A `Unit`, or a `Region` for a mask.

        Raises:
            LayerError: If it is unknown which layer has class scores, or that layer was not recorded.
            UnitError: If the class or the position does not exist, or the mask does not fit.
            ImageError: If the mask cannot be read.
        """
        layer = self.scores_layer
        if not 0 <= image < len(self):
            raise UnitError(f"no image {image} in this recording: it has {len(self)}")
        if len(layer.shape) == 1 and layer not in self._activations:
            one = torch.empty(layer.shape, device="meta")  # only the number of classes matters
        else:
            one = self._units_of(self._find(layer))[image]
        shown = self.input_images[image] if self.input_images else None
        picture = shown.size[::-1] if isinstance(shown, InputImage) else None
        height, width = self.inputs.shape[-2:]
        scored = ScoredImage(
            scores=one,
            layer=layer.name,
            image=image,
            input_size=(height, width),
            picture_size=picture,
            preprocessing=self.network.preprocessing,
        )
        return class_unit(scored, self.network.classes, asked, at, mask)

    def detection_unit(self, number: int) -> Detection:
        """Return the class score that became a detection, as a unit of `Network.detections_layer`.

        Its activation is the score before the final selection, and before a softmax or sigmoid. The boxes and
        the selection of proposals are constants.

        Raises:
            UnitError: If there is no such detection, or `Network.detections_layer` was not recorded.
        """
        if 0 <= number < len(self.detections):
            return self.detections[number]
        if self.detections:
            raise UnitError(missing_number("detection", number, "this recording", len(self.detections)))
        raise UnitError(
            "this recording has no detections: nothing was detected in the picture, or the layer of class "
            "scores (net.detections_layer) was not recorded"
        )

    def project(
        self,
        layer: str | Layer,
        units: Unit | Sequence[Unit] | Tensor | None = None,
        *,
        method: str = "deconvnet",
        image_indices: Sequence[int] | None = None,
        memory: int | None = None,
    ) -> Projection:
        """Project units of a layer back to pixels (paper, section 2.1), or ask another method.

        Every method starts with the unit's activation as the signal. They differ in nonlinear operations:

        - ``deconvnet``: a ReLU rectifies the signal; gates and statistics are constants.
        - ``gradient``: the activation times the gradient of the activation (Simonyan et al. 2013).
        - ``guided``: as the gradient, but a ReLU also rectifies the signal (Springenberg et al. 2014). Other
          activation functions, such as SiLU and ReLU6, are differentiated.
        - ``input_x_gradient``: the gradient times the network's input.

        Args:
            layer: A recorded layer.
            units: A `Unit` or several, each projected alone; a unit without position keeps its whole
                channel, a `Region` the positions of a mask. Or a tensor (K, *layer) with the activations to
                keep and zeros elsewhere. Default: the strongest unit of each of the nine strongest channels.
            method: ``deconvnet``, or one of the methods that `Network.record` was given.
            image_indices: For a tensor, the image of each of its K entries.
            memory: Bytes for the units of one batch. Default: a share of the free memory.

        Returns:
            The projection of K units; `Projection.pixels` is (K, C, H, W).

        Raises:
            LayerError: If the layer was not recorded.
            UnitError: If a unit does not exist, or a tensor does not have the shape of the layer.
            MethodError: If the method is unknown or was not recorded.
            RefusedOp: If an operation is unsupported; raised before anything is computed.
            StaleRecording: If weights have changed since the recording.

        Example:
            >>> from deconvviz.scenes import scene
            >>> rec = dv.load("minivgg").record(scene(7).image, "conv4_2")
            >>> proj = rec.project("conv4_2", dv.Unit(image=0, channel=19, y=3, x=9))
            >>> proj.boxes
            ((42, 0, 96, 62),)
        """
        found, (tape, pixel_fields) = self._find(layer), self._recorded(method)
        entries = _entries(units)
        values = self._activations[found] if entries else self._units_of(found)
        kept: Sequence[Unit] = []
        choice: UnitChoice | None = None
        seed: Seed
        if entries:
            kept = only = recorded_entries(values, entries, found.name)
            seed = EntrySeed(values, self._layout(found), only, found.name)
        elif isinstance(units, Tensor):
            images = self._image_indices_of(units, image_indices)
            seed = TensorSeed(values, units, images, found.name, self._layout(found))
        else:
            choice = units if isinstance(units, UnitChoice) else None
            chosen = [units] if isinstance(units, Unit) else units
            chosen = strongest(values, min(9, values.shape[1]), found.name) if chosen is None else chosen
            if not chosen:
                raise UnitError(f"no unit of {found.name} was given: name one or more")
            kept = recorded(values, chosen, found.name)
            seed = seed_of(values, kept, found.name, self._layout(found))
        value = self._values[found]
        with torch.no_grad():
            fields = UnitFields(tape, value, seed.seen)
            arrived = projection_pass.project_to_inputs(fields, seed, values, memory=memory)
            boxes = [fields.boxes(one) for one in pixel_fields]
            if method == INPUT_X_GRADIENT:
                for pixels, one in zip(arrived, self.recorded_inputs, strict=True):
                    pixels *= one.tensor[seed.image_indices.to(one.tensor.device)]
        every = [
            Projection(
                pixels=pixels,
                units=tuple(kept),
                boxes=tuple(own),
                image_indices=tuple(seed.image_indices.tolist()),
                layer=found,
                network=self.network,
                input_images=one.images,
                inputs=one.tensor,
                call=self._call,
                coverage=self.coverage(layer, method),
                method=method,
                choice=choice,
                top_classes=self._top_classes,
                input_name=one.name,
                is_picture=one.is_picture,
                input_path=one.path,
                constants=self.constants,
            )
            for pixels, own, one in zip(arrived, boxes, self.recorded_inputs, strict=True)
        ]
        first = every.pop(self._first)
        return replace(first, further=tuple(every)) if every else first

    def explore(
        self,
        layer: str | Layer | None = None,
        *,
        network: Any = None,
        atlas: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Return a notebook widget that shows the recorded images, as `Network.explore`.

        The images are recorded again, because the widget can show every layer.

        Args:
            layer: Layer to begin with. Default: the first recorded layer.
            network: The network, if it no longer exists.
            atlas: Folder of an atlas, as for `Network.explore`.

        Raises:
            MissingExtra: If anywidget is not installed.
            NetworkError: If the network no longer exists, or the atlas is of another network.
            OutputError: If `atlas` is not the folder of an atlas.
            ImageError: If a prepared tensor was recorded.
        """
        first = self.layers[0] if layer is None else self._find(layer)
        made_by = None if self._made_by is None else self._made_by()
        return open_view("explorer", self, layer=first.name, network=network or made_by, atlas=atlas)

    def boxes(self, layer: str | Layer, units: Sequence[Unit], *, input: str | None = None) -> list[Box]:
        """Return the receptive fields of units in the network's input.

        Each box is (x0, y0, x1, y1), half open, cut at the border; all zero if no signal reaches the pixels.
        `input` is the name of one of several inputs, by default the first picture.

        Raises:
            NetworkError: If the network does not have this input.
            LayerError: If the layer was not recorded.
            UnitError: If a unit does not exist.
            RefusedOp: If an operation is unsupported.
        """
        found = self._find(layer)
        values = self._units_of(found)
        seed = seed_of(values, recorded(values, units, found.name), found.name, self._layout(found))
        value = self._values[found]
        self._tape.require(self._tape.path(value))
        return UnitFields(self._tape, value, seed.seen).boxes(self._pixel_fields[self._number_of(input)])

    def boxes_at(self, layer: str | Layer, *places: Sequence[int]) -> Tensor:
        """Return the receptive fields of K positions of a map, (K, 4); each row is a box as in `boxes`.

        Args:
            layer: A recorded layer.
            *places: The positions along each axis of the map: rows, then columns. For a signal one list; for
                a volume slices, rows, columns.

        Raises:
            LayerError: If the layer was not recorded.
            UnitError: If a position does not exist.
            RefusedOp: If an operation is unsupported.
        """
        found = self._find(layer)
        values = self._units_of(found)
        if values.dim() < 3:
            raise UnitError(f"the units of {found.name} have no position")
        lengths = values.shape[2:]
        names = {1: ("position",), 2: ("row", "column")}.get(len(lengths), ("slice", "row", "column"))
        if len({len(axis) for axis in places}) > 1 or len(places) != len(lengths):
            there = " and ".join(f"{len(axis)} {name}s" for axis, name in zip(places, names, strict=False))
            raise UnitError(f"{there}: give one of each for a position")
        indices = [torch.as_tensor(axis, dtype=torch.long, device="cpu") for axis in places]
        for what, axis, length in zip(names, indices, lengths, strict=True):
            for outside in axis[(axis < 0) | (axis >= length)].tolist():
                raise UnitError(missing_number(what, outside, found.name, length))
        value = self._values[found]
        self._tape.require_rules(self._tape.path(value))
        return self._pixel_fields[self._first].boxes_at(value, *indices)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs to which units are projected; a single empty one if there is one input."""
        return tuple(one.name for one in self.recorded_inputs)

    def _number_of(self, name: str | None) -> int:
        if name is None:
            return self._first
        if name not in self.input_names:
            raise NetworkError(missing_input(name, self.network.name, self.input_names))
        return self.input_names.index(name)

    def _image_indices_of(self, units: Tensor, image_indices: Sequence[int] | None) -> Sequence[int]:
        if image_indices is None:
            if len(self) > 1 and len(units) != len(self):
                raise UnitError(
                    f"{len(units)} tensors for {len(self)} images: "
                    "give the image of each with image_indices=[...]"
                )
            image_indices = [0] * len(units) if len(self) == 1 else range(len(self))
        if outside := [image for image in image_indices if not 0 <= image < len(self)]:
            raise UnitError(f"no image {outside[0]} in this recording: it has {len(self)}")
        return image_indices

    def _recorded(self, method: str) -> tuple[Tape, list[PixelFields]]:
        """Return the tape of a method. Raise MethodError if it was not recorded."""
        name = tape_of(method)
        if name is None:
            return self._tape, self._pixel_fields
        if name not in self._variants:
            raise MethodError(
                f"{method} was not recorded: this recording has {', '.join(['deconvnet', *self._variants])}. "
                "Record again with {option}",
                option=f'methods=["{method}"]',
            )
        return self._variants[name]

    def _find(self, name: str | Layer) -> Layer:
        layer = self._by_name.get(name.module if isinstance(name, Layer) else name)
        layer = self._table.find(name) if layer is None else layer
        if layer not in self._activations:
            there = ", ".join(one.name for one in self.layers)
            raise LayerError(f"{layer.name} was not recorded: this recording has {there}")
        return layer

    def _layout(self, layer: Layer) -> TensorLayout:
        return self._tape.layouts[self._values[layer]]

    @property
    def _hint(self) -> str:
        return ". For a detection: rec.detection_unit(N), or --detection N" if self.detections else ""

    def _units_of(self, layer: Layer) -> Tensor:
        """Return the activations of a layer. Raise LayerError if they are not a map or a vector."""
        if not layer.has_channels:
            raise LayerError(
                f"{layer.name} returns {' x '.join(map(str, layer.shape))} for an image: "
                f"units are positions of a map (C, H, W) or entries of a vector (F){self._hint}"
            )
        return self._activations[layer]


def _pixel_fields(tape: Tape) -> list[PixelFields]:
    """Return the receptive fields in each input of the network."""
    return [PixelFields(tape, source) for source in tape.inputs]


def _entries(units: Unit | Sequence[Unit] | Tensor | None) -> list[Entry]:
    """Return the units if all of them are single entries, such as detections; else an empty list."""
    if units is None or isinstance(units, Tensor):
        return []
    units = [units] if isinstance(units, Unit) else units
    found = [unit for unit in units if isinstance(unit, Entry)]
    if found and len(found) < len(units):
        raise UnitError("detections and other units cannot be projected together: project them separately")
    return found
