"""Example checkerboard.py: counts of terms, the measure of a spectrum, and the ways of upsampling."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers.example_files import EXAMPLES, load
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load("checkerboard")


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    return load("stories.checkerboard_measure")


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7, 11])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_overlap_counts_the_terms_of_a_transposed_convolution(
    measure: ModuleType, kernel: int, stride: int
) -> None:
    ones = F.conv_transpose1d(torch.ones(1, 1, 30), torch.ones(1, 1, kernel), stride=stride)[0, 0]
    inside = ones[12 * stride : 13 * stride]
    assert measure.overlap(kernel, stride) == inside.int().tolist()
    assert (len(set(measure.overlap(kernel, stride))) == 1) == (kernel % stride == 0)


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (1, 1)])
def test_rise_finds_a_pattern_of_its_period_only(
    measure: ModuleType, period: int, direction: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 3, 64, 64))
    y, x = np.mgrid[:64, :64]
    wave = np.cos(2 * np.pi * (direction[0] * y + direction[1] * x) / period)
    other = {2: 4, 4: 2}[period]
    plain, waved = measure.spectrum(noise, 64), measure.spectrum(noise + 0.5 * wave, 64)
    assert measure.rise(plain, period) == pytest.approx(1, abs=0.25)
    assert measure.rise(waved, period) > 1.7
    assert measure.rise(waved, other) == pytest.approx(1, abs=0.25)


def test_excess_is_the_share_of_the_energy_of_a_pattern(measure: ModuleType) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    noise = rng.normal(size=(40, 1, 64, 64))
    wave = np.where((x + y) % 2, 1.0, -1.0) / 2  # its energy is a quarter of that of the noise
    assert measure.excess(measure.spectrum(noise + wave, 64), 2) == pytest.approx(0.2, abs=0.03)
    assert measure.excess(measure.spectrum(noise, 64), 2) < 0.005


def test_icnr_starts_with_equal_pixels_in_each_block(example: ModuleType) -> None:
    torch.manual_seed(0)
    layer = example.icnr(torch.nn.Conv2d(5, 12, 3, padding=1), 2)
    drawn = F.pixel_shuffle(layer(torch.randn(1, 5, 6, 6)), 2)
    blocks = drawn.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert blocks.std() > 0.1
    torch.testing.assert_close(blocks, blocks[..., :1].expand_as(blocks))


def test_blur_keeps_constants_and_removes_checkerboards(example: ModuleType) -> None:
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = ((x + y) % 2).float().expand(1, 2, 8, 8)
    torch.testing.assert_close(example.Blur()(board)[..., 1:-1, 1:-1], torch.full((1, 2, 6, 6), 0.5))
    torch.testing.assert_close(example.Blur()(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))


def test_all_ways_double_the_size(example: ModuleType) -> None:
    for name, way in example.WAYS.items():
        assert way(6, 4)(torch.randn(2, 6, 5, 5)).shape == (2, 4, 10, 10), name


def test_hand_made_projection_of_minivgg_is_the_projection_of_deconvviz() -> None:
    by_hand = load("stories.strided_projections").unpooled_by_hand
    net = dv.load("minivgg")
    rec = net.record(scene(5001).image, "conv3_2")
    proj = rec.project("conv3_2", rec.strongest("conv3_2", k=3))
    part = net.module.features[: int(rec.layers[0].module.split(".")[1].split(":")[0]) + 1]
    for unit, pixels in zip(proj.units, proj.pixels, strict=True):
        ours = by_hand(part, rec.inputs, unit, "first")
        torch.testing.assert_close(ours, pixels, atol=1e-5, rtol=1e-4)


def test_quick_run_measures_decoders_projections_and_ties(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "checkerboard.py", "--quick", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "checkerboard.json").read_text())
    rises = {(row["upsampling"], row["weights"]): row["rise 2"] for row in numbers["decoders"]}
    assert rises["transposed, kernel 3", "random"] > 50 * rises["resize nearest", "random"]
    assert rises["sub-pixel", "random"] > 50 * rises["sub-pixel, ICNR", "random"]
    ties = {row["switch of zero windows"]: row["rise 2"] for row in numbers["ties"]}
    assert ties["first"] > 3 * ties["random"]
    last = [row for row in numbers["projections"] if row["network"] == "alexnet"][-1]
    assert last["rise 4"] > 5 > last["rise 16"]
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "checkerboard-remedies.png",
        "checkerboard-projections.png",
    }
