"""Detectors: networks that take a list of pictures, and the class scores of detections."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import other_zoos
from helpers.oracles import difference
from helpers.parts import Parts
from PIL import Image
from torch import Tensor, nn
from torchvision.models import detection
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import ImageError, LayerError, NetworkError, UnitError
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.scenes import scene

CLASSES = ("background", "cat", "dog", "car", "bus", "cow")


class OwnDetector(nn.Module):
    """Detector that normalises each picture, pads it into a batch, and selects the highest class score."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 4, 3))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        height = max(image.shape[1] for image in images)
        width = max(image.shape[2] for image in images)
        batch = images[0].new_zeros(len(images), 3, height + 3, width + 5)
        for number, image in enumerate(images):
            batch[number, :, : image.shape[1], : image.shape[2]].copy_((image - 0.4) / 0.2)
        return [{"maps": maps} for maps in self.body(batch)]


class AsBatch(nn.Module):
    """Network that takes a batch of one picture instead of a list, for the reference."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net = network

    def forward(self, x: Tensor) -> Any:
        return self.net([x[0]])


def own() -> dv.Network:
    torch.manual_seed(2)
    return dv.Network(OwnDetector().double().eval(), size=24, pictures="list", name="own")


def test_network_that_takes_a_list_is_given_the_picture_at_its_own_size() -> None:
    net, picture = own(), scene(3).image[:41, :53]
    rec = net.record(picture, "body")
    assert rec.inputs.shape == (1, 3, 41, 53) and rec.activations("body").shape == (1, 4, 19, 26)
    assert torch.equal(rec.inputs[0], (torch.from_numpy(picture).permute(2, 0, 1) / 255).double())
    reference = Parts(AsBatch(net.module).eval(), rec.inputs)
    for place in ((2, 3, 4), (0, 18, 25), (3, 0, 0)):
        proj = rec.project("body", dv.Unit(0, *place))
        (theirs,) = reference.unit("net.body", 0, *place)
        assert difference(proj.pixels[0], theirs[0]) < 1e-12
    assert rec.boxes("body", [dv.Unit(0, 1, 3, 4), dv.Unit(0, 1, 18, 25)]) == [
        (8, 6, 15, 13),
        (50, 36, 53, 41),
    ]
    spec = rec.project("body", rec.strongest("body", 2)).spec()
    assert spec.image is not None and spec.image.shape == (41, 53, 3)
    assert np.allclose(spec.image, picture / 255, atol=1e-6)


class Resizing(OwnDetector):
    """Detector that resizes each picture so that its shorter side has 60 pixels."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        (image,) = images
        height, width = image.shape[1:]
        size = (60 * height // min(height, width), 60 * width // min(height, width))
        return super().forward([nn.functional.interpolate(image[None], size, mode="bilinear")[0]])


def test_fields_of_a_network_that_resizes_pictures_are_those_in_the_picture() -> None:
    torch.manual_seed(2)
    module = Resizing().double().eval()
    for weight in module.parameters():
        weight.data.abs_()
    net = dv.Network(module, size=30, pictures="list", name="own")
    assert net.layers["body"].stride == (1, 1) and net.layers["body"].field == (5, 5)
    five_times = dv.Network(module, size=12, pictures="list", name="own")  # not exact in binary numbers
    assert five_times.layers["body"].stride == (0.4, 0.4) and five_times.layers["body"].field == (3, 3)
    picture = np.full((41, 53, 3), 255, dtype=np.uint8)  # no ReLU is silent; resized to 60 x 77
    rec = net.record(picture, [net.layers["body"], "body.0"])
    layer, image = rec.layers[0], rec.inputs[0].clone().requires_grad_(True)
    assert (
        layer.stride == pytest.approx((2 * 41 / 60, 2 * 53 / 77))
        and layer.shape == rec.activations("body").shape[1:]
    )
    maps = module([image])[0]["maps"]
    for place in ((8, 11), (12, 20), (20, 25), (17, 6)):
        (gradient,) = torch.autograd.grad(maps[(0, *place)], image, retain_graph=True)
        box = rec.boxes(net.layers["body"], [dv.Unit(0, 0, *place)])[0]
        found = layer.field_of(*place)
        assert found is not None
        for axis, dim in ((0, 1), (1, 0)):
            seen = torch.nonzero(gradient.abs().sum((0, 1 + dim)))[:, 0]
            first, past = int(seen[0]), int(seen[-1]) + 1
            assert (box[1 - axis], box[3 - axis]) == (first, past)
            assert 0 <= layer.field[axis] - (past - first) <= 1  # type: ignore[index]
            assert abs((found[1 - axis] + found[3 - axis]) - (first + past)) <= 2


def test_layers_command_names_the_size_of_the_picture_of_its_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FILE, encoding="utf-8")
    result = CliRunner().invoke(app, ["layers", "--model", "own.py:make"])
    assert result.exit_code == 0
    assert "field and stride are those for a picture of 64 x 64 pixels" in result.stderr
    row = next(line for line in result.stdout.splitlines() if line.startswith("head.classification_head "))
    assert row.split()[-3:-1] == ["no", "map"]


def test_several_pictures_in_one_recording_are_refused() -> None:
    message = (
        r"^own takes pictures of their own sizes, one in each recording, but 2 were given: record them one"
    )
    for given in ([scene(1).image, scene(2).image], [scene(1).image, scene(2).image[:40]]):
        with pytest.raises(ImageError, match=message):
            own().record(given, "body")
    with pytest.raises(ImageError, match=message):
        own().record(torch.rand(2, 3, 20, 20), "body")


def test_uses_on_batches_and_wrong_options_are_refused(tmp_path: Path) -> None:
    Image.fromarray(scene(1).image).save(tmp_path / "one.png")
    with pytest.raises(NetworkError, match=r"^own takes pictures of their own sizes, one at a time"):
        dv.search(own(), tmp_path, ["body"], out=tmp_path / "found")
    with pytest.raises(NetworkError, match=r"^pictures='lists': it is 'batch' or 'list'$"):
        dv.Network(nn.Conv2d(3, 2, 1), pictures="lists")
    with pytest.raises(NetworkError, match=r"has one input: leave inputs=\.\.\. out$"):
        dv.Network(OwnDetector(), pictures="list", inputs=("images",))
    with pytest.raises(NetworkError, match=r"^own is not a detector whose class scores are known"):
        _ = own().detections_layer


def test_preprocessing_keeps_the_size_of_a_picture() -> None:
    keeps = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3, crop_mode="own")
    picture = scene(5).image[:31, :77]
    assert keeps.apply(picture).shape == (3, 31, 77) and keeps.shape == (3, 8, 8)
    canvas, corner = keeps.canvas(picture)
    assert np.array_equal(canvas, picture) and corner == (0, 0)
    assert Preprocessing.from_json(json.loads(json.dumps(keeps.to_json()))) == keeps


def detector(name: str, **options: Any) -> dv.Network:
    torch.manual_seed(0)
    thresholds = {} if "rcnn" in name else {"score_thresh": 0.0}
    module = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=6, **thresholds, **options
    )
    if not name.startswith("ssd"):
        module.transform.min_size, module.transform.max_size = (96,), 160
    return dv.Network(module.double().eval(), size=64, classes=CLASSES, name=name)


HEADS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": "roi_heads.box_predictor.0",
    "maskrcnn_resnet50_fpn": "roi_heads.box_predictor.0",
    "retinanet_resnet50_fpn": "head.classification_head",
    "fcos_resnet50_fpn": "head.classification_head",
    "ssdlite320_mobilenet_v3_large": "head.classification_head",
    "ssd300_vgg16": "head.classification_head",
}


BY_NIGHT = ("ssd300_vgg16", "maskrcnn_resnet50_fpn")  # large; the others have the same heads


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in BY_NIGHT else pytest.mark.slow)
        for name in HEADS
    ],
)
def test_detections_and_layers_of_torchvisions_detectors_equal_the_reference(name: str) -> None:
    net = detector(name)
    picture = scene(3).image[:70]
    layer = net.detections_layer
    assert layer.name == HEADS[name]
    maps = [one for one in net.layers if one.has_channels and len(one.shape) == 3 and not one.unsupported]
    chosen = [one for one in maps if not one.is_constant and not one.same_as][::12]
    rec = net.record(picture, [layer, *chosen])
    assert rec.inputs.shape == (1, 3, 70, 96)
    reference = Parts(AsBatch(net.module).eval(), rec.inputs)
    returned = reference.result[0]
    assert [unit.score for unit in rec.detections] == pytest.approx(returned["scores"].tolist(), abs=1e-12)
    assert [unit.channel for unit in rec.detections] == returned["labels"].tolist()
    assert np.allclose([unit.box for unit in rec.detections], returned["boxes"].tolist())
    units = [rec.detection_unit(number) for number in (0, 3)]
    scores = reference.outputs["net." + layer.module.replace("[", "/").replace("]", "")].detach()
    for unit in units:
        own_score = _detectors_score(name, scores, unit.index, reference)
        assert own_score == pytest.approx(unit.score, rel=1e-9) and unit.index[-1] == unit.channel
        assert unit.activation == float(scores[unit.index])
    for pixels, unit in zip(rec.project(layer, units).pixels, units, strict=True):
        (theirs,) = reference.unit("net." + layer.module.replace("[", "/").replace("]", ""), *unit.index)
        assert difference(pixels, theirs[0]) < 1e-12
    for one in chosen:
        unit = rec.strongest(one, 1)[0]
        proj = rec.project(one, unit)
        module = "net." + one.module.replace("[", "/").replace("]", "")
        (theirs,) = reference.unit(module, 0, unit.channel, unit.y or 0, unit.x or 0)
        assert difference(proj.pixels[0], theirs[0]) < 1e-12
        rows, columns = np.nonzero(theirs[0].abs().sum(0).numpy())
        x0, y0, x1, y1 = proj.boxes[0]
        assert not len(rows) or (
            y0 <= rows.min() and rows.max() < y1 and x0 <= columns.min() < columns.max() < x1
        )


def _detectors_score(name: str, scores: Tensor, index: tuple[int, ...], reference: Parts) -> float:
    """Return the score that a detector computes from the class score with an index."""
    if name.startswith(("ssd", "fasterrcnn", "maskrcnn")):
        return float(torch.softmax(scores, -1)[index])
    own = torch.sigmoid(scores)[index]
    if name.startswith("fcos"):
        own = (
            own * torch.sigmoid(reference.outputs["net.head.regression_head/1"].detach())[index[:2]]
        ).sqrt()
    return float(own)


@pytest.mark.slow
def test_figure_and_errors_of_detections() -> None:
    net = detector("ssdlite320_mobilenet_v3_large")
    layer = net.detections_layer
    rec = net.record(scene(3).image[:70], [layer, "backbone.0"])
    unit = rec.detection_unit(1)
    proj = rec.project(layer, [unit, rec.detection_unit(0)])
    tile = proj.spec().tiles[0]
    assert tile.caption[:3] == (
        f"{CLASSES[unit.channel]} ({unit.channel})",
        f"detection 1 · score {unit.score:.3g}",
        f"class score before the selection {unit.activation:.4g}",
    )
    x0, _, _, y1 = unit.box
    assert tile.box is not None and tile.crop_box is not None
    assert abs(tile.box[0] - x0) <= 1 and abs(tile.box[3] - y1) <= 1
    assert proj.spec().field_name == "box of the detection"
    assert "boxes and the selection are constants" in proj.spec().title[1]
    assert proj.figure(crop="field") is not None
    with pytest.raises(UnitError, match=r"^no detection 999 in this recording: there are 0 to \d+$"):
        rec.detection_unit(999)
    with pytest.raises(UnitError, match=r"^this recording has no detections: .*net\.detections_layer"):
        net.record(scene(3).image, "backbone.0").detection_unit(0)
    with pytest.raises(UnitError, match="cannot be projected together"):
        rec.project(layer, [unit, dv.Unit(0, 1)])
    with pytest.raises(UnitError, match=r"^no entry \(0, \d+, \d\) in backbone\.0"):
        rec.project("backbone.0", unit)
    with pytest.raises(
        LayerError, match=r"units are positions of a map .* For a detection: rec\.detection_unit"
    ):
        rec.project(layer, dv.Unit(0, 1))
    found = dv.verify(net, proj)
    assert found.route == "autograd" and found.units == 2 and found.largest_difference < 1e-12
    broken = replace(proj, pixels=proj.pixels.flip(0))
    assert not dv.verify(net, broken).passed
    assert dv.verify(net, dv.project(net, scene(3).image[:70], "backbone.0", k=2)).passed


FILE = """
import deconvviz as dv
import torch
from torchvision.models import detection

def make():
    torch.manual_seed(0)
    module = detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=6, score_thresh=0.0
    )
    classes = ["background", "cat", "dog", "car", "bus", "cow"]
    return dv.Network(module, size=64, classes=classes, name="detector")
"""


@pytest.mark.slow
def test_project_command_with_detections_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FILE, encoding="utf-8")
    Image.fromarray(scene(3).image[:70]).save("scene.png")
    asked = ["project", "scene.png", "--model", "own.py:make", "--arrays", "--verify"]
    result = CliRunner().invoke(
        app, [*asked, "--detection", "2", "--detection", "0", "--layer", "backbone.0"]
    )
    assert result.exit_code == 0, result.output
    out = Path("deconvviz-out")
    units = json.loads((out / "scene-backbone.0.json").read_text())["units"]
    assert len(units) > 1 and f"verified {len(units) + 2} projections by autograd" in result.output
    stems = sorted(path.stem for path in out.glob("*.png"))
    assert stems == ["scene-backbone.0", "scene-detection-2-0"]
    stored = json.loads((out / "scene-detection-2-0.json").read_text())
    assert [unit["number"] for unit in stored["units"]] == [2, 0]
    again = [
        "project",
        "--from",
        str(out / "scene-detection-2-0.json"),
        "--allow-code",
        "--out",
        "again",
        "--arrays",
    ]
    done = CliRunner().invoke(app, again)
    assert done.exit_code == 0, done.output
    with np.load(out / "scene-detection-2-0.npz") as one, np.load("again/scene-detection-2-0.npz") as other:
        assert set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)
        assert one["pixels"].any() and one["pixels"].shape == (2, 3, 70, 96)
    wrong = CliRunner().invoke(app, [*asked, "--detection", "9999", "--out", "none"])
    assert wrong.exit_code == 2 and "no detection 9999" in wrong.output and not Path("none").exists()
    for options, message in (
        (("--detection", "-1"), "--detection -1: must be 0 or more"),
        (("--layer", "backbone.0", "--channel", "5000"), "no channel 5000 in backbone.0: there are 0 to 671"),
    ):
        early = CliRunner().invoke(app, [*asked, *options, "--out", "none"])
        assert early.exit_code == 2 and message in early.output and not Path("none").exists()


YOLO = """
import deconvviz as dv
import torch
from ultralytics.nn.tasks import DetectionModel

def make():
    torch.manual_seed(0)
    module = DetectionModel("yolo11n.yaml", verbose=False)
    return dv.Network(module, size=96, mean=[0] * 3, std=[1] * 3, name="yolo11n")
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ultralytics
def test_yolo_from_a_file_is_projected_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := other_zoos.why_missing("ultralytics:yolo11n"):
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    Path("own.py").write_text(YOLO, encoding="utf-8")
    Image.fromarray(scene(3).image).save("scene.png")
    asked = ["project", "scene.png", "--model", "own.py:make", "--verify", "--arrays"]
    scores = "model.23.cv3.1"
    result = CliRunner().invoke(app, [*asked, "--layer", "model.6", "--layer", scores, "--top", "2"])
    assert result.exit_code == 0, result.output
    assert "projections by autograd: largest relative difference" in result.output
    with np.load(f"deconvviz-out/scene-{scores}.npz") as arrays:
        assert arrays["pixels"].shape == (2, 3, 96, 96) and arrays["pixels"].any()
    for options, message in (
        (["--detection", "0"], "yolo11n is not a detector whose class scores are known"),
        (["--layer", "model.23"], "model.23 of yolo11n returns a tuple, not a single tensor: use model.23.0"),
    ):
        wrong = CliRunner().invoke(app, [*asked, *options, "--out", "none"])
        assert wrong.exit_code == 2 and message in wrong.output and not Path("none").exists()
