"""`dv.trust`: its result, its contract, and errors."""

from __future__ import annotations

import gc
import json
import weakref

import numpy as np
import pytest
import torch
from helpers import trust
from PIL import Image
from torch import nn

import deconvviz as dv
from deconvviz.image_sources import open_source
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together half a minute

MEASURE = {"value", "low", "high", "baseline", "meaning"}


def drawing_network(seed=0, channels=8):
    """Return a small network for scenes, with fields of 38 px."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, channels, 5, stride=2),
        nn.ReLU(),
    )
    return dv.Network(module.eval(), size=96, mean=(0.5,) * 3, std=(0.25,) * 3, name="small")


@pytest.fixture(scope="module")
def net():
    return drawing_network()


@pytest.fixture(scope="module")
def found(net):
    return dv.trust(net, "scenes:4@1", "4", k=4, methods=["deconvnet", "gradient"])


def test_json_has_the_keys_of_the_contract(found):
    result = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert {"network", "layer", "units", "methods", "summary"} <= set(result)
    assert (result["network"], result["layer"], result["units"]) == ("small", "4", found.units)
    assert list(result["methods"]) == ["deconvnet", "gradient"]
    for one in result["methods"].values():
        keys = {"likeness", "identification", "switches", "deletion", "insertion", "parts", "weights"}
        assert set(one) == keys
        for name in keys - {"parts", "weights"}:
            assert set(one[name]) >= MEASURE
        parts = one["parts"]
        assert parts["reading"] in ("energy", "contribution")
        for name in ("finds", "tells_apart", "energy_over_area", "pointing"):
            assert set(parts[name]) >= MEASURE
        first, *others = one["weights"]["cascading"]
        assert first == {"module": "", "spearman": 1.0, "ssim": 1.0, "pearson": 1.0}
        assert [entry["module"] for entry in others] == ["3", "0"]
        assert [entry["module"] for entry in one["weights"]["independent"]] == ["3", "0"]
        for entry in others:
            assert set(entry) >= {"module", "spearman", "ssim", "pearson"}
    assert len(result["summary"]) == 3
    assert result["summary"] == found.summary()


def test_every_number_lies_in_its_interval(found):
    arrays = found.arrays()
    known = np.isfinite(arrays["low"])
    assert known.all()
    assert (arrays["low"] <= arrays["value"] + 1e-9).all()
    assert (arrays["value"] <= arrays["high"] + 1e-9).all()
    assert arrays["value"].shape == (2, len(arrays["measures"])) == (2, 9)
    assert (arrays["deletion_curve"][:, 0] == 1).all()
    assert arrays["cascading"].shape == (2, 3, 3)


@pytest.mark.slow
def test_same_seed_gives_the_same_numbers(net, found):
    again = dv.trust(net, "scenes:4@1", "4", k=4, methods=["deconvnet", "gradient"])
    assert again.to_json() == found.to_json()
    other = dv.trust(net, "scenes:4@1", "4", k=4, methods=["deconvnet", "gradient"], seed=1)
    one, two = (one.measures["deconvnet"]["weights"]["independent"] for one in (other, found))
    assert one != two


def test_order_and_number_of_methods_do_not_change_a_method(net, found):
    alone = dv.trust(net, "scenes:4@1", "4", k=4, methods=["gradient"])
    assert alone.measures["gradient"] == found.measures["gradient"]


@pytest.mark.slow
def test_images_sources_and_scenes_give_the_same_pictures(net, found, tmp_path):
    for seed in range(1, 5):
        Image.fromarray(scene(seed).image).save(tmp_path / f"{seed}.png")
    from_scenes = dv.trust(net, [scene(seed) for seed in range(1, 5)], "4", k=4, methods=["deconvnet"])
    from_source = dv.trust(net, open_source("scenes:9@1"), "4", k=4, methods=["deconvnet"], limit=4)
    from_folder = dv.trust(net, tmp_path, "4", k=4, methods=["deconvnet"])
    from_files = dv.trust(net, sorted(tmp_path.glob("*.png")), "4", k=4, methods=["deconvnet"])
    own = found.measures["deconvnet"]
    assert from_scenes.measures["deconvnet"] == own
    assert from_source.measures["deconvnet"] == own
    assert from_files.measures == from_folder.measures
    without_parts = {name: value for name, value in own.items() if name != "parts"}
    assert from_folder.measures["deconvnet"] == {**without_parts, "parts": None}
    assert from_folder.controls is None


def test_prepared_tensor_gives_the_same_numbers(net):
    images = [scene(seed).image for seed in (1, 2)]
    inputs = torch.stack([net.preprocessing.apply(image) for image in images])
    one, two = (dv.trust(net, given, "4", methods=["deconvnet"]) for given in (images, inputs))
    assert one.measures == two.measures


def test_search_examines_the_places_of_its_peaks(net, tmp_path):
    search = dv.search(net, "scenes:12", ["4"], workers=0, batch_size=4)
    found = dv.trust(net, search, "4", k=3, methods=["deconvnet"], limit=3)
    channels = search.choose("4", 3, "random", 0)
    assert list(found.pictures) == [search.top("4", channel, 1)[0].image_id for channel in channels]
    assert found.measures["deconvnet"]["parts"] is not None  # the images of the search are scenes


def test_picture_without_two_units_is_skipped_with_its_reason():
    net = drawing_network()
    with torch.no_grad():
        net.module[3].bias.fill_(-1e9)
    with pytest.raises(dv.DeconvvizError, match=r"no image can be used for 4\. scene-000000: only 0 of"):
        dv.trust(net, "scenes:1", "4", methods=["deconvnet"])
    black = np.zeros((96, 96, 3), np.uint8)
    with torch.no_grad():
        net.module[0].bias.fill_(0.5)
        net.module[0].weight.abs_()  # a black image is negative, so it silences all units
        net.module[3].weight.abs_()
        net.module[3].bias.fill_(-0.5)
    found = dv.trust(net, [np.full_like(black, 255), black], "4", methods=["deconvnet"])
    assert found.pictures == ("image 0",)
    assert found.skipped == (("image 1", "only 0 of the layer's units fire at the strongest place"),)


def test_broken_image_is_skipped_with_its_reason(net, tmp_path):
    Image.fromarray(scene(1).image).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"not an image")
    found = dv.trust(net, tmp_path, "4", methods=["deconvnet"])
    assert found.pictures == ("a.png",)
    ((name, reason),) = found.skipped
    assert name == "b.png"
    assert "b.png" in reason
    assert found.to_json()["skipped"] == [{"picture": name, "reason": reason}]


def test_unsupported_method_is_left_out_with_its_reason(net):
    strange = trust.KnownMaps("strange", lambda s, u: s.inputs[0], reason="its ReLU is a function")
    with trust.registered(strange):
        found = dv.trust(net, "scenes:1", "4", methods=["strange", "deconvnet"])
        assert list(found.measures) == ["deconvnet"]
        assert found.to_json()["left_out"] == {"strange": "its ReLU is a function"}
        with pytest.raises(dv.DeconvvizError, match="no method can be used for 4: strange: its ReLU"):
            dv.trust(net, "scenes:1", "4", methods=["strange"])


def test_single_picture_has_intervals_over_its_units(net):
    found = dv.trust(net, "scenes:1@3", "4", methods=["deconvnet"])
    measure = found.measures["deconvnet"]["likeness"]
    assert measure["pictures"] == 1
    assert measure["low"] < measure["value"] < measure["high"]
    assert "this place" in found.summary()[0]


def test_layer_without_positions_can_be_measured():
    torch.manual_seed(0)
    net = dv.Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 9)), size=32)
    found = dv.trust(net, "scenes:2", "1", k=3, methods=["deconvnet", "gradient"])
    assert found.measures["deconvnet"]["likeness"]["baseline"] is None  # there is no other place
    assert "units of this layer" in found.summary()[0]
    assert found.figure() is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "9"}, "no layer '9'"),
        ({"methods": ["deconvet"]}, "no method 'deconvet'.* Did you mean deconvnet"),
        ({"methods": []}, "no method was given"),
        ({"k": 1}, "1 units at a place were requested"),
        ({"limit": 0}, "a limit of 0 leaves no image"),
        ({"images": []}, "no image was given"),
        ({"images": "scenes:0"}, "0 scenes requested"),
        ({"images": "nowhere.png"}, "nowhere.png"),
    ],
)
def test_mistakes_are_named(net, arguments, message):
    given = {"images": "scenes:1", "layer": "4", "methods": ["deconvnet"], **arguments}
    with pytest.raises(dv.DeconvvizError, match=message):
        dv.trust(net, **given)


@pytest.mark.parametrize("step", [1, 3, 6])
def test_interrupt_leaves_the_network_as_it_was(step):
    net = drawing_network()
    before = {name: (t.clone(), t.data_ptr()) for name, t in net.module.state_dict().items()}

    def report(done, total):
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dv.trust(net, "scenes:2", "4", methods=["deconvnet"], report=report)
    after = net.module.state_dict()
    assert all(torch.equal(after[name], t) and after[name].data_ptr() == p for name, (t, p) in before.items())


def test_interrupt_while_weights_are_random_puts_them_back(monkeypatch):
    net = drawing_network()
    before = {name: t.clone() for name, t in net.module.state_dict().items()}
    seen = []

    def interrupted(subject, unit):
        changed = not torch.equal(subject.network.module[0].weight, before["0.weight"])
        seen.append(changed)
        if changed:
            raise KeyboardInterrupt
        return subject.inputs[0]

    method = trust.KnownMaps("interrupted", interrupted)
    with trust.registered(method), pytest.raises(KeyboardInterrupt):
        dv.trust(net, "scenes:1", "4", methods=["interrupted"])
    assert seen[-1]
    assert all(torch.equal(t, before[name]) for name, t in net.module.state_dict().items())


def test_progress_reaches_its_total(net):
    steps = []
    dv.trust(
        net, "scenes:2", "4", methods=["deconvnet"], report=lambda done, total: steps.append((done, total))
    )
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    assert len({total for _, total in steps}) == 1


@pytest.mark.slow
def test_recordings_of_earlier_pictures_are_released(net, monkeypatch):
    """Only those of the first three images, which are compared with random weights, stay in memory."""
    record, kept, alive = dv.Network.record, [], []

    def watched(*arguments, **settings):
        recording = record(*arguments, **settings)
        kept.append(weakref.ref(recording))
        return recording

    monkeypatch.setattr(dv.Network, "record", watched)

    def report(done, total):
        gc.collect()
        alive.append(sum(one() is not None for one in kept))

    dv.trust(net, "scenes:7", "4", k=3, methods=["deconvnet"], report=report)
    assert len(kept) > 14  # two for each image, and those with random weights
    assert max(alive) <= 8  # two for each of four images
    assert alive[3:7] == [alive[3]] * 4


def test_saved_files_are_a_figure_a_manifest_and_arrays(found, tmp_path):
    files = found.save(tmp_path / "trust.svg", arrays=True)
    manifest = json.loads(files.manifest.read_text())
    assert manifest["trust"] == json.loads(json.dumps(found.to_json()))
    assert manifest["format"] == "deconvviz trust 1"
    assert manifest["network"]["digest"] == found.network.digest
    assert manifest["settings"] == {"k": 4, "seed": 0, "methods": ["deconvnet", "gradient"]}
    assert manifest["source"] == "scenes:4@1"
    with np.load(files.arrays) as stored:
        assert stored["value"].tolist() == found.arrays()["value"].tolist()
    with pytest.raises(dv.DeconvvizError, match="already exist"):
        found.save(tmp_path / "trust.svg")


def test_result_is_shown_in_notebooks(found):
    assert found._repr_png_().startswith(b"\x89PNG")
    assert repr(found) == f"<Trust in deconvnet, gradient at 4 of small: {found.units} units of 4 images>"
