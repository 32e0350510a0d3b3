"""`deconvviz evolve`: its files, JSON and errors."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
from helpers.messages import assert_error
from safetensors.torch import save_file
from typer.testing import CliRunner

from deconvviz.cli.app import app
from deconvviz.experiments.evolution import evolve
from deconvviz.models import minivgg

pytestmark = pytest.mark.slow  # together some seconds


def run(*arguments):
    return CliRunner().invoke(
        app, ["evolve", *map(str, arguments), "--model", "minivgg"], env={"COLUMNS": "300"}
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Weights of minivgg that come closer to the shipped ones, and files that do not fit."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    end = minivgg.stored_weights()
    for epoch, noise in ((2, 0.3), (9, 0.1), (10, 0.0)):
        state = {
            name: tensor + noise * torch.randn_like(tensor) * tensor.std() for name, tensor in end.items()
        }
        save_file(state, folder / f"epoch_{epoch}.safetensors")
    save_file({"0.weight": torch.zeros(4, 3, 3, 3)}, folder / "other.safetensors")
    save_file({**end, next(iter(end)): next(iter(end.values())) * torch.nan}, folder / "nan.safetensors")
    return folder


OPTIONS = ("--source", "scenes:4", "--layer", "conv1_2", "--workers", 0, "--channels", 2, "--measured", 4)


def test_files_json_and_order(runs, tmp_path):
    out = tmp_path / "out"
    result = run(runs / "epoch_*.safetensors", *OPTIONS, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["checkpoints"] == ["2", "9", "10"]
    assert [path.rpartition("/")[2] for path in printed["files"]] == [
        "evolution.png",
        "evolution.json",
        "evolution.parquet",
        "evolution-layers.parquet",
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.rpartition("/")[2] for path in printed["files"]
    )
    assert len(printed["layers"][0]["channels"]) == 2
    assert pq.read_table(out / "evolution.parquet").num_rows == 3 * 4
    assert_error(run(runs / "epoch_*.safetensors", *OPTIONS, "--out", out), "already exist")


def test_sentences_and_paths_are_printed(runs, tmp_path):
    files = [runs / "epoch_2.safetensors", runs / "epoch_10.safetensors"]
    result = run(*files, *OPTIONS, "--out", tmp_path, "--format", "svg", "--channel", 3, "--channels", 2)
    assert_error(result, "cannot be combined with --channels")
    result = run(*files, *OPTIONS[:-4], "--channel", 3, "--out", tmp_path, "--format", "svg")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("conv1_2 ")
    assert lines[-4].endswith("evolution.svg")


def test_an_interrupted_run_is_resumed(runs, tmp_path, monkeypatch):
    original, calls = evolve.find_strongest, []

    def interrupted_in_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(evolve, "find_strongest", interrupted_in_the_second)
    command = (runs / "epoch_*.safetensors", *OPTIONS, "--out", tmp_path)
    stopped = run(*command)
    assert stopped.exit_code == 130
    assert "1 of 3 checkpoints are searched. Continue with the same command and --resume" in stopped.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["evolution-searches"]
    resumed = run(*command, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert len(calls) == 2 + 2  # the first checkpoint is not searched again
    assert not (tmp_path / "evolution-searches").exists()


def test_mistakes(runs, tmp_path):
    files = [runs / f"epoch_{epoch}.safetensors" for epoch in (2, 10)]
    assert_error(run(), "name two or more weights files")
    assert_error(run(*files, "--layer", "conv1_2"), "name a source of images")
    assert_error(run(*files, "--source", "scenes:4"), "name a layer")
    assert_error(run(files[0], *OPTIONS, "--out", tmp_path), "needs at least 2 checkpoints")
    assert_error(run(runs / "no_*.pth", *OPTIONS, "--out", tmp_path), "no file matches")
    assert_error(
        run(*files, *OPTIONS, "--layer", "conv9_9", "--out", tmp_path), "no layer 'conv9_9' in minivgg"
    )
    assert_error(run(*files, *OPTIONS, "--resume", "--force"), "cannot be combined with --force")
    assert_error(run(files[0], runs / "other.safetensors", *OPTIONS, "--out", tmp_path), "does not")
    assert_error(run(files[0], runs / "nan.safetensors", *OPTIONS, "--out", tmp_path), "contains NaN")
    assert list(tmp_path.iterdir()) == []
