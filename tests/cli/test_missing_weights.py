"""Commands with weights that lack the last layers: lower layers work, the others raise an error."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.models.minivgg import stored_weights

pytestmark = pytest.mark.slow

MESSAGE = (
    "cannot be requested: it depends on weights that a.pth does not have (classifier.0.weight, "
    "classifier.0.bias, classifier.3.weight and 1 more). Use a layer that does not, such as pool4, "
    "or give a file with all weights: --weights FILE"
)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights file of minivgg without the classifier, with prefixed names and an argparse object."""
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((120, 100), 60).convert("RGB").save("image.png")
    kept = {
        f"net.{key}": value for key, value in stored_weights().items() if not key.startswith("classifier")
    }
    torch.save({"state_dict": kept, "args": argparse.Namespace(rate=0.1)}, "a.pth")
    return tmp_path / "a.pth"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "500"})


def assert_layer_is_rejected(result: Result, layer: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert f"{layer} of minivgg {MESSAGE}" in " ".join(result.stderr.split())
    assert not Path("out").exists()


def test_project_lower_layer_can_be_reproduced_from_its_manifest(weights: Path) -> None:
    result = run(
        "project",
        "image.png",
        "--model",
        "minivgg",
        "--layer",
        "conv2_1",
        "--weights",
        weights,
        "--out",
        "out",
    )
    assert result.exit_code == 0, result.output
    for note in (
        "removed the prefix net. from the names of the tensors",
        "ignored 1 object that is not a tensor: argparse.Namespace",
        "4 tensors missing (classifier.0.weight, classifier.0.bias, classifier.3.weight, ...): "
        "layers from classifier.0 on cannot be requested",
    ):
        assert note in " ".join(result.stderr.split())
    manifest = json.loads(Path("out/image-conv2_1.json").read_text())
    assert manifest["network"]["missing"][0] == "classifier.0.weight"
    again = run("project", "--from", "out/image-conv2_1.json", "--out", "again")
    assert again.exit_code == 0, again.output
    assert json.loads(Path("again/image-conv2_1.json").read_text())["network"] == manifest["network"]


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        ("fc5", ("--layer", "fc5")),
        ("output", ("--layer", "output")),
        ("fc6", ("--layer", "conv1_1", "--layer", "fc6")),
        ("fc5", ("--layer", "classifier.0", "--top", 3)),
    ],
)
def test_project_layer_without_weights_is_rejected(
    weights: Path, layer: str, options: tuple[object, ...]
) -> None:
    assert_layer_is_rejected(
        run("project", "image.png", "--model", "minivgg", *options, "--weights", weights, "--out", "out"),
        layer,
    )


@pytest.mark.parametrize("class_name", ["fish", "2"])
def test_project_class_without_weights_is_rejected(weights: Path, class_name: str) -> None:
    assert_layer_is_rejected(
        run(
            "project",
            "image.png",
            "--model",
            "minivgg",
            "--class",
            class_name,
            "--weights",
            weights,
            "--out",
            "out",
        ),
        "output",
    )


def test_search_of_all_layers_leaves_out_layers_without_weights(weights: Path) -> None:
    options = ("--model", "minivgg", "--weights", weights, "--workers", 0, "--quiet")
    assert_layer_is_rejected(
        run("search", "scenes:3", "--layer", "conv1_1", "--layer", "fc5", *options, "--out", "out"), "fc5"
    )
    result = run("search", "scenes:3", "--layers", "all", *options, "--out", "out", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [layer["name"] for layer in found["layers"]][-1] == "pool4"
    drawn = run("topnine", "out", "--layer", "conv4_2", "--out", "nine.png")
    assert drawn.exit_code == 0, drawn.output
    assert run("topnine", "out", "--layer", "fc5", "--out", "more.png").exit_code == 2


def test_layers_marks_layers_without_weights(weights: Path) -> None:
    result = run("layers", "--model", "minivgg", "--weights", weights)
    assert result.exit_code == 0, result.output
    marked = [line.split()[0] for line in result.stdout.splitlines() if "no weights" in line]
    assert marked == ["fc5", "relu5", "classifier.2", "fc6", "classifier", "output"]
    assert "no weights" not in run("layers", "--model", "minivgg").stdout
    rows = json.loads(run("layers", "--model", "minivgg", "--weights", weights, "--json").stdout)["layers"]
    assert [row["name"] for row in rows if row["lacks_weights"]] == marked


def test_check_rejects_layers_without_weights(weights: Path) -> None:
    assert run("check", "minivgg", "--weights", weights, "--layer", "conv4_2").exit_code == 0
    assert_layer_is_rejected(run("check", "minivgg", "--weights", weights, "--layer", "fc5"), "fc5")


def test_weights_missing_in_the_middle_are_rejected_before_output_is_written(weights: Path) -> None:
    kept = {key: value for key, value in stored_weights().items() if not key.startswith("features.5")}
    torch.save(kept, weights)
    result = run(
        "project",
        "image.png",
        "--model",
        "minivgg",
        "--layer",
        "conv1_1",
        "--weights",
        weights,
        "--out",
        "out",
    )
    assert result.exit_code == 2 and not Path("out").exists()
    message = "does not fit minivgg: 2 tensors missing (features.5.weight, features.5.bias)"
    assert message in " ".join(result.stderr.split())
