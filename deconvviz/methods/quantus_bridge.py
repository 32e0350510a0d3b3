"""Units and their maps for Quantus, a library that measures explanations of class scores.

>>> import quantus
>>> model = UnitActivations(net, "conv4_2", [(17, 5, 6), (3, 8, 8)]).eval()
>>> metric = quantus.PixelFlipping(features_in_step=96)
>>> scores = metric(model, x_batch, y_batch, explain_func=explain_func, softmax=False)

`x_batch` are prepared images (N, C, H, W). `y_batch` (N,) are the numbers of the units, here 0 or 1. Pass
``softmax=False``, because activations of units are not the scores of one choice. Quantus itself is not needed
here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from deconvviz.engine.units import Unit, checked
from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import ImageError, MethodError, UnitError
from deconvviz.layers import Layer
from deconvviz.methods.given_modules import network_of
from deconvviz.methods.method import Subject
from deconvviz.methods.method import method as method_named
from deconvviz.methods.unit_function import output_of
from deconvviz.network import Network
from deconvviz.wording import counted, missing_number

Place: TypeAlias = "Unit | int | tuple[int, ...]"

_BATCHED = ("deconvnet", "guided", "gradient", "input_x_gradient")  # the others explain one image at a time


class UnitActivations(nn.Module):
    """The activations of some units of a network as the outputs of a module, as if they were class scores.

    The input is prepared images (N, C, H, W), the output is (N, K): the activation of each of the K units in
    each image. The network is the submodule `module`; a copy of this module has weights of its own.

    Args:
        network: A network, or its module.
        layer: The layer of the units.
        units: The K units. Each is a `Unit`, whose image is ignored, or its place: (channel, y, x), or the
            index in a fully connected layer.

    Raises:
        LayerError: If a `Network` has no such layer. For a module, this is raised at the first use.
        UnitError: If no unit is given. Units that do not exist are found at the first use.
    """

    def __init__(self, network: Network | nn.Module, layer: str | Layer, units: Sequence[Place]) -> None:
        super().__init__()
        found = network.layers.find(layer) if isinstance(network, Network) else layer
        self.module: nn.Module = network.module if isinstance(network, Network) else network
        self.layer = found.module if isinstance(found, Layer) else found
        self.units = tuple(map(_unit, units))
        if not self.units:
            raise UnitError("no unit was given: name one or more")
        self.training = self.module.training
        self._found: dict[tuple[int, ...], Layer] = {}  # the layer for each shape of an image

    def forward(self, images: Tensor) -> Tensor:
        """Return the activations of the units, (N, K), for prepared images (N, C, H, W)."""
        layer = self.layer_for(images)
        output = output_of(self.module, named_parts(self.module), layer.module, images)
        activations = output.movedim(-1, 1) if layer.channels_last and output.dim() == 4 else output
        if len(activations):
            checked(activations.detach(), self.units, layer.name)
        return torch.stack([activations[_index(unit)] for unit in self.units], dim=1)

    def fires(self, inputs: ArrayLike | Tensor) -> NDArray[np.bool_]:
        """Return whether the activation of each unit differs from 0 in each image, bool (N, K).

        The map of a unit that is 0 is zero everywhere. Quantus rejects such maps, so leave these images out.
        """
        with torch.no_grad():
            activations: Tensor = self(_tensor(inputs, self.module))
        return (activations != 0).cpu().numpy()

    def layer_for(self, images: Tensor) -> Layer:
        """Return the layer of the units in the network, for images of this size."""
        shape = tuple(images.shape[1:])
        if shape not in self._found:
            layer = network_of(self.module, images).layers.find(self.layer)
            for unit in self.units:
                if len(layer.shape) == 3 and unit.y is None:
                    raise UnitError(
                        f"channel {unit.channel} of {layer.name} has many units: "
                        "give the place (channel, y, x)"
                    )
            self._found[shape] = layer
        return self._found[shape]


def explain_func(
    model: nn.Module,
    inputs: ArrayLike | Tensor,
    targets: ArrayLike | Tensor,
    method: str = "deconvnet",
    reduce_axes: Sequence[int] = (),
    **others: Any,
) -> NDArray[np.float32]:
    """Return the maps of units, or of class scores, with the interface that Quantus expects.

    In a call of a metric, give the arguments after `targets` as ``explain_func_kwargs={"method": "guided"}``.

    Args:
        model: `UnitActivations`, or any classifier, whose class scores are explained. The network of this
            very module is recorded, with the weights that it has now.
        inputs: Prepared images, (N, C, H, W).
        targets: Number of the unit, or of the class, that is explained in each image, (N,).
        method: Name of a method, such as ``guided`` (see `METHODS`).
        reduce_axes: Axes over which the maps are summed, as in ``quantus.explain``. Use (1,) for metrics that
            need one value for each pixel, such as those of localisation.
        **others: Not used. Quantus passes its ``device``; the maps are computed where the model is.

    Returns:
        (N, C, H, W): maps of the units' own activations. Reduced axes have the length 1.

    Raises:
        ImageError: If the inputs do not have the shape (N, C, H, W).
        LayerError: If the model has no such layer, or a classifier does not return one tensor.
        MethodError: If the method does not exist, or cannot be used for this model.
        UnitError: If a unit does not exist, or if all maps are zero, which Quantus rejects.

    Warns:
        UserWarning: If some of the maps are zero.
    """
    images, numbers = _tensor(inputs, model), _numbers(targets)
    if len(numbers) != len(images):
        raise UnitError(
            f"{counted(len(numbers), 'target')} for {counted(len(images), 'image')}: give one each"
        )
    if isinstance(model, UnitActivations):
        network, layer = network_of(model.module, images), model.layer_for(images)
        for number in numbers:
            if not 0 <= number < len(model.units):
                raise UnitError(missing_number("unit", number, "this UnitActivations", len(model.units)))
        units = [replace(model.units[number], image=n) for n, number in enumerate(numbers)]
    else:
        network = network_of(model, images)
        layer = network.layers.last
        units = [Unit(n, number) for n, number in enumerate(numbers)]
    maps = _maps(network, layer, images, units, method)
    _check_not_zero(maps, layer)
    summed: NDArray[np.float32] = maps.sum(axis=tuple(reduce_axes), keepdims=True) if reduce_axes else maps
    return summed


def _maps(
    network: Network, layer: Layer, images: Tensor, units: Sequence[Unit], method: str
) -> NDArray[np.float32]:
    """Return the map of one unit for each image, (N, C, H, W)."""
    asked = method_named(method)
    if method in _BATCHED:
        recording = network.record(images, layer, methods=asked.needs)
        pixels = recording.project(layer, units, method=method).pixels
    else:
        found = []
        for image, unit in zip(images, units, strict=True):
            subject = Subject.record(network, image[None], layer, (method,))
            if reason := asked.unsupported(subject):
                raise MethodError(f"{method} cannot be used: {reason}")
            found.append(asked.maps(subject, [replace(unit, image=0)]))
        pixels = torch.cat(found)
    maps: NDArray[np.float32] = pixels.detach().cpu().float().numpy()
    return maps


def _check_not_zero(maps: NDArray[np.float32], layer: Layer) -> None:
    zero = ~maps.reshape(len(maps), -1).any(axis=1)
    if not zero.any():
        return
    if zero.all():
        raise UnitError(
            f"all maps are zero, and Quantus rejects them: none of the units of {layer.name} fires in its "
            "image. Leave out images in which the unit does not fire (`UnitActivations.fires` finds them)"
        )
    warnings.warn(
        f"{counted(int(zero.sum()), 'map')} of {len(maps)} are zero: these units of {layer.name} do not fire "
        "in their images, so measures of these maps mean nothing (`UnitActivations.fires` finds them)",
        stacklevel=3,
    )


def _unit(given: Place) -> Unit:
    if isinstance(given, Unit):
        return given
    place = given if isinstance(given, tuple) else (given,)
    if len(place) not in (1, 3):
        raise UnitError(f"{given!r} is not the place of a unit: give (channel, y, x), or an index")
    return Unit(0, *place)


def _index(unit: Unit) -> tuple[int | slice, ...]:
    """Return the index of the unit in all images."""
    return slice(None), *(number for number in (unit.channel, unit.y, unit.x) if number is not None)


def _tensor(inputs: ArrayLike | Tensor, model: nn.Module) -> Tensor:
    """Return the inputs with the device and dtype of the model."""
    images = torch.as_tensor(inputs if isinstance(inputs, Tensor) else np.asarray(inputs))
    if images.dim() != 4 or not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise ImageError(
            f"the inputs must be prepared images (N, C, H, W) of floating point numbers, not {kind} "
            f"{tuple(images.shape)}"
        )
    like = next((one for one in model.parameters() if one.is_floating_point()), images)
    return images.detach().to(like.device, like.dtype)


def _numbers(targets: ArrayLike | Tensor) -> list[int]:
    array = targets.detach().cpu().numpy() if isinstance(targets, Tensor) else np.asarray(targets)
    return [int(number) for number in array.reshape(-1)]
