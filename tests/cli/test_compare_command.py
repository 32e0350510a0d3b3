"""`deconvviz compare`: output files, printed text and errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.methods.method import METHODS
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together half a minute

QUICK = ["--methods", "deconvnet,guided,gradient"]


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], input=stdin)


def mini(image_file, out, *arguments):
    return run(image_file, "--model", "minivgg", "--out", out, *arguments)


def test_compare_writes_figure_and_manifest_and_prints_their_paths(image_file, tmp_path):
    result = mini(image_file, tmp_path, "--layer", "conv3_2", *QUICK)
    assert result.exit_code == 0, result.output
    figure, manifest = tmp_path / "scene-conv3_2-compare.png", tmp_path / "scene-conv3_2-compare.json"
    assert result.stdout.splitlines() == [str(figure), str(manifest)]
    with Image.open(figure) as drawn:
        assert drawn.width > 800
    contents = json.loads(manifest.read_text())
    assert contents["layer"]["name"] == "conv3_2" and len(contents["units"]) == 3
    assert [one["name"] for one in contents["methods"]] == ["deconvnet", "guided", "gradient"]
    assert contents["pictures"][0]["path"]


def test_arrays_equal_the_results_of_python(image_file, tmp_path):
    arguments = ["-l", "conv2_2", "--channel", 4, "--top", 2, "--arrays", "--methods", "gradient,smoothgrad"]
    assert mini(image_file, tmp_path, *arguments).exit_code == 0
    with np.load(tmp_path / "scene-conv2_2-channel4-compare.npz") as stored:
        found = dict(stored)
    expected = dv.compare(
        dv.load("minivgg"), image_file, "conv2_2", 2, methods=["gradient", "smoothgrad"], channel=4
    ).arrays()
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_json_states_units_methods_and_what_was_left_out(image_file, tmp_path):
    methods = "deconvnet,gradcam,lrp"
    result = mini(image_file, tmp_path, "-l", "fc5", "--unit", 3, "--unit", 8, "--methods", methods, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [one["channel"] for one in printed["units"]] == [3, 8]
    assert [one["name"] for one in printed["methods"]] == ["deconvnet", "lrp"]
    assert printed["left_out"] == [{"name": "gradcam", "reason": "fc5 has no feature maps"}]
    assert printed["figure"] == printed["files"][0] == str(tmp_path / "scene-fc5-units-3-8-compare.png")
    assert printed["class"] is None and printed["top_class"]["name"]
    assert "deconvviz: gradcam is left out: fc5 has no feature maps" in result.stderr


def test_class_is_that_of_gradcam(image_file, tmp_path):
    name = dv.load("minivgg").classes[2]
    result = mini(image_file, tmp_path, "-l", "conv4_2", "--class", name, "--methods", "gradcam", "--json")
    assert json.loads(result.stdout)["class"] == name
    ignored = mini(image_file, tmp_path, "-l", "conv3_1", "--class", name, *QUICK)
    assert "--class has no effect: only gradcam explains a class" in ignored.stderr


def test_cost_of_slow_methods_is_printed(image_file, tmp_path):
    arguments = ["-l", "conv2_1", "--top", 2, "--methods", "deconvnet,smoothgrad"]
    result = mini(image_file, tmp_path, *arguments)
    assert result.stderr.splitlines() == [
        "deconvviz: smoothgrad: 25 forward and backward passes for each unit"
    ]
    assert mini(image_file, tmp_path, *arguments, "--force", "--quiet").stderr == ""


def test_strongest_units_are_apart_unless_a_channel_is_named(image_file, tmp_path):
    recording = dv.load("minivgg").record(image_file, "conv4_2")
    apart = json.loads(mini(image_file, tmp_path, "-l", "conv4_2", *QUICK, "--json").stdout)["units"]
    assert [one["channel"] for one in apart] == [unit.channel for unit in recording.choose("conv4_2", 3)]
    arguments = ["-l", "conv4_2", "--channel", 9, *QUICK, "--json"]
    together = json.loads(mini(image_file, tmp_path, *arguments).stdout)["units"]
    assert [(one["y"], one["x"]) for one in together] == [
        (unit.y, unit.x) for unit in recording.strongest("conv4_2", 3, 9)
    ]


def test_fewer_channels_than_units_are_all_explained(tmp_path, image_file):
    layers = "torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU()"
    code = f"import torch\n\ndef make():\n    return torch.nn.Sequential({layers})\n"
    (tmp_path / "two.py").write_text(code)
    result = run(image_file, "-m", f"{tmp_path / 'two.py'}:make", "-l", "1", "-o", tmp_path, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    assert 1 <= len(json.loads(result.stdout)["units"]) <= 2


def test_image_is_read_from_standard_input(image_file, tmp_path):
    arguments = ["-", "-m", "minivgg", "-l", "conv2_1", "-o", tmp_path, *QUICK]
    result = run(*arguments, stdin=image_file.read_bytes())
    assert result.exit_code == 0, result.output
    assert (tmp_path / "stdin-conv2_1-compare.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-l", "conv3_2", "--methods", "deconvnt"], f"no method 'deconvnt': there are {', '.join(METHODS)}"),
        (["-l", "conv3_2", "--methods", ""], "no method '': there are deconvnet"),
        (["-l", "conv9_2"], "no layer 'conv9_2' in minivgg"),
        ([], "name a layer (deconvviz layers lists them)"),
        (["-l", "conv3_2", "--unit", "1,2"], "--unit '1,2' is not a unit"),
        (["-l", "conv3_2", "--unit", "1"], "--unit 1 has no position"),
        (["-l", "conv3_2", "--unit", "400,1,1"], "no channel 400 in conv3_2"),
        (["-l", "conv3_2", "--channel", "400"], "no channel 400 in conv3_2"),
        (["-l", "conv3_2", "--unit", "1,2,3", "--top", "2"], "cannot be combined with --top"),
        (["-l", "conv3_2", "--top", "0"], "--top 0: must be 1 or more"),
        (["-l", "conv3_2", "--top", "1000"], "--top 1000: conv3_2 has"),
        (["-l", "conv3_2", "--methods", "gradcam", "--class", "unheard of"], "unheard of"),
        (
            ["-l", "fc5", "--methods", "gradcam"],
            "none of the methods can be used. gradcam: fc5 has no feature",
        ),
        (["-l", "conv3_2", "--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_mistakes_are_errors(image_file, tmp_path, arguments, message):
    out = tmp_path / "out"
    result = mini(image_file, out, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    printed = " ".join(result.stderr.replace("│", " ").split())
    assert message in printed
    assert not out.exists() or not list(out.iterdir())


def test_image_mistakes_are_errors(image_file, tmp_path):
    assert "name an image file" in run("-m", "minivgg", "-l", "conv3_2").stderr
    missing = run(tmp_path / "cat.jpg", "-m", "minivgg", "-l", "conv3_2")
    assert missing.exit_code == 2 and "cat.jpg" in missing.stderr
    Image.fromarray(scene(1).image).save(tmp_path / "one.png")
    Image.fromarray(scene(2).image).save(tmp_path / "two.png")
    folder = run(tmp_path, "-m", "minivgg", "-l", "conv3_2")
    assert folder.exit_code == 2 and "one image at a time" in " ".join(folder.stderr.split())


def test_existing_figure_is_not_overwritten_without_force(image_file, tmp_path):
    arguments = ["-l", "conv2_1", "--methods", "deconvnet"]
    assert mini(image_file, tmp_path, *arguments).exit_code == 0
    before = (tmp_path / "scene-conv2_1-compare.png").read_bytes()
    again = mini(image_file, tmp_path, *arguments)
    assert again.exit_code == 2 and "Overwrite with --force" in " ".join(again.stderr.split())
    assert (tmp_path / "scene-conv2_1-compare.png").read_bytes() == before
    assert mini(image_file, tmp_path, *arguments, "--force", "--crop", "field").exit_code == 0


@pytest.mark.slow
def test_help_loads_neither_torch_nor_captum():
    code = (
        "import sys; from typer.testing import CliRunner; from deconvviz.cli.app import app; "
        "print(CliRunner().invoke(app, ['compare', '--help']).exit_code, "
        "{'torch', 'captum', 'matplotlib', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 set()\n"


@pytest.mark.slow
def test_own_methods_do_not_load_captum(image_file):
    code = (
        "import sys, deconvviz as dv; "
        f"dv.compare(dv.load('minivgg'), {str(image_file)!r}, 'conv2_1', methods=['deconvnet', 'guided']); "
        "print('captum' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
