"""`--verify` of `project`, `compare` and `topnine`: what is printed, kept and not written."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.engine.rules import registry
from deconvviz.engine.rules.activation import ReLU
from deconvviz.scenes import scene

KEYS = {"route", "largest_difference", "units"}
aten = torch.ops.aten

pytestmark = pytest.mark.slow  # together half a minute

NETWORKS = """
import torch
import torch.nn.functional as F
from torch import nn

gate = torch.jit.CompilationUnit("def gate(x):\\n    return x.sigmoid()\\n").gate


class Net(nn.Module):
    def __init__(self, scripted):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.scripted = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3, 2), scripted

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x * (gate(x.flip(1)) if self.scripted else torch.sigmoid(x.flip(1)))
        return self.last(x)


def functional():
    return Net(False)


def scripted():
    return Net(True)
"""


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("searched") / "search"
    result = run("search", "scenes:12", "-m", "minivgg", "-l", "conv2_1", "--workers", 0, "--out", out)
    assert result.exit_code == 0, result.output
    return out


class NotRectified(ReLU):
    """A wrong rule for ReLU: its signal is not rectified."""

    def project(self, signal, window, input_windows):
        return [signal]


@pytest.fixture
def wrong_rule():
    """Register a wrong rule for ReLU, and restore the right one."""
    before = dict(registry._registry)
    dv.rule(aten.relu.default, aten.relu_.default)(NotRectified)
    yield
    registry._registry.clear()
    registry._registry.update(before)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "300"})


def assert_not_verified(result, message, out):
    """Check for exit code 1, one message, empty stdout, and no files."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert "No figure was written" in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists() or not list(out.iterdir())


def test_project_prints_and_keeps_the_largest_difference(image_file, tmp_path):
    result = run(
        "project", image_file, "-m", "minivgg", "-l", "conv3_1", "--top", 3, "-o", tmp_path, "--verify"
    )
    assert result.exit_code == 0, result.output
    kept = json.loads((tmp_path / "scene-conv3_1.json").read_text())["verification"]
    assert set(kept) == KEYS and kept["route"] == "captum" and kept["units"] == 3
    assert 0 < kept["largest_difference"] < 1e-5
    line = f"verified 3 projections by captum: largest relative difference {kept['largest_difference']:.2g}"
    assert line in result.stderr


def test_without_the_option_nothing_is_verified(image_file, tmp_path):
    result = run(
        "project", image_file, "-m", "minivgg", "-l", "conv1_1", "--top", 1, "-o", tmp_path, "--json"
    )
    assert json.loads(result.stdout)["figures"][0]["verification"] is None
    assert json.loads((tmp_path / "scene-conv1_1.json").read_text())["verification"] is None
    assert "verified" not in result.stderr


def test_every_figure_of_project_is_verified(image_file, tmp_path):
    layers = ["-l", "conv2_1", "-l", "fc5"]
    result = run(
        "project", image_file, "-m", "minivgg", *layers, "--top", 2, "-o", tmp_path, "--verify", "--json"
    )
    figures = json.loads(result.stdout)["figures"]
    assert [one["verification"]["units"] for one in figures] == [2, 2]
    assert "verified 4 projections by captum" in result.stderr


def test_project_writes_no_figure_if_a_projection_is_wrong(image_file, tmp_path, wrong_rule):
    out = tmp_path / "out"
    arguments = [
        "project",
        image_file,
        "-m",
        "minivgg",
        "-l",
        "conv1_1",
        "-l",
        "conv3_1",
        "--top",
        2,
        "-o",
        out,
    ]
    result = run(*arguments, "--verify", "--json")
    # conv1_1 is below every ReLU and is right, but it is not written either
    assert_not_verified(result, "of conv3_1 differs from that of captum by", out)
    assert "0.0001 is allowed" in result.stderr
    assert run(*arguments).exit_code == 0


def test_functional_network_is_verified_by_autograd(image_file, tmp_path):
    (tmp_path / "net.py").write_text(NETWORKS)
    model = f"{tmp_path / 'net.py'}:functional"
    out = tmp_path / "out"
    result = run(
        "project",
        image_file,
        "-m",
        model,
        "--weights",
        "random",
        "-l",
        "last",
        "--top",
        2,
        "-o",
        out,
        "--verify",
        "--json",
    )
    assert result.exit_code == 0, result.output
    (figure,) = json.loads(result.stdout)["figures"]
    assert figure["verification"]["route"] == "autograd"
    assert figure["verification"]["largest_difference"] < 1e-5


def test_network_that_is_not_known_is_named_and_nothing_is_written(image_file, tmp_path):
    (tmp_path / "net.py").write_text(NETWORKS)
    model, out = f"{tmp_path / 'net.py'}:scripted", tmp_path / "out"
    result = run("project", image_file, "-m", model, "-l", "last", "--top", 2, "-o", out, "--verify")
    assert_not_verified(
        result, "cannot be verified: there is no second implementation of SigmoidBackward0", out
    )
    assert "Leave out --verify" in result.stderr


def test_remade_figure_is_verified(image_file, tmp_path, wrong_rule):
    registry._registry.update({op: ReLU for op in (aten.relu.default, aten.relu_.default)})
    run("project", image_file, "-m", "minivgg", "-l", "conv2_2", "--top", 2, "-o", tmp_path)
    manifest = tmp_path / "scene-conv2_2.json"
    again = run("project", "--from", manifest, "-o", tmp_path / "again", "--verify")
    assert again.exit_code == 0, again.output
    assert "verified 2 projections by captum" in again.stderr
    assert json.loads((tmp_path / "again" / manifest.name).read_text())["verification"]["units"] == 2
    dv.rule(aten.relu.default, aten.relu_.default)(NotRectified)
    wrong = run("project", "--from", manifest, "-o", tmp_path / "wrong", "--verify")
    assert_not_verified(wrong, "of conv2_2 differs from that of captum by", tmp_path / "wrong")


def test_compare_verifies_the_methods_of_the_engine(image_file, tmp_path):
    methods = "deconvnet,guided,gradient,input_x_gradient,gradcam"
    result = run(
        "compare",
        image_file,
        "-m",
        "minivgg",
        "-l",
        "conv2_2",
        "--methods",
        methods,
        "-o",
        tmp_path,
        "--verify",
        "--json",
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    kept = json.loads((tmp_path / "scene-conv2_2-compare.json").read_text())["verification"]
    assert printed["verification"] == kept
    assert kept["route"] == "captum" and kept["units"] == 3
    assert list(kept["methods"]) == methods.split(",")[:4] and kept["not_verified"] == ["gradcam"]
    largest = max(one["largest_difference"] for one in kept["methods"].values())
    assert kept["largest_difference"] == largest < 1e-5
    assert "verified 12 projections by captum" in result.stderr
    assert "not verified: gradcam" in result.stderr


def test_compare_writes_nothing_if_a_map_is_wrong(image_file, tmp_path, wrong_rule):
    out = tmp_path / "out"
    result = run(
        "compare",
        image_file,
        "-m",
        "minivgg",
        "-l",
        "conv2_2",
        "--methods",
        "gradient,deconvnet",
        "-o",
        out,
        "--verify",
    )
    assert_not_verified(result, "of conv2_2 differs from that of captum by", out)


def test_topnine_verifies_every_projection(found, tmp_path):
    result = run(
        "topnine", found, "-l", "conv2_1", "--channels", 2, "--top", 3, "-o", tmp_path, "--verify", "--json"
    )
    assert result.exit_code == 0, result.output
    kept = json.loads((tmp_path / "topnine-conv2_1.json").read_text())["verification"]
    assert json.loads(result.stdout)["verification"] == kept
    assert set(kept) == KEYS and kept["units"] == 6 and kept["largest_difference"] < 1e-5
    assert "verified 6 projections by autograd" in result.stderr


def test_topnine_writes_nothing_if_a_projection_is_wrong(found, tmp_path, wrong_rule):
    out = tmp_path / "out"
    result = run("topnine", found, "-l", "conv2_1", "--channels", 1, "--top", 2, "-o", out, "--verify")
    assert_not_verified(result, "of conv2_1 differs from that of autograd by", out)
