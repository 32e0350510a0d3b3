"""`deconvviz project`: output files, printed text and errors."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["project", *map(str, arguments)])


def mini(image_file, out, *arguments):
    return run(image_file, "--model", "minivgg", "--out", out, *arguments)


def width(path):
    with Image.open(path) as image:
        return image.width


def arrays(path):
    with np.load(path) as stored:
        return dict(stored)


def assert_error(result, message, folder=None):
    """Check for exit code 2, one message without traceback, empty stdout and no output files."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    if folder is not None:
        assert not folder.exists() or not list(folder.iterdir())


def test_project_writes_figure_and_manifest_and_prints_their_paths(image_file, tmp_path):
    result = mini(image_file, tmp_path, "--layer", "conv3_1")
    assert result.exit_code == 0, result.output
    figure, manifest = tmp_path / "scene-conv3_1.png", tmp_path / "scene-conv3_1.json"
    assert result.stdout.splitlines() == [str(figure), str(manifest)]
    assert width(figure) > 1000
    contents = json.loads(manifest.read_text())
    assert contents["layer"]["name"] == "conv3_1"
    assert len(contents["units"]) == len(contents["boxes"]) == 9


def test_json_has_units_and_boxes_of_every_figure(image_file, tmp_path):
    result = mini(image_file, tmp_path, "-l", "pool2", "-l", "conv4_2", "--top", 2, "--json")
    printed = json.loads(result.stdout)
    assert [one["layer"] for one in printed["figures"]] == ["pool2", "conv4_2"]
    for one in printed["figures"]:
        assert len(one["units"]) == 2
        first, second = one["units"]
        assert first["activation"] >= second["activation"]
        x0, y0, x1, y1 = first["box"]
        assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96


def test_arrays_equal_the_results_of_python(image_file, tmp_path):
    import deconvviz as dv

    assert mini(image_file, tmp_path, "-l", "conv2_2", "--top", 3, "--no-apart", "--arrays").exit_code == 0
    stored = arrays(tmp_path / "scene-conv2_2.npz")
    found = dv.project(dv.load("minivgg"), image_file, "conv2_2", 3)
    for name, values in found.arrays().items():
        np.testing.assert_array_equal(stored[name], values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["-l", "conv3_2", "--top", 4],
        ["-l", "conv3_2", "--channel", 5, "--top", 3],
        ["-l", "conv2_1", "--unit", "3,20,11", "--unit", "3,0,47"],
        ["-l", "pool3", "--channel", 2, "--whole-channel"],
        ["-l", "fc5", "--top", 2],
        ["--class", "fish"],
    ],
)
def test_manifest_reproduces_the_same_arrays_and_figure(image_file, tmp_path, arguments):
    first = mini(image_file, tmp_path / "a", "--arrays", *arguments)
    assert first.exit_code == 0, first.output
    manifest = next((tmp_path / "a").glob("*.json"))
    again = run("--from", manifest, "--out", tmp_path / "b", "--arrays")
    assert again.exit_code == 0, again.output
    [one], [other] = (list((tmp_path / folder).glob("*.npz")) for folder in "ab")
    one, other = arrays(one), arrays(other)
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    figures = [next((tmp_path / folder).glob("*.png")).read_bytes() for folder in "ab"]
    assert figures[0] == figures[1]


def test_whole_channel_projects_the_strongest_channels(image_file, tmp_path):
    printed = json.loads(
        mini(image_file, tmp_path, "-l", "conv3_1", "--whole-channel", "--top", 3, "--json").stdout
    )
    assert [unit["y"] for unit in printed["figures"][0]["units"]] == [None] * 3


def test_several_channels_are_projected_in_the_given_order(image_file, tmp_path):
    printed = json.loads(
        mini(
            image_file, tmp_path, "-l", "conv3_1", "--channel", 4, "--channel", 1, "--top", 2, "--json"
        ).stdout
    )
    assert [unit["channel"] for unit in printed["figures"][0]["units"]] == [4, 4, 1, 1]


def test_default_top_is_limited_to_the_number_of_units(image_file, tmp_path):
    printed = json.loads(mini(image_file, tmp_path, "-l", "fc5", "--channel", 4, "--json").stdout)
    assert len(printed["figures"][0]["units"]) == 1


@pytest.mark.parametrize("kind, start", [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figure_has_the_requested_file_type(image_file, tmp_path, kind, start):
    assert mini(image_file, tmp_path, "-l", "conv1_1", "--top", 1, "--format", kind).exit_code == 0
    assert (tmp_path / f"scene-conv1_1.{kind}").read_bytes().startswith(start)


def test_dpi_scales_the_figure(image_file, tmp_path):
    for dpi in (50, 100):
        assert mini(image_file, tmp_path / str(dpi), "-l", "conv1_1", "--dpi", dpi).exit_code == 0
    small, large = (width(tmp_path / str(dpi) / "scene-conv1_1.png") for dpi in (50, 100))
    assert large == pytest.approx(2 * small, abs=2)


def style_of(path):
    return json.loads(path.with_suffix(".json").read_text())["style"]


def test_slide_is_16_to_9_and_paper_is_86_mm_wide(image_file, tmp_path):
    figure = tmp_path / "scene-conv2_1.png"
    for medium, size in (("slide", (2667, 1500)), ("paper", (1016, None))):
        result = mini(image_file, tmp_path, "--layer", "conv2_1", "--top", 2, "--for", medium, "--force")
        assert result.exit_code == 0, result.output
        assert style_of(figure)["medium"] == medium
        with Image.open(figure) as image:
            assert image.width == pytest.approx(size[0], abs=1)
            assert size[1] is None or image.height == size[1]


def test_crop_and_medium_of_a_reproduced_figure(image_file, tmp_path):
    figure, again = tmp_path / "scene-conv2_1.png", tmp_path / "again"
    mini(image_file, tmp_path, "--layer", "conv2_1", "--top", 2, "--crop", "field", "--dpi", 90)
    assert style_of(figure) == style_of(figure) | {"crop": "field", "medium": "screen", "dpi": 90}
    manifest = figure.with_suffix(".json")
    expected = {
        (): ("field", "screen", 90),
        ("--crop", "effective"): ("effective", "screen", 90),
        ("--for", "paper"): ("field", "paper", 300),
        ("--for", "paper", "--dpi", 150): ("field", "paper", 150),
    }
    for options, values in expected.items():
        result = run("--from", manifest, "--out", again, "--force", *options)
        assert result.exit_code == 0, result.output
        style = style_of(again / figure.name)
        assert (style["crop"], style["medium"], style["dpi"]) == values


@pytest.mark.parametrize("option", ["--crop", "--for"])
def test_unknown_crop_or_medium_is_rejected(image_file, tmp_path, option):
    result = mini(image_file, tmp_path, "--layer", "conv2_1", option, "poster")
    assert_error(result, "'poster' is not one of", tmp_path)


def test_folder_yields_one_figure_per_image(tmp_path):
    for seed in (1, 2):
        Image.fromarray(scene(seed).image).save(tmp_path / f"{seed}.png")
    (tmp_path / "notes.txt").write_text("no image")
    printed = json.loads(mini(tmp_path, tmp_path / "out", "-l", "pool1", "--top", 1, "--json").stdout)
    assert [one["picture"] for one in printed["figures"]] == ["1.png", "2.png"]


def test_images_with_equal_names_do_not_overwrite_each_other(tmp_path):
    paths = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png", tmp_path / "a" / "x.jpg"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(scene(5).image).save(path)
    result = run(*paths, "--model", "minivgg", "-l", "pool1", "--top", 1, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_existing_files_are_kept_unless_forced(image_file, tmp_path):
    manifest = tmp_path / "scene-conv3_1.json"
    manifest.write_text("mine")
    result = mini(image_file, tmp_path, "-l", "conv3_1")
    assert_error(result, f"{manifest} already exists. Overwrite with --force")
    assert manifest.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [manifest]
    assert mini(image_file, tmp_path, "-l", "conv3_1", "--force").exit_code == 0
    assert json.loads(manifest.read_text())["layer"]["name"] == "conv3_1"


MISTAKES = {
    "unknown network": (["--model", "minivg", "-l", "conv1_1"], "no network 'minivg'; nearest: minivgg"),
    "unknown layer": (
        ["--model", "minivgg", "-l", "conv3_5"],
        "no layer 'conv3_5' in minivgg: block 3 has conv3_1, conv3_2 (see: deconvviz layers --model minivgg)",
    ),
    "no layer": (["--model", "minivgg"], "name a layer"),
    "top 0": (["--model", "minivgg", "-l", "conv1_1", "--top", "0"], "--top 0: must be 1 or more"),
    "top too large": (
        ["--model", "minivgg", "-l", "conv1_1", "--top", "9999"],
        "--top 9999: conv1_1 has 16 channels",
    ),
    "channel outside": (
        ["--model", "minivgg", "-l", "conv1_1", "--channel", "16"],
        "no channel 16 in conv1_1: there are 0 to 15",
    ),
    "negative channel": (["--model", "minivgg", "-l", "conv1_1", "--channel=-1"], "no channel -1 in conv1_1"),
    "position outside": (
        ["--model", "minivgg", "-l", "pool1", "--unit", "3,48,0"],
        "no position (48, 0) in pool1: rows are 0 to 47, columns 0 to 47",
    ),
    "invalid unit": (["--model", "minivgg", "-l", "pool1", "--unit", "3;4"], "--unit '3;4' is not a unit"),
    "unit of a map without position": (
        ["--model", "minivgg", "-l", "pool1", "--unit", "3"],
        "Use --unit C,Y,X",
    ),
    "unit of a vector with position": (
        ["--model", "minivgg", "-l", "fc5", "--unit", "3,1,1"],
        "the units of fc5 have no position",
    ),
    "unit and channel": (
        ["--model", "minivgg", "-l", "pool1", "--unit", "3,1,1", "--top", "2"],
        "cannot be combined with --top",
    ),
    "whole channel of a vector": (
        ["--model", "minivgg", "-l", "fc5", "--whole-channel"],
        "fc5 has no feature maps",
    ),
    "unknown class": (["--model", "minivgg", "--class", "unicorn"], "no class 'unicorn' among 12"),
    "class number outside": (["--model", "minivgg", "--class", "12"], "no class number 12"),
    "unknown device": (["--model", "minivgg", "-l", "pool1", "--device", "tpu"], "no device 'tpu'"),
    "missing weights": (
        ["--model", "minivgg", "-l", "pool1", "--weights", "nowhere.pth"],
        "no weights file",
    ),
    "scale": (["--model", "minivgg", "-l", "pool1", "--scale", "page"], "--scale"),
    "columns": (["--model", "minivgg", "-l", "pool1", "--columns", "0"], "--columns"),
    "percentile": (["--model", "minivgg", "-l", "pool1", "--percentile", "0"], "--percentile"),
    "dpi": (["--model", "minivgg", "-l", "pool1", "--dpi", "0"], "--dpi"),
    "manifest that does not exist": (["--from", "nowhere.json"], "no manifest nowhere.json"),
}


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_reported_and_writes_nothing(image_file, tmp_path, arguments, message):
    given = [] if "--from" in arguments else [image_file]
    assert_error(run(*given, *arguments, "--out", tmp_path / "out"), message, tmp_path / "out")


def test_missing_image_argument_is_rejected(tmp_path):
    assert_error(run("--model", "minivgg", "-l", "pool1", "--out", tmp_path / "out"), "name an image file")


@pytest.mark.parametrize(
    "name, contents, message",
    [
        ("missing.jpg", None, "no image"),
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"this is not an image", "text.jpg"),
    ],
)
def test_unreadable_image_is_rejected(tmp_path, name, contents, message):
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    result = run(tmp_path / name, "--model", "minivgg", "-l", "pool1", "--out", tmp_path / "out")
    assert_error(result, message, tmp_path / "out")


def test_truncated_image_does_not_damage_figures_of_other_images(image_file, tmp_path):
    broken = tmp_path / "z.jpg"
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:-200])
    result = run(image_file, broken, "--model", "minivgg", "-l", "pool1", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "z.jpg" in result.stderr
    for path in (tmp_path / "out").glob("*"):
        assert path.stat().st_size > 0 and not path.name.startswith(".")


def test_out_that_is_a_file_is_rejected(image_file, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert_error(
        mini(image_file, taken, "-l", "pool1"), f"cannot write into {taken}: {taken} is a file, not a folder"
    )


def test_manifest_is_rejected_if_weights_or_image_changed(image_file, tmp_path):
    own = tmp_path / "own.png"
    own.write_bytes(image_file.read_bytes())
    assert run(own, "--model", "minivgg", "-l", "pool1", "--out", tmp_path / "a").exit_code == 0
    manifest = tmp_path / "a" / "own-pool1.json"
    assert_error(
        run("--from", manifest, "--weights", "random", "--out", tmp_path / "b"),
        "the weights of minivgg are not",
    )
    Image.fromarray(scene(4).image).save(own)
    assert_error(run("--from", manifest, "--out", tmp_path / "b"), "the pixels of")
    own.unlink()
    assert_error(run("--from", manifest, "--out", tmp_path / "b"), f"no longer exists: it was {own}")
    assert_error(
        run("--from", manifest, "--layer", "pool2", "--out", tmp_path / "b"), "the manifest already sets"
    )
    manifest.write_text('{"format": "deconvviz manifest 1", "network": {}}')
    assert_error(
        run("--from", manifest, "--out", tmp_path / "b"), "is not a complete manifest", tmp_path / "b"
    )


def test_weights_of_another_network_are_rejected(image_file, tmp_path):
    import torch

    torch.save({"conv.weight": torch.zeros(3, 3, 3, 3)}, tmp_path / "other.pth")
    result = mini(image_file, tmp_path / "out", "-l", "pool1", "--weights", tmp_path / "other.pth")
    assert_error(result, "features.0.weight", tmp_path / "out")


def test_malicious_pickle_is_rejected_and_not_run(image_file, tmp_path):
    import os
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    result = mini(image_file, tmp_path / "out", "-l", "pool1", "--weights", tmp_path / "evil.pth")
    assert_error(result, "evil.pth", tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def test_notes_about_an_image_are_printed_unless_quiet(tmp_path):
    frames = [Image.fromarray(scene(seed).image) for seed in (1, 2)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    result = run(tmp_path / "moving.gif", "--model", "minivgg", "-l", "pool1", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "first of 2 frames" in result.stderr
    quiet = run(
        tmp_path / "moving.gif",
        "--model",
        "minivgg",
        "-l",
        "pool1",
        "--out",
        tmp_path / "out",
        "--force",
        "--quiet",
    )
    assert quiet.stderr == ""


# --- networks outside torchvision

CODE = """
from torch import nn
import deconvviz as dv

def make(width=4, name="mine"):
    print("making", name)
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 5, 3))

def small(**options):
    return dv.Network(make(**options), size=40, mean=(0.5,) * 3, std=(0.2,) * 3)

def five():
    return dv.Network(nn.Conv2d(5, 2, 3), size=8, mean=(0,) * 5, std=(1,) * 5)

def broken():
    return [][1]

class Summed(nn.Module):
    def forward(self, images):
        return images.cumsum(2)

def unsupported():
    return nn.Sequential(nn.Conv2d(3, 2, 3), Summed())
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "nets" / "own.py"
    path.parent.mkdir()
    path.write_text(CODE)
    return path


def test_network_in_a_python_file_and_its_manifest(own, image_file, tmp_path):
    given = ["--model", f"{own}:make", "--model-arg", "width=6", "--model-arg", "name=a b"]
    result = run(image_file, *given, "-l", "0", "--top", 2, "--arrays", "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert [line.rpartition("/")[2] for line in result.stdout.splitlines()] == [
        "scene-0.png", "scene-0.json", "scene-0.npz",
    ]  # fmt: skip
    assert result.stderr.count("making a b") == 1  # its code runs once
    assert "own.py:make: 224 px and ImageNet's mean and deviation are assumed" in result.stderr
    manifest = tmp_path / "a" / "scene-0.json"
    assert_error(
        run("--from", manifest, "--out", tmp_path / "b"),
        "If you trust that file, let it run with --allow-code",
        tmp_path / "b",
    )
    again = run("--from", manifest, "--allow-code", "--out", tmp_path / "b", "--arrays")
    assert again.exit_code == 0, again.output
    one, other = (arrays(tmp_path / folder / "scene-0.npz") for folder in "ab")
    np.testing.assert_array_equal(one["pixels"], other["pixels"])
    own.write_text(CODE + "\n")
    assert_error(
        run("--from", manifest, "--allow-code", "--out", tmp_path / "c"), "has changed", tmp_path / "c"
    )


def test_json_output_is_valid_when_user_code_prints(own, image_file, tmp_path):
    result = run(image_file, "-m", f"{own}:small", "-l", "2", "--top", 1, "--json", "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["figures"]) == 1 and "assumed" not in result.stderr


def test_timm_network_and_its_manifest(image_file, tmp_path):
    pytest.importorskip("timm")
    given = [
        image_file,
        "-m",
        "timm:test_resnet",
        "--model-arg",
        "num_classes=3",
        "--weights",
        "random",
        "--seed",
        2,
    ]
    result = run(*given, "-l", "layer1", "--top", 2, "--arrays", "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    again = run("--from", tmp_path / "a" / "scene-layer1.json", "--arrays", "--out", tmp_path / "b")
    assert again.exit_code == 0, again.output
    one, other = (arrays(tmp_path / folder / "scene-layer1.npz") for folder in "ab")
    np.testing.assert_array_equal(one["pixels"], other["pixels"])


FORMS = {
    "a file that does not exist": (
        ["-m", "nets/onw.py:make"], "no Python file 'nets/onw.py': similar names in nets: own.py",
    ),
    "no function": (["-m", "nets/own.py:mke"], "no function 'mke' in nets/own.py: there is nets/own.py:make"),
    "no function named": (["-m", "nets/own.py"], "no function of nets/own.py is named: there is "),
    "an exception": (["-m", "nets/own.py:broken"], "nets/own.py:16: IndexError: list index out of range"),
    "an operation without a rule": (
        ["-m", "nets/own.py:unsupported"],
        "output cannot be projected: aten.cumsum.default (in module '1') has no rule",
    ),
    "unknown argument": (
        ["-m", "nets/own.py:make", "--model-arg", "w=3"],
        "make in nets/own.py cannot be called with these arguments: got an unexpected keyword argument 'w'",
    ),
    "an argument without =": (
        ["-m", "nets/own.py:make", "--model-arg", "width"], "'width' is not NAME=VALUE",
    ),
    "an argument without name": (["-m", "nets/own.py:make", "--model-arg", "=3"], "'=3' is not NAME=VALUE"),
    "an argument twice": (
        ["-m", "nets/own.py:make", "--model-arg", "width=3", "--model-arg", "width=4"],
        "width is given twice",
    ),
    "arguments for a torchvision network": (
        ["-m", "minivgg", "--model-arg", "width=3"], "minivgg takes no arguments (width)",
    ),
    "input that is not an image": (["-m", "nets/own.py:five"], "own.py:five reads 5 channels"),
    "weights": (["-m", "nets/own.py:make", "--weights", "no.pth"], "no weights file 'no.pth'"),
    "invalid form": (["-m", "nets:make"], "no network 'nets:make': give a name (see: deconvviz models)"),
    "allow-code without a manifest": (["-m", "minivgg", "--allow-code"], "needs --from"),
    "arguments with a manifest": (["--from", "a.json", "--model-arg", "a=1"], "the manifest already sets"),
}  # fmt: skip


@pytest.mark.parametrize("arguments, message", FORMS.values(), ids=FORMS)
def test_mistake_with_a_user_network_is_reported(own, image_file, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    given = [] if "--from" in arguments else [image_file, "-l", "output"]
    result = run(*given, *arguments, "--out", tmp_path / "out")
    assert_error(result, message, tmp_path / "out")


def test_help_warns_about_code_that_runs():
    text = " ".join(run("--help").stdout.replace("│", " ").split())
    assert "path/to/file.py:factory, which runs the code in that file." in text
    assert "If the manifest names a file.py, --allow-code is needed to run its code." in text
