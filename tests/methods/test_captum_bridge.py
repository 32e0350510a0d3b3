"""The same calls to captum's classes and to ours."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import Autograd, difference
from torch import Tensor, nn

import deconvviz as dv
from deconvviz import methods
from deconvviz.errors import DeconvvizError, ImageError, LayerError, MethodError, UnitError

NAMES = ("NeuronDeconvolution", "NeuronGuidedBackprop", "NeuronGradient")


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 5, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 7),
    ).eval()
    for part in network:
        if isinstance(part, nn.Conv2d):
            nn.init.constant_(part.bias, 0.2)  # so that most units fire
    return network


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, 16, 14)


def by_captum(
    name: str, network: nn.Module, layer: nn.Module, images: Tensor | tuple[Tensor], selector: Any
) -> Any:
    import captum.attr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns about its hooks and gradients
        return getattr(captum.attr, name)(network, layer).attribute(images, selector)


def total(activations: Tensor) -> Tensor:
    return activations.flatten(1)[:, ::3].sum(1)


def strongest_of_all_images(activations: Tensor) -> Tensor:
    return activations.max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("layer", "selector"),
    [
        (0, (2, 5, 7)),
        (1, (4, 0, 13)),
        (3, (1, 3, 3)),
        (5, (0, 2, -1)),
        (7, (3, 4, 2)),
        (10, 4),
        (10, (2,)),
        (10, -1),
        (7, (2, slice(0, 3), slice(None))),
        (7, (slice(1, 5, 2), 2, 2)),
        (10, (slice(2, 5),)),
        (5, total),
        (7, strongest_of_all_images),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_maps_are_those_of_captum(
    network: nn.Sequential, images: Tensor, name: str, layer: int, selector: Any
) -> None:
    expected = by_captum(name, network, network[layer], images, selector)
    found = getattr(methods, name)(network, network[layer]).attribute(images, selector)
    assert found.dtype == images.dtype
    assert not found.requires_grad
    assert expected.any()
    assert difference(found, expected) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_unit_that_does_not_fire_has_the_map_of_captum(
    network: nn.Sequential, images: Tensor, name: str
) -> None:
    activations = network[:8](images)
    channel, y, x = torch.nonzero(activations[0] == 0).tolist()[0]
    expected = by_captum(name, network, network[7], images[:1], (channel, y, x))
    found = getattr(methods, name)(network, network[7]).attribute(images[:1], (channel, y, x))
    assert difference(found, expected) < 1e-5
    assert bool(found.any()) is (name == "NeuronDeconvolution")


@pytest.mark.parametrize("name", NAMES)
def test_a_tuple_of_inputs_gives_a_tuple(network: nn.Sequential, images: Tensor, name: str) -> None:
    (expected,) = by_captum(name, network, network[3], (images,), (0, 1, 1))
    found = getattr(methods, name)(network, network[3]).attribute((images,), (0, 1, 1))
    assert isinstance(found, tuple)
    assert difference(found[0], expected) < 1e-5


def test_layer_and_network_can_be_given_in_every_form(network: nn.Sequential, images: Tensor) -> None:
    expected = methods.NeuronDeconvolution(network, network[5]).attribute(images, (1, 2, 3))
    net = dv.Network(network, size=(16, 14))
    for model in (network, net):
        for layer in ("5", net.layers["5"], network[5]):
            found = methods.NeuronDeconvolution(model, layer).attribute(images, (1, 2, 3))
            assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


def test_names_of_the_paper_are_layers_of_a_loaded_network() -> None:
    net = dv.load("minivgg")
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = methods.NeuronDeconvolution(net, "conv2_1").attribute(images, (0, 4, 5))
    module = net.module.get_submodule(net.layers["conv2_1"].module)
    expected = by_captum("NeuronDeconvolution", _not_in_place(net.module), module, images, (0, 4, 5))
    assert difference(torch.as_tensor(found), expected) < 1e-5


def _not_in_place(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # captum's hooks do not support in-place operations
    return module


def test_one_object_accepts_images_of_several_sizes(network: nn.Sequential, images: Tensor) -> None:
    attribution = methods.NeuronGradient(network, network[3])
    for size in ((16, 14), (10, 12), (16, 14)):
        some = images[:, :, : size[0], : size[1]]
        assert (
            difference(
                attribution.attribute(some, (0, 1, 1)),
                by_captum("NeuronGradient", network, network[3], some, (0, 1, 1)),
            )
            < 1e-5
        )


class Functional(nn.Module):
    """ReLUs as functions and a ReLU that is called twice: captum's maps are wrong or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.first(images))
        x = self.relu(self.second(x))
        return self.relu(self.second(x) + 0.3)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("NeuronDeconvolution", Autograd),
        ("NeuronGuidedBackprop", lambda *given: PlainAutograd(*given, mode=Guided())),
        ("NeuronGradient", PlainAutograd),
    ],
)
def test_maps_are_right_where_captum_does_not_know_the_relus(
    name: str, oracle: Callable[..., Any], images: Tensor
) -> None:
    torch.manual_seed(2)
    network = Functional().eval()
    signal = torch.zeros(3, 6, 16, 14)
    signal[:, 2, 7, 5] = 1
    expected = oracle(network, images).project("", signal)
    found = getattr(methods, name)(network, network).attribute(images, (2, 7, 5))
    assert expected.any()
    assert difference(found, expected) < 1e-5


class ChannelsLast(nn.Module):
    """Its layer `dense` returns (N, h, w, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.dense = nn.Linear(4, 5)
        self.last = nn.Conv2d(5, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.dense(self.first(images).permute(0, 2, 3, 1)))
        return self.last(x.permute(0, 3, 1, 2))


@pytest.mark.parametrize("selector", [(13, 11, 4), (slice(2, 5), 7, slice(None)), total])
def test_selector_has_the_layout_that_the_layer_has_in_the_model(images: Tensor, selector: Any) -> None:
    torch.manual_seed(3)
    network = ChannelsLast().eval()
    expected = by_captum("NeuronGradient", network, network.dense, images, selector)
    found = methods.NeuronGradient(network, network.dense).attribute(images, selector)
    assert expected.any()
    assert difference(torch.as_tensor(found), expected) < 1e-5


def test_module_and_inputs_are_not_changed(network: nn.Sequential, images: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inputs = images.clone().requires_grad_()
    network.train()
    methods.NeuronGuidedBackprop(network, network[3]).attribute(inputs, (0, 1, 1))
    assert all(part.training for part in network.modules())
    network.eval()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert inputs.grad is None
    assert torch.equal(inputs.detach(), images)
    assert not any(part._forward_hooks or part._backward_hooks for part in network.modules())


@pytest.mark.parametrize(
    ("layer", "selector", "more", "error", "message"),
    [
        (7, 3, {}, UnitError, r"selector 3 does not fit 7, whose output .* shape \(5, 6, 5\)"),
        (7, (1, 2), {}, UnitError, r"selector \(1, 2\) does not fit 7"),
        (10, (1, 2, 3), {}, UnitError, r"does not fit output|does not fit 10"),
        (7, (9, 0, 0), {}, UnitError, r"7 has no unit \(9, 0, 0\): its output for an image .* \(5, 6, 5\)"),
        (7, "7", {}, UnitError, "does not fit 7"),
        (7, lambda x: x, {}, UnitError, r"must return one number for each of 3 images, .* not shape \(3, 5"),
        (7, lambda x: 3.0, {}, UnitError, "not float"),
        (7, (0, 0, 0), {"additional_forward_args": 3}, MethodError, "additional_forward_args is not supp"),
        (7, (0, 0, 0), {"attribute_to_neuron_input": True}, MethodError, "attribute_to_neuron_input=True is"),
    ],
)
def test_arguments_that_do_not_fit_raise_an_error(
    network: nn.Sequential,
    images: Tensor,
    layer: int,
    selector: Any,
    more: dict[str, Any],
    error: type[DeconvvizError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        methods.NeuronDeconvolution(network, network[layer]).attribute(images, selector, **more)


def test_inputs_that_are_not_one_tensor_raise_an_error(network: nn.Sequential, images: Tensor) -> None:
    attribution = methods.NeuronDeconvolution(network, network[0])
    with pytest.raises(ImageError, match=r"must be one tensor \(N, C, H, W\), not a tuple of 2"):
        attribution.attribute((images, images), (0, 0, 0))
    with pytest.raises(ImageError, match=r"must have the shape \(N, C, H, W\), not \(3, 16, 14\)"):
        attribution.attribute(images[0], (0, 0, 0))


def test_unknown_layers_raise_an_error(network: nn.Sequential, images: Tensor) -> None:
    with pytest.raises(LayerError, match="this ReLU is not a module of Sequential"):
        methods.NeuronDeconvolution(network, nn.ReLU())
    with pytest.raises(LayerError, match="conv9"):
        methods.NeuronDeconvolution(network, "conv9").attribute(images, (0, 0, 0))


def test_module_that_is_called_twice_must_be_given_by_name(images: Tensor) -> None:
    network = Functional().eval()
    with pytest.raises(LayerError, match=r'relu of Functional is called several times: .* "relu:2"'):
        methods.NeuronDeconvolution(network, network.relu).attribute(images, (0, 0, 0))
    second = methods.NeuronDeconvolution(network, "relu:2").attribute(images, (0, 3, 3))
    assert torch.equal(
        torch.as_tensor(second),
        torch.as_tensor(methods.NeuronDeconvolution(network, network).attribute(images, (0, 3, 3))),
    )


@pytest.mark.slow
def test_methods_can_be_imported_without_torch() -> None:
    program = (
        "import sys, deconvviz.methods as methods; names = dir(methods)\n"
        "assert 'NeuronDeconvolution' in names and 'explain_func' in names\n"
        "sys.exit('torch' in sys.modules or 'captum' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
