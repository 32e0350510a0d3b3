"""Scores of classes: of a whole picture, at a position, and summed over a mask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oracles import difference
from helpers.parts import Parts
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import segmentation
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.engine.region import Region
from deconvviz.errors import ImageError, LayerError, UnitError
from deconvviz.images.masks import read_mask
from deconvviz.scenes import scene

CLASSES = ("sky", "dog", "grass")


class Segmenter(nn.Module):
    """Network with maps of class scores at the size of its input, and at half of it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        self.head, self.aux = nn.Conv2d(8, 3, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body(x)
        out = interpolate(self.head(maps), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"out": out, "aux": self.aux(maps)}


class Pair(nn.Module):
    """Network that returns scores of the whole picture in a dictionary, after a map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = torch.relu(self.conv(x))
        return {"maps": maps, "logits": self.fc(maps.mean((2, 3)))}


def made(kind: type[nn.Module] = Segmenter, **options: Any) -> dv.Network:
    torch.manual_seed(4)
    return dv.Network(kind().double().eval(), **{"size": 16, "classes": CLASSES, "name": "own", **options})


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_score_at_a_position_equals_the_reference() -> None:
    net = made()
    rec = net.record(images(), "output.out")
    unit = rec.class_unit("dog", 1, at=(3, 12))
    assert (unit.image, unit.channel, unit.y, unit.x) == (1, 1, 3, 12)
    assert rec.scores_layer.name == "output.out"
    (theirs,) = Parts(net.module, images()).unit("/out", 1, 1, 3, 12)
    assert difference(rec.project("output.out", unit).pixels[0], theirs[1]) < 1e-12


def masks() -> dict[str, np.ndarray[Any, Any]]:
    ring = np.zeros((16, 16), dtype=np.uint8)
    ring[3:12, 5:13] = 1
    ring[6:8, 7:10] = 0
    return {"ring": ring, "whole": np.ones((16, 16), dtype=bool), "corner": np.eye(16) * (np.arange(16) > 14)}


@pytest.mark.parametrize("name", masks())
def test_sum_over_a_mask_equals_the_reference(name: str) -> None:
    mask = masks()[name]
    net = made()
    rec, reference = net.record(images(), "output.out"), Parts(net.module, images())
    unit = rec.class_unit(2, 1, mask=mask)
    assert isinstance(unit, Region) and unit.count == (mask != 0).sum()
    proj = rec.project("output.out", [unit, dv.Unit(0, 1, 2, 3)])
    inside = torch.from_numpy(mask != 0)
    signal = torch.zeros_like(reference.outputs["/out"])
    signal[1, 2][inside] = reference.outputs["/out"].detach()[1, 2][inside]
    (theirs,) = reference.project("/out", signal)
    assert difference(proj.pixels[0], theirs[1]) < 1e-12
    total = float(reference.outputs["/out"].detach()[1, 2][inside].sum())
    assert proj.units[0].activation == pytest.approx(total, rel=1e-12)
    (single,) = reference.unit("/out", 0, 1, 2, 3)
    assert difference(proj.pixels[1], single[0]) < 1e-12
    assert rec.boxes("output.out", [unit]) == [proj.boxes[0]]
    rows, columns = np.nonzero(theirs[1].abs().sum(0).numpy())
    x0, y0, x1, y1 = proj.boxes[0]
    assert y0 <= rows.min() and x0 <= columns.min() and rows.max() < y1 and columns.max() < x1


def test_region_where_a_class_wins() -> None:
    net = made()
    rec = net.record(images(), "output.out")
    scores = rec.activations("output.out")
    best = scores.argmax(1)
    present = int(best[0].flatten().mode().values)
    unit = rec.class_unit(present, mask="wins")
    assert isinstance(unit, Region)
    assert torch.equal(unit.mask(16, 16), best[0] == present)
    flat = made()
    with torch.no_grad():
        flat.module.head.bias += torch.tensor([100.0, 0, 0])  # type: ignore[operator, union-attr]
    with pytest.raises(UnitError, match=r"^dog \(1\) has the highest score at no position .*: "
                       r"sky \(0\) at 256 of 256 positions$"):  # fmt: skip
        flat.record(images(), "output.out").class_unit("dog", mask="wins")


def test_region_survives_json_and_has_a_short_text() -> None:
    region = replace(Region.of(0, 2, masks()["ring"], name="ring.png"), activation=2.5)
    stored = json.loads(json.dumps(vars(region)))
    assert Region.from_json(stored) == region
    assert Region.from_json({"image": 0, "channel": 3, "y": 1, "x": 2, "activation": 1.5}) == dv.Unit(
        0, 3, 1, 2, 1.5
    )
    assert str(region) == "image 0, channel 2, sum over 66 positions = 2.5"
    assert region.runs[3] == (6, 5, 7) and region.runs[4] == (6, 10, 13)


def test_region_of_any_layer_is_verified_and_in_arrays() -> None:
    net = made()
    rec = net.record(images(), ["body", "output.out"])
    units = [Region.of(1, 3, np.triu(np.ones((8, 8)))), dv.Unit(0, 2)]
    proj = rec.project("body", units)
    assert dv.verify(net, proj).passed
    assert proj.arrays()["runs"].tolist() == [[0, row, row, 8] for row in range(8)]
    wrong = rec.project("body", dv.Unit(1, 3))
    assert difference(proj.pixels[:1], wrong.pixels) > 0.01


def test_figure_states_what_the_score_is() -> None:
    net = made()
    rec = net.record(scene(7).image, "output.out")
    units = [rec.class_unit("dog", at=(4, 5)), rec.class_unit("dog", mask=masks()["ring"])]
    proj = rec.project("output.out", units)
    first, second = proj.spec(crop="field").tiles
    assert first.caption == ("output.out · dog (1)", f"at (4, 5) · score {proj.units[0].activation:.4g}")
    assert second.caption == (
        "output.out · dog (1)",
        "sum of the scores over 66 positions (mask)",
        f"sum {proj.units[1].activation:.4g}",
    )
    assert "predicted class" not in " ".join(proj.spec().title)


def test_errors_state_which_scores_there_are() -> None:
    rec = made().record(images(), "output.out")
    for given, message in {
        (): r"^output\.out has class scores at 16 x 16 positions: give one with at=\(y, x\), or several with "
        r"mask=FILE \(or wins: where the class has the highest score\)$",
        (("at", (16, 0)),): r"^no position \(16, 0\) in output\.out: rows are 0 to 15, columns 0 to 15$",
        (("at", 7),): r"^7 is not a position: give a row and a column, \(y, x\)$",
        (("at", (1, 1)), ("mask", "wins")): r"^give at=\(y, x\) or mask=FILE, not both$",
    }.items():
        with pytest.raises(UnitError, match=message):
            rec.class_unit("dog", **dict(given))
    with pytest.raises(UnitError, match=r"^a mask of 5 x 7 does not fit: .*\(16 x 16\)$"):
        rec.class_unit("dog", mask=np.ones((5, 7)))
    with pytest.raises(UnitError, match=r"marks no position"):
        rec.class_unit("dog", mask=np.zeros((16, 16)))
    with pytest.raises(LayerError, match=r"^output\.out was not recorded: this recording has body$"):
        made().record(images(), "body").class_unit("dog", at=(1, 1))
    with pytest.raises(UnitError, match=r"^no class 'cat' among 3"):
        rec.class_unit("cat", at=(1, 1))
    whole = made(Pair).record(images(), "output.logits")
    with pytest.raises(UnitError, match=r"^output\.logits has one score for each class, without positions: "):
        whole.class_unit("dog", at=(1, 1))


def test_error_if_it_is_unknown_which_part_has_class_scores() -> None:
    several = made(Pair, classes=None)
    assert several.layers.scores().name == "output.logits"  # by its usual name
    with pytest.raises(
        LayerError,
        match=r"^own returns a dict; none has one channel for each of 7 classes: output\.maps "
        r"\(4 x 14 x 14\), output\.logits \(3\)$",
    ):
        made(Pair, classes=[str(n) for n in range(7)]).class_index("1")


def test_predicted_class_is_that_of_a_part_with_scores_of_the_picture() -> None:
    net = made(Pair)
    rec = net.record(images(), "conv", scores=True)
    scores = Parts(net.module, images()).outputs["/logits"].detach()
    for image in (0, 1):
        top = rec.top_class(image)
        assert top is not None and top.index == int(scores[image].argmax())
        assert top.score == pytest.approx(float(scores[image].max()))
    assert made().record(images(), "body", scores=True).top_class(0) is None  # maps of scores


def test_mask_of_the_pictures_size_is_cropped_as_the_picture_is(tmp_path: Path) -> None:
    picture = scene(3).image  # 96 x 96
    wide = np.concatenate([picture, picture], axis=1)
    net = made()
    rec = net.record(wide, "output.out")
    mask = np.zeros(wide.shape[:2], dtype=np.uint8)
    mask[48:, 96:] = 255  # lower right quarter of the centre crop, and what is cropped away
    unit = rec.class_unit("sky", mask=mask)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[8:, 8:] = True
    assert isinstance(unit, Region) and torch.equal(unit.mask(16, 16), expected)
    for name in ("mask.png", "mask.npy"):
        file = tmp_path / name
        np.save(file, mask) if file.suffix == ".npy" else Image.fromarray(mask).save(file)
        again = rec.class_unit("sky", mask=file)
        assert isinstance(again, Region) and again.runs == unit.runs and again.name == name


def test_masks_with_palette_or_transparency_are_read_by_their_values(tmp_path: Path) -> None:
    numbers = np.zeros((4, 5), dtype=np.uint8)
    numbers[1:3, 2:] = 7
    palette = Image.fromarray(numbers).convert("P")
    palette.putpalette([0, 0, 0] * 256)  # every index has the same colour
    palette.putdata(numbers.flatten().tolist())
    palette.save(tmp_path / "palette.png")
    clear = np.zeros((4, 5, 4), dtype=np.uint8)
    clear[1:3, 2:, 0] = 9  # not black, but transparent
    Image.fromarray(clear).save(tmp_path / "clear.png")
    for name in ("palette.png", "clear.png"):
        assert np.array_equal(read_mask(tmp_path / name), numbers > 0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "broken.npy").write_bytes(b"no array")
    for name in ("broken.png", "broken.npy", "missing.png"):
        with pytest.raises(ImageError, match=name):
            read_mask(tmp_path / name)


FILE = """
import deconvviz as dv
import torch
from torch import nn
from torch.nn.functional import interpolate

class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return {"out": interpolate(self.head(self.body(x)), size=x.shape[-2:], mode="bilinear")}

def make():
    torch.manual_seed(1)
    return dv.Network(Segmenter(), size=48, name="own", classes=["sky", "dog", "grass"])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(FILE, encoding="utf-8")
    Image.fromarray(scene(7).image).save(tmp_path / "scene.png")
    mask = np.zeros((96, 96), dtype=np.uint8)
    mask[20:60, 30:70] = 255
    Image.fromarray(mask).save(tmp_path / "middle.png")
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["project", "scene.png", "--model", "own.py:make", *arguments])


COMMANDS = {
    "scene-output.out-class-dog-at20_30": ("--class", "dog", "--at", "20,30"),
    "scene-output.out-class-dog-mask-middle": ("--class", "dog", "--mask", "middle.png"),
    "scene-output.out-class-dog-grass-at5_5-at40_7": (
        "--class", "dog", "--class", "grass", "--at", "5,5", "--at", "40,7",
    ),
}  # fmt: skip


@pytest.mark.parametrize("stem", COMMANDS)
def test_project_command_writes_scores_and_makes_them_again(stem: str, folder: Path) -> None:
    result = run(*COMMANDS[stem], "--out", "out", "--arrays", "--verify")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        f"{stem}.json", f"{stem}.npz", f"{stem}.png",
    ]  # fmt: skip
    again = ["project", "--from", f"out/{stem}.json", "--allow-code", "--out", "again", "--arrays"]
    assert CliRunner().invoke(app, again).exit_code == 0
    with np.load(f"out/{stem}.npz") as one, np.load(f"again/{stem}.npz") as other:
        assert set(one) == set(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
        assert one["pixels"].any() and len(one["pixels"]) == (4 if "grass" in stem else 1)


def test_project_command_where_a_class_wins(folder: Path) -> None:
    results = [run("--class", name, "--mask", "wins", "--json") for name in ("sky", "dog", "grass")]
    codes = {result.exit_code for result in results}
    assert 0 in codes and codes <= {0, 2}
    counts = [
        sum(past - first for _, first, past in json.loads(result.stdout)["figures"][0]["units"][0]["runs"])
        for result in results
        if result.exit_code == 0
    ]
    assert sum(counts) == 48 * 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--class", "dog"), "output.out has class scores at 48 x 48 positions: give one with --at Y,X"),
        (("--class", "dog", "--at", "48,0"), "no position (48, 0) in output.out"),
        (("--class", "dog", "--at", "4"), "--at '4' is not a position"),
        (("--at", "4,4"), "name the class with --class"),
        (("--class", "dog", "--at", "4,4", "--mask", "wins"), "cannot be combined with --mask"),
        (("--class", "dog", "--mask", "lost.png"), "lost.png"),
    ],
)
def test_project_command_refuses_scores_that_do_not_exist(
    arguments: tuple[str, ...], message: str, folder: Path
) -> None:
    layer = () if "--class" in arguments else ("--layer", "body")
    result = run(*arguments, *layer, "--out", "out")
    assert result.exit_code == 2 and not (folder / "out").exists()
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "fcn_resnet50", "deeplabv3_mobilenet_v3_large"]
)
def test_class_scores_of_torchvisions_segmentation_networks_equal_the_reference(name: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": 5}
    module = getattr(segmentation, name)(**options).double().eval()
    net = dv.Network(module, size=64, classes=["a", "b", "c", "d", "e"])
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rec, reference = net.record(x, "output.out"), Parts(module, x)
    mask = np.zeros((64, 64))
    mask[10:30, 20:50] = 1
    units = [
        rec.class_unit("c", at=(20, 41)),
        rec.class_unit("c", mask=mask),
        rec.class_unit("c", mask=np.eye(64)),
    ]
    proj = rec.project("output.out", units)
    for pixels, unit in zip(proj.pixels, units, strict=True):
        inside = unit.mask(64, 64) if isinstance(unit, Region) else torch.zeros(64, 64, dtype=torch.bool)
        if not isinstance(unit, Region):
            inside[unit.y, unit.x] = True
        signal = torch.zeros_like(reference.outputs["/out"])
        signal[0, 2][inside] = reference.outputs["/out"].detach()[0, 2][inside]
        (theirs,) = reference.project("/out", signal)
        assert difference(pixels, theirs[0]) < 1e-10
