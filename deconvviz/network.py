"""Any `nn.Module` with its preprocessing, its class names and the origin of its weights."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz.coverage import Coverage, Survey
from deconvviz.engine import recorder, tape
from deconvviz.engine.gradient_tape import tapes_of
from deconvviz.engine.hooks import evaluation, exclusive, plain
from deconvviz.engine.influence import Influence
from deconvviz.engine.network_inputs import NetworkInputs
from deconvviz.engine.output_parts import output_parts, with_keys
from deconvviz.engine.preservation import fingerprints, preserved
from deconvviz.engine.wrappers import eager, named_weights, unwrapped
from deconvviz.errors import DeconvvizError, LayerError, NetworkError
from deconvviz.images.image import InputImage
from deconvviz.images.input_array import InputArray
from deconvviz.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Size
from deconvviz.images.recorded_input import RecordedInput
from deconvviz.layers import Layer, LayerTable, read_layers
from deconvviz.models.advice import advice
from deconvviz.models.classes import class_index
from deconvviz.models.detections import Detection, find_detections, scores_output, takes_list
from deconvviz.models.digests import checksum, digest
from deconvviz.models.input_plan import InputPlan, Preparation
from deconvviz.models.providers import provider_of
from deconvviz.models.recordable import check_recordable, not_a_module
from deconvviz.models.stdout import stdout_to_stderr
from deconvviz.models.structure import check_has_numbers, is_lazy, structure_of, tensors_of
from deconvviz.models.top_class import top_classes
from deconvviz.network_info import NetworkInfo
from deconvviz.network_info import Origin as Origin
from deconvviz.projection import Projection
from deconvviz.recording import Recording
from deconvviz.views import open_view

Images: TypeAlias = (
    "str | os.PathLike[str] | InputImage | Image.Image | np.ndarray[Any, Any] | Tensor"
    "| Sequence[str | os.PathLike[str] | InputImage | InputArray | Image.Image | np.ndarray[Any, Any]]"
)


class Network:
    """A convolutional network: a module, its preprocessing and its class names.

    The module is not changed: each recording runs it in evaluation mode and restores its state. A module
    wrapped by `torch.compile`, `DataParallel` or `DistributedDataParallel` is taken out of the wrapper and
    runs eagerly.

    Args:
        module: Any `torch.nn.Module` whose forward takes one tensor (B, C, H, W), or (B, *shape).
        size: Side of the square centre crop in pixels, or (rows, columns).
        shape: For an input that is not an image: (C, T) for signals, (C, H, W) for pictures of C bands,
            (C, D, H, W) for volumes and video. It replaces `size`.
        mean: Subtracted from pixel values in [0, 1], one number for each input channel. Default: ImageNet; 0
            if `shape` is given.
        std: Divides pixel values after that, one number for each input channel. Default: ImageNet; 1 if
            `shape` is given.
        classes: Class names, in the order of the outputs.
        name: Name in figures and messages. Default: the class of the module.
        preprocessing: Replaces `size`, `mean` and `std`.
        inputs: For a network with several inputs: the names of the arguments of its forward that are
            recorded. A dictionary gives the shape, without the batch, of each input that is not a picture:
            ``{"image": None, "text": (512,)}``. Default: the arguments without a default value.
        pictures: How the module receives pictures. ``batch``: one tensor (B, C, H, W). ``list``: a list of
            tensors (C, H, W) of their own sizes with values from 0 to 1, as torchvision's detectors do, which
            normalise and resize pictures themselves; `size` is then that of an empty picture. Default:
            ``list`` for these detectors.
        origin: Where the module and its weights come from, for manifests.
        shapes: The same network on the meta device, if there is one; listing its layers is quicker.

    Raises:
        NetworkError: If calls of the module cannot be recorded (scripted, traced, exported or quantised).

    If `mean` and `std` have neither 1 nor 3 entries, the input is not an image: only prepared tensors can be
    recorded.

    Example:
        >>> from torch import nn
        >>> module = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU())
        >>> net = dv.Network(module, size=64, name="own")
        >>> net.layers.names
        ['0', '1', 'output']
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        size: Size = 224,
        shape: Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: Sequence[str] | None = None,
        name: str | None = None,
        preprocessing: Preprocessing | None = None,
        inputs: Sequence[str] | Mapping[str, Sequence[int] | None] | None = None,
        pictures: str | None = None,
        origin: Origin | None = None,
        shapes: nn.Module | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise NetworkError(not_a_module(module))
        module = unwrapped(module)
        self.module = module
        self.name = name or type(module).__name__
        if pictures not in (None, "batch", "list"):
            raise NetworkError(f"pictures={pictures!r}: it is 'batch' or 'list'")
        as_list = takes_list(module) if pictures is None else pictures == "list"
        if preprocessing is None and as_list:
            preprocessing = Preprocessing(size, size, (0.0,) * 3, (1.0,) * 3, crop_mode="own")
        if preprocessing is None and shape is not None:
            preprocessing = Preprocessing.of_array(shape, mean, std)
        if preprocessing is None:
            centre = IMAGENET_MEAN if mean is None else tuple(mean)
            spread = IMAGENET_STD if std is None else tuple(std)
            preprocessing = Preprocessing.simple(size, centre, spread)
        self.preprocessing = preprocessing
        self.classes: tuple[str, ...] = tuple(classes or ())
        self.origin = origin or Origin(None, None, "weights as given")
        check_recordable(module, self.name)
        self._inputs = InputPlan.of(module, inputs, takes_list=as_list)
        self._shapes = shapes or module
        self._digested: tuple[Any, str] | None = None
        self._fingerprints: tuple[Any, ...] | None = None  # of the weights at the last digest
        self._sketched: tuple[Any, tuple[LayerTable, Survey]] | None = None

    def __repr__(self) -> str:
        if any(is_lazy(module) for module in self.module.modules()):
            count = "parameters not initialised yet"
        else:
            count = f"{sum(p.numel() for p in self.module.parameters()):,} parameters"
        _, *lengths = self.preprocessing.input_shape
        size = str(lengths[0]) if len(set(lengths)) == 1 else " x ".join(map(str, lengths))
        unit = "" if self.preprocessing.array else " px"
        return f"<Network {self.name}: {size}{unit}, {count}, {self.origin.source}>"

    def info(self, known: dict[int, tuple[object, ...]] | None = None) -> NetworkInfo:
        """Return the facts about the network as it is now. Results keep these instead of the network.

        `known` maps the id of a tensor to its fingerprint, where it has been computed already.
        """
        like = _first_float(self.module)
        return NetworkInfo(
            name=self.name,
            classes=self.classes,
            preprocessing=self.preprocessing,
            origin=self.origin,
            device=str(like.device),
            dtype=str(like.dtype).removeprefix("torch."),
            digest=self._current_digest(known or {}),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs of a network with several; empty for a network with one."""
        return self._inputs.names if self._inputs.several else ()

    @property
    def detections_layer(self) -> Layer:
        """The layer with the class scores of a detector, before the final selection.

        Raises:
            NetworkError: If the network is not a detector whose class scores are known.
        """
        return self.layers.find(scores_output(self.module, self.name))

    def check_one_input(self) -> None:
        """Raise NetworkError if the network does not run on batches of one input."""
        if self._inputs.takes_list:
            raise NetworkError(
                f"{self.name} takes pictures of their own sizes, one at a time, but this runs a network on "
                "batches. Use net.record(...) and project"
            )
        if self._inputs.several:
            raise NetworkError(
                f"{self.name} has {len(self.inputs)} inputs ({', '.join(self.inputs)}), but this runs a "
                "network on one picture. Use net.record(...) and project"
            )

    def check_inputs(self, names: Sequence[str]) -> None:
        """Raise NetworkError unless files can be given for inputs with these names, or for one input."""
        if self._inputs.several and not names:
            there = ", ".join(self.inputs)
            raise NetworkError(
                f"{self.name} has {len(self.inputs)} inputs ({there}): name them in the order of the files "
                "with {option}",
                option=f"inputs={','.join(self.inputs)}",
            )
        self._inputs.check_names(dict.fromkeys(names))

    @property
    def device(self) -> torch.device:
        return _first_float(self.module).device

    @property
    def dtype(self) -> torch.dtype:
        return _first_float(self.module).dtype

    @property
    def layers(self) -> LayerTable:
        """Table of all layers, from one forward pass on an empty image.

        The pass is repeated if submodules, their settings or the input size have changed.

        Raises:
            NetworkError: If the network does not run on an empty image.
        """
        return self._sketch[0]

    def coverage(self, layers: str | Layer | Iterable[str | Layer] | None = None) -> Coverage:
        """Return which operations have exact, approximate or unsupported projection rules.

        The result describes one pass on an empty image. A network that branches on its input may use other
        operations for another image, and some operations are unsupported only when several images are
        recorded at once; `Recording.coverage` describes what happened in a recording.

        Args:
            layers: Layers whose projections are described. Default: all layers.

        Raises:
            LayerError: If a layer does not exist.
        """
        asked = [layers] if isinstance(layers, (str, Layer)) else list(layers or ())
        table, survey = self._sketch
        found = dict.fromkeys(table.find(one) for one in asked)
        names = [(layer.name, layer.module) for layer in found]
        return survey.coverage(self.name, names, see=self.origin.see_coverage([name for name, _ in names]))

    def adopt_layers(self, other: Network) -> None:
        """Reuse the layer table of another network with the same structure."""
        key = (structure_of(self.module), self.preprocessing.input_shape, self.name, self.origin.missing)
        if other._sketched is not None and other._sketched[0] == key:
            self._sketched = other._sketched

    @property
    def _sketch(self) -> tuple[LayerTable, Survey]:
        structure = structure_of(self.module)
        key = (structure, self.preprocessing.input_shape, self.name, self.origin.missing)
        if self._sketched is None or self._sketched[0] != key:
            same = self._shapes is self.module or structure_of(self._shapes) == structure
            self._sketched = key, self._drawn(self._shapes if same else self.module)
        return self._sketched[1]

    def _drawn(self, module: nn.Module) -> tuple[LayerTable, Survey]:
        check_has_numbers(module, self.name, shapes_are_enough=True)
        blank = self._inputs.blank(self.preprocessing, _first_float(module))
        written = self._write(module, blank, _all)
        return self._table(module, written), Survey(written)

    def _table(self, module: nn.Module, written: tape.Tape) -> LayerTable:
        return read_layers(module, written, self.name, see=self._see, missing=self.origin.missing_text)

    @property
    def _see(self) -> str:
        """Command that lists all layers."""
        model = self.origin.model
        return f"deconvviz layers {model.options}" if model else "net.layers"

    def _write(
        self,
        module: nn.Module,
        inputs: NetworkInputs,
        wanted: Callable[[tape.Output, Tensor], bool],
        on_result: Callable[[object], None] | None = None,
        variants: Sequence[str] = (),
    ) -> tape.Tape:
        """Run the recorded forward pass. Output printed by user code is redirected to stderr."""
        model = self.origin.model
        runs_code = model is not None and provider_of(model).runs_code
        with stdout_to_stderr() if runs_code else nullcontext():
            try:
                if self.origin.missing:
                    return self._write_with_missing(module, inputs, wanted, on_result, variants)
                return recorder.record_tape(module, inputs, wanted, on_result, variants)
            except DeconvvizError:
                raise
            except Exception:
                if runs_code or wanted is _all:
                    self._try_alone(module, inputs)
                raise

    def _write_with_missing(
        self,
        module: nn.Module,
        inputs: NetworkInputs,
        wanted: Callable[[tape.Output, Tensor], bool],
        on_result: Callable[[object], None] | None,
        variants: Sequence[str],
    ) -> tape.Tape:
        """Record, and note which outputs depend on weights that are missing."""
        influence = Influence.of(module, self.origin.missing)
        for one in inputs.tensors:
            influence.mark_images(one)
        with influence:
            written = recorder.record_tape(module, inputs, influence.watch(wanted), on_result, variants)
        written.lacking = frozenset(influence.reached)
        return written

    def _try_alone(self, module: nn.Module, inputs: NetworkInputs) -> None:
        """Raise NetworkError if the network fails on this input without recording, too."""
        try:
            with (
                exclusive(module) as parts,
                eager(module),
                torch.no_grad(),
                preserved(parts),
                evaluation(parts),
            ):
                inputs.call(module)
        except Exception as reason:  # whatever a network's code may raise
            several = self._inputs.several and not self._inputs.shapes
            raise NetworkError(
                f"{self.name} does not run on an input of {inputs.sizes}: {type(reason).__name__}: "
                f"{' '.join(str(reason).split())} ({advice(reason, module, several=several)})"
            ) from reason

    @property
    def digest(self) -> str:
        """SHA-256 of the current weights (names, dtypes, shapes and values), as ``sha256:...``.

        Raises:
            NetworkError: If some weights have no values (meta device, lazy modules).
        """
        check_has_numbers(self.module, self.name)
        weights = named_weights(self.module)
        state = tuple((name, tuple(t.shape), t.dtype, checksum(t)) for name, t in weights.items())
        if self._digested is None or self._digested[0] != state:
            self._digested = (state, digest(weights))
        self._fingerprints = self._fingerprinted({})
        return self._digested[1]

    def _current_digest(self, known: dict[int, tuple[object, ...]]) -> str:
        """Return `digest`, cached while fingerprints match; a few values changed by `.data` may be missed."""
        if self._digested is not None and self._fingerprints == self._fingerprinted(known):
            return self._digested[1]
        return self.digest

    def _fingerprinted(self, known: dict[int, tuple[object, ...]]) -> tuple[Any, ...]:
        named = list(tensors_of(self.module))
        missing = [t for _, t in named if id(t) not in known]
        found = known | dict(zip(map(id, missing), fingerprints(missing), strict=True))
        return tuple([(name, found[id(t)]) for name, t in named])

    def class_index(self, asked: str | int) -> int:
        """Return the index of a class.

        Args:
            asked: Class name, a part of a name that only one class has, or an index.

        Raises:
            UnitError: If no class or several classes match.
        """
        scores = self.layers.scores(self.classes)
        return class_index(asked, self.classes, outputs=scores.shape[0])

    @property
    def gives_class_scores(self) -> bool:
        """Whether the output is one score of the whole image for each class, and the weights are trained."""
        return self._image_scores is not None

    @property
    def _image_scores(self) -> Layer | None:
        """The layer with one score of the whole image for each class, if the weights are trained."""
        if not self.classes or not self.origin.trained:
            return None
        try:
            layer = self.layers.find(self.layers.scores(self.classes))
        except LayerError:  # no part of the output is class scores, or the last layers lack their weights
            return None
        return layer if layer.shape == (len(self.classes),) else None

    def record(
        self,
        images: Images | Mapping[str, Any] | tuple[Any, ...],
        layers: str | Layer | Iterable[str | Layer],
        *,
        scores: bool = False,
        methods: str | Iterable[str] = (),
    ) -> Recording:
        """Run one forward pass up to the deepest requested layer and record what projections need.

        Args:
            images: A path, a PIL image or a uint8 array (H, W, 3), or a sequence of these; or a prepared
                tensor (B, C, H, W). For a network with several inputs, a tuple with one of these for each, or
                a dictionary by the names of the arguments. Inputs that are not pictures are arrays or tensors
                (B, ...). A network for signals, bands, volumes or video reads arrays (C, ...) and their files
                (.npy, .wav, .tif, .nii, .mp4 and others).
            layers: Layer names, or layers from `Network.layers`. A layer that an empty image does not reach
                is tried on these images.
            scores: Also run the rest of the network, so that `Recording.top_class` is known, if the network
                returns class scores.
            methods: Methods besides the deconvnet that `Recording.project` will be asked for: ``gradient``,
                ``guided``, ``input_x_gradient``. What they need is recorded too: the signs of the inputs of
                ReLUs, and the arguments of other nonlinear operations.

        Returns:
            The recording of all images as one batch.

        Raises:
            LayerError: If a layer does not exist, was not reached or does not depend on the image.
            ImageError: If an image cannot be read, or a tensor has the wrong shape.
            MethodError: If a method is unknown.
            NetworkError: If the network does not run on these images.

        Example:
            >>> from deconvviz.scenes import scene
            >>> net = dv.load("minivgg")
            >>> rec = net.record(scene(7).image, ["conv3_2", "conv4_2"])
            >>> rec.activations("conv4_2").shape
            torch.Size([1, 96, 12, 12])
        """
        variants = tapes_of([methods] if isinstance(methods, str) else methods)
        asked = [layers] if isinstance(layers, (str, Layer)) else list(layers)
        if not asked:
            raise LayerError("no layer was given: name one or more (net.layers lists them)")
        check_has_numbers(self.module, self.name)
        table = self.layers
        found = dict.fromkeys(
            one if isinstance(one, str) and table.is_unreached(one.partition(":")[0]) else table.find(one)
            for one in asked
        )
        recorded, inputs = self._prepare(images)
        return self._run(recorded, inputs, list(found), table, scores=scores, variants=variants)

    def explore(
        self,
        images: Any = None,
        *,
        layer: str | None = None,
        other: Network | None = None,
        atlas: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Return a notebook widget: click on a picture to see which units answered there.

        Its attributes `layer`, `units` and `picture` are the current choice; setting them moves the view.
        `projection` is the projection of the units that are shown.

        Args:
            images: A path of an image or a folder, ``scenes:N``, a PIL image, a uint8 array (H, W, 3), or a
                sequence of these. Default: some scenes.
            layer: Name of the layer to begin with.
            other: Another network, or the same with other weights, to compare with.
            atlas: Folder of an atlas of this network. A unit that is opened names the page of its channel.

        Raises:
            MissingExtra: If anywidget is not installed (``pip install 'deconvviz[notebook]'``).
            LayerError: If the layer does not exist.
            NetworkError: If the input of the network is not an image, or the atlas is of another network.
            OutputError: If `atlas` is not the folder of an atlas.
            SourceError: If there is no image.
        """
        return open_view("explorer", self, images, layer=layer, other=other, atlas=atlas)

    def _run(
        self,
        recorded: tuple[RecordedInput, ...],
        inputs: NetworkInputs,
        asked: Sequence[Layer | str],
        table: LayerTable,
        *,
        scores: bool,
        variants: Sequence[str] = (),
    ) -> Recording:
        """Record layers of the table, and modules that are not in the table by name."""
        values: dict[str, int] = {}
        kept: dict[str, Tensor] = {}
        results: list[Tensor] = []
        pending = {one if isinstance(one, str) else one.module: one for one in asked}

        def wanted(out: tape.Output, tensor: Tensor) -> bool:
            name = out.name
            one = pending.pop(name, None)
            if one is not None:
                if out.value is None:
                    layer_name = one if isinstance(one, str) else one.name
                    raise LayerError(f"{layer_name} of {self.name} does not depend on the image")
                values[name] = out.value
                kept[name] = tensor.detach().clone()  # a later in-place call may overwrite it
            return bool(pending)

        scored_layer = self._image_scores
        names_classes = scored_layer is not None and (scores or scored_layer.module in pending)

        def keep_scores(result: object) -> None:
            for keys, tensor in output_parts(result):
                if scored_layer is not None and with_keys("", keys) == scored_layer.module:
                    results.append(plain(tensor).detach().clone())

        written = self._write(self.module, inputs, wanted, keep_scores if names_classes else None, variants)
        for one in asked:
            if (one if isinstance(one, str) else one.module) in written.lacking:
                raise table.lacking(one if isinstance(one, str) else one.name)
        if pending:
            reached = self._table(self.module, written)
            for one in pending.values():
                if isinstance(one, str) and not reached.is_unreached(one):
                    reached.find(one)  # raises an error that states what the module returns
            names = ", ".join(one if isinstance(one, str) else one.name for one in pending.values())
            raise LayerError(f"{names} of {self.name} was not reached with these images")
        layers = self._described(asked, written)
        activations = {
            layer: written.layouts[values[layer.module]].channels_first(kept[layer.module])
            for layer in layers
        }
        survey = Survey(written)  # before calls that lead only to constants are dropped
        written.keep_only(values.values())
        by_layer = {layer: values[layer.module] for layer in layers}
        info = self.info(written.fingerprints())
        detections: Sequence[Detection] = ()
        if self._inputs.takes_list and any(one.module == self._detections_output for one in layers):
            detections = find_detections(self.module, inputs, self._detections_output)
        scored = results[0] if results and results[0].shape == (len(inputs), len(self.classes)) else None
        classes = () if scored is None else top_classes(scored, self.classes)
        return Recording(
            info,
            table,
            layers,
            recorded,
            inputs,
            written,
            survey,
            by_layer,
            activations,
            classes,
            made_by=weakref.ref(self),
            detections=detections,
        )

    @property
    def _detections_output(self) -> str:
        """Name of the output with the class scores of a detector; empty if they are not known."""
        try:
            return scores_output(self.module, self.name)
        except NetworkError:  # another network that takes a list of pictures
            return ""

    def _described(self, asked: Sequence[Layer | str], written: tape.Tape) -> tuple[Layer, ...]:
        """Return the requested layers, described as in the table of all layers.

        Layers given by name are described from this pass. So are all layers of a network that takes pictures
        of their own sizes, because their fields depend on the size if the network resizes pictures.
        """
        known = [one for one in asked if isinstance(one, Layer)]
        of_pass = self._inputs.takes_list
        if len(known) == len(asked) and not of_pass:
            return tuple(known)
        table = self._table(self.module, written)
        own = {layer.module: layer for layer in table}
        return tuple(
            replace(table.find(one), name=one, same_as="")
            if isinstance(one, str)
            else replace(own[one.module] if of_pass else one, name=one.name, same_as=one.same_as)
            for one in asked
        )

    def _prepare(self, images: Any) -> tuple[tuple[RecordedInput, ...], NetworkInputs]:
        like = _first_float(self.module)
        preparation = Preparation(self.name, self._inputs, self.preprocessing, like.device, like.dtype)
        return preparation.prepare(images)


def _all(out: tape.Output, tensor: Tensor) -> bool:
    """Accept every output, so that the whole network runs."""
    return True


def _first_float(module: nn.Module) -> Tensor:
    """Return a tensor with the dtype and device of the network."""
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))


def project(
    net: Network, images: Images, layer: str | Layer, k: int = 9, *, channel: int | None = None
) -> Projection:
    """Project the k strongest units of a layer: record, choose and project in one call.

    Args:
        net: The network.
        images: As for `Network.record`.
        layer: A layer name or a `Layer`.
        k: Number of units.
        channel: If given, the k strongest positions of this channel instead of the k strongest channels.

    Example:
        >>> from deconvviz.scenes import scene
        >>> dv.project(dv.load("minivgg"), scene(7).image, "conv3_2", k=4).pixels.shape
        torch.Size([4, 3, 96, 96])
    """
    recording = net.record(images, layer)
    return recording.project(layer, recording.strongest(layer, k, channel))
