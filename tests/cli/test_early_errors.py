"""Mistakes that can be found without torch are reported before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import deconvviz as dv
from deconvviz.dataset_search.search_folder import FORMAT
from deconvviz.loading import sketch
from deconvviz.models.catalog import SHIPPED_LAYERS

RUN_ALL = """
import json, sys
from typer.testing import CliRunner
from deconvviz.cli.app import app

def imported():
    return {"torch", "torchvision", "matplotlib", "pyarrow", "timm"} & set(sys.modules)

def run(words):
    before = imported()
    result = CliRunner().invoke(app, words)
    return [result.exit_code, " ".join(result.output.split()), sorted(imported() - before)]

json.dump([run(words) for words in json.load(sys.stdin)], sys.stdout)
"""

MINIVGG = ["--model", "minivgg", "--layer", "conv4_2"]
NO_FILE = "no weights file 'gone.pth': nothing similar here"
CASES: dict[str, tuple[list[str], str]] = {
    "project: no image": (["project", *MINIVGG], "name an image file or a folder"),
    "project: missing image": (["project", "ca.png", *MINIVGG], "'ca.png': similar names here: cat.png"),
    "project: no image in a folder": (["project", "empty", *MINIVGG], "empty: 1 other file"),
    "project: an empty name": (["project", "", *MINIVGG], "nothing similar here"),
    "project: standard input twice": (["project", "-", "-", *MINIVGG], "give - once"),
    "project: no layer": (["project", "cat.png"], "name a layer"),
    "project: unknown layer": (
        ["project", "cat.png", "-m", "minivgg", "-l", "conv4_3"],
        "no layer 'conv4_3' in minivgg: block 4 has conv4_1, conv4_2",
    ),
    "project: unknown network": (["project", "cat.png", "-m", "vgg91", "-l", "x"], "nearest: vgg19"),
    "project: detection network": (
        ["project", "cat.png", "-m", "fasterrcnn", "-l", "x"], "no network 'fasterrcnn'",
    ),
    "project: missing weights": (["project", "cat.png", *MINIVGG, "--weights", "gone.pth"], NO_FILE),
    "project: missing weights of vgg19": (
        ["project", "cat.png", "-m", "vgg19", "-l", "x", "--weights", "gone.pth"], NO_FILE,
    ),
    "project: missing weights with #part": (
        ["project", "cat.png", *MINIVGG, "--weights", "gone.pth#a"], "no weights file 'gone.pth#a'",
    ),
    "project: missing Python file": (
        ["project", "cat.png", "-m", "gone.py:make", "-l", "x"], "no Python file",
    ),
    "project: a folder as Python file": (["project", "cat.png", "-m", "a.py:make", "-l", "x"], "is a folder"),
    "project: an argument for vgg19": (
        ["project", "cat.png", "-l", "x", "--model-arg", "width=3"], "takes no arguments",
    ),
    "project: nameless argument": (
        ["project", "cat.png", "-l", "x", "--model-arg", "=3"], "is not NAME=VALUE",
    ),
    "project: unknown device": (["project", "cat.png", *MINIVGG, "--device", "tpu"], "no device 'tpu'"),
    "project: bad device number": (["project", "cat.png", *MINIVGG, "--device", "cuda:x"], "'cuda:x'"),
    "project: unknown format": (["project", "cat.png", *MINIVGG, "--format", "gif"], "'gif' is not one of"),
    "project: unknown scale": (["project", "cat.png", *MINIVGG, "--scale", "page"], "'page' is not one of"),
    "project: bad percentile": (["project", "cat.png", *MINIVGG, "--percentile", "0"], "greater than"),
    "project: bad memory size": (
        ["project", "cat.png", *MINIVGG, "--memory", "2 bananas"], "not a memory size",
    ),
    "project: invalid unit": (["project", "cat.png", *MINIVGG, "--unit", "1;2"], "'1;2' is not a unit"),
    "project: --unit with --top": (
        ["project", "cat.png", *MINIVGG, "--unit", "1", "--top", "2"], "cannot be combined with --top",
    ),
    "project: existing figure": (["project", "cat.png", *MINIVGG, "--out", "old"], "cat-conv4_2.png"),
    "project: existing figure of a module": (
        ["project", "cat.png", "-m", "minivgg", "-l", "features.17", "--out", "old"], "cat-conv4_2.png",
    ),
    "project: file as output folder": (["project", "cat.png", *MINIVGG, "--out", "cat.png"], "not a folder"),
    "project: missing manifest": (["project", "--from", "gone.json"], "no manifest gone.json"),
    "project: unknown option": (["project", "cat.png", "--layers", "x"], "No such option"),
    "search: missing source": (["search", "gone", *MINIVGG], "'gone'"),
    "search: no image in the source": (["search", "empty", *MINIVGG], "in empty"),
    "search: single image as source": (["search", "cat.png", *MINIVGG], "give its folder"),
    "search: no layer": (["search", "empty"], "name a layer"),
    "search: unknown layer": (["search", "scenes:9", "-m", "minivgg", "-l", "conv9"], "no layer 'conv9'"),
    "search: unknown network": (["search", "scenes:9", "-m", "vgg", "-l", "x"], "no network 'vgg'"),
    "search: missing weights": (["search", "scenes:9", *MINIVGG, "--weights", "gone.pth"], NO_FILE),
    "search: unknown device": (["search", "scenes:9", *MINIVGG, "--device", "tpu"], "no device 'tpu'"),
    "search: invalid number of scenes": (["search", "scenes:x", *MINIVGG], "scenes:x"),
    "search: existing search": (["search", "scenes:9", *MINIVGG, "--out", "found"], "found already contains"),
    "search: address without Ray": (["search", "scenes:9", *MINIVGG, "--address", "a"], "needs --engine ray"),
    "topnine: missing folder": (["topnine", "gone", "-l", "conv4_2"], "gone: there is no such folder"),
    "topnine: folder without a search": (["topnine", "empty", "-l", "conv4_2"], "there is no manifest.json"),
    "topnine: unsearched layer": (["topnine", "found", "-l", "conv1_1"], "no layer 'conv1_1' in this search"),
    "topnine: unknown channel": (
        ["topnine", "found", "-l", "conv4_2", "--channel", "96"], "there are 0 to 95",
    ),
    "topnine: unknown order": (["topnine", "found", "-l", "conv4_2", "--by", "size"], "'size' is not one of"),
    "topnine: missing weights": (
        ["topnine", "found", "-l", "conv4_2", "--weights", "gone.pth"], "'gone.pth'",
    ),
    "topnine: existing figure": (
        ["topnine", "found", "-l", "features.17", "--out", "old"], "topnine-conv4_2.png",
    ),
    "topnine: bad file type": (
        ["topnine", "found", "-l", "conv4_2", "--out", "a.gif"], "a.gif is not a figure file",
    ),
    "layers: unknown network": (["layers", "-m", "resnet_18"], "nearest: resnet18"),
    "layers: missing weights": (["layers", "-m", "minivgg", "--weights", "gone.pth"], NO_FILE),
    "check: no network": (["check"], "name one network"),
    "check: unknown network": (["check", "resnet_18"], "nearest: resnet18"),
    "check: unknown layer": (["check", "minivgg", "-l", "nothing"], "no layer 'nothing' in minivgg"),
    "check: missing weights": (["check", "minivgg", "--weights", "gone.pth"], NO_FILE),
    "demo: existing figure": (["demo", "--out", "old"], "conv4_2.png"),
    "demo: file as output folder": (["demo", "--out", "cat.png"], "not a folder"),
    "unknown command": (["projekt"], "No such command"),
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of all commands, run in one process that imports torch only if a command does."""
    home = tmp_path_factory.mktemp("early")
    Image.new("RGB", (8, 8)).save(home / "cat.png")
    for folder in ("empty", "old", "found", "a.py"):
        (home / folder).mkdir()
    (home / "empty" / "notes.txt").write_text("no image")
    for name in ("cat-conv4_2.png", "topnine-conv4_2.png"):
        (home / "old" / name).write_bytes(b"old")
    layer = {"name": "conv4_2", "module": "features.17", "also": [], "channels": 96}
    manifest = {"format": FORMAT, "top": 9, "layers": [layer]}
    (home / "found" / "manifest.json").write_text(json.dumps(manifest))
    commands = json.dumps([words for words, _ in CASES.values()])
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        cwd=home, input=commands, capture_output=True, text=True,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "500"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_reported_before_torch_is_imported(name: str, results: dict[str, Any]) -> None:
    code, output, imported = results[name]
    assert code == 2, output
    assert "Traceback" not in output
    assert CASES[name][1] in output
    assert imported == []


PROJECT = """
import sys
from typer.testing import CliRunner
from deconvviz.cli.app import app

result = CliRunner().invoke(app, ["project", "cat.png", "--model", "minivgg", "--layer", "conv4_2"])
assert result.exit_code == 0, result.output
slow = ["torchvision", "torch._dynamo", "sympy", "scipy", "pyarrow", "pandas", "matplotlib.pyplot"]
print([name for name in slow if name in sys.modules])
"""


@pytest.mark.slow
def test_project_with_minivgg_does_not_import_unneeded_packages(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), (90, 120, 30)).save(tmp_path / "cat.png")
    command = [sys.executable, "-c", PROJECT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_shipped_layer_names_equal_the_layer_table_of_minivgg() -> None:
    table = sketch("minivgg").layers
    assert {layer.module: layer.name for layer in table} == SHIPPED_LAYERS
    assert not table._without_row  # every other name is unknown


def test_recording_a_sketch_of_minivgg_raises() -> None:
    """A sketch has no weights, so it must not produce results."""
    with pytest.raises(dv.DeconvvizError, match="meta device"):
        sketch("minivgg").record(Image.new("RGB", (96, 96)), "conv4_2")
