"""torchvision's networks for segmentation and detection, by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.models import segmentation
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.models.torchvision_models import dense, dense_entry
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow


def test_segmentation_network_has_the_names_and_the_input_of_its_weights() -> None:
    net = dv.load("lraspp_mobilenet_v3_large", "random", seed=3)
    assert net.classes[:3] == ("__background__", "aeroplane", "bicycle") and len(net.classes) == 21
    assert net.preprocessing.shape == (3, 520, 520) and net.preprocessing.crop_mode == "center"
    torch.manual_seed(3)
    theirs = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()
    assert all(torch.equal(theirs[key], tensor) for key, tensor in net.module.state_dict().items())


def test_detector_takes_pictures_at_their_own_size() -> None:
    net = dv.load("ssdlite320_mobilenet_v3_large", "random")
    assert net.preprocessing.crop_mode == "own" and len(net.classes) == 91
    rec = net.record(scene(3).image[:61], "backbone.0")
    assert rec.inputs.shape == (1, 3, 61, 96)


def test_published_weights_fit_the_network_that_is_built() -> None:
    for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "ssd300_vgg16"):
        entry, module = dense_entry(name), dense(name)
        stated = entry.meta["num_params"]
        assert sum(weight.numel() for weight in module.parameters()) == stated, name


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    torch.save(dense("lraspp_mobilenet_v3_large", seed=5).state_dict(), tmp_path / "own.pth")
    net = dv.load("lraspp_mobilenet_v3_large", tmp_path / "own.pth")
    assert net.digest == dv.load("lraspp_mobilenet_v3_large", "random", seed=5).digest


def test_project_command_with_a_name_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene(7).image).save("scene.png")
    asked = ["project", "scene.png", "--model", "lraspp_mobilenet_v3_large", "--weights", "random"]
    result = CliRunner().invoke(app, [*asked, "--class", "dog", "--at", "200,300", "--out", "out"])
    assert result.exit_code == 0, result.output
    (file,) = Path("out").glob("*.json")
    assert json.loads(file.read_text())["network"]["model"]["name"] == "lraspp_mobilenet_v3_large"
    again = CliRunner().invoke(app, ["project", "--from", str(file), "--out", "again"])
    assert again.exit_code == 0, again.output
