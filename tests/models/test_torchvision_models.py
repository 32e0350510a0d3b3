"""torchvision's networks: their names, their shapes and their random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.named import build, listed, provider
from torch import nn
from torchvision import models

from deconvviz.errors import NetworkError
from deconvviz.models.catalog import TORCHVISION_DETECTORS, TORCHVISION_NAMES, TORCHVISION_SEGMENTATION
from deconvviz.models.providers import PROVIDERS
from deconvviz.models.torchvision_models import default_entry, entries


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in module.state_dict().items()}


def test_constant_names_are_in_torchvisions_registry() -> None:
    registered = models.list_models(module=models)
    segmentation = models.list_models(module=models.segmentation)
    detectors = models.list_models(module=models.detection)
    assert set(TORCHVISION_NAMES) <= set(registered)
    assert (list(TORCHVISION_SEGMENTATION), list(TORCHVISION_DETECTORS)) == (segmentation, detectors)
    assert [one.name for kind in PROVIDERS for one in kind.listed()] == [
        "minivgg",
        *segmentation,
        *detectors,
        *registered,
    ]
    assert [name for kind in PROVIDERS if not kind.prefix for name in kind.names()] == [
        "minivgg",
        *segmentation,
        *detectors,
        *TORCHVISION_NAMES,
    ]


@pytest.mark.skipif(torch.__version__ < "2.15", reason="the list was made with torchvision 0.29")
def test_constant_names_are_complete() -> None:
    newer = set(models.list_models(module=models)) - set(TORCHVISION_NAMES)
    assert not newer, "add these to deconvviz/models/catalog.py"


def test_unknown_name_is_rejected_with_the_nearest() -> None:
    with pytest.raises(NetworkError) as caught:
        build("vgg91")
    assert str(caught.value) == (
        "no network 'vgg91'; nearest: vgg19, vgg16, vgg13, vgg11 (see: deconvviz models)"
    )
    with pytest.raises(NetworkError, match=r"no network 'zzz'; there are \d+ names, none is similar"):
        build("zzz")


def test_seed_determines_weights_and_restores_generator() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, same, other = (build("squeezenet1_1", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


def test_random_weights_equal_torchvisions_for_the_seed() -> None:
    torch.manual_seed(3)
    theirs = models.squeezenet1_1(weights=None).state_dict()
    ours = build("squeezenet1_1", seed=3).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_default_device_of_the_user_is_ignored() -> None:
    torch.set_default_device("meta")
    try:
        assert next(build("squeezenet1_1").parameters()).device.type == "cpu"
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("name", ["minivgg", "resnet18", "mnasnet0_5", "regnet_x_400mf", "swin_t"])
def test_uninitialised_and_meta_networks_have_the_same_shapes(name: str) -> None:
    before = torch.random.get_rng_state()
    drawn, undrawn, meta = build(name), build(name, seed=None), build(name, device="meta")
    assert shapes(drawn) == shapes(undrawn) == shapes(meta)
    assert {tensor.device.type for tensor in meta.state_dict().values()} == {"meta"}
    assert not (drawn.training or undrawn.training or meta.training)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_non_persistent_buffers_are_initialised(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_table(name: str, **_: object) -> nn.Module:
        module = nn.Sequential(nn.Linear(2, 2))
        module.register_buffer("table", torch.arange(3.0), persistent=False)
        return module

    monkeypatch.setattr(models, "get_model", with_a_table)
    assert torch.equal(build("alexnet", seed=None).table, torch.arange(3.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["regnet_y_128gf", "vit_b_16", "swin_v2_t", "maxvit_t", "densenet121"])
def test_large_networks_are_built_on_meta_device(name: str) -> None:
    meta = build(name, device="meta")
    assert {tensor.device.type for tensor in [*meta.parameters(), *meta.buffers()]} == {"meta"}
    assert sum(p.numel() for p in meta.parameters()) == default_entry_meta(name)["num_params"]


def default_entry_meta(name: str) -> dict[str, int]:
    meta: dict[str, int] = default_entry(name).meta  # type: ignore[attr-defined]
    return meta


@pytest.mark.parametrize(("name", "side"), [("googlenet", 64), ("inception_v3", 75)])
def test_auxiliary_heads_are_omitted_and_input_is_transformed(name: str, side: int) -> None:
    network: Any = build(name, seed=None)
    assert not any("aux" in key.lower() for key in network.state_dict())
    assert network.transform_input
    with torch.no_grad():
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 1000)


def test_number_of_classes_can_be_set() -> None:
    assert build("resnet18", classes=7).fc.out_features == 7  # type: ignore[union-attr]
    assert build("minivgg", classes=5, seed=None).state_dict()["classifier.3.bias"].shape == (5,)
    with pytest.raises(NetworkError, match="cannot be built with 0 classes"):
        build("resnet18", classes=0)


def test_entries_of_published_weights_are_found_by_name() -> None:
    assert list(entries("resnet50")) == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    assert default_entry("resnet50") is models.ResNet50_Weights.IMAGENET1K_V2
    assert default_entry("vgg19") is models.VGG19_Weights.IMAGENET1K_V1
    assert listed("minivgg").weights is None and not provider("minivgg").weight_names("minivgg")
