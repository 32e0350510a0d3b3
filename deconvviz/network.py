"""A network, whose it is and what it expects: any module can be wrapped with `Network`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz.coverage import Coverage, Survey
from deconvviz.engine import recorder as forward
from deconvviz.engine import tape
from deconvviz.engine.hooks import evaluation, exclusive, plain
from deconvviz.engine.preservation import fingerprint, preserved
from deconvviz.errors import DeconvvizError, LayerError, NetworkError, PictureError
from deconvviz.images.image import Picture, as_picture, open_picture
from deconvviz.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Size
from deconvviz.layers import Layer, LayerTable, read_layers
from deconvviz.models.advice import advice
from deconvviz.models.classes import class_index
from deconvviz.models.digests import checksum, digest
from deconvviz.models.providers import provider_of
from deconvviz.models.stdout import stdout_to_stderr
from deconvviz.models.structure import check_has_numbers, is_lazy, structure_of, tensors_of
from deconvviz.network_info import NetworkInfo
from deconvviz.network_info import Origin as Origin
from deconvviz.projection import Projection
from deconvviz.recording import Recording

Pictures: TypeAlias = (
    "str | os.PathLike[str] | Picture | Image.Image | np.ndarray[Any, Any] | Tensor"
    "| Sequence[str | os.PathLike[str] | Picture | Image.Image | np.ndarray[Any, Any]]"
)


class Network:
    """Any convolutional network: a module, how pictures are prepared for it, and the names of its classes.

    `size` is the side of the square crop in pixels, or (rows, columns); `mean` and `std` (one number for each
    channel, in 0 .. 1 pixel values) are subtracted and divided by; the defaults are those of ImageNet. A
    network whose input is no picture has as many numbers as its input has channels, and takes prepared
    tensors alone. The module is never changed: each recording runs it in evaluation mode and puts everything
    back.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        size: Size = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        classes: Sequence[str] | None = None,
        name: str | None = None,
        preprocessing: Preprocessing | None = None,
        origin: Origin | None = None,
        shapes: nn.Module | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise NetworkError(f"a network is a torch.nn.Module, not {type(module).__name__}")
        self.module = module
        self.name = name or type(module).__name__
        self.preprocessing = preprocessing or Preprocessing.simple(size, tuple(mean), tuple(std))
        self.classes: tuple[str, ...] = tuple(classes or ())
        self.origin = origin or Origin(None, None, "weights as given")
        self._shapes = shapes or module  # the same network without numbers, if there is one: quicker to ask
        self._digested: tuple[Any, str] | None = None
        self._fingerprints: tuple[Any, ...] | None = None  # of the weights that were digested last
        self._sketched: tuple[Any, tuple[LayerTable, Survey]] | None = None

    def __repr__(self) -> str:
        _, rows, columns = self.preprocessing.shape
        if any(is_lazy(module) for module in self.module.modules()):
            count = "parameters not initialised yet"
        else:
            count = f"{sum(p.numel() for p in self.module.parameters()):,} parameters"
        size = str(rows) if rows == columns else f"{rows} x {columns}"
        return f"<Network {self.name}: {size} px, {count}, {self.origin.source}>"

    def info(self, known: dict[int, tuple[object, ...]] | None = None) -> NetworkInfo:
        """Return the facts about the network as it is now; results keep these and not the network.

        `known` are fingerprints of weights that have been taken already, by the id of the tensor.
        """
        return NetworkInfo(
            name=self.name,
            classes=self.classes,
            preprocessing=self.preprocessing,
            origin=self.origin,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            digest=self._current_digest(known or {}),
        )

    @property
    def device(self) -> torch.device:
        return _first_float(self.module).device

    @property
    def dtype(self) -> torch.dtype:
        return _first_float(self.module).dtype

    @property
    def layers(self) -> LayerTable:
        """Every layer that can be asked for, from one forward pass over an empty picture.

        The pass is repeated once the module's parts, their settings or the size of the input have changed.
        Raises NetworkError.
        """
        return self._sketch[0]

    def coverage(self, layers: str | Layer | Iterable[str | Layer] | None = None) -> Coverage:
        """Each operation exact, by analogy or refused: of the way down from some layers, or from any.

        It is a sketch, from the same pass over one empty picture as `layers`. A network that goes another way
        for another picture may use other operations then, and some are refused only where they mix
        several pictures; `Recording.coverage` tells what really happened. Raises LayerError.
        """
        asked = [layers] if isinstance(layers, (str, Layer)) else list(layers or ())
        table, survey = self._sketch
        found = dict.fromkeys(table.find(one) for one in asked)
        names = [(layer.name, layer.dotted) for layer in found]
        return survey.coverage(self.name, names, see=self.origin.see_coverage([name for name, _ in names]))

    def adopt_layers(self, other: Network) -> None:
        """Take over the table of layers of a network with the same parts, so that it is not made again."""
        key = (structure_of(self.module), self.preprocessing.shape, self.name)
        if other._sketched is not None and other._sketched[0] == key:
            self._sketched = other._sketched

    @property
    def _sketch(self) -> tuple[LayerTable, Survey]:
        structure = structure_of(self.module)
        key = (structure, self.preprocessing.shape, self.name)
        if self._sketched is None or self._sketched[0] != key:
            same = self._shapes is self.module or structure_of(self._shapes) == structure
            self._sketched = key, self._drawn(self._shapes if same else self.module)
        return self._sketched[1]

    def _drawn(self, module: nn.Module) -> tuple[LayerTable, Survey]:
        check_has_numbers(module, self.name, shapes_are_enough=True)
        like = _first_float(module)
        blank = torch.zeros((1, *self.preprocessing.shape), device=like.device, dtype=like.dtype)
        written = self._write(module, blank, _all)
        return read_layers(module, written, self.name, see=self._see), Survey(written)

    @property
    def _see(self) -> str:
        """Where all layers are listed."""
        model = self.origin.model
        return f"deconvviz layers {model.options}" if model else "net.layers"

    def _write(
        self, module: nn.Module, inputs: Tensor, wanted: Callable[[tape.Output, Tensor], bool]
    ) -> tape.Tape:
        """The way up. What a file's code prints goes to stderr; an input of our own choice has to fit."""
        model = self.origin.model
        runs_code = model is not None and provider_of(model).runs_code
        with stdout_to_stderr() if runs_code else nullcontext():
            try:
                return forward.record_tape(module, inputs, wanted)
            except DeconvvizError:
                raise
            except Exception:
                if runs_code or wanted is _all:
                    self._try_alone(module, inputs)
                raise

    def _try_alone(self, module: nn.Module, inputs: Tensor) -> None:
        """Raise NetworkError if the network does not run on this input by itself either."""
        try:
            parts = list(module.named_modules())
            with exclusive(parts), torch.no_grad(), preserved(parts), evaluation(parts):
                module(inputs)
        except Exception as reason:  # whatever a network's code may raise
            size = " x ".join(map(str, inputs.shape[1:]))
            raise NetworkError(
                f"{self.name} does not run on an input of {size}: {type(reason).__name__}: "
                f"{' '.join(str(reason).split())} ({advice(reason, module)})"
            ) from reason

    @property
    def digest(self) -> str:
        """``sha256:...`` of the weights as they are now: names, types, shapes and numbers.

        Raises NetworkError if some have no numbers.
        """
        check_has_numbers(self.module, self.name)
        weights = self.module.state_dict()
        state = tuple((name, tuple(t.shape), t.dtype, checksum(t)) for name, t in weights.items())
        if self._digested is None or self._digested[0] != state:
            self._digested = (state, digest(weights))
        self._fingerprints = self._fingerprinted({})
        return self._digested[1]

    def _current_digest(self, known: dict[int, tuple[object, ...]]) -> str:
        """As `digest`, but quick if nothing has changed: a change of single numbers by `.data` may escape."""
        if self._digested is not None and self._fingerprints == self._fingerprinted(known):
            return self._digested[1]
        return self.digest

    def _fingerprinted(self, known: dict[int, tuple[object, ...]]) -> tuple[Any, ...]:
        return tuple((name, known.get(id(t)) or fingerprint(t)) for name, t in tensors_of(self.module))

    def class_index(self, asked: str | int) -> int:
        """The number of a class, by its name, a part of it that only one class has, or its number."""
        return class_index(asked, self.classes, outputs=self.layers.last.shape[0])

    def record(self, images: Pictures, layers: str | Layer | Iterable[str | Layer]) -> Recording:
        """One forward pass that writes down what the way down needs, up to the deepest layer asked for.

        `images`: a path, PIL image or uint8 array (H, W, 3), or several of them; or a tensor (B, C, H, W)
        that is prepared already. A layer that an empty picture does not reach is looked for on these images.
        Raises LayerError, PictureError, NetworkError.
        """
        asked = [layers] if isinstance(layers, (str, Layer)) else list(layers)
        if not asked:
            raise LayerError("no layer was asked for: name one or more (net.layers lists them)")
        check_has_numbers(self.module, self.name)
        table = self.layers
        found = dict.fromkeys(
            one if isinstance(one, str) and table.is_unreached(one.partition(":")[0]) else table.find(one)
            for one in asked
        )
        pictures, inputs = self._prepare(images)
        return self._run(pictures, inputs, list(found), table)

    def _run(
        self,
        pictures: tuple[Picture, ...],
        inputs: Tensor,
        asked: Sequence[Layer | str],
        table: LayerTable,
    ) -> Recording:
        """Record layers, and modules by their name that are not in the table."""
        values: dict[str, int] = {}
        kept: dict[str, Tensor] = {}
        pending = {one if isinstance(one, str) else one.dotted: one for one in asked}

        def wanted(out: tape.Output, tensor: Tensor) -> bool:
            name = out.name
            one = pending.pop(name, None)
            if one is not None:
                if out.value is None:
                    told = one if isinstance(one, str) else one.name
                    raise LayerError(f"{told} of {self.name} does not depend on the picture")
                values[name] = out.value
                kept[name] = tensor.detach().clone()  # an in-place call may overwrite it
            return bool(pending)

        written = self._write(self.module, inputs, wanted)
        if pending:
            reached = read_layers(self.module, written, self.name, see=self._see)
            for one in pending.values():
                if isinstance(one, str) and not reached.is_unreached(one):
                    reached.find(one)  # raises, saying what it gives
            names = ", ".join(one if isinstance(one, str) else one.name for one in pending.values())
            raise LayerError(f"{names} of {self.name} was not reached with these pictures")
        layers = self._described(asked, written)
        activations = {
            layer: written.layouts[values[layer.dotted]].channels_first(kept[layer.dotted])
            for layer in layers
        }
        survey = Survey(written)  # before what only leads to constants is forgotten
        written.keep_only(values.values())
        by_layer = {layer: values[layer.dotted] for layer in layers}
        info = self.info(written.fingerprints())
        return Recording(info, table, layers, pictures, inputs, written, survey, by_layer, activations)

    def _described(self, asked: Sequence[Layer | str], written: tape.Tape) -> tuple[Layer, ...]:
        """The layers that were asked for; those by name as they were in this very pass."""
        if all(isinstance(one, Layer) for one in asked):
            return tuple(one for one in asked if isinstance(one, Layer))
        table = read_layers(self.module, written, self.name, see=self._see)
        return tuple(
            one if isinstance(one, Layer) else replace(table.find(one), name=one, same_as="") for one in asked
        )

    def _prepare(self, images: Pictures) -> tuple[tuple[Picture, ...], Tensor]:
        """Pictures and the tensor (B, C, H, W) made of them; no pictures if a tensor was given."""
        if isinstance(images, Tensor):
            return (), self._checked(images)
        self.preprocessing.check_reads_pictures(self.name)
        several = images if isinstance(images, (list, tuple)) else [images]
        pictures = tuple(_picture(image) for image in several)
        if not pictures:
            raise PictureError("no picture was given")
        inputs = torch.stack([self.preprocessing.apply(picture.rgb) for picture in pictures])
        return pictures, inputs.to(self.device, self.dtype)

    def _checked(self, tensor: Tensor) -> Tensor:
        channels = len(self.preprocessing.mean)
        if tensor.dim() != 4 or tensor.shape[1] != channels or 0 in tensor.shape:
            raise PictureError(
                f"a prepared tensor has shape (B, {channels}, H, W), not {tuple(tensor.shape)}"
            )
        if not tensor.is_floating_point():
            raise PictureError(
                f"a prepared tensor holds floating point numbers, not {tensor.dtype}; "
                "pixel values 0 to 255 go in as a uint8 array (H, W, 3)"
            )
        finite = bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())  # a sum is quicker
        if not finite:
            raise PictureError("the tensor holds NaN or infinity")
        return plain(tensor.detach()).to(self.device, self.dtype)


def _all(out: tape.Output, tensor: Tensor) -> bool:
    """Nothing is kept, and the network runs to its end."""
    return True


def _first_float(module: nn.Module) -> Tensor:
    """A tensor of the type and on the device that a network computes with."""
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))


def _picture(image: Any) -> Picture:
    return open_picture(image) if isinstance(image, (str, os.PathLike)) else as_picture(image)


def project(
    net: Network, images: Pictures, layer: str | Layer, k: int = 9, *, channel: int | None = None
) -> Projection:
    """Record, choose the k strongest units of a layer, and carry them down: the three lines in one."""
    recording = net.record(images, layer)
    return recording.project(layer, recording.strongest(layer, k, channel))
