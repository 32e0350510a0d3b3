"""`deconvviz check`, notes of `project` on approximate operations, and --memory."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.cli.support.completion import complete_layer
from deconvviz.cli.support.parsing import read_size
from deconvviz.engine import projection_pass
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow

NETS = """
import torch
from torch import nn
import deconvviz as dv

class Then(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call
    def forward(self, x):
        return self.call(x)

def net(*then):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *map(Then, then))
    return dv.Network(module, size=12)

def exact():
    return net()

def gated():
    return net(torch.sigmoid, torch.neg), net(lambda x: x * torch.sigmoid(x.roll(1, 1)))

def constant():
    return gated()[0]

def product(sharp=1):
    return net(lambda x: x * torch.sigmoid(x.roll(sharp, 1)))

def unsupported():
    return net(lambda x: x.cumsum(2))

def broken():
    return net(lambda x: x.reshape(7))
"""
CONSTANT = "treated as a constant at its recorded value"
GATED = "a product with a gate: the signal times the recorded value of the gate"


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def notes_of(result):
    """Return stderr without progress lines, which depend on the speed of the machine."""
    lines = result.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.endswith((" ...\n", " left\n", " done\n")))


def test_check_prints_a_table_and_a_summary(nets):
    result = run("check", f"{nets}:product")
    assert result.exit_code == 0, result.output
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    head, *rows = lines[:6]
    assert head.split() == ["operation", "calls", "verdict", "modules", "note"]
    table = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows if row]
    assert table == [
        ["aten.convolution.default", "1", "exact", "0"],
        ["aten.relu.default", "1", "exact", "1"],
        ["aten.sigmoid.default", "1", "approximate", "2", CONSTANT],
        ["aten.mul.Tensor", "1", "approximate", "2", GATED],
    ]
    assert lines[5:] == [
        "",
        "nets.py:product: 4 calls, 2 exact, 2 approximate, 0 unsupported",
        "not part of any projection: 1 call",
    ]
    assert notes_of(result) == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["exact"], 0),
        (["exact", "--strict"], 0),
        (["product"], 0),
        (["product", "--strict"], 1),
        (["product", "--strict", "--layer", "1"], 0),
        (["unsupported"], 1),
        (["unsupported", "--strict"], 1),
        (["unsupported", "--layer", "1"], 0),
        (["unsupported", "--layer", "1", "--layer", "2"], 1),
        (["unsupported", "--layer", "3"], 2),
        (["broken"], 2),
        (["missing"], 2),
    ],
)
def test_check_exit_code(nets, arguments, code):
    function, *options = arguments
    result = run("check", f"{nets}:{function}", *options, "--json")
    assert result.exit_code == code, result.output
    if code == 2:
        assert result.stdout == "" and notes_of(result).startswith("deconvviz: ")
    else:
        found = json.loads(result.stdout)
        assert bool(found["refused"] or ("--strict" in options and found["by_analogy"])) == (code == 1)


def test_check_json_has_the_typed_network_and_each_operation(nets):
    model = f"{nets}:unsupported"
    result = run("check", model, "--json")
    assert json.loads(result.stdout) == {
        "network": model,
        "layers": [],
        "calls": 3,
        "exact": 2,
        "approximate": 0,
        "unsupported": 1,
        "by_analogy": 0,
        "refused": 1,
        "without_part": 0,
        "ops": [
            {"op": "aten.convolution.default", "verdict": "exact", "how": "", "count": 1, "modules": ["0"]},
            {"op": "aten.relu.default", "verdict": "exact", "how": "", "count": 1, "modules": ["1"]},
            {
                "op": "aten.cumsum.default",
                "verdict": "unsupported",
                "how": "it has no rule: deconvviz.rule(torch.ops.aten.cumsum.default) registers one",
                "count": 1,
                "modules": ["2"],
            },
        ],
    }


def test_check_of_a_constant_layer(nets):
    result = run("check", f"{nets}:constant", "--layer", "3")
    assert result.exit_code == 0, result.output
    assert "aten.sigmoid.default" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        "nets.py:constant, projections of 3: 1 call, 0 exact, 1 approximate, 0 unsupported",
        "not part of any projection: 3 calls",
    ]


def test_check_accepts_the_network_as_argument_or_as_model_option():
    one, other = run("check", "vgg11", "--json"), run("check", "--model", "vgg11", "--json")
    assert one.exit_code == other.exit_code == 0
    assert one.stdout == other.stdout and json.loads(one.stdout)["network"] == "vgg11"
    for wrong in (run("check"), run("check", "vgg11", "--model", "vgg13")):
        assert wrong.exit_code == 2 and wrong.stdout == ""
        assert "name one network, such as resnet50" in " ".join(wrong.stderr.split())


def test_check_of_an_unknown_network_suggests_names():
    result = run("check", "resnet51")
    assert result.exit_code == 2 and result.stdout == ""
    assert notes_of(result).startswith("deconvviz: no network 'resnet51'; nearest: resnet")


def test_check_passes_model_arguments_to_the_factory(nets):
    default = run("check", f"{nets}:product", "--json")
    sharp = run("check", f"{nets}:product", "--model-arg", "sharp=2", "--json")
    assert json.loads(sharp.stdout)["calls"] == json.loads(default.stdout)["calls"] == 4
    assert run("check", f"{nets}:product", "--model-arg", "blunt=2").exit_code == 2


def test_check_of_a_timm_network():
    pytest.importorskip("timm")
    result = run("check", "timm:test_resnet", "--strict")
    assert result.exit_code == 0, result.output
    assert (
        result.stdout.splitlines()[-1] == "timm:test_resnet: 53 calls, 53 exact, 0 approximate, 0 unsupported"
    )


def test_check_help_lists_exit_codes_without_importing_torch():
    words = " ".join(run("check", "--help").stdout.split())
    for text in (
        "Exit code 0: no operation is unsupported",
        "Exit code 1: an operation",
        "Exit code 2: the network",
    ):
        assert text in words
    code = "import sys; from deconvviz.cli.app import app; app(['check', '--help'], standalone_mode=False); "
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_shell_completes_model_and_layer(tmp_path, monkeypatch):
    environment = os.environ | {
        "_DECONVVIZ_COMPLETE": "complete_bash",
        "COMP_WORDS": "deconvviz check vgg1",
        "COMP_CWORD": "2",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "deconvviz"], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == [
        "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    ]  # fmt: skip
    from types import SimpleNamespace

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    typed = SimpleNamespace(params={"network": "minivgg", "model": None})
    assert complete_layer(typed, "conv3") == ["conv3_1", "conv3_2"]


def project(image, nets, function, out, *arguments):
    return run("project", image, "-m", f"{nets}:{function}", "--out", out, *arguments)


def test_project_prints_approximate_operations_in_one_line(image, nets, tmp_path):
    result = project(image, nets, "product", tmp_path, "-l", "1", "-l", "2", "--top", 2, "--json")
    assert result.exit_code == 0, result.output
    assert notes_of(result) == (
        "deconvviz: approximate: 2 of 4 calls (sigmoid x1: treated as a constant at its recorded value; "
        f"mul x1: a product with a gate); see: deconvviz check {nets}:product --layer 1 --layer 2\n"
    )
    shallow, deep = json.loads(result.stdout)["figures"]
    assert shallow["by_analogy"] == []
    assert deep["by_analogy"] == [
        {"op": "aten.sigmoid.default", "count": 1, "how": CONSTANT},
        {"op": "aten.mul.Tensor", "count": 1, "how": GATED},
    ]
    for one in (shallow, deep):
        with open(one["files"][1], encoding="utf-8") as manifest:
            assert json.load(manifest)["by_analogy"] == one["by_analogy"]
    again = run("project", "--from", deep["files"][1], "--allow-code", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert notes_of(again) == notes_of(result).replace(" --layer 1", "")


@pytest.mark.parametrize(
    ("function", "options"),
    [("exact", ["-l", "1"]), ("product", ["-l", "1"]), ("product", ["-l", "2", "-q"])],
)
def test_project_prints_no_note_if_all_is_exact_or_with_quiet(image, nets, tmp_path, function, options):
    result = project(image, nets, function, tmp_path, "--top", 2, *options)
    assert result.exit_code == 0, result.output
    assert notes_of(result) == ""


@pytest.mark.parametrize("layer", ["2", "3"])
def test_project_of_a_constant_layer_is_zero_and_prints_a_note(image, nets, tmp_path, layer):
    result = project(image, nets, "constant", tmp_path, "-l", layer, "--top", 2, "--arrays")
    assert result.exit_code == 0, result.output
    assert notes_of(result).splitlines()[-1] == (
        f"deconvviz: {layer} is treated as a constant: its projections are zero"
    )
    with np.load(tmp_path / f"scene-{layer}.npz") as stored:
        assert stored["pixels"].shape == (2, 3, 12, 12) and not stored["pixels"].any()
        assert not stored["boxes"].any()


def test_project_passes_the_memory_budget_and_keeps_the_projections(image, tmp_path, monkeypatch):
    budgets = []
    original = projection_pass.project_to_inputs

    def with_budget_log(*arguments, memory=None):
        budgets.append(memory)
        return original(*arguments, memory=memory)

    monkeypatch.setattr(projection_pass, "project_to_inputs", with_budget_log)
    arrays = []
    for n, options in enumerate([[], ["--memory", "1"], ["--memory", "1.5G"]]):
        out = tmp_path / str(n)
        result = run("project", image, "-m", "minivgg", "-l", "conv2_1", "--arrays", "--out", out, *options)
        assert result.exit_code == 0, result.output
        with np.load(out / "scene-conv2_1.npz") as stored:
            arrays.append(stored["pixels"])
    result = run(
        "project", "--from", tmp_path / "0" / "scene-conv2_1.json", "--memory", "2k", "--out", out, "-q"
    )
    assert result.exit_code == 2 and "--force" in result.stderr
    again = run(
        "project", "--from", tmp_path / "0" / "scene-conv2_1.json", "--memory", "2k", "--out", tmp_path
    )
    assert again.exit_code == 0, again.output
    assert list(dict.fromkeys(budgets)) == [None, 1, 3 << 29, 2048]  # projections, and their likeness
    for other in arrays[1:]:
        np.testing.assert_allclose(other, arrays[0], atol=1e-6 * np.abs(arrays[0]).max())


@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ("4096", 4096), ("1K", 1024), ("512M", 512 << 20), ("2g", 2 << 30), ("1.5G", 3 << 29),
        ("2GiB", 2 << 30), ("2 GB", 2 << 30), (".5T", 1 << 39), (" 64 MB ", 64 << 20), ("100B", 100),
    ],
)  # fmt: skip
def test_read_size_with_units(typed, size):
    assert read_size(typed) == size


@given(st.integers(1, 2**50))
def test_read_size_without_unit_is_bytes(size):
    assert read_size(str(size)) == size


@pytest.mark.parametrize(
    "typed", ["", "0", "-3", "many", "2 gigs", "1e9", "0.0001K", "M", "1,5G", "nan", "٣M x"]
)
def test_invalid_memory_size_is_rejected(typed, image, tmp_path):
    with pytest.raises(typer.BadParameter) as raised:
        read_size(typed)
    assert raised.value.message == (
        f"{typed!r} is not a memory size: use bytes, or a number with K, M, G or T, such as 512M"
    )
    result = run(
        "project", image, "-m", "minivgg", "-l", "conv1_1", "--out", tmp_path / "o", f"--memory={typed}"
    )
    assert result.exit_code == 2 and result.stdout == "" and not (tmp_path / "o").exists()
    assert "--memory" in result.stderr and "is not a memory size" in " ".join(result.stderr.split())
