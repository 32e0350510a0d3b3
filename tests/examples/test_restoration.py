"""Example restoration.py: degradation, regularised filters, the network, and the adjoint."""

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
from scipy.ndimage import gaussian_filter

from deconvviz.experiments.inversion.priors import haar_details

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load("restoration")


@pytest.fixture(scope="module")
def methods() -> ModuleType:
    return load("stories.restoration_methods")


@pytest.fixture(scope="module")
def sharp(example: ModuleType) -> np.ndarray:
    return example.grey_scenes(40, 1)[0]


def test_blur_is_that_of_scipy_and_noise_has_its_deviation(example: ModuleType, sharp: np.ndarray) -> None:
    found = example.degraded(sharp, example.gaussian(1.6), seed=1)
    noise = found - gaussian_filter(sharp, 1.6, mode="reflect", radius=6)
    assert noise.std() == pytest.approx(example.NOISE, rel=0.05)
    assert abs(noise.mean()) < 0.001


def test_inverse_filter_is_exact_without_noise_for_a_blur_that_keeps_all_frequencies(
    methods: ModuleType, sharp: np.ndarray
) -> None:
    kernel = np.array([[0, 0.05, 0], [0.05, 0.8, 0.05], [0, 0.05, 0]])
    around = sum(np.roll(sharp, step, axis) for step in (-1, 1) for axis in (0, 1))
    blurred = 0.8 * sharp + 0.05 * around
    np.testing.assert_allclose(methods.inverse(blurred, kernel), sharp, atol=1e-10)


@pytest.mark.parametrize("name", ["wiener", "least_squares"])
def test_regularised_filters_minimise_their_cost(
    example: ModuleType, methods: ModuleType, sharp: np.ndarray, name: str
) -> None:
    blurred, balance = example.degraded(sharp, example.BLUR, 3), 0.01
    found = getattr(methods, name)(blurred, example.BLUR, balance)
    padded = np.zeros((64, 64))
    padded[:13, :13] = example.BLUR
    blur = np.fft.fft2(np.roll(padded, (-6, -6), (0, 1)))
    frequency = 2 * np.pi * np.fft.fftfreq(64)
    laplacian = 4 - 2 * np.cos(frequency)[:, None] - 2 * np.cos(frequency)
    penalty = {"wiener": np.ones((64, 64)), "least_squares": laplacian}[name]
    expected = np.conj(blur) * np.fft.fft2(blurred) / (np.abs(blur) ** 2 + balance * penalty**2)
    np.testing.assert_allclose(found, np.fft.ifft2(expected).real, atol=1e-8)


def test_wavelet_coefficients_shrink_and_the_mean_stays(methods: ModuleType, sharp: np.ndarray) -> None:
    found = methods.shrunk(sharp, 0.01)
    before, after = (haar_details(torch.tensor(image)[None, None], 3) for image in (sharp, found))
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, torch.nn.functional.softshrink(old, 0.01))
    blocks = (found - sharp).reshape(8, 8, 8, 8).mean((1, 3))
    np.testing.assert_allclose(blocks, 0, atol=1e-12)
    np.testing.assert_allclose(methods.shrunk(sharp, 0), sharp, atol=1e-12)


def test_methods_improve_a_blurred_scene_and_the_inverse_filter_does_not(
    example: ModuleType, methods: ModuleType, sharp: np.ndarray
) -> None:
    blurred = example.degraded(sharp, example.BLUR, 4)
    before = example.quality(blurred, sharp)[0]
    settings = {
        "Wiener": 0.01,
        "constrained least squares": 0.003,
        "unsupervised Wiener": 0,
        "Richardson-Lucy": 20,
        "total variation": 0.001,
        "sparse wavelets": 0.003,
    }
    for name, setting in settings.items():
        found = example.restored(blurred, example.BLUR, methods.METHODS[name][0], setting)
        assert example.quality(found, sharp)[0] > before + 0.5, name
    worse = example.restored(blurred, example.BLUR, methods.inverse, 0)
    assert example.quality(worse, sharp)[0] < before - 10


def test_training_improves_the_network_beyond_the_blurred_scene(
    example: ModuleType, sharp: np.ndarray
) -> None:
    blurred = example.degraded(sharp, example.BLUR, 5)
    found = example.by_network(example.train(example.grey_scenes(71_000, 8), 60), blurred)
    assert example.quality(found, sharp)[0] > example.quality(blurred, sharp)[0] + 0.3


def test_adjoint_of_the_blur_blurs_again_and_its_condition_is_bad(
    example: ModuleType, sharp: np.ndarray
) -> None:
    rows, (blurred, again, *_) = example.adjoint_is_no_inverse(sharp)
    inside = (slice(14, -14), slice(14, -14))
    once = gaussian_filter(sharp, 1.6, radius=6)
    np.testing.assert_allclose(blurred[inside], once[inside], atol=1e-5)
    np.testing.assert_allclose(again[inside], gaussian_filter(once, 1.6, radius=6)[inside], atol=1e-5)
    assert rows[0]["largest / smallest singular value"] > 1e6
    assert rows[1]["error of C.T C x"] > 0.3


def test_quick_run_compares_methods(tmp_path: Path) -> None:
    torch.manual_seed(0)
    command = [sys.executable, EXAMPLES / "restoration.py", "--quick", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "restoration.json").read_text())
    scores = {row["method"]: row["scenes dB"] for row in numbers["methods"]}
    assert scores["total variation"] > scores["blurred"] + 1 > scores["inverse filter"] + 10
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"restoration-{key}.png" for key in ("spectra", "restored", "adjoint")
    }
