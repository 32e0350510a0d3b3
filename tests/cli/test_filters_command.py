"""`deconvviz filters`: its files, JSON, text and errors."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
from helpers.messages import assert_error
from safetensors.torch import save_file
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app

pytestmark = pytest.mark.slow  # together about 10 s

MINIVGG = ("--model", "minivgg")


def run(*arguments):
    return CliRunner().invoke(app, ["filters", *map(str, arguments)], env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of minivgg with a dominant, a dead and a double filter."""
    state = {name: tensor.clone() for name, tensor in dv.load("minivgg").module.state_dict().items()}
    first = state["features.0.weight"]
    first[0] *= 40
    first[1] *= 1e-4
    first[2] = 0.5 * first[3]
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    save_file(state, path)
    return path


def test_files_and_json(tmp_path, weights):
    result = run(
        *MINIVGG, "--against", weights, "--source", "scenes:6", "--channels", 3, "--out", tmp_path, "--json"
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["files"] == [str(tmp_path / f"filters.{suffix}") for suffix in ("png", "json", "parquet")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "filters.json",
        "filters.parquet",
        "filters.png",
    ]
    own, other = printed["filters"]
    assert (own["dominant"], own["dead"], own["doubles"]) == ([], [], [])
    assert (other["dominant"], other["dead"], other["doubles"]) == ([0], [1], [[2, 3]])
    assert other["weights"] == "other.safetensors"
    assert own["second_layer"] == "conv1_2"
    table = pq.read_table(tmp_path / "filters.parquet")
    assert table.column_names[:4] == ["network", "layer", "filter", "rms"]
    assert len(table) == 32


def test_text_names_what_is_wrong_and_the_remedy(tmp_path, weights):
    result = run(*MINIVGG, "--weights", weights, "--out", tmp_path, "--by-size")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "conv1_1: 1 filter (0) dominant" in lines[0]
    assert "dv.clip_filters" in lines[0]
    assert "conv1_1: 1 filter (1) dead" in lines[1]
    assert "1 pair (2 = 3) of doubles" in lines[2]


def test_existing_files_are_kept(tmp_path):
    (tmp_path / "filters.parquet").write_text("mine")
    assert_error(run(*MINIVGG, "--out", tmp_path), "already exists. Overwrite with --force")
    assert [path.name for path in tmp_path.iterdir()] == ["filters.parquet"]


def test_checkpoint_with_nan_is_an_error(tmp_path):
    state = {name: tensor.clone() for name, tensor in dv.load("minivgg").module.state_dict().items()}
    state["features.0.weight"][3, 0, 0, 0] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    out = tmp_path / "out"
    result = run(*MINIVGG, "--against", tmp_path / "nan.safetensors", "--out", out)
    assert_error(result, "contains NaN or infinity")
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv1_2"], "reads 16 channels"),
        (["--layer", "nothing"], "no layer 'nothing'"),
        (["--second", "conv2_1"], "has no effect without --source"),
        (["--limit", "3"], "has no effect without --source"),
        (["--source", "nowhere"], "nowhere"),
        (["--against", "none.pth"], "none.pth"),
    ],
)
def test_errors(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_error(run(*MINIVGG, *arguments), message)
    assert list(tmp_path.iterdir()) == []
