"""A network, whose it is and what it expects: any module can be wrapped with `Network`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz.coverage import Coverage, Survey
from deconvviz.engine import forward, tape
from deconvviz.engine.watching import evaluation
from deconvviz.errors import DeconvvizError, LayerError, NetworkError, PictureError
from deconvviz.layers import Layer, LayerTable, read_layers
from deconvviz.nets.digests import digest
from deconvviz.nets.names import class_index
from deconvviz.nets.pictures import Picture, as_picture, open_picture
from deconvviz.nets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Size
from deconvviz.nets.spec import ModelSpec
from deconvviz.projection import Projection
from deconvviz.recording import Recording

Pictures: TypeAlias = (
    "str | os.PathLike[str] | Picture | Image.Image | np.ndarray[Any, Any] | Tensor"
    "| Sequence[str | os.PathLike[str] | Picture | Image.Image | np.ndarray[Any, Any]]"
)


@dataclass(frozen=True)
class Origin:
    """Where a network and its weights come from; enough to find them again."""

    spec: str | None  # what `load` was asked for: default, random, a file; None: a module of the user's own
    seed: int | None  # of random weights, and of what a user's file may draw
    source: str  # in words
    notes: tuple[str, ...] = ()  # what a user should know of them
    model: ModelSpec | None = None  # which network `load` was asked for

    @property
    def short(self) -> str:
        """For a figure's title: of a file its name alone."""
        return Path(self.source).name if self.source == self.spec else self.source


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

    def __repr__(self) -> str:
        (_, rows, columns), count = self.preprocessing.shape, sum(p.numel() for p in self.module.parameters())
        size = str(rows) if rows == columns else f"{rows} x {columns}"
        return f"<Network {self.name}: {size} px, {count:,} parameters, {self.origin.source}>"

    @property
    def device(self) -> torch.device:
        return _first_float(self.module).device

    @property
    def dtype(self) -> torch.dtype:
        return _first_float(self.module).dtype

    @property
    def layers(self) -> LayerTable:
        """Every layer that can be asked for, from one forward pass over an empty picture."""
        return self._sketch[0]

    def coverage(self, layers: str | Iterable[str] | None = None) -> Coverage:
        """Each operation exact, by analogy or refused: of the way down from some layers, or from any.

        It is a sketch, from the same pass over one empty picture as `layers`. A network that goes another way
        for another picture may use other operations then, and some are refused only where they mix
        several pictures; `Recording.coverage` tells what really happened. Raises LayerError.
        """
        asked = [layers] if isinstance(layers, str) else list(layers or ())
        table, survey = self._sketch
        found = dict.fromkeys(table.find(name) for name in asked)
        return self._coverage(survey, found)

    def _coverage(self, survey: Survey, layers: Iterable[Layer]) -> Coverage:
        asked = [(layer.name, layer.dotted) for layer in layers]
        see = "net.coverage()"
        if self.origin.model is not None:
            options = "".join(f" --layer {shlex.quote(name)}" for name, _ in asked)
            see = f"deconvviz check {self.origin.model.options.removeprefix('--model ')}{options}"
        return survey.coverage(self.name, asked, see=see)

    @cached_property
    def _sketch(self) -> tuple[LayerTable, Survey]:
        like = _first_float(self._shapes)
        blank = torch.zeros((1, *self.preprocessing.shape), device=like.device, dtype=like.dtype)
        written = self._write(self._shapes, blank, _all)
        model = self.origin.model
        see = f"deconvviz layers {model.options}" if model else "net.layers"
        return read_layers(self._shapes, written, self.name, see=see), Survey(written)

    def _write(
        self, module: nn.Module, inputs: Tensor, wanted: Callable[[tape.Output, Tensor], bool]
    ) -> tape.Tape:
        """The way up. What a file's code prints goes to stderr; an input of our own choice has to fit."""
        runs_code = self.origin.model is not None and self.origin.model.runs_code
        with redirect_stdout(sys.stderr) if runs_code else nullcontext():
            try:
                return forward.write(module, inputs, wanted)
            except DeconvvizError:
                raise
            except Exception:
                if runs_code or wanted is _all:
                    self._try_alone(module, inputs)
                raise

    def _try_alone(self, module: nn.Module, inputs: Tensor) -> None:
        """Raise NetworkError if the network does not run on this input by itself either."""
        try:
            with torch.no_grad(), evaluation(module):
                module(inputs)
        except Exception as reason:  # whatever a network's code may raise
            size = " x ".join(map(str, inputs.shape[1:]))
            raise NetworkError(
                f"{self.name} does not run on an input of {size}: {type(reason).__name__}: "
                f"{' '.join(str(reason).split())} (deconvviz.Network(module, size=..., mean=..., std=...) "
                "says what it reads)"
            ) from reason

    @property
    def digest(self) -> str:
        """``sha256:...`` of the weights as they are now: names, types, shapes and numbers."""
        weights = self.module.state_dict()
        state = tuple((name, t._version, t.data_ptr(), t.dtype) for name, t in weights.items())
        if self._digested is None or self._digested[0] != state:
            self._digested = (state, digest(weights))
        return self._digested[1]

    def class_index(self, asked: str | int) -> int:
        """The number of a class, by its name, a part of it that only one class has, or its number."""
        return class_index(asked, self.classes, outputs=self.layers.last.shape[0])

    def record(self, images: Pictures, layers: str | Iterable[str]) -> Recording:
        """One forward pass that writes down what the way down needs, up to the deepest layer asked for.

        `images`: a path, PIL image or uint8 array (H, W, 3), or several of them; or a tensor (B, C, H, W)
        that is prepared already. Raises LayerError, PictureError.
        """
        asked = [layers] if isinstance(layers, str) else list(layers)
        if not asked:
            raise LayerError("no layer was asked for: name one or more (net.layers lists them)")
        found = list(dict.fromkeys(self.layers.find(name) for name in asked))
        pictures, inputs = self._prepare(images)
        return self._run(pictures, inputs, found)

    def _run(self, pictures: tuple[Picture, ...], inputs: Tensor, layers: Sequence[Layer]) -> Recording:
        values: dict[Layer, int] = {}
        activations: dict[Layer, Tensor] = {}
        pending = {layer.dotted: layer for layer in layers}

        def wanted(out: tape.Output, tensor: Tensor) -> bool:
            layer = pending.pop(out.module if out.call == 1 else f"{out.module}:{out.call}", None)
            if layer is not None:
                if out.value is None:
                    raise LayerError(f"{layer.name} of {self.name} does not depend on the picture")
                values[layer] = out.value
                activations[layer] = tensor.detach().clone()  # an in-place call may overwrite it
            return bool(pending)

        written = self._write(self.module, inputs, wanted)
        if pending:
            names = ", ".join(layer.name for layer in pending.values())
            raise LayerError(f"{names} of {self.name} was not reached with these pictures")
        for layer, value in values.items():
            activations[layer] = written.forms[value].channels_first(activations[layer])
        survey = Survey(written)  # before what only leads to constants is forgotten
        written.keep_only(values.values())
        return Recording(self, tuple(layers), pictures, inputs, written, survey, values, activations)

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
        return tensor.detach().to(self.device, self.dtype)


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
    net: Network, images: Pictures, layer: str, k: int = 9, *, channel: int | None = None
) -> Projection:
    """Record, choose the k strongest units of a layer, and carry them down: the three lines in one."""
    recording = net.record(images, layer)
    return recording.project(layer, recording.strongest(layer, k, channel))
