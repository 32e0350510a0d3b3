"""`dv.occlusion` against plain loops, its checks, and its edge cases."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.asking import noise, seeded
from torch import nn

import deconvviz as dv
from deconvviz.errors import ImageError, LayerError, MethodError, OutputError, UnitError
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together about 10 s

SIZE = (24, 20)
CLASSES = ["ant", "bee", "cat", "dog", "eel"]


def classifier():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 10 * 8, 5),
    )


def network(build=classifier, classes=CLASSES):
    return dv.Network(seeded(build), size=SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), classes=classes)


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def image():
    return noise(1, 3, *SIZE).clamp(-1, 1)


def by_hand(net, image, fill_value, side, step):
    """Return activity, probability, label and corners by a loop over single images."""
    with torch.no_grad():
        maps = net.module[:5](image)
        channel = int(maps[0].flatten(1).amax(1).argmax())
        right = int(net.module(image)[0].argmax())
        corners = [sorted({*range(0, length - side + 1, step), length - side}) for length in image.shape[2:]]
        found = {name: np.zeros([len(c) for c in corners]) for name in ("activity", "probability", "label")}
        for i, y in enumerate(corners[0]):
            for j, x in enumerate(corners[1]):
                hidden = image.clone()
                hidden[0, :, y : y + side, x : x + side] = fill_value.view(3, 1, 1)
                found["activity"][i, j] = float(net.module[:5](hidden)[0, channel].sum())
                scores = net.module(hidden)[0]
                found["probability"][i, j] = float(scores.exp()[right] / scores.exp().sum())
                found["label"][i, j] = int(scores.argmax())
    return found, channel, corners


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("fill", ["grey", "mean"])
def test_maps_equal_a_plain_loop(net, image, fill, batch):
    mean, std = torch.tensor([[0.4, 0.5, 0.6], [0.2, 0.3, 0.4]], dtype=torch.float64)
    value = (0.5 - mean) / std if fill == "grey" else torch.zeros(3).double()
    wanted, channel, corners = by_hand(net, image, value, side=6, step=3)
    found = dv.occlusion(
        net, image, "4", size=0.3, stride=0.15, fill=fill, phases=1, compare_fills=False, batch=batch
    )
    arrays = found.arrays()
    assert arrays["channel"] == channel
    assert arrays["y"].tolist() == corners[0]
    assert arrays["x"].tolist() == corners[1]
    np.testing.assert_allclose(arrays["activity"], wanted["activity"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(arrays["probability"], wanted["probability"], rtol=1e-9)
    assert np.array_equal(arrays["label"], wanted["label"].astype(int))


def test_activity_of_a_layer_that_is_not_rectified_is_the_sum_of_positive_values(net, image):
    with torch.no_grad():
        outputs = net.module[:4](image)[0]
    channel = int((outputs < 0).sum((1, 2)).argmax())
    maps = outputs[channel]
    assert (maps < 0).any()
    settings = {"size": 0.5, "stride": 1, "phases": 1, "compare_fills": False}
    found = dv.occlusion(net, image, "3", channel=channel, **settings)
    assert found.images[0].complete_activity == pytest.approx(float(maps.clamp(min=0).sum()), rel=1e-9)


def test_unit_is_measured_alone(net, image):
    found = dv.occlusion(net, image, "4", size=0.4, stride=0.4, unit=(2, 3, 1), phases=1, compare_fills=False)
    one = found.images[0]
    with torch.no_grad():
        assert one.complete_activity == pytest.approx(float(net.module[:5](image)[0, 2, 3, 1]), rel=1e-9)
    assert (one.unit.channel, one.unit.y, one.unit.x) == (2, 3, 1)
    assert one.to_json(CLASSES)["unit"] == [2, 3, 1]


def test_class_by_name(net, image):
    found = dv.occlusion(net, image, "4", size=0.4, stride=0.4, class_name="eel", phases=1)
    with torch.no_grad():
        wanted = float(net.module(image).softmax(1)[0, 4])
    assert found.images[0].class_index == 4
    assert found.images[0].complete_probability == pytest.approx(wanted, rel=1e-9)


def test_output_can_be_the_measured_layer(net, image):
    found = dv.occlusion(net, image, "output", size=0.4, stride=0.4, channel=1, phases=1).images[0]
    with torch.no_grad():
        scores = net.module(image)[0]
    assert found.complete_activity == pytest.approx(float(scores[1]), rel=1e-9)
    assert found.complete_label == int(scores.argmax())


def test_network_without_class_scores_has_no_probability(image):
    net = network(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), classes=None)
    found = dv.occlusion(net, image, "1", size=0.4, stride=0.4)
    one = found.images[0]
    assert one.probability is None
    assert np.isnan(one.arrays()["probability"]).all()
    assert (one.arrays()["label"] == -1).all()
    assert found.table["probability"].null_count == len(found.table)
    assert [tile.kind for tile in found.spec().tiles[0]] == ["image", "map", "signed"]
    with pytest.raises(UnitError, match="does not return class scores"):
        dv.occlusion(net, image, "1", class_name="ant")


def test_table_has_one_row_for_each_square(net, image):
    found = dv.occlusion(net, image, "4", size=0.4, stride=0.3, phases=1, compare_fills=False)
    one, table = found.images[0], found.table.to_pydict()
    assert len(found.table) == len(one.squares)
    assert table["activity"] == one.activity.ravel().tolist()
    assert table["class"] == [CLASSES[label] for label in one.label.ravel()]
    assert list(zip(table["y"], table["x"], strict=True)) == list(one.squares.corners())


def test_spread_of_an_activity_that_does_not_depend_on_the_place_is_zero():
    net = network(lambda: nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU()), classes=None)
    flat = torch.full((1, 3, *SIZE), 2.0).double()
    one = dv.occlusion(net, flat, "1", size=0.25, stride=0.2, phases=3, fill="mean").images[0]
    assert np.allclose(one.activity_spread, 0, atol=1e-9)
    assert one.sure_activity.all()


def test_agreement_is_the_rank_correlation_of_two_fills(net, image):
    from scipy.stats import spearmanr

    settings = {"size": 0.3, "stride": 0.2, "phases": 1}
    both = dv.occlusion(net, image, "4", fill="grey", **settings).images[0]
    linear = dv.occlusion(net, image, "4", fill="linear", compare_fills=False, **settings).images[0]
    assert np.array_equal(both.other_activity, linear.activity)
    wanted = spearmanr(both.activity.ravel(), linear.activity.ravel()).statistic
    assert both.activity_agreement == pytest.approx(wanted)


def test_low_agreement_gives_a_warning(net, image):
    found = dv.occlusion(net, image, "4", size=0.3, stride=0.2, phases=1)
    low = [one for one in found.images if one.activity_agreement < 0.7 or one.probability_agreement < 0.7]
    assert bool(found.warnings()) == bool(low)
    assert found.describe()["warnings"] == found.warnings()


def test_without_removes_the_part_at_the_centre_of_the_square():
    net = dv.load("minivgg")
    drawn = scene(3)
    found = dv.occlusion(net, drawn, "relu4_2", size=0.2, stride=0.2, fill="without", phases=1)
    one = found.images[0]
    with torch.no_grad():
        for number, (y, x) in enumerate(one.squares.corners()):
            row, column = divmod(number, one.squares.shape[1])
            place = y + one.squares.side // 2, x + one.squares.side // 2
            part = next((name for name, mask in drawn.parts.items() if mask[place]), None)
            shown = drawn if part is None else drawn.redrawn(without=part)
            scores = net.module(net.preprocessing.apply(shown.image)[None]).softmax(1)[0]
            assert one.probability[row, column] == pytest.approx(float(scores[one.class_index]), abs=1e-5)


def test_files_are_those_of_the_contract(tmp_path):
    net = dv.load("minivgg")
    found = dv.occlusion(net, [scene(3), scene(4)], "relu4_2", size=0.5, stride=0.5, phases=1)
    written = found.save_into(tmp_path)
    assert sorted(path.name for path in written) == [
        "relu4_2-occlusion.json",
        "relu4_2-occlusion.png",
        "scene-000003-relu4_2-occlusion.npz",
        "scene-000004-relu4_2-occlusion.npz",
    ]
    with np.load(tmp_path / "scene-000003-relu4_2-occlusion.npz") as stored:
        assert {"activity", "probability", "label", "y", "x", "channel"} <= set(stored)
        assert stored["activity"].shape == stored["label"].shape == (len(stored["y"]), len(stored["x"]))
    manifest = json.loads((tmp_path / "relu4_2-occlusion.json").read_text())
    assert manifest["settings"]["fill"] == "grey"
    with pytest.raises(OutputError, match="already exist"):
        found.save_into(tmp_path)


def test_search_adds_projections_in_other_images(tmp_path):
    net = dv.load("minivgg")
    search = dv.search(net, "scenes:12", ["relu4_2"], out=tmp_path / "found")
    found = dv.occlusion(net, scene(3), "relu4_2", size=0.5, stride=0.5, phases=1, search=search)
    channel = found.images[0].unit.channel
    assert [peak.peak.image_id for peak in found.others[channel]] == [
        peak.image_id for peak in search.top("relu4_2", channel, 3)
    ]
    assert found.spec().shape == (1, 8)


def test_network_is_left_as_it_was(net, image):
    before = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    net.module.train()
    dv.occlusion(net, image, "4", size=0.5, stride=0.5, phases=1)
    assert net.module.training
    net.module.eval()
    assert all(torch.equal(before[name], tensor) for name, tensor in net.module.state_dict().items())
    assert not any(part._forward_hooks for part in net.module.modules())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"size": 1.2}, ImageError, "is larger than the image"),
        ({"size": 0}, ImageError, "both must be above 0"),
        ({"stride": -1}, ImageError, "both must be above 0"),
        ({"class_name": "fox"}, UnitError, "no class 'fox'"),
        ({"channel": 99}, UnitError, "no channel 99"),
        ({"unit": (0, 99, 0)}, UnitError, "no row 99"),
        ({"fill": "white"}, MethodError, "no fill 'white'"),
        ({"fill": "without"}, ImageError, "this is not a scene"),
        ({"phases": 0}, UnitError, "0 grids"),
    ],
)
def test_errors(net, image, settings, error, message):
    with pytest.raises(error, match=message):
        dv.occlusion(net, image, "4", **settings)


def test_unknown_layer(net, image):
    with pytest.raises(LayerError, match="no layer"):
        dv.occlusion(net, image, "conv9")
