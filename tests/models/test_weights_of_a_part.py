"""Weights that lack the last layers or have them in another size: which are loaded, which are rejected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import Backbone, Classifier, drawn, state, without
from helpers.named import build
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import LayerError, WeightsError
from deconvviz.models.fit import fit
from deconvviz.models.missing_weights import MissingWeights
from deconvviz.models.weights import weights_of_file

SHAPE = 3, 16, 16
Make = Callable[[], nn.Module]


def save(stored: Any, tmp_path: Path) -> Path:
    torch.save(stored, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def loaded(path: Path | str, make: Make = Classifier) -> tuple[nn.Module, MissingWeights, tuple[str, ...]]:
    module = drawn(99, make)
    given = weights_of_file(path, module, "others", SHAPE)
    missing = fit(module, given.state, network="small", source=given.place, shape=SHAPE)
    assert missing is not None
    own, first = module.state_dict(), drawn(99, make).state_dict()
    for key, tensor in own.items():
        if key in missing.names:
            assert tensor.isnan().all() if tensor.is_floating_point() else not tensor.any()
        elif not key.endswith("num_batches_tracked"):
            assert not torch.equal(tensor, first[key]), key  # no initial values are left
    return module, missing, given.notes


def rejection(path: Path | str, make: Make = Classifier) -> str:
    module = drawn(99, make)
    with pytest.raises(WeightsError) as caught:
        given = weights_of_file(path, module, "others", SHAPE)
        fit(module, given.state, network="small", source=given.place, shape=SHAPE)
    before = drawn(99, make).state_dict()
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    return str(caught.value)


HEAD = ("head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias")


def test_backbone_without_head_is_loaded(tmp_path: Path) -> None:
    module, missing, notes = loaded(save(without(state(), "head."), tmp_path))
    assert (missing.names, missing.first, notes) == (HEAD, "head.0", ())
    assert missing.note == (
        "4 tensors missing (head.0.weight, head.0.bias, head.2.weight, ...): "
        "layers from head.0 on cannot be requested"
    )
    assert torch.equal(module.state_dict()["backbone.conv2.weight"], state()["backbone.conv2.weight"])


@pytest.mark.parametrize("prefix", ["module.", "net.encoder.", "student."])
def test_backbone_with_prefix_is_loaded(tmp_path: Path, prefix: str) -> None:
    stored = {f"{prefix}{key}": value for key, value in without(state(), "head.").items()}
    _, missing, notes = loaded(save({"state_dict": stored, "epoch": 1}, tmp_path))
    assert missing.names == HEAD
    assert notes == (f"removed the prefix {prefix} from the names of the tensors",)


def test_state_dict_of_backbone_module_is_loaded(tmp_path: Path) -> None:
    _, missing, notes = loaded(save(state(make=Backbone), tmp_path))
    assert missing.names == HEAD
    assert notes == ("added the prefix backbone. to the names of the tensors",)
    stored = {f"encoder.{key}": value for key, value in state(make=Backbone).items()}
    projector = {"projector.0.weight": torch.ones(2, 2), "queue": torch.ones(3)}
    _, missing, notes = loaded(save({**stored, **projector}, tmp_path))
    assert missing.names == HEAD
    assert notes == (
        "removed the prefix encoder. from the names of the tensors",
        "added the prefix backbone. to the names of the tensors",
        "not used: 2 other tensors in the file (projector.0.weight, queue)",
    )


def test_head_of_another_size_is_missing(tmp_path: Path) -> None:
    _, missing, _ = loaded(save(state(make=lambda: Classifier(7)), tmp_path))
    assert missing.names == HEAD[2:] and missing.first == "head.2"
    assert missing.note == (
        "2 tensors with a different shape (head.2.weight (7, 6) in the file, (3, 6) in the network; "
        "head.2.bias (7,) in the file, (3,) in the network): layers from head.2 on cannot be requested"
    )


def test_head_with_other_layers_is_missing(tmp_path: Path) -> None:
    """Other layers replace the head, and none of them belongs to a part that the file has."""
    other = {"head.weight": torch.ones(9, 5), "head.bias": torch.ones(9), "head.norm.weight": torch.ones(9)}
    _, missing, _ = loaded(save({**without(state(), "head."), **other}, tmp_path))
    assert missing.names == HEAD
    assert "3 unexpected tensors (head.weight, head.bias, head.norm.weight)" in missing.note


def test_single_missing_tensor_of_the_last_layer_is_accepted(tmp_path: Path) -> None:
    _, missing, _ = loaded(save(without(state(), "head.2.bias"), tmp_path))
    assert missing.names == ("head.2.bias",) and missing.first == "head.2"


def test_missing_batch_norm_counters_are_accepted(tmp_path: Path) -> None:
    stored = without(state(), "backbone.bn.num_batches_tracked")
    module = drawn(99)
    given = weights_of_file(save(stored, tmp_path), module, "others", SHAPE)
    assert fit(module, given.state, network="small", source="a", shape=SHAPE) is None
    _, missing, _ = loaded(save(without(stored, "head."), tmp_path))
    assert missing.names == HEAD


def test_upper_backbone_layers_may_be_missing_too(tmp_path: Path) -> None:
    _, missing, _ = loaded(save(without(state(), "head.", "backbone.conv2"), tmp_path))
    assert missing.first == "backbone.conv2"
    assert missing.names == ("backbone.conv2.weight", "backbone.conv2.bias", *HEAD)


MIDDLE = {
    "the first layer": ("backbone.conv1",),
    "a normalisation": ("backbone.bn",),
    "a statistic": ("backbone.bn.running_var",),
    "a layer in the middle": ("backbone.conv2",),
    "the first of two layers of the head": ("head.0",),
    "one bias in the middle": ("head.0.bias",),
    "the backbone": ("backbone.",),
}


@pytest.mark.parametrize("kind", MIDDLE)
def test_missing_tensors_in_the_middle_are_rejected(tmp_path: Path, kind: str) -> None:
    path = save(without(state(), *MIDDLE[kind]), tmp_path)
    absent = [key for key in state() if key.startswith(MIDDLE[kind]) and "num_batches" not in key]
    assert rejection(path).startswith(f"{path} does not fit small: {len(absent)} tensor")
    assert absent[0] in rejection(path)


def test_different_shape_in_the_middle_is_rejected(tmp_path: Path) -> None:
    stored = {**state(), "backbone.conv2.weight": torch.ones(5, 4, 1, 1)}
    assert "1 tensor with a different shape (backbone.conv2.weight (5, 4, 1, 1) in" in rejection(
        save(stored, tmp_path)
    )


def test_larger_network_without_head_is_rejected(tmp_path: Path) -> None:
    stored = {**without(state(), "head."), "backbone.conv3.weight": torch.ones(2, 2, 3, 3)}
    message = rejection(save(stored, tmp_path))
    assert "4 tensors missing" in message and "1 unexpected tensor (backbone.conv3.weight)" in message


def test_weights_without_a_complete_layer_are_rejected(tmp_path: Path) -> None:
    assert "does not fit small" in rejection(save({"backbone.conv1.bias": torch.ones(4)}, tmp_path))
    assert "does not fit small" in rejection(save({"head.2.weight": torch.ones(3, 6)}, tmp_path))


def test_weights_of_a_part_are_rejected_without_input_shape(tmp_path: Path) -> None:
    module = drawn(99)
    given = weights_of_file(save(without(state(), "head."), tmp_path), module, "others")
    with pytest.raises(WeightsError, match="does not fit small: 4 tensors missing"):
        fit(module, given.state, network="small", source="a")


class Fails(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("not on this input")


def test_weights_of_a_part_are_rejected_if_network_does_not_run(tmp_path: Path) -> None:
    path = save(without(state(), "head."), tmp_path)
    assert rejection(path, Fails).startswith(f"{path} does not fit small: 4 tensors missing")


def test_two_backbones_are_rejected_with_their_names(tmp_path: Path) -> None:
    headless = without(state(), "head.")
    stored = {
        **{f"student.{key}": value for key, value in headless.items()},
        **{f"teacher.{key}": value + 1 for key, value in headless.items()},
    }
    path = save(stored, tmp_path)
    assert rejection(path) == (
        f"{path} has 2 sets of weights that fit the network: student, teacher. "
        f"Choose one with weights={path}#student"
    )
    module, missing, _ = loaded(f"{path}#teacher")
    assert missing.names == HEAD
    bias = "backbone.conv1.bias"
    assert torch.equal(module.state_dict()[bias], headless[bias] + 1)


def test_complete_network_is_preferred_to_a_backbone(tmp_path: Path) -> None:
    path = save({"model": without(state(2), "head."), "student": state()}, tmp_path)
    module = drawn(99)
    given = weights_of_file(path, module, "others", SHAPE)
    assert fit(module, given.state, network="small", source="a", shape=SHAPE) is None
    assert torch.equal(module.state_dict()["head.0.bias"], state()["head.0.bias"])


class Tied(Classifier):
    """Network whose last layer shares its weights with a layer of the head."""

    def __init__(self) -> None:
        super().__init__(6)
        self.last = nn.Linear(6, 6)
        self.last.weight = self.head[2].weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(super().forward(x))
        return out


def test_tied_tensors_are_not_filled_with_nan(tmp_path: Path) -> None:
    module, missing, _ = loaded(save(without(state(make=Tied), "last."), tmp_path), Tied)
    assert missing.names == ("last.bias",)
    assert torch.equal(module.state_dict()["head.2.weight"], state(make=Tied)["head.2.weight"])


def test_tied_tensors_stored_once_are_accepted(tmp_path: Path) -> None:
    for absent in ("last.weight", "head.2.weight"):
        module = drawn(99, Tied)
        path = save(without(state(make=Tied, prefix="model."), f"model.{absent}"), tmp_path)
        given = weights_of_file(path, module, "others", SHAPE)
        assert fit(module, given.state, network="small", source="a", shape=SHAPE) is None
        expected = drawn(1, Tied).state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in module.state_dict().items())


class TwoHeads(nn.Module):
    """Network with a head for the output, a head whose result is unused, and a head that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.side, self.main, self.unused = nn.Linear(5, 2), nn.Linear(5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x).mean((2, 3))
        self.side(maps)
        out: Tensor = self.main(maps)
        return out


def test_missing_head_with_unused_result_is_accepted(tmp_path: Path) -> None:
    _, missing, _ = loaded(save(without(state(make=TwoHeads), "side."), tmp_path), TwoHeads)
    assert (missing.names, missing.first) == (("side.weight", "side.bias"), "side")


def test_missing_head_that_is_never_called_affects_no_layer(tmp_path: Path) -> None:
    _, missing, _ = loaded(save(without(state(make=TwoHeads), "unused."), tmp_path), TwoHeads)
    assert missing.note == "2 tensors missing (unused.weight, unused.bias): no layer depends on them"


# --- the whole package

OWN = """
import torch
from torch import nn
import deconvviz as dv

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.side, self.fc = nn.Linear(5, 2), nn.Linear(5, classes)

    def forward(self, x):
        maps = self.conv2(self.conv1(x).relu()).relu()
        self.side(maps.mean((2, 3)))
        return self.fc(maps.mean((2, 3)))

def make(classes=3):
    names = [f"class {n}" for n in range(classes)]
    return dv.Network(Net(classes), size=16, classes=names)
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "own.py").write_text(OWN)
    yield f"{tmp_path}/own.py:make"


@pytest.fixture
def headless(tmp_path: Path, own: str) -> Path:
    """Weights of `own` without ``fc``."""
    return save(without(dict(dv.load(own, seed=1).module.state_dict()), "fc"), tmp_path)


def random_image() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def message(requested: str, name: str = "own.py:make") -> str:
    return (
        rf"^{requested} of {name} cannot be requested: it depends on weights that a\.pth does not have "
        r"\(fc\.weight, fc\.bias\)\. Use a layer that does not, such as side, or give a file with all "
        r"weights: weights=FILE$"
    )


def test_layers_that_need_missing_weights_are_rejected_and_others_work(own: str, headless: Path) -> None:
    net, whole = dv.load(own, headless), dv.load(own, seed=1)
    assert [layer.name for layer in net.layers if layer.lacks_weights] == ["fc", "output"]
    assert net.origin.missing == ("fc.weight", "fc.bias")
    assert any("layers from fc on cannot be requested" in note for note in net.origin.notes)
    for layer in ("conv1", "conv2", "side"):
        recording, expected = net.record(random_image(), layer), whole.record(random_image(), layer)
        assert torch.equal(recording.activations(layer), expected.activations(layer))
        assert torch.equal(recording.project(layer).pixels, expected.project(layer).pixels)
    for requested in ("fc", "output"):
        for layers in (requested, ["conv1", requested], whole.layers[requested]):
            with pytest.raises(LayerError, match=message(requested)):
                net.record(random_image(), layers)
        with pytest.raises(LayerError, match=message(requested)):
            net.coverage(requested)
        with pytest.raises(LayerError, match=message(requested)):
            net.layers[requested]
    for requested_class in (0, "class 1"):
        with pytest.raises(LayerError, match=message("output")):
            net.class_index(requested_class)
    assert not net.gives_class_scores
    with pytest.raises(LayerError, match=message("fc")):
        dv.search(net, "scenes:2", ["conv1", "fc"])


def test_layer_table_marks_layers_that_lack_weights(own: str, headless: Path) -> None:
    net = dv.load(own, headless)
    assert str(net.layers).splitlines()[-1].endswith("cannot be requested: it depends on missing weights")
    assert [row["lacks_weights"] for row in net.layers.to_json()] == [False, False, False, True, True]
    assert not any(layer.lacks_weights for layer in dv.load(own).layers)


def test_recording_with_scores_works_without_the_last_layer(own: str, headless: Path) -> None:
    recording = dv.load(own, headless).record(random_image(), "conv1", scores=True)
    assert recording.activations("conv1").isfinite().all()


def test_search_of_all_layers_omits_layers_that_lack_weights(
    own: str, headless: Path, tmp_path: Path
) -> None:
    found = dv.search(dv.load(own, headless), "scenes:3", "all", out=tmp_path / "found")
    assert [layer["name"] for layer in found.manifest["layers"]] == ["conv1", "conv2", "side"]
    assert found.manifest["network"]["missing"] == ["fc.weight", "fc.bias"]


def test_figure_is_remade_with_missing_weights(own: str, headless: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.effect_noise((40, 40), 60).convert("RGB").save(tmp_path / "image.png")
    net = dv.load(own, headless)
    projection = net.record(tmp_path / "image.png", "conv2").project("conv2")
    projection.save(tmp_path / "figure.png")
    manifest = json.loads((tmp_path / "figure.json").read_text())
    assert manifest["network"]["missing"] == ["fc.weight", "fc.bias"]
    assert dv.load(own, headless).digest == net.digest == manifest["network"]["digest"]
    again = dv.remake(tmp_path / "figure.json", allow_code=True)
    assert torch.equal(again.projection.pixels, projection.pixels)
    assert again.projection.network.origin.missing == net.origin.missing


def test_different_number_of_classes_in_user_file_is_missing(own: str, tmp_path: Path) -> None:
    path = save(dv.load(own, arguments={"classes": 7}).module.state_dict(), tmp_path)
    net = dv.load(own, path)
    assert net.origin.missing == ("fc.weight", "fc.bias")
    with pytest.raises(LayerError, match=r"it depends on weights that a\.pth does not have"):
        net.record(random_image(), "fc")
    assert not dv.load(own, path, arguments={"classes": 7}).origin.missing


SOMETIMES = OWN.replace(
    "        return self.fc(maps.mean((2, 3)))",
    "        if x.max() > 0.5: maps = maps * self.fc(maps.mean((2, 3))).sum()\n"
    "        self.again = self.last(maps)\n"
    "        return maps.mean((2, 3))",
).replace("        self.side,", "        self.last = nn.Identity()\n        self.side,")


def test_layer_that_needs_missing_weights_for_some_images_is_rejected(tmp_path: Path) -> None:
    """The zero image of the layer table does not reach ``fc``, so the recorded pass itself is checked."""
    (tmp_path / "own.py").write_text(SOMETIMES.replace("self.again = ", ""))
    own = f"{tmp_path}/own.py:make"
    net = dv.load(own, save(without(dict(dv.load(own, seed=1).module.state_dict()), "fc"), tmp_path))
    assert not net.layers["last"].lacks_weights
    assert net.record(random_image() / 4, "last").activations("last").isfinite().all()
    for requested in ("last", "fc"):
        with pytest.raises(LayerError, match=rf"{requested} of own\.py:make cannot be requested: it depends"):
            net.record(random_image() * 4, requested)


def test_torchvision_network_loads_without_last_layer(tmp_path: Path) -> None:
    values = build("resnet18", seed=1).state_dict()
    path = save(
        {"state_dict": {f"encoder.{key}": value for key, value in without(values, "fc").items()}}, tmp_path
    )
    net = dv.load("resnet18", path)
    assert net.origin.missing == ("fc.weight", "fc.bias")
    assert net.origin.notes == (
        "removed the prefix encoder. from the names of the tensors",
        "2 tensors missing (fc.weight, fc.bias): layers from fc on cannot be requested",
    )
    assert [layer.name for layer in net.layers if layer.lacks_weights] == ["fc", "output"]
    assert net.digest == dv.load("resnet18", path).digest
    with pytest.raises(LayerError, match=r"such as avgpool"):
        net.record(torch.rand(1, 3, 64, 64), "fc")


def test_timm_network_loads_without_last_layer(tmp_path: Path) -> None:
    timm: Any = pytest.importorskip("timm")
    torch.manual_seed(0)
    values = timm.create_model("test_resnet").state_dict()
    path = save({f"net.{key}": value for key, value in without(values, "fc").items()}, tmp_path)
    net = dv.load("timm:test_resnet", path)
    assert net.origin.missing == ("fc.weight", "fc.bias")
    with pytest.raises(LayerError, match=r"it depends on weights that a\.pth does not have"):
        net.class_index(3)
    assert net.record(torch.rand(1, 3, 64, 64), "layer1").activations("layer1").isfinite().all()
