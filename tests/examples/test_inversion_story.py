"""Example inversion.py: a short run, and its drawing of nine patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.example_files import load, run_once
from PIL import Image

import deconvviz as dv
from deconvviz.scenes import scene

pytestmark = pytest.mark.nightly  # about 30 s; tests/experiments/test_inversion.py tests the functions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run."""
    out, printed = run_once(tmp_path_factory, "inversion")
    assert "medians of 1 scenes in minivgg" in printed
    return out


def test_files_are_written(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        "inversion-channels.png",
        "inversion-layers.png",
        "inversion.json",
    ]
    for name in ("channels", "layers"):
        assert (run / f"inversion-{name}.png").stat().st_size <= 200_000
        with Image.open(run / f"inversion-{name}.png") as image:
            assert image.width > 600


def test_numbers_are_those_of_the_functions(run: Path) -> None:
    numbers = json.loads((run / "inversion.json").read_text())
    assert len(numbers["scenes"]) == 10
    row = numbers["scenes"][2]
    assert (row["layer"], row["prior"]) == ("relu2_2", "tv")
    found = dv.invert(dv.load("minivgg"), scene(7), "relu2_2", steps=12)
    assert row["relative error"] == pytest.approx(found.relative_error, rel=1e-4)
    assert row["SSIM"] == pytest.approx(found.measures.ssim, rel=1e-3)
    for row in numbers["channels"]:
        assert row["ratio"] == pytest.approx(row["made up (mean)"] / row["scenes"])


def test_mosaic_has_three_squares_in_a_row() -> None:
    mosaic = load("inversion").mosaic
    squares = [np.full((2 + number, 2 + number, 3), number / 10) for number in range(4)]
    found = mosaic(squares, side=5, gap=1)
    assert found.shape == (17, 17, 3)
    assert [found[2, column, 0] for column in (2, 8, 14)] == [0.0, 0.1, 0.2]
    assert found[8, 2, 0] == 0.3
    assert (found[:, 5] == 1).all() and (found[12:] == 1).all()


def test_patch_is_in_the_middle_of_a_square() -> None:
    found = load("inversion").square(np.zeros((2, 6, 3)), 1.0)
    assert found.shape == (6, 6, 3)
    assert not found[2:4].any() and found[:2].all() and found[4:].all()
