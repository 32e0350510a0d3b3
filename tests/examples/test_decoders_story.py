"""Example decoders.py: a short run, and its parts against independent computations."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.example_files import load, run_once
from PIL import Image
from torch.nn import functional as F

import deconvviz as dv

pytestmark = pytest.mark.slow

FIGURES = (
    "super-resolution",
    "super-resolution-unit",
    "generator",
    "generator-code",
    "generator-unit",
    "depth",
    "depth-unit",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run."""
    return run_once(tmp_path_factory, "decoders", "--threads", "1")[0]


@pytest.fixture(scope="module")
def numbers(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "decoders.json").read_text("utf-8"))
    return found


def test_short_run_writes_all_figures(run: Path) -> None:
    for name in FIGURES:
        with Image.open(run / f"decoders-{name}.png") as image:
            assert image.width > 200, name


@pytest.mark.parametrize("name", ["super-resolution", "generator", "depth"])
def test_training_lowers_the_loss(numbers: dict[str, Any], name: str) -> None:
    first, last = numbers[name]["losses"]
    assert last < first


def test_untrained_super_resolution_is_bilinear_interpolation(numbers: dict[str, Any]) -> None:
    one = numbers["super-resolution"]
    assert one["PSNR before the training"] == pytest.approx(one["PSNR in dB (mean)"]["bilinear"], abs=1e-3)
    network = load("stories.decoders_super_resolution").SuperResolution()
    small = torch.rand(1, 3, 9, 7)
    expected = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.no_grad():  # at the border, the transposed convolution lacks neighbours
        torch.testing.assert_close(network(small)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_psnr_of_a_known_error() -> None:
    psnr = load("stories.decoders_super_resolution").psnr
    image = torch.full((1, 3, 20, 20), 0.5)
    other = image + 0.1
    other[..., :4] = 9  # the border is ignored
    assert psnr(image, other).tolist() == pytest.approx([20.0])


def test_projection_to_the_code_has_one_number_for_each_entry(numbers: dict[str, Any]) -> None:
    one = numbers["generator"]["projection to the code"]
    assert one["shape"] == [one["pixels"], 32, 1, 1]
    ranks = one["median rank correlation with the effect of a change"]
    assert ranks["gradient"] > 0.9  # the effect of a small change is the gradient
    assert -1 <= ranks["deconvnet"] <= 1


def test_generator_makes_pictures_from_codes() -> None:
    module = load("stories.decoders_generator")
    torch.manual_seed(0)
    made = module.made(module.generator().eval(), module.normal_codes(3))
    assert made.shape == (3, 3, 32, 32) and 0 <= float(made.min()) <= float(made.max()) <= 1


def test_fitted_codes_have_mean_and_covariance_of_the_codes_of_images() -> None:
    module = load("stories.decoders_generator")
    torch.manual_seed(0)
    network = module.AutoEncoder().eval()
    images = torch.rand(60, 3, 32, 32)
    with torch.no_grad():
        known = network.mean(network.encoder(images)).flatten(1)
    fitted = module.fitted_codes(network, images, 4000).flatten(1)
    scale = float(known.var(0).mean())
    torch.testing.assert_close(fitted.mean(0), known.mean(0), rtol=0, atol=0.1 * scale**0.5)
    torch.testing.assert_close(torch.cov(fitted.T), torch.cov(known.T), rtol=0, atol=0.15 * scale)


def test_faces_that_minivgg_knows_are_called_faces() -> None:
    module = load("stories.decoders_generator")
    data = load("stories.scene_data")
    assert module.called_face(data.pixels(module.faces(5, 12))) > 0.3
    assert module.called_face(torch.zeros(4, 3, 32, 32)) == 0


def test_projections_without_max_pools_are_the_same_for_all_pictures() -> None:
    module = load("stories.decoders_generator")
    torch.manual_seed(0)
    net = dv.Network(module.AutoEncoder().eval(), size=32, mean=(0,) * 3, std=(1,) * 3)
    rec = net.record(torch.rand(2, 3, 32, 32), "generator.deconv4", methods="gradient")
    signal = torch.zeros_like(rec.activations("generator.deconv4"))
    signal[:, :, 10, 12] = 1
    first, second = rec.project("generator.deconv4", signal).pixels
    assert bool(first.any())
    torch.testing.assert_close(first, second)
    first, second = rec.project("generator.deconv4", signal, method="gradient").pixels
    assert not torch.allclose(first, second, rtol=0.1)


def test_near_objects_are_larger_lower_and_in_front() -> None:
    module = load("stories.decoders_depth")
    pictures = module.depth_pictures(3, 40, 12)
    assert pictures.images.shape == (40, 64, 64, 3)
    feet, nears = [], []
    for nearness, objects in zip(pictures.nearness, pictures.objects, strict=True):
        plane = (np.arange(64) + 1 - module.HORIZON).clip(0) / (64 - module.HORIZON)
        rows = np.broadcast_to(plane[:, None], (64, 64))
        np.testing.assert_allclose(nearness[~objects], rows[~objects], atol=1e-6)
        for near in np.unique(nearness[objects]):
            feet.append(np.flatnonzero(((nearness == near) & objects).any(1)).max())
            nears.append(near)
            assert 0.25 <= near <= 1
    assert np.corrcoef(feet, nears)[0, 1] > 0.9


def test_depth_is_measured_against_the_mean_map(numbers: dict[str, Any]) -> None:
    errors = numbers["depth"]["mean absolute error of the nearness"]
    assert set(errors) == {"network", "mean map"}
    module = load("stories.decoders_depth")
    training = module.depth_pictures(module.TRAINING_SEED, 48, 16)
    fresh = module.depth_pictures(module.FRESH_SEED, 8, 8)
    expected = np.abs(fresh.nearness - training.nearness.mean(0))[fresh.objects].mean()
    assert errors["mean map"]["pixels of objects"] == pytest.approx(float(expected), rel=1e-5)


def test_result_is_not_overwritten(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["decoders.py", "--out", str(run)])
    assert load("decoders").main() == 2
    assert "has a result already: choose another --out, or give --force" in capsys.readouterr().err
