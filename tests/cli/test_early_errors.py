"""What can be seen to be wrong without torch is reported before torch is imported."""

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

ASK_ALL = """
import json, sys
from typer.testing import CliRunner
from deconvviz.cli.app import app

def heavy():
    return {"torch", "torchvision", "matplotlib", "pyarrow", "timm"} & set(sys.modules)

def ask(words):
    before = heavy()
    result = CliRunner().invoke(app, words)
    return [result.exit_code, " ".join(result.output.split()), sorted(heavy() - before)]

json.dump([ask(words) for words in json.load(sys.stdin)], sys.stdout)
"""

MINIVGG = ["--model", "minivgg", "--layer", "conv4_2"]
NO_FILE = "no weights file 'gone.pth': nothing similar here"
CASES: dict[str, tuple[list[str], str]] = {
    "project: no image": (["project", *MINIVGG], "name an image file or a folder"),
    "project: missing image": (["project", "ca.png", *MINIVGG], "'ca.png': similar names here: cat.png"),
    "project: no image in a folder": (["project", "empty", *MINIVGG], "empty: 1 other file"),
    "project: an empty name": (["project", "", *MINIVGG], "nothing similar here"),
    "project: two times standard input": (["project", "-", "-", *MINIVGG], "give - once"),
    "project: no layer": (["project", "cat.png"], "name a layer"),
    "project: unknown layer": (
        ["project", "cat.png", "-m", "minivgg", "-l", "conv4_3"],
        "no layer 'conv4_3' in minivgg: block 4 has conv4_1, conv4_2",
    ),
    "project: unknown network": (["project", "cat.png", "-m", "vgg91", "-l", "x"], "nearest: vgg19"),
    "project: detection network": (
        ["project", "cat.png", "-m", "fasterrcnn", "-l", "x"], "no network 'fasterrcnn'",
    ),
    "project: no weights": (["project", "cat.png", *MINIVGG, "--weights", "gone.pth"], NO_FILE),
    "project: no weights of torchvision": (
        ["project", "cat.png", "-m", "vgg19", "-l", "x", "--weights", "gone.pth"], NO_FILE,
    ),
    "project: no weights, in part": (
        ["project", "cat.png", *MINIVGG, "--weights", "gone.pth#a"], "no weights file 'gone.pth#a'",
    ),
    "project: no Python file": (["project", "cat.png", "-m", "gone.py:make", "-l", "x"], "no Python file"),
    "project: a folder as Python file": (["project", "cat.png", "-m", "a.py:make", "-l", "x"], "is a folder"),
    "project: an argument for vgg19": (
        ["project", "cat.png", "-l", "x", "--model-arg", "width=3"], "takes no arguments",
    ),
    "project: no argument": (["project", "cat.png", "-l", "x", "--model-arg", "=3"], "is no NAME=VALUE"),
    "project: no device": (["project", "cat.png", *MINIVGG, "--device", "tpu"], "no device 'tpu'"),
    "project: no number of a device": (["project", "cat.png", *MINIVGG, "--device", "cuda:x"], "'cuda:x'"),
    "project: no format": (["project", "cat.png", *MINIVGG, "--format", "gif"], "'gif' is not one of"),
    "project: no scale": (["project", "cat.png", *MINIVGG, "--scale", "page"], "'page' is not one of"),
    "project: no percentile": (["project", "cat.png", *MINIVGG, "--percentile", "0"], "greater than"),
    "project: no size": (["project", "cat.png", *MINIVGG, "--memory", "2 bananas"], "no amount of memory"),
    "project: no unit": (["project", "cat.png", *MINIVGG, "--unit", "1,2"], "'1,2' is no unit"),
    "project: two ways": (["project", "cat.png", *MINIVGG, "--unit", "1", "--top", "2"], "leave out --top"),
    "project: there already": (["project", "cat.png", *MINIVGG, "--out", "old"], "cat-conv4_2.png"),
    "project: there already, by module": (
        ["project", "cat.png", "-m", "minivgg", "-l", "features.17", "--out", "old"], "cat-conv4_2.png",
    ),
    "project: a file as folder": (["project", "cat.png", *MINIVGG, "--out", "cat.png"], "not a folder"),
    "project: no manifest": (["project", "--from", "gone.json"], "no manifest gone.json"),
    "project: no option": (["project", "cat.png", "--layers", "x"], "No such option"),
    "search: no source": (["search", "gone", *MINIVGG], "'gone'"),
    "search: no image in the source": (["search", "empty", *MINIVGG], "in empty"),
    "search: one image": (["search", "cat.png", *MINIVGG], "give its folder"),
    "search: no layer": (["search", "empty"], "name a layer"),
    "search: unknown layer": (["search", "scenes:9", "-m", "minivgg", "-l", "conv9"], "no layer 'conv9'"),
    "search: unknown network": (["search", "scenes:9", "-m", "vgg", "-l", "x"], "no network 'vgg'"),
    "search: no weights": (["search", "scenes:9", *MINIVGG, "--weights", "gone.pth"], NO_FILE),
    "search: no device": (["search", "scenes:9", *MINIVGG, "--device", "tpu"], "no device 'tpu'"),
    "search: no scenes": (["search", "scenes:x", *MINIVGG], "scenes:x"),
    "search: there already": (["search", "scenes:9", *MINIVGG, "--out", "found"], "found holds a search"),
    "search: an address": (["search", "scenes:9", *MINIVGG, "--address", "a"], "goes with --engine ray"),
    "topnine: no folder": (["topnine", "gone", "-l", "conv4_2"], "gone: there is no such folder"),
    "topnine: no search": (["topnine", "empty", "-l", "conv4_2"], "there is no manifest.json"),
    "topnine: not searched": (["topnine", "found", "-l", "conv1_1"], "no layer 'conv1_1' in this search"),
    "topnine: no channel": (["topnine", "found", "-l", "conv4_2", "--channel", "96"], "there are 0 to 95"),
    "topnine: no order": (["topnine", "found", "-l", "conv4_2", "--by", "size"], "'size' is not one of"),
    "topnine: no weights": (["topnine", "found", "-l", "conv4_2", "--weights", "gone.pth"], "'gone.pth'"),
    "topnine: there already": (
        ["topnine", "found", "-l", "features.17", "--out", "old"], "topnine-conv4_2.png",
    ),
    "topnine: no figure": (["topnine", "found", "-l", "conv4_2", "--out", "a.gif"], "a.gif is no figure"),
    "layers: unknown network": (["layers", "-m", "resnet_18"], "nearest: resnet18"),
    "layers: no weights": (["layers", "-m", "minivgg", "--weights", "gone.pth"], NO_FILE),
    "check: no network": (["check"], "name one network"),
    "check: unknown network": (["check", "resnet_18"], "nearest: resnet18"),
    "check: unknown layer": (["check", "minivgg", "-l", "nothing"], "no layer 'nothing' in minivgg"),
    "check: no weights": (["check", "minivgg", "--weights", "gone.pth"], NO_FILE),
    "demo: there already": (["demo", "--out", "old"], "conv4_2.png"),
    "demo: a file as folder": (["demo", "--out", "cat.png"], "not a folder"),
    "no command": (["projekt"], "No such command"),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answers of one process that asks everything, and imports torch only if a command does."""
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
    asked = json.dumps([words for words, _ in CASES.values()])
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL],
        cwd=home, input=asked, capture_output=True, text=True,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "500"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_mistakes_are_reported_before_torch_is_imported(name: str, answers: dict[str, Any]) -> None:
    code, output, heavy = answers[name]
    assert code == 2, output
    assert "Traceback" not in output
    assert CASES[name][1] in output
    assert heavy == []


PROJECT = """
import sys
from typer.testing import CliRunner
from deconvviz.cli.app import app

result = CliRunner().invoke(app, ["project", "cat.png", "--model", "minivgg", "--layer", "conv4_2"])
assert result.exit_code == 0, result.output
slow = ["torchvision", "torch._dynamo", "sympy", "scipy", "pyarrow", "pandas", "matplotlib.pyplot"]
print([name for name in slow if name in sys.modules])
"""


def test_project_on_minivgg_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), (90, 120, 30)).save(tmp_path / "cat.png")
    command = [sys.executable, "-c", PROJECT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_the_layers_of_minivgg_that_are_known_without_torch() -> None:
    table = sketch("minivgg").layers
    assert {layer.module: layer.name for layer in table} == SHIPPED_LAYERS
    assert not table._without_row  # a name that is not listed belongs to no module


def test_a_sketch_of_minivgg_cannot_be_recorded() -> None:
    """Its layers are read from weights of zero, which no result may come from."""
    with pytest.raises(dv.DeconvvizError, match="meta device"):
        sketch("minivgg").record(Image.new("RGB", (96, 96)), "conv4_2")
