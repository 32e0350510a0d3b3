"""Methods of captum for units, compared with captum called by hand, autograd, and loops by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LRP, GradientShap, IntegratedGradients, NoiseTunnel, Saliency
from helpers.oracles import difference
from helpers.snapshots import PARTS, composed, left_as_it_was, pictures, wrapped
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import MethodError, UnitError
from deconvviz.methods.captum_methods import BATCH, plain_images
from deconvviz.methods.method import METHODS, Subject, method

pytestmark = pytest.mark.slow  # together half a minute

CAPTUM = ["integrated_gradients", "gradient_shap", "smoothgrad", "occlusion", "gradcam", "lrp"]
SIZE = 16
PLACE = (1, 3, 4)  # channel, row and column of an active unit of layer "4"
UNITS = [dv.Unit(0, *PLACE), dv.Unit(0, 6, 1, 5)]


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


class Functional(nn.Module):
    """The same network as `network`, but its ReLUs are functions."""

    def __init__(self) -> None:
        super().__init__()
        parts = network()
        self.first, self.second = parts[0], parts[3]

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        return F.relu_(self.second(x))


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        parts = network()
        self.first, self.second, self.relu = parts[0], parts[3], nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        parts = network()
        self.first, self.second, self.relu = parts[0], nn.Conv2d(6, 6, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.relu(x + self.second(x))


class TwoNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        parts = network()
        self.first, self.relu, self.second = parts[0], nn.ReLU(), parts[3]
        self.again = self.relu

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.second(self.relu(self.first(x))))


def subject_of(
    module: nn.Module, layer: str, dtype: torch.dtype = torch.float32, **settings: object
) -> Subject:
    return Subject.record(wrapped(module.to(dtype), SIZE), pictures(1, SIZE, dtype=dtype), layer, **settings)


def function_of(module: nn.Module, place: tuple[int, ...] = PLACE) -> Callable[[Tensor], Tensor]:
    """Return the activation of a unit of the first five layers as a function of images."""
    part = copy.deepcopy(module)[:5]
    for one in part:
        if isinstance(one, nn.ReLU):
            one.inplace = False
    return lambda images: part(images)[(slice(None), *place)]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(network(), "4", class_name=2)


def own(name: str, subject: Subject) -> Tensor:
    """Return the map of the first unit, computed together with that of the second."""
    maps = method(name).maps(subject, UNITS)
    assert maps.shape == (2, 3, SIZE, SIZE) and maps.dtype == torch.float32
    return maps[0]


def test_integrated_gradients_equal_captum_and_sum_to_the_difference(subject: Subject) -> None:
    function, image = function_of(subject.network.module), subject.inputs
    theirs = IntegratedGradients(function).attribute(image, n_steps=50)[0]
    maps = own("integrated_gradients", subject)
    assert difference(maps, theirs.float()) < 1e-5
    with torch.no_grad():
        fall = function(image) - function(torch.zeros_like(image))
    assert float(maps.sum()) == pytest.approx(float(fall), rel=0.02)


def test_smoothgrad_equals_captum_times_the_activation(subject: Subject) -> None:
    function, image = function_of(subject.network.module), subject.inputs
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        theirs = NoiseTunnel(Saliency(function)).attribute(
            image, nt_samples=25, nt_samples_batch_size=BATCH, abs=False,
            stdevs=0.15 * float(image.max() - image.min()),
        )  # fmt: skip
    assert difference(own("smoothgrad", subject), theirs[0] * function(image).item()) < 1e-5


def test_gradient_shap_equals_captum(subject: Subject) -> None:
    function, image = function_of(subject.network.module), subject.inputs
    state = np.random.get_state()
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            np.random.seed(0)
            rounds = [
                GradientShap(function).attribute(image, plain_images(subject), n_samples=10) for _ in range(3)
            ]
    finally:
        np.random.set_state(state)
    assert difference(own("gradient_shap", subject), torch.stack(rounds).mean(0)[0].detach()) < 1e-5


def test_plain_images_are_black_mean_and_white() -> None:
    net = dv.Network(network(), size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    black, mean, white = plain_images(Subject.record(net, pictures(1, SIZE), "4"))
    for image, level in ((black, 0.0), (white, 1.0)):
        shown = net.preprocessing.view(image)
        np.testing.assert_allclose(shown, level, atol=1e-6)
    assert not mean.any()


def test_occlusion_equals_a_loop_over_windows(subject: Subject) -> None:
    function, image = function_of(subject.network.module), subject.inputs
    (x0, y0, x1, y1) = subject.recording.boxes("4", UNITS)[0]
    (rows, columns), (down, right) = method("occlusion").window((y1 - y0, x1 - x0))
    total, count = torch.zeros(SIZE, SIZE), torch.zeros(SIZE, SIZE)
    with torch.no_grad():
        for top in range(0, -(-(y1 - y0 - rows) // down) * down + 1, down):
            for left in range(0, -(-(x1 - x0 - columns) // right) * right + 1, right):
                inside = (
                    slice(y0 + top, min(y0 + top + rows, y1)),
                    slice(x0 + left, min(x0 + left + columns, x1)),
                )
                hidden = image.clone()
                hidden[(slice(None), slice(None), *inside)] = 0
                total[inside] += (function(image) - function(hidden))[0]
                count[inside] += 1
    expected = torch.where(count > 0, total / count.clamp(min=1), 0)
    maps = own("occlusion", subject)
    assert difference(maps.sum(0), expected) < 1e-5
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2])


def test_occlusion_shares_passes_of_units_with_the_same_field(subject: Subject) -> None:
    def passes(units: list[dv.Unit]) -> int:
        totals: list[int] = []
        method("occlusion").maps(subject, units, lambda done, total: totals.append(total))
        return totals[-1]

    one, other = dv.Unit(0, 5, 3, 2), dv.Unit(0, 2, 3, 2)
    assert passes([one, other]) == passes([one]) < passes([one, dv.Unit(0, 5, 4, 4)])


def test_gradcam_equals_autograd(subject: Subject) -> None:
    parts = subject.network.module
    layer = F.relu(parts[:4](subject.inputs)).detach().requires_grad_(True)
    (slopes,) = torch.autograd.grad(parts[5:](layer)[0, 2], layer)
    expected = F.relu((slopes.mean((2, 3), keepdim=True) * layer).sum(1, keepdim=True)).detach()
    large = F.interpolate(expected, (SIZE, SIZE), mode="bilinear")[0, 0]
    maps = own("gradcam", subject)
    assert large.any() and difference(maps.sum(0), large) < 1e-5


def test_gradcam_is_right_if_the_next_layer_is_in_place() -> None:
    found = subject_of(network(), "3", class_name=2)
    parts = copy.deepcopy(found.network.module)
    parts[4].inplace = False
    layer = parts[:4](found.inputs).detach().requires_grad_(True)
    (slopes,) = torch.autograd.grad(parts[4:](layer)[0, 2], layer)
    expected = F.relu((slopes.mean((2, 3), keepdim=True) * layer).sum(1, keepdim=True)).detach()
    large = F.interpolate(expected, (SIZE, SIZE), mode="bilinear")[0, 0]
    assert difference(own("gradcam", found).sum(0), large) < 1e-5


def test_gradcam_needs_a_class_and_a_map() -> None:
    assert method("gradcam").unsupported(subject_of(network(), "4")) == "it explains a class: name one"
    found = subject_of(network(), "7", class_name=2)
    assert method("gradcam").unsupported(found) == "7 has no feature maps"
    with pytest.raises(MethodError, match=r"^Grad-CAM cannot be used: 7 has no feature maps"):
        method("gradcam").maps(found, [dv.Unit(0, 1)])


def test_gradcam_explains_the_top_class_by_default() -> None:
    net = dv.load("minivgg")
    found = Subject.record(net, pictures(1, 96), "conv4_2")
    top = found.recording.top_class(0)
    assert top is not None and found.explained_class == top.index
    assert method("gradcam").unsupported(found) == ""


@pytest.mark.parametrize("layer", ["3", "4"])
def test_lrp_equals_captum(layer: str) -> None:
    found = subject_of(network(), layer, torch.float64)
    part = copy.deepcopy(found.network.module)[: int(layer) + 1]
    for one in part:
        if isinstance(one, nn.ReLU):
            one.inplace = False

    theirs = LRP(part).attribute(found.inputs.clone().requires_grad_(), target=PLACE)[0].detach()
    assert difference(own("lrp", found), theirs.float()) < 1e-5


def test_lrp_of_a_relu_network_is_input_times_gradient() -> None:
    """With ReLUs and maxima, the rule without epsilon equals input × gradient (Ancona et al. 2018)."""
    module = network().double()
    found = subject_of(module, "4", torch.float64)
    image = found.inputs.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(function_of(module)(image).sum(), image)
    assert difference(own("lrp", found), (image * slopes)[0].detach().float()) < 1e-5


@pytest.mark.parametrize(
    ("module", "layer", "reason"),
    [
        (Functional(), "", "the network calls relu itself, not in a module, so captum gives it no rule"),
        (Reused(), "relu:2", "relu is called more than once, which captum does not support"),
        (Residual(), "relu", "the network calls add itself, not in a module, so captum gives it no rule"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), nn.SiLU())),
            "1",
            "captum has no rule for SiLU (1.1)",
        ),
    ],
    ids=["functional", "reused", "residual", "unsupported"],
)
def test_lrp_is_left_out_with_its_reason(module: nn.Module, layer: str, reason: str) -> None:
    found = subject_of(module, layer or "output")
    assert method("lrp").unsupported(found) == reason
    unit = found.recording.strongest(found.layer, 1)
    with pytest.raises(MethodError, match=f"^LRP cannot be used: {reason.split('(')[0]}"):
        method("lrp").maps(found, unit)


def test_lrp_is_left_out_if_a_module_is_called_by_two_names() -> None:
    assert method("lrp").unsupported(subject_of(TwoNames(), "second")) == ""
    twice = subject_of(TwoNames(), "output")
    assert method("lrp").unsupported(twice) == "relu is called more than once, which captum does not support"


@pytest.mark.parametrize("name", ["integrated_gradients", "gradient_shap", "smoothgrad", "occlusion"])
def test_functional_relus_give_the_same_maps_as_modules(name: str) -> None:
    modules, functional = subject_of(network(), "4"), subject_of(Functional(), "output")
    assert not method(name).unsupported(functional)
    assert difference(own(name, functional), own(name, modules)) < 1e-5


def test_the_second_call_of_a_module_is_explained() -> None:
    found = subject_of(Reused(), "relu:2", torch.float64)
    module, unit = found.network.module, found.recording.strongest("relu:2", 1)
    (first,) = unit
    image = found.inputs.clone().requires_grad_()
    captum = IntegratedGradients(lambda x: module(x)[:, first.channel, first.y, first.x])
    maps = method("integrated_gradients").maps(found, unit)
    assert difference(maps[0], captum.attribute(image, n_steps=50)[0].detach().float()) < 1e-5


def test_maps_do_not_depend_on_the_other_units_or_the_state_of_random_numbers(subject: Subject) -> None:
    for name in CAPTUM:
        torch.manual_seed(5)
        np.random.seed(5)
        both = method(name).maps(subject, UNITS)
        after = torch.rand(1), np.random.rand()
        torch.manual_seed(5)
        np.random.seed(5)
        assert (torch.rand(1), np.random.rand()) == after, name
        assert difference(method(name).maps(subject, UNITS[1:])[0], both[1]) < 1e-6, name


def test_units_of_a_fully_connected_layer_are_explained() -> None:
    found = subject_of(network(), "7", torch.float64)
    unit, module = dv.Unit(0, 2), found.network.module
    expected = IntegratedGradients(module).attribute(found.inputs, target=2, n_steps=50)[0]
    assert difference(method("integrated_gradients").maps(found, [unit])[0], expected.float()) < 1e-5


def test_whole_channels_and_signals_are_errors(subject: Subject) -> None:
    for name in CAPTUM:
        assert not method(name).takes_signals
        with pytest.raises(UnitError, match=r"is a whole channel: this method needs a position, y and x$"):
            method(name).maps(subject, [dv.Unit(0, 3)])
        with pytest.raises(MethodError, match=r"^this method explains units, not a tensor of signals$"):
            method(name).maps(subject, torch.zeros(1, 8, 8, 8))
        with pytest.raises(UnitError, match="no channel 9"):
            method(name).maps(subject, [dv.Unit(0, 9, 1, 1)])


@pytest.mark.parametrize("name", CAPTUM)
def test_network_is_left_as_it_was(name: str) -> None:
    module = network().train()
    module[0].weight.requires_grad_(False)
    module[3].register_forward_hook(lambda part, args, output: None)
    found = subject_of(module, "4", class_name=1)
    with left_as_it_was(module):
        maps = method(name).maps(found, UNITS)
    assert maps.any()
    assert found.recording.project("4", UNITS).pixels.any()  # raises StaleRecording if a weight has changed


@pytest.mark.slow
@pytest.mark.parametrize("part", sorted(PARTS))
def test_modules_that_change_themselves_are_left_as_they_were(part: str) -> None:
    module = nn.Sequential(composed([part])[0], PARTS[part](), nn.ReLU()).train()
    found = Subject.record(wrapped(module), pictures(), "2")
    unit = found.recording.strongest("2", 1)
    for name in ("integrated_gradients", "smoothgrad", "occlusion"):
        with left_as_it_was(module):
            method(name).maps(found, unit)


@pytest.mark.parametrize("name", ["integrated_gradients", "gradient_shap", "smoothgrad", "occlusion"])
def test_network_is_left_as_it_was_after_an_interruption(name: str) -> None:
    module = network().train()
    found = subject_of(module, "4")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    state = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()
    with left_as_it_was(module), pytest.raises(KeyboardInterrupt):
        method(name).maps(found, UNITS, interrupt)
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.random.get_state()[1].tobytes() == state[1]


@pytest.mark.parametrize("name", ["gradcam", "lrp"])
def test_network_is_left_as_it_was_after_an_error_in_captum(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = network().train()
    found = subject_of(module, "4", class_name=1)

    def fail(*args: object, **settings: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(torch.autograd, "grad", fail)
    with left_as_it_was(module), pytest.raises(RuntimeError, match="out of order"):
        method(name).maps(found, UNITS)


@pytest.mark.parametrize("name", CAPTUM)
def test_progress_ends_with_all_steps(name: str, subject: Subject) -> None:
    reports: list[tuple[int, int]] = []
    method(name).maps(subject, UNITS, lambda done, total: reports.append((done, total)))
    assert reports[-1][0] == reports[-1][1] and len({total for _, total in reports}) == 1
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert "pass" in METHODS[name].cost(2)
