"""Classes with the interface of captum's neuron attributions, for code that uses captum.

They accept the arguments of captum's classes and return the same numbers. They are also right where captum's
are not: for ReLUs that are functions instead of modules. captum itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from deconvviz.engine.wrappers import named_parts
from deconvviz.errors import ImageError, LayerError, MethodError, UnitError
from deconvviz.layers import Layer
from deconvviz.methods.given_modules import network_of
from deconvviz.network import Network

Selector: TypeAlias = "int | tuple[int | slice, ...] | Callable[[Tensor], Tensor]"


class _NeuronAttribution:
    """Attribution of a unit to the pixels of images."""

    method: ClassVar[str]  # see `Recording.project`

    def __init__(
        self,
        model: nn.Module | Network,
        layer: nn.Module | str | Layer,
        device_ids: Sequence[int] | None = None,
    ) -> None:
        """Choose a model and a layer.

        Args:
            model: A network, or its module. The module is not changed. It runs in evaluation mode, whereas
                captum runs it in the mode that it has.
            layer: A submodule, as in captum, or the name of a layer.
            device_ids: Accepted, but not used: the model runs on the device where its weights are.

        Raises:
            LayerError: If the layer is a module that is not a part of the model.
        """
        self._model = model
        self._called_once = isinstance(layer, nn.Module)
        self._layer = _name_of(layer, model) if isinstance(layer, nn.Module) else layer
        self._network: Network | None = None

    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        neuron_selector: Selector,
        additional_forward_args: object = None,
        attribute_to_neuron_input: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the map of a unit in each image.

        As in captum, the signal of a unit is 1, not its activation. So a unit whose activation is 0 can have
        a map.

        Args:
            inputs: Prepared images (N, C, H, W), or a tuple with only this tensor.
            neuron_selector: The unit, the same in each image: its index in a layer (N, F), or its place
                (channel, y, x) in a layer (N, C, h, w). A tuple with slices selects the sum of units. A
                function receives the activations in the layout that the layer has in the model, and returns
                one number for each image, or one number; its gradient is the signal.
            additional_forward_args: Must be None.
            attribute_to_neuron_input: Must be False.

        Returns:
            (N, C, H, W), with the device and dtype of the inputs; in a tuple if `inputs` is a tuple.

        Raises:
            ImageError: If the inputs are not one tensor (N, C, H, W).
            LayerError: If there is no such layer, or its module is called several times.
            MethodError: If an argument is not supported.
            UnitError: If the selector does not fit the layer.
            RefusedOp: If an operation between the image and the layer is not supported.
        """
        if additional_forward_args is not None:
            raise MethodError(
                "additional_forward_args is not supported: the model must take one tensor (N, C, H, W)"
            )
        if attribute_to_neuron_input:
            raise MethodError(
                "attribute_to_neuron_input=True is not supported: name the layer that returns this input"
            )
        images = _only(inputs)
        self._network = network = network_of(self._model, images, self._network)
        layer = network.layers.find(self._layer)
        if self._called_once and f"{layer.module}:2" in network.layers.names:
            raise LayerError(
                f"the module {layer.module} of {network.name} is called several times: give one of its calls "
                f'by name, such as "{layer.module}:2"'
            )
        recording = network.record(
            images.detach(), layer, methods=() if self.method == "deconvnet" else self.method
        )
        signals = _signals(neuron_selector, recording.activations(layer), layer)
        found = recording.project(layer, signals, method=self.method).pixels
        found = found.to(images.device, images.dtype)
        return (found,) if isinstance(inputs, tuple) else found


class NeuronDeconvolution(_NeuronAttribution):
    """The deconvnet (Zeiler & Fergus 2013), as ``captum.attr.NeuronDeconvolution``."""

    method = "deconvnet"


class NeuronGuidedBackprop(_NeuronAttribution):
    """Guided backpropagation (Springenberg et al. 2014), as ``captum.attr.NeuronGuidedBackprop``."""

    method = "guided"


class NeuronGradient(_NeuronAttribution):
    """The gradient of a unit (Simonyan et al. 2013), as ``captum.attr.NeuronGradient``."""

    method = "gradient"


def _name_of(part: nn.Module, model: nn.Module | Network) -> str:
    """Return the dotted name of a module in a model."""
    whole = model.module if isinstance(model, Network) else model
    for name, other in named_parts(whole):
        if other is part:
            return name
    raise LayerError(f"this {type(part).__name__} is not a module of {type(whole).__name__}")


def _only(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    images = inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else inputs
    if not isinstance(images, Tensor):
        given = f"a tuple of {len(inputs)}" if isinstance(inputs, tuple) else type(inputs).__name__
        raise ImageError(f"the inputs must be one tensor (N, C, H, W), not {given}")
    return images


def _signals(selector: Selector, activations: Tensor, layer: Layer) -> Tensor:
    """Return the gradient of what a selector selects, (N, *layer), channels first."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = activations.clone().requires_grad_()
        output = leaf.movedim(1, -1) if layer.channels_last and leaf.dim() == 4 else leaf
        number = selector(output) if callable(selector) else _selected(selector, output, layer)
        if not isinstance(number, Tensor) or (number.numel() != 1 and number.shape != output.shape[:1]):
            shape = f"shape {tuple(number.shape)}" if isinstance(number, Tensor) else type(number).__name__
            raise UnitError(
                f"the selector must return one number for each of {len(output)} images, or one number, "
                f"not {shape}"
            )
        (signals,) = torch.autograd.grad(number.sum(), leaf)
    found: Tensor = signals
    return found


def _selected(selector: int | tuple[int | slice, ...], output: Tensor, layer: Layer) -> Tensor:
    """Return the activation of the selected unit in each image, or the sum of several units, (N,)."""
    place = selector if isinstance(selector, tuple) else (selector,)
    shape = tuple(output.shape[1:])
    if len(place) != len(shape) or not all(isinstance(one, (int, slice)) for one in place):
        raise UnitError(
            f"the selector {selector!r} does not fit {layer.name}, whose output for an image has the shape "
            f"{shape}: give an index or a slice for each axis"
        )
    index = (slice(None), *place)
    try:
        found = output[index]
    except IndexError as reason:
        raise UnitError(
            f"{layer.name} has no unit {selector!r}: its output for an image has the shape {shape}"
        ) from reason
    return found.flatten(1).sum(1) if found.dim() > 1 else found
