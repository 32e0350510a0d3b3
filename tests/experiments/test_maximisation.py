"""`dv.maximise` against closed forms, its comparison with a search, results and errors."""

from __future__ import annotations

import json
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.asking import seeded
from helpers.searches import small
from helpers.snapshots import Noise
from torch import nn

import deconvviz as dv
from deconvviz.errors import LayerError, MethodError, SearchError, UnitError

pytestmark = pytest.mark.slow  # together about 4 s

STILL = {"jitter": 0, "scale": 0, "rotate": 0}
STD = (0.2, 0.3, 0.4)


def network(build, size=8):
    return dv.Network(seeded(build), size=size, mean=(0.4, 0.5, 0.6), std=STD)


def linear():
    """Return two linear units that see the whole picture."""
    return nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten())


def convolutional():
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 3), nn.ReLU())


@pytest.fixture(scope="module")
def net():
    return network(convolutional, size=12)


@pytest.fixture(scope="module")
def made(net):
    return dv.maximise(net, "3", [0, 3], steps=20, jitter=2, pictures=2)


@pytest.mark.parametrize("channel", [0, 1])
def test_linear_unit_with_a_bound_of_the_norm_shows_its_filter(channel):
    """The maximum of a linear function on a sphere is in the direction of its weights."""
    net = network(linear)
    found = dv.maximise(net, "1", channel, parametrisation="norm", contrast=0.3, steps=400, lr=0.2, **STILL)
    weights = net.module[0].weight.detach().numpy()[channel] / np.reshape(STD, (3, 1, 1))  # of colours
    weights = np.moveaxis(weights, 0, -1)
    wanted = 0.5 + 0.3 * weights / np.sqrt(np.mean(weights**2))
    np.testing.assert_allclose(found.pictures[0].picture, wanted, atol=1e-5)
    with torch.no_grad():
        grey = (0.5 - torch.tensor([0.4, 0.5, 0.6])).view(3, 1, 1) / torch.tensor(STD).view(3, 1, 1)
        of_grey = float(net.module(grey.expand(1, 3, 8, 8).double())[0, channel])
    highest = of_grey + 0.3 * np.sqrt(weights.size) * np.linalg.norm(weights)
    assert found.pictures[0].activation == pytest.approx(highest, rel=1e-6)


def test_linear_unit_with_bounded_colours_shows_the_signs_of_its_filter():
    net = network(linear)
    found = dv.maximise(net, "1", 0, parametrisation="pixels", steps=400, lr=0.3, **STILL)
    weights = np.moveaxis(net.module[0].weight.detach().numpy()[0], 0, -1)
    large = np.abs(weights) > 0.1 * np.abs(weights).max()
    assert np.array_equal(found.pictures[0].picture[large] > 0.5, weights[large] > 0)
    assert np.abs(found.pictures[0].picture[large] - 0.5).min() > 0.45


@pytest.mark.parametrize("parametrisation", ["fourier", "pixels", "norm"])
def test_activations_are_those_of_the_module_itself(net, parametrisation):
    found = dv.maximise(net, "3", 1, steps=10, jitter=2, parametrisation=parametrisation, objective="centre")
    one = found.pictures[0]
    mean, std = (torch.tensor(values).double().view(3, 1, 1) for values in ((0.4, 0.5, 0.6), STD))
    with torch.no_grad():
        maps = net.module(((torch.from_numpy(one.picture).permute(2, 0, 1) - mean) / std)[None])[0, 1]
    assert (one.y, one.x) == (4, 4)
    assert one.objective == pytest.approx(float(maps[4, 4]), rel=1e-6)
    assert one.activation == pytest.approx(float(maps.max()), rel=1e-6)
    if parametrisation != "norm":
        assert 0 < one.picture.min() < one.picture.max() < 1


def test_mean_of_a_channel_is_the_objective_by_default(net):
    found = dv.maximise(net, "3", 1, steps=3, **STILL).pictures[0]
    assert found.objective == pytest.approx(found.curve[-1], rel=1e-6)
    assert found.objective < found.activation


def test_objective_rises(made):
    for one in made.pictures:
        assert one.curve[-1] > one.curve[0]
        assert one.rose
    assert made.warnings() == []


def test_unit_that_is_zero_for_noise_is_activated_through_a_blocked_rectifier(net):
    found = dv.maximise(net, "3", 2, steps=300, **STILL).pictures[0]
    assert found.curve[0] == 0
    assert found.curve[-1] > 0.05


def test_unit_that_cannot_be_activated_is_named_in_a_warning():
    net = network(convolutional, size=12)
    with torch.no_grad():
        net.module[2].bias[3] = -1e6
    found = dv.maximise(net, "3", [1, 3], steps=3, jitter=1)
    assert found.warnings() and "the objective of channel 3 did not rise" in found.warnings()[0]


def test_same_seed_gives_the_same_picture_bit_for_bit_whatever_else_is_made(net, made):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(dv.maximise(net, "3", 3, steps=20, jitter=2, seed=1))
    )
    thread.start()
    thread.join()
    same = made.pictures[3]
    assert (same.channel, same.seed) == (3, 1)
    assert np.array_equal(found[0].pictures[0].picture, same.picture)
    assert not np.array_equal(made.pictures[2].picture, same.picture)


def test_named_units(net):
    units = [dv.Unit(0, 1, 2, 3), dv.Unit(0, 2)]
    found = dv.maximise(net, "3", units=units, steps=2, jitter=1)
    assert [(one.channel, one.y, one.x) for one in found.pictures] == [(1, 2, 3), (2, None, None)]
    assert found.settings.objective == "unit"


def test_natural_maximum_is_the_strongest_peak_of_the_search(tmp_path):
    net = small()
    name = next(layer.name for layer in net.layers if layer.kind == "ReLU")
    search = dv.search(net, Noise(6, 16), [name], out=tmp_path / "found")
    found = dv.maximise(net, name, [0, 1], steps=5, jitter=1, search=search)
    for channel in (0, 1):
        peak = search.top(name, channel, 1)[0]
        assert found.natural[channel].activation == peak.activation
        assert found.natural[channel].image == peak.image_id
        assert found.arrays()["natural"][channel] == peak.activation
    ratio = [one.activation / found.natural[one.channel].activation for one in found.pictures]
    assert f"{np.median(ratio):.3g} times (median)" in found.summary()[1]
    assert "in 6 images" in found.spec().rows[0][0].tiles[0][0].caption[2]
    with pytest.raises(SearchError, match="the search has other weights"):
        dv.maximise(small(seed=1), name, 0, steps=1, search=search)


def test_every_view_says_that_the_pictures_are_made_up(made, tmp_path):
    assert "made up by optimisation" in made.spec().title[1]
    assert "made up by optimisation" in made._repr_html_()
    assert made.describe()["summary"][0].startswith("These pictures are made up by optimisation")
    page = dv.report([made], tmp_path / "made.html").read_text(encoding="utf-8")
    assert "made up by optimisation" in page


def test_table_arrays_and_files(made, tmp_path):
    table = made.table
    assert table.column_names == ["channel", "y", "x", "seed", "step", "objective"]
    assert len(table) == 4 * 21
    assert table["channel"].to_pylist()[::21] == [0, 0, 3, 3]
    assert table["objective"].to_pylist()[21:42] == made.pictures[1].curve.tolist()
    assert table["y"].null_count == len(table)
    written = made.save_into(tmp_path)
    names = [f"3-maximised.{suffix}" for suffix in ("json", "npz", "parquet", "png")]
    assert sorted(path.name for path in written) == names
    assert pq.read_table(tmp_path / names[2]).equals(table)
    with np.load(tmp_path / names[1]) as stored:
        assert np.array_equal(stored["pictures"][2], made.pictures[2].picture)
    manifest = json.loads((tmp_path / names[0]).read_text())
    assert [one["seed"] for one in manifest["made_up"]] == [0, 1, 0, 1]


def test_figure_has_one_row_for_each_channel_with_several_pictures(made):
    grid, curves = (row[0] for row in made.spec().rows)
    assert grid.shape == (2, 2)
    assert grid.tiles[1][0].caption[0] == "channel 3, seed 0"
    assert len(curves.panels[0].curves) == 4
    assert made.spec(columns=3).rows[0][0].shape == (2, 3)


def test_figure_of_many_pictures_shows_the_median(net):
    many = dv.maximise(net, "3", [0, 1, 2], steps=2, jitter=1, pictures=3)
    (curve,) = many.spec().rows[1][0].panels[0].curves
    np.testing.assert_array_equal(curve.y, np.median([one.curve for one in many.pictures], axis=0))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"channels": None}, UnitError, "name channels or units, and not both"),
        ({"units": dv.Unit(0, 1)}, UnitError, "name channels or units, and not both"),
        ({"channels": []}, UnitError, "no channel of 3 was given"),
        ({"channels": 4}, UnitError, "no channel 4 in 3: there are 0 to 3"),
        ({"channels": None, "units": dv.Unit(0, 1, 8, 0)}, UnitError, "no row 8 in 3: there are 0 to 7"),
        ({"channels": None, "units": dv.Unit(0, 1, 2)}, UnitError, "give both y and x"),
        ({"objective": "sum"}, MethodError, "no objective 'sum': there are mean, centre"),
        ({"parametrisation": "wavelet"}, MethodError, "no parametrisation 'wavelet'"),
        ({"pictures": 0}, MethodError, "0 pictures were requested"),
        ({"contrast": 0}, MethodError, "a contrast of 0 was requested"),
        ({"scale": 1}, MethodError, "a change of the size by 1 was requested"),
        ({"rotate": 181}, MethodError, "rotations of 181 degrees"),
        ({"jitter": -1}, MethodError, "a jitter of -1 pixels"),
        ({"layer": "relu9"}, LayerError, "no layer 'relu9'"),
    ],
)
def test_errors(net, settings, error, message):
    with pytest.raises(error, match=message):
        dv.maximise(net, **{"layer": "3", "channels": 0, "steps": 1, "jitter": 1, **settings})


def test_position_of_a_unit_without_position_is_refused():
    with pytest.raises(UnitError, match="units of 1 have no position"):
        dv.maximise(network(linear), "1", units=dv.Unit(0, 1, 0, 0))
