"""Priors, parametrisations, moves, rectifiers and measures against NumPy, by hand and by differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.asking import noise
from torch import nn

from deconvviz.experiments.inversion.measures import PictureMeasures
from deconvviz.experiments.inversion.moves import Moves, _transformed, shifted
from deconvviz.experiments.inversion.parametrisation import frequency_scale, parametrisation_of
from deconvviz.experiments.inversion.priors import haar_details, out_of_range, prior_of, total_variation
from deconvviz.experiments.inversion.rectifiers import redirected_rectifiers


def variation_by_loop(colours, exponent):
    total = 0.0
    channels, rows, columns = colours.shape
    for c in range(channels):
        for y in range(rows):
            for x in range(columns):
                down = colours[c, y + 1, x] - colours[c, y, x] if y + 1 < rows else 0.0
                right = colours[c, y, x + 1] - colours[c, y, x] if x + 1 < columns else 0.0
                total += (down**2 + right**2) ** (exponent / 2)
    return total


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0, 3.0])
def test_total_variation_equals_a_plain_loop(exponent):
    colours = noise(1, 3, 5, 4)
    wanted = variation_by_loop(colours[0].numpy(), exponent)
    tolerance = 1e-5 if exponent < 2 else 1e-12  # the last pixel has no neighbours, and counts as 1e-12
    assert float(total_variation(colours, exponent)) == pytest.approx(wanted, abs=tolerance)


def difference_quotient(function, at, step=1e-6):
    found = torch.zeros_like(at)
    for place in range(at.numel()):
        moved = torch.zeros(at.numel(), dtype=at.dtype)
        moved[place] = step
        moved = moved.view(at.shape)
        found.view(-1)[place] = (function(at + moved) - function(at - moved)) / (2 * step)
    return found


@pytest.mark.parametrize("name", ["tv", "sparse", "range"])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_gradients_of_priors_equal_difference_quotients(name, exponent):
    def value(colours):
        if name == "range":
            return out_of_range(colours, exponent + 1)
        return prior_of(name, exponent)(colours, torch.Generator().manual_seed(3))

    at = noise(1, 2, 6, 7).requires_grad_()
    (gradient,) = torch.autograd.grad(value(at), [at])
    assert torch.allclose(gradient, difference_quotient(value, at.detach()), atol=1e-6)


def test_gradient_of_total_variation_is_finite_in_a_flat_picture():
    flat = torch.zeros(1, 3, 4, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(total_variation(flat, 1.0), [flat])
    assert not gradient.any()


def test_flat_picture_has_no_wavelet_coefficients_and_noise_has_many():
    sparse = prior_of("sparse", 2.0)
    assert float(sparse(torch.full((1, 3, 16, 16), 0.3), torch.Generator())) == pytest.approx(0, abs=1e-5)
    assert float(sparse(noise(1, 3, 16, 16), torch.Generator())) > 1


def test_haar_transform_of_four_pixels_by_hand():
    block = torch.tensor([[[[1.0, 2.0], [3.0, 8.0]]]])
    horizontal, vertical, diagonal = (float(one) for one in haar_details(block, 1))
    assert (horizontal, vertical, diagonal) == ((1 - 2 + 3 - 8) / 2, (1 + 2 - 3 - 8) / 2, (1 - 2 - 3 + 8) / 2)


def test_haar_transform_keeps_the_energy():
    picture = noise(1, 3, 16, 8)
    details = haar_details(picture, 3)
    assert [tuple(one.shape[-2:]) for one in details[::3]] == [(8, 4), (4, 2), (2, 1)]
    means = picture.view(1, 3, 2, 8, 1, 8).mean((3, 5))  # the mean of each block of 8 x 8
    energy = sum(float(one.square().sum()) for one in details) + 64 * float(means.square().sum())
    assert energy == pytest.approx(float(picture.square().sum()))


def test_colours_out_of_range_by_loop():
    colours = noise(1, 3, 3, 2)
    wanted = np.mean([abs(value / 0.5) ** 6 for value in colours.flatten().tolist()])
    assert float(out_of_range(colours, 6.0)) == pytest.approx(wanted)


@pytest.mark.parametrize(("channels", "rows", "columns"), [(3, 8, 6), (3, 7, 9), (1, 6, 6), (2, 5, 4)])
def test_spectrum_gives_a_real_picture_and_comes_back(channels, rows, columns):
    how = parametrisation_of("fourier", (channels, rows, columns), torch.float64, contrast=0.2)
    parameters = 100 * how.start(torch.Generator().manual_seed(1))
    picture = how.colours(parameters)
    assert picture.shape == (1, channels, rows, columns)
    assert not picture.is_complex()
    assert 0 < float(picture.min()) < float(picture.max()) < 1
    values = np.log(picture.numpy()[0] / (1 - picture.numpy()[0]))
    if channels == 3:
        lucid = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
        lucid /= np.linalg.norm(lucid, axis=0).max()
        values = np.tensordot(np.linalg.inv(lucid), values, axes=1)
    spectrum = np.fft.rfft2(4 * values)
    vertical, horizontal = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    size = np.maximum(np.hypot(vertical, horizontal), 1 / max(rows, columns))
    back = spectrum * size / np.sqrt(rows * columns)
    inside = slice(1, (columns + 1) // 2)  # the other columns are determined by half of their numbers
    given = torch.view_as_complex(parameters).numpy()[0]
    np.testing.assert_allclose(back[..., inside], given[..., inside], atol=1e-8)
    again = how.colours(torch.view_as_real(torch.from_numpy(back))[None])
    np.testing.assert_allclose(again, picture, atol=1e-12)


def test_low_frequencies_have_larger_factors():
    scale = frequency_scale(8, 8, torch.float64)
    assert scale.shape == (8, 5)
    assert float(scale[0, 0]) == float(scale[0, 1]) == pytest.approx(8 / (1 / 8))
    assert float(scale[0, 4]) == pytest.approx(8 / 0.5)


def test_norm_has_the_contrast_whatever_the_parameters():
    how = parametrisation_of("norm", (3, 4, 5), torch.float64, contrast=0.3)
    for factor in (1e-3, 1, 1e3):
        colours = how.colours(factor * how.start(torch.Generator().manual_seed(2)))
        assert float((colours - 0.5).square().mean().sqrt()) == pytest.approx(0.3)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 1), (-1, 3), (3, -2), (-2, -2)])
def test_shifts_move_pixels_and_reflect_the_border(down, right):
    picture = noise(1, 2, 6, 7)
    moved = shifted(picture, down, right).numpy()[0]
    padded = np.pad(picture.numpy()[0], [(0, 0), (4, 4), (4, 4)], mode="reflect")
    assert np.array_equal(moved, padded[:, 4 - down : 10 - down, 4 - right : 11 - right])


def test_transformation_without_scale_and_angle_is_a_shift():
    picture = noise(1, 2, 6, 9)
    moved = _transformed(picture, 2, -1, 1.0, 0.0)
    assert torch.allclose(moved[..., 2:, :-1], shifted(picture, 2, -1)[..., 2:, :-1], atol=1e-9)


def test_quarter_turn_turns_all_pixels():
    picture = noise(1, 2, 6, 6)
    turned = _transformed(picture, 0, 0, 1.0, math.pi / 2)
    clockwise, counter = (torch.rot90(picture, k, (2, 3)) for k in (-1, 1))
    assert torch.allclose(turned, clockwise, atol=1e-9) or torch.allclose(turned, counter, atol=1e-9)


def test_double_size_shows_the_middle():
    picture = torch.zeros(1, 1, 8, 8)
    picture[..., 3:5, 3:5] = 1
    assert float(_transformed(picture, 0, 0, 2.0, 0.0)[..., 2:6, 2:6].mean()) > 0.7
    assert float(_transformed(picture, 0, 0, 0.5, 0.0)[..., 3:5, 3:5].mean()) < 0.5


def test_moves_are_at_most_as_large_as_requested_and_differ():
    picture = torch.zeros(1, 1, 21, 21)
    picture[..., 10, 10] = 1
    generator = torch.Generator().manual_seed(0)
    places = {tuple(torch.nonzero(Moves(3).apply(picture, generator)[0, 0])[0].tolist()) for _ in range(200)}
    assert {y for y, _ in places} == {x for _, x in places} == set(range(7, 14))


def test_blocked_rectifiers_pass_the_gradient_that_raises_them():
    module = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace=True))
    with torch.no_grad():
        module[0].weight[:] = torch.tensor([-1.0, 2.0]).view(2, 1, 1, 1)
    picture = torch.ones(1, 1, 2, 2, requires_grad=True)
    with redirected_rectifiers(module):
        output = module(picture)
        assert output[0, :, 0, 0].tolist() == [0, 2]
        (blocked,) = torch.autograd.grad(-output[0, 0].sum(), [picture], retain_graph=True)
        (open_,) = torch.autograd.grad(-output[0, 1].sum(), [picture], retain_graph=True)
        (lower,) = torch.autograd.grad(output[0, 0].sum(), [picture])
    assert blocked.flatten().tolist() == [1] * 4  # a descent lowers the picture, which raises the channel
    assert open_.flatten().tolist() == [-2] * 4
    assert lower.flatten().tolist() == [0] * 4  # nothing below 0 needs to be lowered
    assert not module[1]._forward_hooks and not module[1]._forward_pre_hooks
    (plain,) = torch.autograd.grad(-module(picture)[0, 0].sum(), [picture])
    assert not plain.any()


def test_psnr_by_its_definition_and_ssim_of_equal_pictures():
    random = np.random.default_rng(0)
    original, picture = random.random((2, 9, 8, 3))
    found = PictureMeasures.of(original, picture)
    assert found.psnr == pytest.approx(10 * np.log10(1 / np.mean((original - picture) ** 2)))
    grey = original.mean((0, 1))
    assert found.psnr_of_grey == pytest.approx(10 * np.log10(1 / np.mean((original - grey) ** 2)))
    assert found.ssim_of_grey == pytest.approx(PictureMeasures.of(original, 0 * original + grey).ssim)
    same = PictureMeasures.of(original, original)
    assert (same.psnr, same.ssim) == (math.inf, pytest.approx(1))
    assert same.to_json()["psnr"] is None
    assert PictureMeasures.of(original[:5], picture[:5]).ssim is None
