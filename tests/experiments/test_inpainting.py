"""Noisy linear imputation against a dense system in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deconvviz.errors import ImageError
from deconvviz.experiments.inpainting import imputed
from deconvviz.experiments.occlusion_fills import fill_of
from deconvviz.images.preprocessing import Preprocessing

WEIGHTS = {(-1, 0): 1 / 6, (1, 0): 1 / 6, (0, -1): 1 / 6, (0, 1): 1 / 6} | {
    (dy, dx): 1 / 12 for dy in (-1, 1) for dx in (-1, 1)
}


def dense(image, mask):
    """Solve the equations of all hidden pixels at once."""
    pixels = [tuple(place) for place in np.argwhere(mask)]
    matrix, right = np.zeros((len(pixels), len(pixels))), np.zeros((len(pixels), len(image)))
    for number, (y, x) in enumerate(pixels):
        for (dy, dx), weight in WEIGHTS.items():
            ny, nx = y + dy, x + dx
            if not (0 <= ny < mask.shape[0] and 0 <= nx < mask.shape[1]):
                continue
            matrix[number, number] += weight
            if mask[ny, nx]:
                matrix[number, pixels.index((ny, nx))] -= weight
            else:
                right[number] += weight * image[:, ny, nx]
    filled = image.copy()
    filled[:, mask] = np.linalg.solve(matrix, right).T
    return filled


def masks():
    square, corner, odd, side = (np.zeros((9, 11), bool) for _ in range(4))
    square[3:6, 4:8] = True
    corner[:4, 7:] = True
    odd[1, 1] = odd[2, 2:5] = odd[7:, :2] = True
    side[:, 5:] = True
    return {"inside": square, "corner": corner, "not connected": odd, "half of the image": side}


@pytest.mark.parametrize("name", masks())
def test_imputed_pixels_solve_the_equations(name):
    mask = masks()[name]
    image = np.random.default_rng(0).random((3, *mask.shape))
    found = imputed(image, mask)
    np.testing.assert_allclose(found, dense(image, mask), atol=1e-12)
    assert np.array_equal(found[:, ~mask], image[:, ~mask])


def test_constant_image_stays_constant():
    mask = masks()["corner"]
    np.testing.assert_allclose(imputed(np.full((2, 9, 11), 0.3), mask), 0.3, atol=1e-12)


def test_everything_hidden_is_an_error():
    with pytest.raises(ImageError, match="hides the whole image"):
        imputed(np.zeros((1, 3, 3)), np.ones((3, 3), bool))


def test_nothing_hidden_changes_nothing():
    image = np.random.default_rng(0).random((1, 3, 3))
    assert np.array_equal(imputed(image, np.zeros((3, 3), bool)), image)


def test_noise_has_the_deviation_in_pixel_values_and_depends_on_the_seed_only():
    preprocessing = Preprocessing.simple(40, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    image = torch.zeros(3, 40, 40)
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    first, again, other = (
        fill_of("linear", image, preprocessing, seed=seed).hide(mask) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    deviations = first[:, 5:35, 5:35].flatten(1).std(1)
    assert torch.allclose(deviations * torch.tensor([0.25, 0.5, 1.0]), torch.tensor(0.01), rtol=0.1)


def test_squares_are_hidden_as_masks_are():
    preprocessing = Preprocessing.simple(20, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    image = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    for name in ("grey", "mean", "blur", "linear"):
        fill = fill_of(name, image, preprocessing)
        corners = [(0, 0), (3, 7), (14, 14)]
        for found, (y, x) in zip(fill.hide_squares(corners, 6), corners, strict=True):
            mask = np.zeros((20, 20), bool)
            mask[y : y + 6, x : x + 6] = True
            assert torch.equal(found, fill.hide(mask)), name
            assert torch.equal(found[:, ~torch.from_numpy(mask)], image[:, ~torch.from_numpy(mask)]), name
