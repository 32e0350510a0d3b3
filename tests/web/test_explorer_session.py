"""Answers of the explorer, compared with the network itself and with recordings made here."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import deconvviz as dv
from deconvviz.errors import DeconvvizError, ImageError, LayerError, RequestError, UnitError
from deconvviz.scenes import scene
from deconvviz.web.explorer.messages import Message, Quantised
from deconvviz.web.explorer.pictures import UPLOAD_BYTES, Shelf
from deconvviz.web.explorer.recordings import Recordings, bytes_of, shown_layers
from deconvviz.web.explorer.requests import Request
from deconvviz.web.explorer.session import Session

pytestmark = pytest.mark.slow
LAYER = "conv3_2"


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture
def session(net: dv.Network) -> Session:
    shelf = Shelf()
    for seed in (3, 8):
        shelf.add_scene(seed)
    return Session([net], shelf)


def ask(session: Session, kind: str, *buffers: bytes, **values: Any) -> list[Message]:
    body = {"kind": kind, "network": 0, "picture": 0, "layer": LAYER, "count": 8, **values}
    found = list(session.answer(Request.of(body, tuple(buffers))))
    for message in found:
        json.dumps(message.body, allow_nan=False)
    return found


def of_kind(messages: list[Message], kind: str) -> list[Message]:
    return [message for message in messages if message.body["kind"] == kind]


def values_of(message: Message) -> np.ndarray[Any, Any]:
    whole = np.frombuffer(message.buffers[0], "<i2").reshape(message.body["shape"])
    return whole * message.body["step"]


def activations(net: dv.Network, layer: str, seed: int = 3) -> torch.Tensor:
    """The output of a layer from a hook on the module itself."""
    kept: list[torch.Tensor] = []
    module = dict(net.module.named_modules())[net.layers.find(layer).module]
    hook = module.register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    with torch.no_grad():
        net.module(net.preprocessing.apply(scene(seed).image)[None])
    hook.remove()
    return kept[0][0]


def test_state_describes_networks_pictures_and_layers(session: Session, net: dv.Network) -> None:
    (message,) = ask(session, "state")
    (described,) = message.body["networks"]
    distinct = [layer.name for layer in net.layers if not layer.same_as]
    assert [layer["name"] for layer in described["layers"]] == distinct
    assert described["classes"] == list(net.classes) and described["size"] == [96, 96]
    assert message.body["pictures"] == [f"scene {seed}: {scene(seed).name}" for seed in (3, 8)]
    assert message.body["search"] is None


def test_shown_picture_is_the_input_of_the_network_with_its_scores(session: Session, net: dv.Network) -> None:
    message = ask(session, "show")[-1]
    with Image.open(io.BytesIO(message.buffers[0])) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), scene(3).image)
    with torch.no_grad():
        scores = net.module(net.preprocessing.apply(scene(3).image)[None])[0].softmax(0)
    best = scores.topk(5)
    assert [one["name"] for one in message.body["scores"]] == [net.classes[i] for i in best.indices]
    assert [one["probability"] for one in message.body["scores"]] == pytest.approx(
        best.values.tolist(), rel=1e-4
    )


def test_place_gives_the_strongest_channels_of_the_place(session: Session, net: dv.Network) -> None:
    (cards,) = of_kind(ask(session, "look", y=10, x=12), "cards")
    here = activations(net, LAYER)[:, 10, 12]
    best = here.topk(8)
    alive = int((best.values > 0).sum())
    assert [unit["channel"] for unit in cards.body["units"]] == best.indices[:alive].tolist()
    assert [unit["activation"] for unit in cards.body["units"]] == pytest.approx(
        best.values[:alive].tolist(), rel=1e-4
    )
    assert {(unit["y"], unit["x"]) for unit in cards.body["units"]} == {(10, 12)}


def test_projections_equal_those_of_a_recording(session: Session, net: dv.Network) -> None:
    messages = ask(session, "look", y=10, x=12)
    units = [dv.Unit(0, one["channel"], one["y"], one["x"]) for one in messages[0].body["units"]]
    direct = net.record(scene(3).image, LAYER).project(LAYER, units)
    found = of_kind(messages, "projection")
    assert [message.body["number"] for message in found] == list(range(len(units)))
    for number, message in enumerate(found):
        box = direct.boxes[number]
        assert message.body["box"] == list(box) == messages[0].body["units"][number]["box"]
        own = direct.crop_at(number, box)
        assert values_of(message) == pytest.approx(own, abs=0.51 * message.body["step"] + 1e-6)
    (last,) = of_kind(messages, "looked")
    assert last.body["crops"] == [list(box) for box in direct.effective_boxes()]
    numbers = np.abs(np.concatenate([direct.crop_at(n, box).ravel() for n, box in enumerate(direct.boxes)]))
    percentile = np.percentile(numbers[numbers > 0], 99.5, method="higher")
    assert last.body["limit"] == pytest.approx(float(percentile), rel=1e-3)


def test_likeness_is_the_median_correlation_of_the_projections_of_the_place(session: Session) -> None:
    messages = ask(session, "look", y=10, x=12)
    maps = np.stack([values_of(message).ravel() for message in of_kind(messages, "projection")])
    pairs = np.abs(np.corrcoef(maps))[np.triu_indices(len(maps), 1)]
    assert messages[-1].body["likeness"] == pytest.approx(float(np.median(pairs)), abs=1e-3)
    whole = np.abs(np.corrcoef(maps))
    others = [np.median(np.delete(row, number)) for number, row in enumerate(whole)]
    assert messages[-1].body["alike"] == pytest.approx(others, abs=1e-3)


def test_units_of_different_places_have_no_likeness_of_their_own(session: Session) -> None:
    last = ask(session, "look", count=4)[-1].body
    assert last["alike"] == [None] * 4 and 0 < last["likeness"] <= 1


def test_strongest_units_of_the_picture_are_apart(session: Session, net: dv.Network) -> None:
    (cards,) = of_kind(ask(session, "look", count=5), "cards")
    direct = net.record(scene(3).image, LAYER).choose(LAYER, 5)
    assert [(one["channel"], one["y"], one["x"]) for one in cards.body["units"]] == [
        (unit.channel, unit.y, unit.x) for unit in direct
    ]


def test_channel_gives_its_strongest_positions(session: Session, net: dv.Network) -> None:
    (cards,) = of_kind(ask(session, "look", channel=7, count=3), "cards")
    assert {unit["channel"] for unit in cards.body["units"]} <= {7}
    whole = activations(net, LAYER)[7]
    if len(cards.body["units"]):
        assert cards.body["units"][0]["activation"] == pytest.approx(float(whole.max()), rel=1e-4)


def test_fully_connected_units_have_no_place(session: Session, net: dv.Network) -> None:
    (cards,) = of_kind(ask(session, "look", layer="fc5", count=3), "cards")
    best = activations(net, "fc5").topk(3)
    assert [unit["channel"] for unit in cards.body["units"]] == best.indices.tolist()
    assert {unit["y"] for unit in cards.body["units"]} == {None}
    with pytest.raises(UnitError, match="have no position"):
        ask(session, "look", layer="fc5", y=0, x=0)


def test_same_channels_in_another_picture(session: Session, net: dv.Network) -> None:
    (cards,) = of_kind(ask(session, "look", picture=1, channels=[5, 2]), "cards")
    whole = activations(net, LAYER, seed=8)
    assert [unit["channel"] for unit in cards.body["units"]] == [5, 2]
    assert [unit["activation"] for unit in cards.body["units"]] == pytest.approx(
        [float(whole[5].max()), float(whole[2].max())], rel=1e-4, abs=1e-6
    )


def test_given_units_are_shown_with_their_activations(session: Session, net: dv.Network) -> None:
    units = [{"channel": 5, "y": 3, "x": 4}, {"channel": 7, "y": None, "x": None}]
    (cards,) = of_kind(ask(session, "look", units=units), "cards")
    whole = activations(net, LAYER)
    row, column = divmod(int(whole[7].argmax()), whole.shape[2])
    shown = [(one["channel"], one["y"], one["x"]) for one in cards.body["units"]]
    assert shown == [(5, 3, 4), (7, row, column)]
    assert [one["activation"] for one in cards.body["units"]] == pytest.approx(
        [float(whole[5, 3, 4]), float(whole[7].max())], rel=1e-4, abs=1e-6
    )


def test_heat_map_is_the_map_of_the_channel(session: Session, net: dv.Network) -> None:
    (message,) = ask(session, "heat", channel=5)
    own = activations(net, LAYER)[5].numpy()
    assert values_of(message) == pytest.approx(own, abs=0.51 * message.body["step"] + 1e-6)
    assert message.body["highest"] == pytest.approx(float(own.max()), rel=1e-5)


def test_methods_equal_those_of_compare(session: Session, net: dv.Network) -> None:
    (best,) = net.record(scene(3).image, LAYER).strongest(LAYER, 1)
    unit = {"channel": best.channel, "y": best.y, "x": best.x}
    found = of_kind(ask(session, "compare", units=[unit], methods=["deconvnet", "guided"]), "map")
    direct = dv.compare(net, scene(3).image, LAYER, units=[best], methods=["deconvnet", "guided"])
    for message in found:
        x0, y0, x1, y1 = message.body["box"]
        own = direct.maps[message.body["name"]][0, :, y0:y1, x0:x1].numpy().transpose(1, 2, 0)
        assert values_of(message) == pytest.approx(own, abs=0.51 * message.body["step"] + 1e-6)
    assert [message.body["name"] for message in found] == ["deconvnet", "guided"]


def test_python_code_makes_the_projection_that_was_shown(session: Session, tmp_path: Path) -> None:
    units = [{"channel": 5, "y": 3, "x": 4}, {"channel": 2, "y": 9, "x": 9}]
    (message,) = ask(session, "code", units=units)
    script = tmp_path / "made.py"
    script.write_text(message.body["python"] + '\nproj.save("again.png", arrays=True)\n')
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, capture_output=True)
    made = np.load(tmp_path / "again.npz")
    assert made["channel"].tolist() == [5, 2] and made["y"].tolist() == [3, 9]
    (file,) = ask(session, "save", units=units, format="npz")
    assert np.load(io.BytesIO(file.buffers[0]))["pixels"] == pytest.approx(made["pixels"], abs=1e-6)


def test_command_names_the_network_and_the_units(session: Session) -> None:
    (message,) = ask(session, "code", units=[{"channel": 5, "y": 3, "x": 4}])
    assert message.body["shell"] == "deconvviz project IMAGE --model minivgg --layer conv3_2 --unit 5,3,4"


@pytest.mark.parametrize(("format", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("npz", b"PK")])
def test_saved_files_have_their_format(session: Session, format: str, start: bytes) -> None:
    (file,) = ask(session, "save", units=[{"channel": 5, "y": 3, "x": 4}], format=format)
    assert file.buffers[0].startswith(start) and file.body["name"].endswith(f".{format}")
    if format == "npz":
        assert "pixels.npy" in zipfile.ZipFile(io.BytesIO(file.buffers[0])).namelist()


def test_report_contains_what_was_collected(session: Session) -> None:
    items = [
        {
            "network": 0,
            "picture": picture,
            "layer": layer,
            "units": ask(session, "look", **place)[0].body["units"],
        }
        for picture, layer in ((0, LAYER), (1, "conv4_2"))
        for place in [{"picture": picture, "layer": layer, "count": 1}]
    ]
    file = ask(session, "report", items=items, title="Two <pictures>")[-1]
    text = file.buffers[0].decode()
    assert "Two &lt;pictures&gt;" in text and "conv3_2" in text and "conv4_2" in text
    assert "does not know how alike" not in text


def test_search_gives_the_strongest_pictures_of_a_channel(net: dv.Network, tmp_path: Path) -> None:
    found = dv.search(net, "scenes:12", [LAYER], out=tmp_path / "found")
    shelf = Shelf()
    numbers = shelf.add_source(found.source)
    session = Session([net], shelf, search=found)
    assert len(numbers) == 12
    peaks = of_kind(ask(session, "topnine", channel=5), "peak")
    assert [peak.body["image"] for peak in peaks] == [one.image_id for one in found.top(LAYER, 5)]
    with pytest.raises(DeconvvizError, match="conv1_1"):
        ask(session, "topnine", layer="conv1_1", channel=5)
    (state,) = ask(session, "state")
    assert state.body["layer"] == LAYER  # a searched layer is shown first


def test_strongest_pictures_of_a_dead_channel_are_an_error_that_says_so() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    with torch.no_grad():
        module[0].weight[2], module[0].bias[2] = 0, -1  # type: ignore[index]
    net = dv.Network(module, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    found = dv.search(net, "scenes:3", ["1"], workers=0)
    shelf = Shelf()
    shelf.add_source(found.source)
    with pytest.raises(DeconvvizError, match="channel 2 is dead"):
        ask(Session([net], shelf, search=found), "topnine", layer="1", channel=2)


def test_scenes_and_uploads_are_added_once(session: Session) -> None:
    (message,) = ask(session, "scene", seed=3)
    assert message.body["chosen"] == 0
    (message,) = ask(session, "scene", seed=99)
    assert message.body["chosen"] == 2
    stream = io.BytesIO()
    Image.fromarray(scene(5).image).save(stream, "PNG")
    (message,) = ask(session, "upload", stream.getvalue(), name="../../etc/<b>\u202e.png")
    assert message.body["chosen"] == 3
    assert message.body["pictures"][3] == r"../../etc/<b>\xe2\x80\xae.png"
    assert ask(session, "show", picture=3)[-1].body["width"] == 96


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 100])
def test_upload_that_is_not_an_image_is_refused(session: Session, data: bytes) -> None:
    with pytest.raises(ImageError):
        ask(session, "upload", data, name="x.png")
    assert len(session.shelf) == 2


def test_upload_is_refused_if_image_open_was_replaced(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ultralytics replaces it by a function that imports a package for unknown formats."""

    def replaced(file: object) -> None:
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", replaced)
    with pytest.raises(ImageError):
        ask(session, "upload", b"not an image", name="x.png")


def test_decompression_bomb_is_refused_before_it_is_decoded(session: Session) -> None:
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    assert len(stream.getvalue()) < UPLOAD_BYTES
    with pytest.raises(ImageError, match="20000 x 20000 pixels"):
        ask(session, "upload", stream.getvalue(), name="bomb.png")


def test_file_that_is_too_large_is_refused(session: Session) -> None:
    with pytest.raises(ImageError, match="at most 32 MiB"):
        ask(session, "upload", b"\0" * (UPLOAD_BYTES + 1), name="large.png")


@pytest.mark.parametrize(
    ("kind", "values", "error"),
    [
        ("nothing", {}, RequestError),
        ("show", {"picture": 9}, ImageError),
        ("show", {"picture": "../secret.png"}, RequestError),
        ("show", {"picture": True}, RequestError),
        ("show", {"network": 1}, RequestError),
        ("look", {"layer": "conv9_9"}, LayerError),
        ("look", {"layer": 3}, RequestError),
        ("look", {"count": 0}, RequestError),
        ("look", {"count": 10**6}, RequestError),
        ("look", {"y": 99, "x": 0}, UnitError),
        ("look", {"y": -1, "x": 0}, RequestError),
        ("look", {"channel": 10**6}, UnitError),
        ("look", {"channels": []}, RequestError),
        ("look", {"units": []}, RequestError),
        ("look", {"units": [{"channel": 64, "y": 0, "x": 0}]}, UnitError),
        ("look", {"units": [{"channel": 0, "y": 0, "x": 24}]}, UnitError),
        ("look", {"units": [{"channel": 0, "y": 0, "x": 0}], "layer": "fc5"}, UnitError),
        ("heat", {"channel": 64}, UnitError),
        ("heat", {"channel": 0, "layer": "fc6"}, UnitError),
        ("compare", {"units": [{"channel": 0, "y": 0, "x": 0}], "methods": ["none"]}, DeconvvizError),
        ("compare", {"units": [1], "methods": ["guided"]}, RequestError),
        ("save", {"units": [{"channel": 0, "y": 0, "x": 0}], "format": "exe"}, RequestError),
        ("save", {"units": [{"channel": 0}] * 99, "format": "png"}, RequestError),
        ("report", {"items": "all", "title": ""}, RequestError),
        ("topnine", {"channel": 0}, DeconvvizError),
        ("upload", {"name": "x"}, RequestError),
        ("scene", {"seed": -3}, RequestError),
    ],
)
def test_wrong_requests_are_refused(
    session: Session, kind: str, values: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ask(session, kind, **values)
    assert ask(session, "look", count=1)


def test_recordings_stay_within_their_budget(net: dv.Network) -> None:
    shelf = Shelf()
    for seed in range(6):
        shelf.add_scene(seed)
    size = bytes_of(shown_layers(net))
    recordings = Recordings([net], shelf, budget=2 * size)
    layer = net.layers.find(LAYER)
    kept = [recordings.get(0, number, layer) for number in (0, 1, 0, 2)]
    assert kept[2] is kept[0] and recordings.bytes == 2 * size
    assert [recordings.is_kept(0, number, layer) for number in (0, 1, 2)] == [True, False, True]


def test_quantised_values_are_exact_to_half_a_step() -> None:
    values = np.random.default_rng(0).standard_normal((5, 4, 3)) * 1e-3
    found = Quantised.of(values)
    again = np.frombuffer(found.data, "<i2").reshape(found.shape) * found.step
    assert np.abs(again - values).max() <= 0.5 * found.step
    assert Quantised.of(np.zeros((2, 2))).step == 0


def test_network_whose_input_is_not_an_image_is_refused() -> None:
    module = torch.nn.Conv2d(5, 2, 3)
    net = dv.Network(module, size=16, mean=(0.0,) * 5, std=(1.0,) * 5)
    with pytest.raises(DeconvvizError, match="5 channels"):
        Session([net], Shelf())
