"""`dv.invert` against closed forms, its measures, files and errors."""

from __future__ import annotations

import json
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.asking import noise, seeded
from helpers.snapshots import PARTS, composed, left_as_it_was
from torch import nn

import deconvviz as dv
from deconvviz.errors import ImageError, LayerError, MethodError, NetworkError, OutputError
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together about 9 s

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def network(build, size=(6, 8), mean=MEAN, std=STD):
    return dv.Network(seeded(build), size=size, mean=mean, std=std)


def blocks(features):
    """Return a linear network: each block of 2 x 2 pixels with 3 colours becomes some features."""
    return lambda: nn.Sequential(nn.Conv2d(3, features, 2, stride=2), nn.Identity())


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3), nn.ReLU(inplace=True)
    )


@pytest.fixture(scope="module")
def net():
    return network(convolutional, size=(12, 10))


@pytest.fixture(scope="module")
def image():
    return noise(1, 3, 12, 10).clamp(-1, 1)


@pytest.fixture(scope="module")
def inverted(net, image):
    return dv.invert(net, image, "4", steps=30)


def colours_of(inputs, mean=MEAN, std=STD):
    return np.moveaxis(inputs[0].numpy(), 0, -1) * std + mean


def test_linear_network_that_can_be_inverted_is_inverted_exactly():
    net = network(blocks(12), size=(4, 6))
    with torch.no_grad():
        matrix = torch.linalg.qr(net.module[0].weight.view(12, 12))[0]
        net.module[0].weight[:] = matrix.view(12, 3, 2, 2)
    image = noise(1, 3, 4, 6)
    found = dv.invert(net, image, "1", "none", steps=150, k=0)
    assert found.relative_error < 1e-2
    longer = dv.invert(net, image, "1", "none", steps=300, k=0)
    assert longer.relative_error < 0.1 * found.relative_error
    np.testing.assert_allclose(longer.picture, colours_of(image), atol=1e-3)


def test_total_variation_of_a_linear_network_solves_the_normal_equations():
    """With exponent 2, the loss is quadratic: its minimum is the solution of linear equations."""
    net, weight = network(blocks(5)), 0.3
    image = noise(1, 3, 6, 8)
    count = image.numel()
    with torch.no_grad():
        offset = net.module(torch.zeros(1, 3, 6, 8).double()).numpy().ravel()
        each = torch.eye(count).double().view(count, 3, 6, 8)
        matrix = (net.module(each).flatten(1).numpy() - offset).T  # features of prepared pixels
        target = net.module(image).numpy().ravel()
    std = np.repeat(STD, 48)
    jacobian = matrix / std  # of colours
    at_zero = offset - jacobian @ np.repeat(MEAN, 48)
    rows = []
    for index in np.ndindex(3, 6, 8):
        for axis in (1, 2):
            other = list(index)
            other[axis] += 1
            if other[axis] < (3, 6, 8)[axis]:
                row = np.zeros((3, 6, 8))
                row[index], row[tuple(other)] = -1, 1
                rows.append(row.ravel())
    steps = np.array(rows)
    scale = target @ target
    left = jacobian.T @ jacobian / scale + weight * steps.T @ steps / (count * 0.05**2)
    wanted = np.linalg.solve(left, jacobian.T @ (target - at_zero) / scale)
    found = dv.invert(net, image, "1", "tv", prior_weight=weight, range_weight=0, steps=800, lr=0.1)
    assert np.ptp(wanted) > 0.1
    picture = np.moveaxis(wanted.reshape(3, 6, 8), 0, -1)
    np.testing.assert_allclose(found.picture, picture, atol=1e-3)
    distance = jacobian @ wanted + at_zero - target
    assert found.relative_error == pytest.approx(np.linalg.norm(distance) / np.sqrt(scale), abs=1e-3)


@pytest.mark.parametrize("jitter", [0, 3])
def test_errors_are_those_of_the_module_itself(net, image, jitter):
    """Jitter moves only the picture that is made: features of the image stay the target."""
    found = dv.invert(net, image, "4", steps=5, jitter=jitter)
    mean, std = (torch.tensor(values).double().view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        target = net.module(image)
        for picture, error in ((found.picture, found.relative_error), (found.shown, found.shown_error)):
            own = net.module(((torch.from_numpy(picture).permute(2, 0, 1) - mean) / std)[None])
            assert error == pytest.approx(float((own - target).norm() / target.norm()), rel=1e-6)
    if not jitter:
        assert found.relative_error == pytest.approx(np.sqrt(found.curve["distance"][-1]), rel=1e-6)


def test_loss_is_the_sum_of_its_parts_and_falls(inverted):
    curve = inverted.curve
    np.testing.assert_allclose(curve["loss"], curve["distance"] + curve["prior"] + curve["range"])
    assert curve["loss"][-1] < 0.5 * curve["loss"][0]
    assert inverted.measures.psnr_of_grey > 0


def test_none_has_no_prior(net, image):
    found = dv.invert(net, image, "4", "none", steps=2)
    assert not found.curve["prior"].any() and not found.curve["range"].any()
    assert found.settings.prior_weight == found.settings.range_weight == 0


def test_sparse_pictures_have_smaller_wavelet_coefficients(net, image):
    settings = {"steps": 60, "range_weight": 0}
    sizes = []
    for prior in ("none", "sparse"):
        picture = dv.invert(net, image, "4", prior, **settings).picture[:12, :10]
        a, b, c, d = picture[::2, ::2], picture[::2, 1::2], picture[1::2, ::2], picture[1::2, 1::2]
        details = [a - b + c - d, a + b - c - d, a - b - c + d]
        sizes.append(np.abs(details).mean())
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.parametrize("prior", ["tv", "sparse", "none"])
def test_same_seed_gives_the_same_picture_bit_for_bit(net, image, prior):
    pictures = []

    def make(seed):
        pictures.append(dv.invert(net, image, "4", prior, steps=4, seed=seed, jitter=2).picture)

    make(1)
    torch.rand(5)  # the global generator has no effect
    thread = threading.Thread(target=make, args=(1,))
    thread.start()
    thread.join()
    make(2)
    with torch.inference_mode():
        make(1)
    assert np.array_equal(pictures[0], pictures[1]) and np.array_equal(pictures[0], pictures[3])
    assert not np.array_equal(pictures[0], pictures[2])


def test_state_of_the_random_generator_is_unchanged(net, image):
    before = torch.get_rng_state()
    dv.invert(net, image, "4", steps=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_module_is_left_as_it_was(part):
    module = composed([part]).train()
    module[0].bias.grad = torch.ones_like(module[0].bias)
    module[0].weight.requires_grad_(False)
    net = dv.Network(module, size=8, mean=(0, 0, 0), std=(1, 1, 1))
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    with left_as_it_was(module):
        dv.invert(net, picture, "1", steps=2)
        dv.maximise(net, "1", 0, steps=2, jitter=1)


def test_module_is_left_as_it_was_if_the_work_is_interrupted(net, image):
    def stop(done, total):
        raise KeyboardInterrupt

    for run in (
        lambda: dv.invert(net, image, "4", report=stop),
        lambda: dv.maximise(net, "4", 0, report=stop, jitter=1),
    ):
        with left_as_it_was(net.module), pytest.raises(KeyboardInterrupt):
            run()


def test_report_counts_the_steps(net, image):
    seen = []
    dv.invert(net, image, "4", steps=3, report=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_units_are_the_strongest_and_their_projections_are_those_of_a_recording(net, image, inverted):
    recording = net.record(image, "4")
    wanted = recording.project("4", recording.choose("4", 3))
    assert inverted.projection.units == wanted.units
    assert torch.equal(inverted.projection.pixels, wanted.pixels)
    assert dv.invert(net, image, "4", steps=1, k=0).projection is None


def test_layer_that_cannot_be_projected_is_inverted_without_projections():
    class Exponential(nn.Module):
        def forward(self, x):
            return x.exp()

    net = network(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Exponential()))
    found = dv.invert(net, noise(1, 3, 6, 8), "1", steps=3)
    assert found.projection is None
    assert any("no projections" in line for line in found.warnings())
    assert len(found.spec().rows[0][0].tiles[0]) == 2


def test_table_and_arrays(inverted):
    table = inverted.table
    assert table.column_names == ["step", "loss", "distance", "prior", "range"]
    assert table["step"].to_pylist() == list(range(31))
    assert table["distance"].to_pylist() == inverted.curve["distance"].tolist()
    arrays = inverted.arrays()
    assert arrays["picture"].shape == arrays["original"].shape == (12, 10, 3)
    assert arrays["projection"].shape == (len(arrays["channel"]), 3, 12, 10)


def test_figure_shows_image_inverse_and_projections(inverted):
    pictures, curves = (row[0] for row in inverted.spec().rows)
    assert pictures.column_labels[:2] == ("image", "inverse")
    assert [tile.kind for tile in pictures.tiles[0]][:3] == ["image", "image", "signed"]
    assert f"relative error {inverted.relative_error:.3g}" in pictures.tiles[0][1].caption
    assert np.array_equal(pictures.tiles[0][1].values, inverted.picture.clip(0, 1))
    assert [curve.label for curve in curves.panels[1].curves] == ["loss", "distance of the features", "prior"]


def test_texts_say_that_the_inverse_is_one_of_many(inverted):
    assert "one of many pictures" in inverted.spec().footer
    assert any("one of many pictures" in line for line in inverted.summary())
    assert "one of many pictures" in inverted._repr_html_()


def test_files_are_those_of_the_contract(tmp_path):
    found = dv.invert(dv.load("minivgg"), scene(3), "relu2_2", steps=2)
    written = found.save_into(tmp_path)
    names = [f"scene-000003-relu2_2-inversion-tv.{suffix}" for suffix in ("json", "npz", "parquet", "png")]
    assert sorted(path.name for path in written) == names
    assert pq.read_table(tmp_path / names[2]).equals(found.table)
    with np.load(tmp_path / names[1]) as stored:
        assert np.array_equal(stored["picture"], found.picture)
    manifest = json.loads((tmp_path / names[0]).read_text())
    assert manifest["settings"]["steps"] == 2
    assert manifest["relative_error"] == found.relative_error
    with pytest.raises(OutputError, match="already exist"):
        found.save_into(tmp_path)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"prior": "haar"}, MethodError, "no prior 'haar': there are tv, sparse, none"),
        ({"steps": 0}, MethodError, "0 steps were requested"),
        ({"lr": 0}, MethodError, "a learning rate of 0 was requested"),
        ({"lr": float("nan")}, MethodError, "a learning rate of nan was requested"),
        ({"prior_weight": -1}, MethodError, "prior_weight -1 was requested"),
        ({"range_weight": float("inf")}, MethodError, "range_weight inf was requested"),
        ({"exponent": 0}, MethodError, "an exponent of 0 was requested"),
        ({"jitter": 10}, MethodError, "a jitter of 10 pixels was requested: give a number from 0 to 9"),
        ({"k": -1}, MethodError, "projections of -1 units"),
        ({"layer": "conv9"}, LayerError, "no layer 'conv9'"),
        ({"lr": 1000, "steps": 9}, MethodError, r"diverged: after 1 step, .* below 1000 \(lr=100\)"),
        ({"lr": 1e4}, MethodError, "give a number above 0, at most 1000"),
    ],
)
def test_errors(net, image, settings, error, message):
    with pytest.raises(error, match=message):
        dv.invert(net, image, **{"layer": "4", **settings})


def test_several_images_are_refused(net):
    with pytest.raises(ImageError, match="one image is inverted at a time, but 2 were given"):
        dv.invert(net, noise(2, 3, 12, 10), "4")


def test_input_that_is_not_an_image_is_refused():
    net = dv.Network(nn.Conv2d(5, 2, 1), size=4, mean=(0,) * 5, std=(1,) * 5)
    with pytest.raises(ImageError, match="reads 5 channels"):
        dv.invert(net, torch.rand(1, 5, 4, 4), "output")
    with pytest.raises(ImageError, match="reads 5 channels"):
        dv.maximise(net, "output", 0)


def test_weights_that_are_not_finite_are_an_error(image):
    net = network(convolutional, size=(12, 10))
    with torch.no_grad():
        net.module[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(NetworkError, match=r"NaN or infinite, so they cannot be inverted. Check the weights"):
        dv.invert(net, image, "4")
    with pytest.raises(NetworkError, match=r"is not finite for a random picture. Check the weights"):
        dv.maximise(net, "4", 0, jitter=1)


def test_silent_layer_is_an_error(image):
    net = network(convolutional, size=(12, 10))
    with torch.no_grad():
        net.module[3].bias[:] = -1e6
    with pytest.raises(NetworkError, match="all features of this image at 4 are zero"):
        dv.invert(net, image, "4")


def test_grey_network_gives_a_grey_picture():
    net = network(lambda: nn.Conv2d(1, 4, 3), size=8, mean=(0.5,), std=(0.25,))
    found = dv.invert(net, noise(1, 1, 8, 8).clamp(-2, 2), "output", steps=3)
    assert found.picture.shape == (8, 8, 3)
    assert np.array_equal(found.picture[..., 0], found.picture[..., 2])
