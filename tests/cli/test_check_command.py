"""`deconvviz check`, what `project` says of approximations, and --memory."""

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

def held():
    return gated()[0]

def product(sharp=1):
    return net(lambda x: x * torch.sigmoid(x.roll(sharp, 1)))

def refused():
    return net(lambda x: x.cumsum(2))

def broken():
    return net(lambda x: x.reshape(7))
"""
HELD = "treated as a constant at its recorded value"
GATED = "a product with a gate: the signal times the recorded value of the gate"


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS)
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    Image.fromarray(scene(3).image).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def told(result):
    """What is on stderr besides progress, which depends on how fast the machine is."""
    lines = result.stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.endswith((" ...\n", " left\n", " done\n")))


def test_a_table_and_one_line(nets):
    result = run("check", f"{nets}:product")
    assert result.exit_code == 0, result.output
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    head, *rows = lines[:6]
    assert head.split() == ["operation", "calls", "verdict", "modules", "note"]
    table = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows if row]
    assert table == [
        ["aten.convolution.default", "1", "exact", "0"],
        ["aten.relu.default", "1", "exact", "1"],
        ["aten.sigmoid.default", "1", "approximate", "2", HELD],
        ["aten.mul.Tensor", "1", "approximate", "2", GATED],
    ]
    assert lines[5:] == [
        "",
        "nets.py:product: 4 calls, 2 exact, 2 approximate, 0 unsupported",
        "without a part in it: 1 call",
    ]
    assert told(result) == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["exact"], 0),
        (["exact", "--strict"], 0),
        (["product"], 0),
        (["product", "--strict"], 1),
        (["product", "--strict", "--layer", "1"], 0),
        (["refused"], 1),
        (["refused", "--strict"], 1),
        (["refused", "--layer", "1"], 0),
        (["refused", "--layer", "1", "--layer", "2"], 1),
        (["refused", "--layer", "3"], 2),
        (["broken"], 2),
        (["missing"], 2),
    ],
)
def test_exit_codes_for_scripts(nets, arguments, code):
    function, *options = arguments
    result = run("check", f"{nets}:{function}", *options, "--json")
    assert result.exit_code == code, result.output
    if code == 2:
        assert result.stdout == "" and told(result).startswith("deconvviz: ")
    else:
        found = json.loads(result.stdout)
        assert bool(found["refused"] or ("--strict" in options and found["by_analogy"])) == (code == 1)


def test_json_has_the_network_as_it_was_typed_and_each_operation(nets):
    model = f"{nets}:refused"
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


def test_a_layer_without_any_operation_has_no_table(nets):
    result = run("check", f"{nets}:held", "--layer", "3")
    assert result.exit_code == 0, result.output
    assert "aten.sigmoid.default" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        "nets.py:held, projections of 3: 1 call, 0 exact, 1 approximate, 0 unsupported",
        "without a part in it: 3 calls",
    ]


def test_model_is_an_argument_or_the_option_of_other_commands():
    one, other = run("check", "vgg11", "--json"), run("check", "--model", "vgg11", "--json")
    assert one.exit_code == other.exit_code == 0
    assert one.stdout == other.stdout and json.loads(one.stdout)["network"] == "vgg11"
    for wrong in (run("check"), run("check", "vgg11", "--model", "vgg13")):
        assert wrong.exit_code == 2 and wrong.stdout == ""
        assert "name one network, such as resnet50" in " ".join(wrong.stderr.split())


def test_an_unknown_network():
    result = run("check", "resnet51")
    assert result.exit_code == 2 and result.stdout == ""
    assert told(result).startswith("deconvviz: no network 'resnet51'; nearest: resnet")


def test_arguments_for_the_factory(nets):
    plain = run("check", f"{nets}:product", "--json")
    sharp = run("check", f"{nets}:product", "--model-arg", "sharp=2", "--json")
    assert json.loads(sharp.stdout)["calls"] == json.loads(plain.stdout)["calls"] == 4
    assert run("check", f"{nets}:product", "--model-arg", "blunt=2").exit_code == 2


def test_a_network_of_timms():
    pytest.importorskip("timm")
    result = run("check", "timm:test_resnet", "--strict")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "timm:test_resnet: 53 calls, 53 exact, 0 approximate, 0 unsupported"


def test_help_says_the_exit_codes_and_imports_no_torch():
    words = " ".join(run("check", "--help").stdout.split())
    for text in ("Exit code 0: nothing is refused", "1: something is", "2: there is no such network"):
        assert text in words
    code = "import sys; from deconvviz.cli.app import app; app(['check', '--help'], standalone_mode=False); "
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_shell_completes_model_and_layer(tmp_path, monkeypatch):
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


def project(picture, nets, function, out, *arguments):
    return run("project", picture, "-m", f"{nets}:{function}", "--out", out, *arguments)


def test_project_says_in_one_line_what_is_by_analogy(picture, nets, tmp_path):
    result = project(picture, nets, "product", tmp_path, "-l", "1", "-l", "2", "--top", 2, "--json")
    assert result.exit_code == 0, result.output
    assert told(result) == (
        "deconvviz: approximate: 2 of 4 calls (sigmoid x1: treated as a constant at its recorded value; mul x1: a "
        f"product with a gate); see: deconvviz check {nets}:product --layer 1 --layer 2\n"
    )
    shallow, deep = json.loads(result.stdout)["figures"]
    assert shallow["by_analogy"] == []
    assert deep["by_analogy"] == [
        {"op": "aten.sigmoid.default", "count": 1, "how": HELD},
        {"op": "aten.mul.Tensor", "count": 1, "how": GATED},
    ]
    for one in (shallow, deep):
        with open(one["files"][1], encoding="utf-8") as manifest:
            assert json.load(manifest)["by_analogy"] == one["by_analogy"]
    again = run("project", "--from", deep["files"][1], "--allow-code", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert told(again) == told(result).replace(" --layer 1", "")


@pytest.mark.parametrize(
    ("function", "options"),
    [("exact", ["-l", "1"]), ("product", ["-l", "1"]), ("product", ["-l", "2", "-q"])],
)
def test_project_says_nothing_where_all_is_exact_or_it_is_to_be_quiet(
    picture, nets, tmp_path, function, options
):
    result = project(picture, nets, function, tmp_path, "--top", 2, *options)
    assert result.exit_code == 0, result.output
    assert told(result) == ""


@pytest.mark.parametrize("layer", ["2", "3"])
def test_a_layer_that_is_held_constant_is_grey_and_says_why(picture, nets, tmp_path, layer):
    result = project(picture, nets, "held", tmp_path, "-l", layer, "--top", 2, "--arrays")
    assert result.exit_code == 0, result.output
    assert told(result).splitlines()[-1] == (
        f"deconvviz: {layer} is treated as a constant: its projections are zero; its projections are zero"
    )
    with np.load(tmp_path / f"scene-{layer}.npz") as stored:
        assert stored["pixels"].shape == (2, 3, 12, 12) and not stored["pixels"].any()
        assert not stored["boxes"].any()


def test_memory_bounds_what_goes_down_together(picture, tmp_path, monkeypatch):
    given = []
    real = projection_pass.project

    def watched(*arguments, memory=None):
        given.append(memory)
        return real(*arguments, memory=memory)

    monkeypatch.setattr(projection_pass, "project", watched)
    arrays = []
    for n, options in enumerate([[], ["--memory", "1"], ["--memory", "1.5G"]]):
        out = tmp_path / str(n)
        result = run("project", picture, "-m", "minivgg", "-l", "conv2_1", "--arrays", "--out", out, *options)
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
    assert given == [None, 1, 3 << 29, 2048]
    for other in arrays[1:]:
        np.testing.assert_allclose(other, arrays[0], atol=1e-6 * np.abs(arrays[0]).max())


@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ("4096", 4096), ("1K", 1024), ("512M", 512 << 20), ("2g", 2 << 30), ("1.5G", 3 << 29),
        ("2GiB", 2 << 30), ("2 GB", 2 << 30), (".5T", 1 << 39), (" 64 MB ", 64 << 20), ("100B", 100),
    ],
)  # fmt: skip
def test_sizes(typed, size):
    assert read_size(typed) == size


@given(st.integers(1, 2**50))
def test_a_number_is_bytes(size):
    assert read_size(str(size)) == size


@pytest.mark.parametrize(
    "typed", ["", "0", "-3", "many", "2 gigs", "1e9", "0.0001K", "M", "1,5G", "nan", "٣M x"]
)
def test_what_is_no_size(typed, picture, tmp_path):
    with pytest.raises(typer.BadParameter) as raised:
        read_size(typed)
    assert raised.value.message == (
        f"{typed!r} is no amount of memory: give bytes, or a number with K, M, G or T: 512M, 1.5G"
    )
    result = run(
        "project", picture, "-m", "minivgg", "-l", "conv1_1", "--out", tmp_path / "o", f"--memory={typed}"
    )
    assert result.exit_code == 2 and result.stdout == "" and not (tmp_path / "o").exists()
    assert "--memory" in result.stderr and "is no amount of memory" in " ".join(result.stderr.split())
