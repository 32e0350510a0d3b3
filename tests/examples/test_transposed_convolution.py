"""Example transposed_convolution.py against PyTorch, loops, and the crop of FCN-32s."""

from __future__ import annotations

import itertools
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

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load("transposed_convolution")


SETTINGS = [
    (kernel, stride, padding, extra)
    for kernel, stride, padding, extra in itertools.product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2), (0, 1, 2))
    if padding < kernel and extra < stride and (4 - 1) * stride + kernel + extra > 2 * padding
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_inserted_zeros_and_crop_equal_pytorchs_transposed_convolution(
    example: ModuleType, setting: tuple[int, int, int, int]
) -> None:
    kernel, stride, padding, extra = setting
    torch.manual_seed(kernel)
    x, weight = torch.randn(4, 4), torch.randn(kernel, kernel)
    found = example.steps(x, weight, example.Setting(*setting))[2]
    expected = F.conv_transpose2d(
        x[None, None], weight[None, None], None, stride, padding, output_padding=extra
    )
    torch.testing.assert_close(found, expected[0, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_matrix_convolves_and_its_transpose_is_the_projection(
    example: ModuleType, stride: int, padding: int
) -> None:
    rng = np.random.default_rng(0)
    pixels, weight = rng.normal(size=(7, 7)), rng.normal(size=(3, 3))
    padded = np.pad(pixels, padding)
    expected = [
        (padded[top : top + 3, left : left + 3] * weight).sum()
        for top in range(0, len(padded) - 2, stride)
        for left in range(0, len(padded) - 2, stride)
    ]
    kernel = torch.tensor(weight, dtype=torch.float32)
    C = example.matrix(kernel, 7, stride, padding)
    np.testing.assert_allclose(C.double().numpy() @ pixels.flatten(), expected, atol=1e-5)
    torch.testing.assert_close(example.projected(kernel, 7, stride, padding), C.T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_upsampler_starts_as_bilinear_interpolation_inside(example: ModuleType, factor: int) -> None:
    images = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(factor))
    found = example.upsampler(factor)(images).detach()
    expected = F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
    assert found.shape == expected.shape
    inside = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(found[inside], expected[inside], atol=1e-5, rtol=1e-5)
    assert (found - expected).abs().max() > 0.01  # the border differs, as the page says


@pytest.mark.parametrize("size", [224, 300, 500])
def test_crop_of_fcn32s_has_the_offset_of_its_authors_and_fits(example: ModuleType, size: int) -> None:
    found = example.fcn_crop(size)
    assert found["offset"] == 19  # in the authors' prototxt
    assert found["step"] == 32
    assert found["offset"] + size <= found["enlarged"]


def test_quick_run_writes_numbers_and_figures(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "transposed_convolution.py", "--quick", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "transposed_convolution.json").read_text())
    assert all(row["zeros - torch"] < 1e-5 and row["projection - C.T"] < 1e-5 for row in numbers["settings"])
    start, end = numbers["learned"]["starts as bilinear"]
    assert start > 20 and end >= start > numbers["learned"]["starts at random"][0] + 10
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"transposed_convolution-{key}.png" for key in ("cells", "matrix", "bilinear", "learned")
    }
