"""layers, models, demo, shell completion, progress output and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from deconvviz import __version__
from deconvviz.cli.app import app
from deconvviz.cli.support import console

COMMAND = [sys.executable, "-m", "deconvviz"]


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_layers_prints_names_shapes_and_receptive_fields():
    result = run("layers", "--model", "vgg19")
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["layer", "module", "kind", "output", "field", "px", "stride", "px", "parameters"]
    table = {row.split()[0]: row for row in rows}
    assert re.split(r" {2,}", table["conv5_4"]) == [
        "conv5_4", "features.34", "Conv2d", "512 x 14 x 14", "252", "16", "2,359,808",
    ]  # fmt: skip
    assert re.split(r" {2,}", table["fc6"])[1:5] == ["classifier.0", "Linear", "4096", "all"]


def test_layers_json():
    printed = json.loads(run("layers", "--model", "minivgg", "--json").stdout)
    assert printed["network"] == "minivgg"
    by_name = {layer["name"]: layer for layer in printed["layers"]}
    expected = {
        "name": "conv1_1", "dotted": "features.0", "kind": "Conv2d", "shape": [16, 96, 96],
        "field": [3, 3], "stride": [1, 1], "first": [-1, -1], "parameters": 448,
        "refused": "",
    }  # fmt: skip
    assert by_name["conv1_1"] | expected == by_name["conv1_1"]
    assert by_name["output"]["shape"] == [12]


def test_models_lists_cached_and_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "vgg19-dcbb9e9d.pth").write_bytes(b"x")
    listed = {one["name"]: one for one in json.loads(run("models", "--json").stdout)["models"]}
    assert listed["minivgg"]["ships_inside"] and not listed["vgg19"]["ships_inside"]
    assert listed["vgg19"]["cached"] == str(checkpoints / "vgg19-dcbb9e9d.pth")
    assert listed["alexnet"]["cached"] is None and listed["alexnet"]["download_mb"] > 200
    lines = run("models").stdout.splitlines()
    assert any(line.startswith("minivgg") and line.endswith("ships inside") for line in lines)


@pytest.mark.slow
def test_demo_writes_an_image_two_figures_a_search_and_figure_2(tmp_path):
    result = run("demo", "--scenes", 60, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    written = result.stdout.splitlines()
    assert [os.path.relpath(path, tmp_path) for path in written] == [
        "scene-7.png",
        "scene-7-conv3_2.png",
        "scene-7-conv3_2.json",
        "scene-7-conv4_2.png",
        "scene-7-conv4_2.json",
        "search/top.parquet",
        "search/channels.parquet",
        "search/statistics.parquet",
        "search/images.parquet",
        "search/skipped.csv",
        "search/manifest.json",
        "topnine-conv4_2.png",
        "topnine-conv4_2.json",
    ]
    assert all(os.path.getsize(path) for path in written)
    existing = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert existing == {tmp_path / path for path in written}
    assert "The scene shows: fish." in result.stderr and written[-2] in result.stderr
    manifest = json.loads((tmp_path / "topnine-conv4_2.json").read_text())
    (layer,) = manifest["layers"]
    assert len(layer["channels"]) == 12 and len(layer["peaks"]) == 108
    assert json.loads((tmp_path / "search" / "manifest.json").read_text())["pictures"] == 60
    assert "of 60 scenes that" in result.stderr
    again = run("demo", "--out", tmp_path)
    assert again.exit_code == 2 and "--force" in again.stderr
    more = ("--scenes", 9, "--force", "--quiet", "--json")
    printed = json.loads(run("demo", "--out", tmp_path, *more).stdout)
    assert printed["shows"] == "fish" and printed["topnine"] == written[-2:]


def test_version_is_printed():
    assert run("--version").stdout == f"deconvviz {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["project", "--help"], ["search", "--help"], ["topnine", "--help"], ["--version"]],
)
def test_help_and_version_import_no_large_packages(arguments):
    code = (
        "import sys; from deconvviz.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'torchvision', 'matplotlib', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def complete(line, tmp_path):
    environment = os.environ | {
        "_DECONVVIZ_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    code = "from deconvviz.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return done.stdout.split()


@pytest.mark.slow
def test_shell_completes_networks_and_layers(tmp_path):
    assert complete("deconvviz project x.png --model vgg1", tmp_path) == [
        "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    ]  # fmt: skip
    for _ in range(2):  # computed, then read from the cache
        names = complete("deconvviz project x.png --model minivgg --layer conv3", tmp_path)
        assert names == ["conv3_1", "conv3_2"]
    assert complete("deconvviz check minivgg --layer conv3", tmp_path) == names
    assert len(list((tmp_path / "deconvviz").iterdir())) == 1


@pytest.mark.slow
def test_shell_completes_layers_of_search_and_topnine(tmp_path):
    names = complete("deconvviz search photos --model minivgg --layer conv3", tmp_path)
    assert names == ["conv3_1", "conv3_2"]
    made = run("search", "scenes:2", "--model", "minivgg", "-l", "conv3_1", "--out", tmp_path / "search")
    assert made.exit_code == 0, made.output
    assert complete(f"deconvviz topnine {tmp_path / 'search'} --layer c", tmp_path) == ["conv3_1"]


@pytest.mark.slow
def test_ctrl_c_leaves_no_partial_file_and_exits_with_130(tmp_path):
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(60):
        array = generator.integers(0, 255, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / f"{number:02}.png")
    out = tmp_path / "out"
    command = [*COMMAND, "project", tmp_path, "--model", "minivgg", "-l", "conv4_2", "--out", out]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore SIGINT
    )
    try:
        deadline = time.monotonic() + 120
        while not (out.exists() and len(list(out.glob("*.png"))) >= 2):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in stderr and "interrupted" in stderr
    assert not [path for path in out.iterdir() if path.suffix not in (".png", ".json")]
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            image.load()
    for path in out.glob("*.json"):
        json.loads(path.read_text())
    assert len(list(out.glob("*.png"))) < 60


def test_stage_is_printed_on_stderr_only_if_it_is_slow(capsys, monkeypatch):
    with console.stage("fast stage"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console, "PATIENCE", 0.05)
    with console.stage("slow stage"):
        time.sleep(0.3)
    with console.stage("quiet stage", quiet=True):
        time.sleep(0.3)
    printed = capsys.readouterr()
    assert printed.err == "deconvviz: slow stage ...\n" and printed.out == ""


def test_counting_prints_progress_on_stderr(capsys, monkeypatch):
    monkeypatch.setattr(console, "PATIENCE", 0.0)
    with console.counting(3) as counter:
        for name in "abc":
            counter.step(name)
    assert "0 of 3 done" in capsys.readouterr().err


def test_full_disk_is_reported_and_leaves_no_files(tmp_path, monkeypatch):
    import errno

    import deconvviz.files

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(deconvviz.files.os, "fsync", full)
    result = run("demo", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "no space left" in result.stderr.lower() and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_out_of_memory_is_reported_without_traceback(tmp_path, monkeypatch):
    def out_of_memory(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    monkeypatch.setattr("deconvviz.loading.ModelRequest.sketch", out_of_memory)
    (tmp_path / "x.png").write_bytes(b"x")
    result = run("project", tmp_path / "x.png", "--model", "minivgg", "-l", "pool1")
    assert result.exit_code == 2 and "out of memory" in result.stderr


def test_layers_of_a_network_in_a_python_file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from torch import nn\ndef make(width=4):\n    return nn.Sequential(nn.Conv2d(3, width, 3))\n"
    )
    result = run("layers", "--model", f"{path}:make", "--model-arg", "width=7", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [layer["shape"] for layer in printed["layers"]] == [[7, 222, 222], [7, 222, 222]]
    assert "224 px and ImageNet's mean and deviation are assumed" in result.stderr


def test_layers_of_a_timm_network():
    pytest.importorskip("timm")
    result = run("layers", "--model", "timm:test_resnet", "--model-arg", "num_classes=3", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layers"][-1]["shape"] == [3]
    wrong = run("layers", "--model", "timm:test_resnt")
    assert wrong.exit_code == 2 and "nearest: timm:test_resnet" in wrong.stderr


def test_models_mentions_timm_and_python_files():
    result = run("models")
    for text in (result.stderr, run("models", "--help").stdout):
        words = " ".join(text.split())
        assert (
            "timm:NAME" in words and "path/to/file.py:factory" in words and "the code in that file" in words
        )
    assert "timm" not in result.stdout and run("models", "--json").stderr == ""


@pytest.mark.slow
def test_shell_completes_timm_names(tmp_path):
    """Works in zsh and fish; bash splits words at the colon."""
    pytest.importorskip("timm")
    from deconvviz.cli.support.completion import complete_model

    assert complete_model("tim") == ["timm:"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    code = (
        "import sys, json; from deconvviz.cli.support.completion import complete_model\n"
        "print(json.dumps([complete_model('timm:resnet26'), 'torch' in sys.modules]))"
    )
    for torch_is_needed in (True, False):  # computed, then read from the cache
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        names, torch = json.loads(done.stdout)
        assert {"timm:resnet26d", "timm:resnet26d.bt_in1k"} <= set(names) and torch is torch_is_needed


def test_completion_does_not_run_python_files(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from deconvviz.cli.support.completion import complete_layer

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "own.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef make(): pass\n")
    assert complete_layer(SimpleNamespace(params={"model": f"{path}:make"}), "") == []
    assert complete_layer(SimpleNamespace(params={"model": "minivgg", "model_arg": ["a=1"]}), "") == []
    assert not (tmp_path / "ran").exists()
    pytest.importorskip("timm")
    names = complete_layer(SimpleNamespace(params={"model": "timm:test_resnet"}), "layer1")
    assert "layer1.0.conv1" in names
    assert complete_layer(SimpleNamespace(params={"model": "timm:test_resn"}), "layer1") == []
