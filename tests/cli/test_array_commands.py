"""The commands search, topnine, project and report with networks that read arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from deconvviz.cli.app import app

FACTORY = """
import torch
from torch import nn

import deconvviz as dv


def signals():
    torch.manual_seed(0)
    return dv.Network(nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU(), nn.Conv1d(4, 3, 3)), shape=(2, 60))


def volumes():
    torch.manual_seed(0)
    return dv.Network(nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU()), shape=(1, 6, 8, 8))


def bands():
    torch.manual_seed(0)
    return dv.Network(nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU()), size=12, mean=[0] * 5, std=[1] * 5)
"""
SHAPES = {"signals": (2, 60), "volumes": (1, 6, 8, 8), "bands": (5, 12, 12)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a folder with own.py, one folder of three arrays for each network, and other files."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FACTORY)
    for name, shape in SHAPES.items():
        Path(name).mkdir()
        for number in range(3):
            np.save(Path(name, f"{number}.npy"), np.random.default_rng(number).normal(size=shape))
        Path(name, "notes.txt").touch()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def done(*arguments: str) -> Result:
    found = run(*arguments)
    assert found.exit_code == 0, found.output
    return found


def refused(message: str, *arguments: str) -> None:
    before = sorted(Path().rglob("*"))
    found = run(*arguments)
    assert found.exit_code == 2, found.output
    assert message in found.stderr
    assert "Traceback" not in found.output
    assert [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts] == [
        path for path in before if "__pycache__" not in path.parts
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_search_and_topnine(name: str) -> None:
    model = f"own.py:{name}"
    found = done("search", name, "--model", model, "--layers", "all", "--out", "found", "--workers", "0")
    assert "3 inputs in " in found.stderr
    axes = {"signals": 1, "volumes": 3, "bands": 2}[name]
    table = pq.read_table("found/top.parquet")
    assert len(table.column_names) == 5 + 3 * axes
    bands = ["--bands", "5,1,2"] if name == "bands" else []
    shown = json.loads(
        done("topnine", "found", "--layer", "0", "--channel", "1", "--allow-code", "--json", *bands).stdout
    )
    (channel,) = shown["layers"][0]["channels"]
    assert [peak["rank"] for peak in channel["peaks"]] == [1, 2, 3]
    assert len(channel["peaks"][0]["box"]) == 2 * axes
    assert Path(shown["figure"]["path"] if isinstance(shown["figure"], dict) else shown["figure"]).exists()


def test_search_counts_files_that_do_not_fit() -> None:
    np.save("signals/wrong.npy", np.zeros((3, 60)))
    found = done("search", "signals", "--model", "own.py:signals", "--layer", "0", "--out", "found")
    assert "1 input skipped: wrong.npy has shape (3, 60): the network reads (2, 60)" in found.stderr


def test_mistakes_of_search_are_refused() -> None:
    command = ["--model", "own.py:signals", "--layer", "0", "--out", "found"]
    refused("scenes:4 is a source of images, but the network reads arrays", "search", "scenes:4", *command)
    refused("none of the 3 inputs in volumes could be read", "search", "volumes", *command)
    Path("empty").mkdir()
    refused("no inputs in empty or its subfolders: 0 other files", "search", "empty", *command)
    Path("found").mkdir()


def test_mistakes_of_topnine_are_refused() -> None:
    done("search", "signals", "--model", "own.py:signals", "--layer", "0", "--out", "found")
    done("search", "bands", "--model", "own.py:bands", "--layer", "0", "--out", "other")
    command = ["--layer", "0", "--allow-code"]
    refused("own.py:signals reads no pictures with bands", "topnine", "found", "--bands", "1,2,3", *command)
    refused("no band 6: there are 1 to 5", "topnine", "other", "--bands", "6,2,3", *command)
    refused("'0,1,2' are not three bands", "topnine", "other", "--bands", "0,1,2", *command)
    refused("an atlas shows images, but own.py:signals reads arrays", "atlas", "found", "--allow-code")


@pytest.mark.parametrize("name", SHAPES)
def test_project_reads_folders(name: str) -> None:
    found = done("project", name, "--model", f"own.py:{name}", "--layer", "0", "--top", "2", "--out", "out")
    assert sorted(Path("out").glob("*.png")) == [Path(f"out/{number}-0.png") for number in range(3)]
    assert len(found.stdout.split()) == 6


def test_project_refuses_a_folder_without_files_that_fit() -> None:
    command = ["--layer", "conv1_1", "--out", "out"]
    refused("no images in signals: 4 other files", "project", "signals", "--model", "minivgg", *command)
    Path("pictures").mkdir()
    Path("pictures/a.png").touch()
    command = ["--layer", "0", "--out", "out"]
    refused(
        "no inputs in pictures: 1 other file", "project", "pictures", "--model", "own.py:signals", *command
    )


def test_report_reads_folders() -> None:
    done("report", "signals", "--model", "own.py:signals", "--layer", "0", "--out", "page.html")
    text = Path("page.html").read_text()
    assert all(f"{number}.npy" in text for number in range(3))


@pytest.mark.parametrize(("name", "shape"), [("signals", "(2, 60)"), ("bands", "(5, 12, 12)")])
def test_search_of_arrays_rejects_scaled_decoding(name: str, shape: str) -> None:
    found = run(
        "search", name, "--model", f"own.py:{name}", "--layers", "all", "--scaled-decoding", "--out", "out"
    )
    assert found.exit_code == 2 and found.stdout == ""
    assert found.stderr.endswith(
        f"scaled decoding is for JPEGs that are scaled down, but own.py:{name} reads arrays of shape "
        f"{shape}, not images. Leave out --scaled-decoding\n"
    )
    assert not Path("out").exists()
