"""Example network_deconvolution.py: the covariance of its patches, folding, and running statistics."""

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
from torch import Tensor

from deconvviz.scenes import scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load("network_deconvolution")


def images(size: int) -> Tensor:
    """Scenes, whose neighbouring pixels are strongly correlated."""
    drawn = np.stack([scene(seed, size=32).image for seed in range(20)])
    return torch.tensor(drawn, dtype=torch.float64).permute(0, 3, 1, 2)[:, :, :size, :size] / 64 - 2


def patches_of(x: Tensor, kernel: int, padding: int, step: int) -> np.ndarray:
    """All patches that a convolution reads, by loops: (patches, C * kernel * kernel)."""
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    side = padded.shape[-1] - kernel + 1
    return np.stack(
        [
            one[:, top : top + kernel, left : left + kernel].ravel()
            for one in padded
            for top in range(0, side, step)
            for left in range(0, side, step)
        ]
    )


def test_inverse_root_is_that_of_the_eigenvalues(example: ModuleType) -> None:
    drawn = torch.randn(30, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = drawn.T @ drawn / 30
    values, vectors = torch.linalg.eigh(covariance)
    expected = vectors @ torch.diag(values**-0.5) @ vectors.T
    torch.testing.assert_close(example.inverse_root(covariance, 30), expected)


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 0)])
def test_covariance_of_the_patches_becomes_the_identity(
    example: ModuleType, kernel: int, padding: int
) -> None:
    x = images(14)  # small enough that all positions are used
    layer = example.Decorrelated(3, 4, kernel, padding=padding, eps=1e-9, iterations=60).double()
    mean, matrix = (value.detach().numpy() for value in layer.statistics(x))
    seen = patches_of(x, kernel, padding, 1)
    assert np.abs(np.corrcoef(seen.T) - np.eye(len(mean))).max() > 0.8
    found = np.cov(matrix @ (seen - mean).T, bias=True)
    np.testing.assert_allclose(found, np.eye(len(mean)), atol=1e-4)


def test_output_is_the_convolution_of_the_decorrelated_patches(example: ModuleType) -> None:
    torch.manual_seed(0)
    x = images(14)
    layer = example.Decorrelated(3, 4, 3, padding=1).double()
    mean, matrix = (value.detach().numpy() for value in layer.statistics(x))
    clean = (patches_of(x, 3, 1, 1) - mean) @ matrix.T
    expected = clean @ layer.weight.detach().numpy().reshape(4, -1).T + layer.bias.detach().numpy()
    expected = expected.reshape(len(x), 14, 14, 4).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-8)


def test_running_statistics_are_used_in_evaluation_and_approach_those_of_the_batch(
    example: ModuleType,
) -> None:
    torch.manual_seed(0)
    x = images(14).float()
    layer = example.Decorrelated(3, 4, 3, padding=1)
    trained = layer(x)
    early = layer.eval()(x)
    layer.train()
    for _ in range(80):
        layer(x)
    assert (early - trained).norm() > 0.3 * trained.norm()
    torch.testing.assert_close(layer.eval()(x), trained, atol=0.02, rtol=0.02)


def test_gradients_flow_through_the_matrix(example: ModuleType) -> None:
    torch.manual_seed(0)
    layer = example.Decorrelated(1, 2, 2, iterations=4).double()
    x = torch.randn(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


@pytest.mark.parametrize("kind", ["network deconvolution", "batch norm", "neither"])
def test_ordinary_convolutions_give_the_same_scores(example: ModuleType, kind: str) -> None:
    net, x = example.classifier(kind, 3), images(32).float()
    for _ in range(3):
        net(x)
    with torch.no_grad():
        folded = example.as_convolutions(net.eval())(x)
        torch.testing.assert_close(folded, net(x), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(part, example.Decorrelated) for part in example.as_convolutions(net))


def test_quick_run_compares_the_kinds(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "network_deconvolution.py", "--quick", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "network_deconvolution.json").read_text())
    before, after = numbers["first layer"]
    assert after["mean |correlation|"] < before["mean |correlation|"] / 3
    kinds = [*load("network_deconvolution").KINDS, "batch norm, 3 x the epochs"]
    assert [row["layer"] for row in numbers["accuracy"]] == kinds
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"network_deconvolution-{key}.png" for key in ("accuracy", "filters", "projections")
    }
