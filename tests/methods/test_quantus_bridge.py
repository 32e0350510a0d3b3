"""Units as classes and their maps, alone and in metrics of Quantus."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import Autograd, difference
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import DeconvvizError, ImageError, LayerError, MethodError, UnitError
from deconvviz.methods import UnitActivations, explain_func

UNITS = [(2, 3, 4), (0, 1, 1), (5, 2, 6)]


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 7),
    ).eval()
    for part in network:
        if isinstance(part, nn.Conv2d):
            nn.init.constant_(part.bias, 0.5)  # so that the units fire
    return network


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(6, 3, 16, 16)).astype(np.float32)


TARGETS = np.array([0, 1, 2, 0, 1, 2])


def test_outputs_are_the_activations_of_the_units(network: nn.Sequential, images: np.ndarray) -> None:
    tensor = torch.as_tensor(images)
    expected = network[:4](tensor)
    for layer in ("3", dv.Network(network, size=16).layers["3"]):
        found = UnitActivations(network, layer, UNITS)(tensor)
        assert torch.equal(found, torch.stack([expected[:, c, y, x] for c, y, x in UNITS], 1))
    assert torch.equal(UnitActivations(network, "7", [3, 6])(tensor), network(tensor)[:, [3, 6]])


def test_outputs_have_gradients(network: nn.Sequential, images: np.ndarray) -> None:
    tensor = torch.as_tensor(images).requires_grad_()
    UnitActivations(network, "4", UNITS)(tensor)[:, 1].sum().backward()
    expected = torch.as_tensor(images).requires_grad_()
    network[:5](expected)[:, 0, 1, 1].sum().backward()
    assert tensor.grad is not None and tensor.grad.any()
    assert torch.equal(tensor.grad, torch.as_tensor(expected.grad))


def test_second_call_of_a_module_and_channels_last_layers(images: np.ndarray) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)
            self.dense = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.first(x)).permute(0, 2, 3, 1)
            return self.relu(self.dense(x)).permute(0, 3, 1, 2)

    torch.manual_seed(1)
    module, tensor = Odd().eval(), torch.as_tensor(images)
    whole = module(tensor)
    for layer in ("relu:2", ""):
        assert torch.equal(UnitActivations(module, layer, [(4, 2, 3)])(tensor)[:, 0], whole[:, 4, 2, 3])
    dense = UnitActivations(module, "dense", [(4, 2, 3)])(tensor)[:, 0]
    assert torch.equal(dense.clamp_min(0), whole[:, 4, 2, 3])


def test_maps_are_those_of_the_units_own_activations(network: nn.Sequential, images: np.ndarray) -> None:
    maps = explain_func(UnitActivations(network, "4", UNITS), images, TARGETS)
    assert maps.shape == images.shape
    assert maps.dtype == np.float32
    oracle = Autograd(network, torch.as_tensor(images))
    for number, target in enumerate(TARGETS):
        expected = oracle.unit("4", number, *UNITS[target])
        assert expected.any()
        assert difference(torch.as_tensor(maps[number]), expected) < 1e-5


@pytest.mark.parametrize("method", ["guided", "gradient", "input_x_gradient"])
def test_method_can_be_chosen(network: nn.Sequential, images: np.ndarray, method: str) -> None:
    maps = explain_func(UnitActivations(network, "4", UNITS), images, TARGETS, method=method, device="cpu")
    recording = dv.Network(network, size=16).record(torch.as_tensor(images), "4", methods=method)
    units = [dv.Unit(n, *UNITS[target]) for n, target in enumerate(TARGETS)]
    expected = recording.project("4", units, method=method).pixels
    assert difference(torch.as_tensor(maps), expected) < 1e-6


def test_methods_that_explain_one_image_at_a_time_can_be_chosen(
    network: nn.Sequential, images: np.ndarray
) -> None:
    """Integrated gradients, by captum for the outputs of `UnitActivations`."""
    from captum.attr import IntegratedGradients

    model = UnitActivations(network, "4", UNITS)
    maps = explain_func(model, images[:2], TARGETS[:2], method="integrated_gradients")
    expected = IntegratedGradients(model).attribute(
        torch.as_tensor(images[:2]), baselines=0, target=torch.as_tensor(TARGETS[:2]), n_steps=50
    )
    assert difference(torch.as_tensor(maps), expected.float()) < 1e-4


def test_maps_can_be_summed_over_colours(network: nn.Sequential, images: np.ndarray) -> None:
    model = UnitActivations(network, "4", UNITS)
    summed = explain_func(model, images, TARGETS, reduce_axes=(1,))
    assert summed.shape == (6, 1, 16, 16)
    assert np.allclose(summed[:, 0], explain_func(model, images, TARGETS).sum(1))


def test_class_scores_of_a_classifier_are_explained(network: nn.Sequential, images: np.ndarray) -> None:
    classes = np.array([0, 6, 2, 3, 1, 5])
    maps = explain_func(network, images, classes)
    oracle = Autograd(network, torch.as_tensor(images))
    for number, index in enumerate(classes):
        expected = oracle.unit("", number, int(index))
        assert difference(torch.as_tensor(maps[number]), expected) < 1e-5


def test_maps_of_a_copy_are_those_of_its_own_weights(network: nn.Sequential, images: np.ndarray) -> None:
    model = UnitActivations(dv.Network(network, size=16), "4", UNITS)
    before = explain_func(model, images, TARGETS)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.module[0].weight.mul_(-1)
    changed = explain_func(other, images, TARGETS)
    assert not np.allclose(before, changed)
    assert np.array_equal(explain_func(model, images, TARGETS), before)
    assert np.array_equal(changed, explain_func(UnitActivations(other.module, "4", UNITS), images, TARGETS))


def test_names_of_the_paper_are_layers_of_a_loaded_network() -> None:
    net = dv.load("minivgg")
    tensor = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    unit = net.record(tensor, "conv3_1").strongest("conv3_1", 1)[0]
    model = UnitActivations(net, "conv3_1", [unit])
    assert float(model(tensor).detach()[unit.image, 0]) == pytest.approx(unit.activation, rel=1e-5)


def test_maps_of_units_that_do_not_fire_are_announced(network: nn.Sequential, images: np.ndarray) -> None:
    activations = network[:5](torch.as_tensor(images))
    dead = tuple(torch.nonzero((activations == 0).any(0))[0].tolist())
    fires = (activations[:, dead[0], dead[1], dead[2]] != 0).numpy()
    model = UnitActivations(network, "4", [dead])
    assert np.array_equal(model.fires(images), fires[:, None])
    targets = np.zeros(int((~fires).sum()), int)
    with pytest.raises(UnitError, match=r"all maps are zero, .*: none of the units of 4"):
        explain_func(model, images[~fires], targets)
    assert fires.any()
    count = int((~fires).sum())
    with pytest.warns(UserWarning, match=f"{count} maps? of 6 are zero"):
        maps = explain_func(model, images, np.zeros(6, int))
    assert np.array_equal(maps.any(axis=(1, 2, 3)), fires)


@pytest.mark.parametrize(
    ("layer", "units", "targets", "settings", "error", "message"),
    [
        ("conv9", UNITS, TARGETS, {}, LayerError, "conv9"),
        ("4", [(9, 0, 0)], [0] * 6, {}, UnitError, "no channel 9 in 4: there are 0 to 7"),
        ("4", [(0, 8, 0)], [0] * 6, {}, UnitError, "no row 8 in 4: there are 0 to 7"),
        ("4", [3], [0] * 6, {}, UnitError, r"channel 3 of 4 has many units: give the place \(channel, y, x"),
        (
            "4",
            UNITS,
            [0, 1, 3, 0, 0, 0],
            {},
            UnitError,
            "no unit 3 in this UnitActivations: there are 0 to",
        ),
        ("4", UNITS, [0, 1], {}, UnitError, "2 targets for 6 images"),
        ("4", UNITS, TARGETS, {"method": "magic"}, MethodError, "no method 'magic'"),
    ],
)
def test_what_does_not_exist_raises_an_error(
    network: nn.Sequential,
    images: np.ndarray,
    layer: str,
    units: list[Any],
    targets: Any,
    settings: dict[str, Any],
    error: type[DeconvvizError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        explain_func(UnitActivations(network, layer, units), images, targets, **settings)


def test_wrong_inputs_raise_an_error(network: nn.Sequential, images: np.ndarray) -> None:
    with pytest.raises(UnitError, match="no unit was given"):
        UnitActivations(network, "4", [])
    with pytest.raises(UnitError, match=r"\(1, 2\) is not the place of a unit"):
        UnitActivations(network, "4", [(1, 2)])
    with pytest.raises(LayerError, match="conv9"):
        UnitActivations(dv.Network(network, size=16), "conv9", UNITS)
    for wrong in (images[0], (images * 50).astype(np.uint8)):
        with pytest.raises(ImageError, match=r"must be prepared images \(N, C, H, W\)"):
            explain_func(UnitActivations(network, "4", UNITS), wrong, TARGETS)


@pytest.fixture
def quantus() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Quantus warns about its own settings
        yield pytest.importorskip("quantus", reason="quantus is not installed")


@pytest.fixture
def model(network: nn.Sequential) -> UnitActivations:
    return UnitActivations(network, "4", UNITS).eval()


def test_quantus_flips_the_pixels_of_its_own_and_of_our_maps(
    quantus: Any, model: UnitActivations, images: np.ndarray
) -> None:
    """Replacing the pixels in the order of a map lowers the activation, as the metric's definition says."""
    metric = quantus.PixelFlipping(
        features_in_step=16, perturb_baseline="black", return_auc_per_sample=False, disable_warnings=True
    )
    curves = metric(
        model=model, x_batch=images, y_batch=TARGETS, explain_func=explain_func, softmax=False, device="cpu"
    )
    first = [curve[0] for curve in curves]
    maps = explain_func(model, images, TARGETS)
    for number, target in enumerate(TARGETS):
        order = np.argsort(-maps[number].reshape(-1))
        flipped = images[number].reshape(-1).copy()
        flipped[order[:16]] = images[number].min()
        score = model(torch.as_tensor(flipped.reshape(1, 3, 16, 16)))[0, target]
        assert len(curves[number]) == 3 * 16 * 16 // 16
        assert first[number] == pytest.approx(float(score), rel=1e-4)


def test_quantus_measures_localisation_of_our_maps(
    quantus: Any, model: UnitActivations, images: np.ndarray
) -> None:
    """The whole map is inside the receptive field of its unit."""
    fields = np.zeros((6, 1, 16, 16), int)
    boxes = (
        dv.Network(model.module, size=16)
        .record(torch.as_tensor(images), "4")
        .boxes("4", [dv.Unit(n, *UNITS[target]) for n, target in enumerate(TARGETS)])
    )
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        fields[number, :, y0:y1, x0:x1] = 1
    metric = quantus.RelevanceMassAccuracy(abs=True, normalise=True, disable_warnings=True)
    scores = metric(
        model=model,
        x_batch=images,
        y_batch=TARGETS,
        s_batch=fields,
        explain_func=explain_func,
        explain_func_kwargs={"reduce_axes": (1,)},
        softmax=False,
        device="cpu",
    )
    assert list(scores) == pytest.approx([1.0] * 6)
    assert fields.mean() < 0.5


def test_quantus_randomises_the_weights_of_copies(
    quantus: Any, model: UnitActivations, images: np.ndarray
) -> None:
    """The linear layer comes after the units, so its weights make no difference; those of convolutions do."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    metric = quantus.MPRT(
        layer_order="independent",
        similarity_func=quantus.similarity_func.correlation_spearman,
        disable_warnings=True,
    )
    scores = metric(
        model=model,
        x_batch=images,
        y_batch=TARGETS,
        explain_func=explain_func,
        explain_func_kwargs={"method": "guided"},
        softmax=False,
        device="cpu",
    )
    assert list(scores) == ["original", "module.0", "module.3", "module.7"]
    assert np.allclose(scores["original"], 1)
    assert np.allclose(scores["module.7"], 1)
    assert max(scores["module.0"]) < 0.99
    assert max(scores["module.3"]) < 0.99
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_quantus_compares_our_methods(quantus: Any, model: UnitActivations, images: np.ndarray) -> None:
    results = quantus.evaluate(
        metrics={"Sparseness": quantus.Sparseness(disable_warnings=True)},
        xai_methods={"deconvnet": explain_func, "gradient": explain_func},
        model=model,
        x_batch=images,
        y_batch=TARGETS,
        agg_func=np.mean,
        explain_func_kwargs={},
        call_kwargs={"run": {"softmax": False, "device": "cpu"}},
    )
    for method, result in results.items():
        maps = np.abs(explain_func(model, images, TARGETS, method=method)).reshape(6, -1)
        expected = np.mean([_gini(row / row.max()) for row in maps])
        assert result["Sparseness"] == pytest.approx(expected, abs=1e-3)


def _gini(values: np.ndarray) -> float:
    """Return the Gini index, which is what Quantus calls sparseness (Chalasani et al. 2020)."""
    ordered = np.sort(values)
    ranks = np.arange(1, len(ordered) + 1)
    return float(((2 * ranks - len(ordered) - 1) * ordered).sum() / (len(ordered) * ordered.sum()))


def test_quantus_rejects_maps_of_units_that_do_not_fire(quantus: Any, images: np.ndarray) -> None:
    """Quantus' own message does not give the reason. This is why `explain_func` raises an error."""
    with pytest.raises(AssertionError, match="all equal to zero"):
        quantus.helpers.asserts.assert_attributions(images, np.zeros_like(images))
