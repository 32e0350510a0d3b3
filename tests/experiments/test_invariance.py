"""`dv.invariance` against torchvision's transformations and plain forward passes, one picture at a time."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

import deconvviz as dv
from deconvviz.errors import ImageError, LayerError, MethodError, UnitError
from deconvviz.experiments.invariance import findings
from deconvviz.experiments.invariance.canvas import Canvas
from deconvviz.experiments.invariance.transforms import amounts_of, transform
from deconvviz.images.preprocessing import Preprocessing

pytestmark = pytest.mark.slow  # together six seconds

WHOLE, SIZE = 64, 32
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PREPROCESSING = Preprocessing(WHOLE, SIZE, MEAN, STD)


class Small(nn.Module):
    """A map without padding, and a vector."""

    def __init__(self, stride=1):
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 6, 3, stride=stride), nn.ReLU()
        self.pool, self.top = nn.AdaptiveAvgPool2d(4), nn.Linear(6 * 16, 12)
        self.active, self.scores = nn.ReLU(), nn.Linear(12, 3)

    def forward(self, images):
        maps = self.pool(self.relu(self.first(images)))
        return self.scores(self.active(self.top(maps.flatten(1))))


def network(classes=("cat", "dog", "bird"), stride=1):
    torch.manual_seed(0)
    return dv.Network(
        Small(stride).double().eval(), preprocessing=PREPROCESSING, classes=classes, name="small"
    )


def photo(number=0, size=WHOLE):
    """A smooth random image, so that interpolation matters little."""
    rough = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(rough).resize((size, size), Image.Resampling.BICUBIC))


def prepared(colours):
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    return ((colours.double() - mean) / std)[None]


def middle(whole):
    edge = (WHOLE - SIZE) // 2
    return whole[:, edge : edge + SIZE, edge : edge + SIZE]


def by_torchvision(name, amount, rgb):
    """Transform the whole image with torchvision, and crop the middle."""
    whole = torch.from_numpy(rgb).permute(2, 0, 1).double() / 255
    if name == "translate":
        return middle(whole.roll(int(amount), 1))  # what wraps around is outside the middle
    if name == "translate-x":
        return middle(whole.roll(int(amount), 2))
    if name == "rotate":
        return middle(tv.rotate(whole, amount, InterpolationMode.BILINEAR))
    return middle(tv.affine(whole, 0.0, [0, 0], amount, [0.0, 0.0], InterpolationMode.BILINEAR))


NAMES = ("translate", "translate-x", "scale", "rotate")
RANGES = {"translate": (-9, 9), "translate-x": (-9, 9), "scale": (1, 1.7), "rotate": (0, 40)}


@pytest.fixture(scope="module")
def found():
    return dv.invariance(
        network(), [photo(0), photo(1)], ["relu", "active"], transforms=NAMES, ranges=RANGES, steps=4
    )


def test_measures_equal_single_forward_passes_with_torchvision(found):
    net = network()
    rows = found.table.to_pylist()
    assert len(rows) == 2 * 4 * 4 * 2
    for row in rows:
        rgb = photo(int(row["image"].split()[1]))
        original, changed = (
            features_by_hand(net.module, prepared(by_torchvision(*given)))
            for given in (("translate", 0, rgb), (row["transform"], row["amount"], rgb))
        )
        one, other = original[row["layer"]].ravel(), changed[row["layer"]].ravel()
        distance = np.linalg.norm(other - one)
        assert row["distance"] == pytest.approx(distance, rel=1e-4, abs=1e-5)
        assert row["normalised"] == pytest.approx(distance / np.linalg.norm(one), rel=1e-4, abs=1e-6)
        cosine = 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert row["cosine"] == pytest.approx(cosine, abs=1e-6)
        index = original["probability"].argmax()
        assert row["probability"] == pytest.approx(changed["probability"][index], abs=1e-6)
        assert row["outside"] == 0


def features_by_hand(module, inputs):
    with torch.no_grad():
        maps = module.first(inputs).relu()
        active = module.top(nn.functional.adaptive_avg_pool2d(maps, 4).flatten(1)).relu()
        scores = module.scores(active)
    return {
        "relu": maps.numpy(),
        "active": active.numpy(),
        "probability": torch.softmax(scores, 1)[0].numpy(),
    }


def test_no_transformation_changes_nothing_exactly(found):
    for row in found.table.to_pylist():
        if row["amount"] == {"scale": 1, "rotate": 0}.get(row["transform"]):
            assert row["distance"] == row["normalised"] == row["cosine"] == 0
            assert row["equivariance"] == (0 if row["layer"] == "relu" else None)


def test_batches_do_not_matter(found):
    other = dv.invariance(
        network(), [photo(0), photo(1)], ["relu", "active"], transforms=NAMES, ranges=RANGES, steps=4, batch=1
    )
    for name, values in found.arrays().items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, other.arrays()[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("stride", "moved"), [(1, 3), (2, 4)])
def test_a_map_without_padding_moves_exactly_with_the_picture(stride, moved):
    ranges = {"translate": (-moved, moved)}
    net = network(stride=stride)
    found = dv.invariance(net, photo(), "relu", transforms=["translate"], ranges=ranges, steps=2)
    assert found.measure("equivariance", "translate") == pytest.approx(0, abs=1e-6)
    assert found.measure("normalised", "translate").min() > 0.1


def test_equivariance_of_a_stride_is_lost_between_its_steps():
    found = dv.invariance(
        network(stride=2), photo(), "relu", transforms=["translate"], ranges={"translate": (-1, 1)}, steps=2
    )
    assert found.measure("equivariance", "translate").min() > 1e-3


def test_what_the_file_does_not_have_is_reflected_or_grey():
    rgb = photo(2, SIZE)
    preprocessing = Preprocessing(SIZE, SIZE, MEAN, STD)
    canvas = Canvas.of(rgb, preprocessing)
    padded = np.pad(rgb, ((5, 0), (0, 0), (0, 0)), mode="reflect")[:SIZE] / 255
    colours, outside = transform("translate").apply(canvas, 5, "reflect")
    np.testing.assert_allclose(colours.permute(1, 2, 0), padded, atol=1e-6)
    assert outside == 5 / SIZE
    grey, _ = transform("translate").apply(canvas, 5, "grey")
    assert (grey[:, :5] == 0.5).all()
    np.testing.assert_allclose(grey[:, 5:], colours[:, 5:])


def test_the_real_picture_comes_in_where_there_is_one():
    rgb = photo(3)
    canvas = Canvas.of(rgb, PREPROCESSING)
    edge = (WHOLE - SIZE) // 2
    colours, outside = transform("translate").apply(canvas, 16, "reflect")
    assert outside == 0
    np.testing.assert_allclose(colours.permute(1, 2, 0) * 255, rgb[:SIZE, edge:-edge], atol=1e-4)
    _, outside = transform("translate").apply(canvas, 17, "reflect")
    assert outside == 1 / SIZE


def test_a_quarter_turn_is_exact():
    canvas = Canvas.of(photo(4), PREPROCESSING)
    turned, outside = transform("rotate").apply(canvas, 90, "reflect")
    np.testing.assert_allclose(turned, torch.rot90(canvas.crop(), 1, (1, 2)), atol=1e-6)
    assert outside == 0


def test_other_changes_equal_those_of_other_libraries():
    rgb = photo(5)
    canvas = Canvas.of(rgb, PREPROCESSING)
    whole = torch.from_numpy(rgb).permute(2, 0, 1).double() / 255
    blurred, _ = transform("blur").apply(canvas, 1.5, "reflect")
    expected = middle(tv.gaussian_blur(whole, [11, 11], [1.5, 1.5]))
    np.testing.assert_allclose(blurred, expected, atol=1e-5)
    bright, _ = transform("brightness").apply(canvas, 1.4, "reflect")
    np.testing.assert_allclose(bright, middle(tv.adjust_brightness(whole, 1.4)), atol=1e-6)
    stream = io.BytesIO()
    edge = (WHOLE - SIZE) // 2
    Image.fromarray(rgb[edge:-edge, edge:-edge]).save(stream, "JPEG", quality=30)
    coded, _ = transform("jpeg").apply(canvas, 30, "reflect")
    np.testing.assert_allclose(coded.permute(1, 2, 0) * 255, np.array(Image.open(stream)), atol=1e-4)


def test_the_picture_without_transformation_is_the_network_input():
    for size in ((200, 90), (20, 400), (WHOLE, WHOLE)):
        rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        canvas = Canvas.of(rgb, PREPROCESSING)
        np.testing.assert_allclose(prepared(canvas.crop())[0], PREPROCESSING.apply(rgb), atol=1e-5)


def test_default_amounts_are_those_of_the_paper():
    moves = amounts_of("translate", (224, 224), None, None)
    assert set(moves) == {*range(-60, 61, 3), -2, -1, 1, 2}
    assert amounts_of("scale", (224, 224), None, None)[[0, -1]].tolist() == [1, 1.8]
    assert amounts_of("rotate", (224, 224), None, None).tolist() == list(range(0, 360, 10))
    half = amounts_of("translate", (112, 112), None, None)
    assert (half.min(), half.max()) == (-30, 30)
    assert (half == np.round(half)).all()


def test_default_layers_are_the_first_and_the_last_activation():
    found = dv.invariance(network(), photo(), transforms=["scale"], steps=2)
    assert [layer.name for layer in found.layers] == ["relu", "active"]


def test_a_given_class_is_used_for_all_pictures():
    found = dv.invariance(network(), [photo(0), photo(1)], class_="bird", transforms=["scale"], steps=2)
    assert found.classes == (2, 2)
    assert found.class_name(0) == "bird"
    with pytest.raises(UnitError, match="no class 'cow'"):
        dv.invariance(network(), photo(), class_="cow")


def test_a_network_without_class_scores_has_no_probability():
    torch.manual_seed(0)
    net = dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), preprocessing=PREPROCESSING)
    found = dv.invariance(net, photo(), "1", transforms=["scale"], steps=3)
    assert found.classes == ()
    assert found.table["probability"].null_count == len(found.table)
    assert len(found.spec().rows[0][1].panels) == 1
    with pytest.raises(UnitError, match="not one score for each class"):
        dv.invariance(net, photo(), "1", class_=0)


def test_mistakes_are_found_before_the_work():
    net = network()
    with pytest.raises(MethodError, match="no transformation 'shear'"):
        dv.invariance(net, photo(), transforms=["shear"])
    with pytest.raises(MethodError, match="the range 0:2 is impossible"):
        dv.invariance(net, photo(), ranges={"scale": (0, 2)})
    with pytest.raises(MethodError, match="Name jpeg, too"):
        dv.invariance(net, photo(), ranges={"jpeg": (10, 90)})
    with pytest.raises(ImageError, match="but the picture has 32"):
        dv.invariance(net, photo(), ranges={"translate": (-40, 40)})
    with pytest.raises(MethodError, match="no border 'black'"):
        dv.invariance(net, photo(), border="black")
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        dv.invariance(net, photo(), "conv9")
    with pytest.raises(LayerError, match="is the output of small"):
        dv.invariance(net, photo(), net.layers[-1])
    with pytest.raises(ImageError, match="prepared tensor"):
        dv.invariance(net, torch.zeros(1, 3, SIZE, SIZE))


def test_unreadable_images_are_skipped_and_listed(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    found = dv.invariance(network(), str(tmp_path), transforms=["scale"], steps=2)
    assert found.images == ("a.png",)
    assert [name for name, _ in found.skipped] == ["b.png"]


def test_figure_has_pictures_and_a_panel_for_each_layer_and_the_class(found):
    spec = found.spec()
    assert len(spec.rows) == len(NAMES)
    pictures, curves = spec.rows[0]
    assert sum(tile is not None for row in pictures.tiles for tile in row) == 5
    assert [panel.title for panel in curves.panels] == ["relu", "active", "class probability"]
    labels = [curve.label for curve in curves.panels[0].curves]
    different = found.classes[0] != found.classes[1]
    names = [found.class_name(image) if different else f"image {image}" for image in (0, 1)]
    assert labels == [*names, "map moved, too"]


def test_many_images_have_a_median_and_a_band():
    pictures = [photo(number) for number in range(7)]
    found = dv.invariance(network(), pictures, "relu", transforms=["scale"], steps=3)
    (curves,) = [row[1] for row in found.spec().rows]
    first, *others = curves.panels[0].curves
    assert first.label == "median of 7 images"
    values = found.measure("normalised", "scale")[:, :, 0]
    np.testing.assert_allclose(first.y, np.median(values, axis=0))
    np.testing.assert_allclose(first.band, np.percentile(values, (10, 90), axis=0))
    assert sum(curve.thin for curve in others) == 5


def test_files_are_those_of_the_contract(found, tmp_path):
    written = found.save_into(tmp_path)
    assert [path.name for path in written] == ["invariance.png", "invariance.json", "invariance.parquet"]
    table = pq.read_table(written[2])
    assert table.equals(found.table)
    assert {"image", "transform", "amount", "layer", "distance", "normalised", "probability"} <= set(
        table.column_names
    )
    manifest = json.loads(written[1].read_text())
    assert [one["name"] for one in manifest["transforms"]] == list(NAMES)


def test_summary_states_whether_the_top_layer_changes_less(found):
    sentences = found.summary()
    assert len(sentences) == len(NAMES)
    parts = sentences[0].removesuffix(".").split(". ")
    assert [part.split()[0] for part in parts] == ["Vertical", "If", "The", "The"]
    assert sentences[0].startswith("Vertical translation changes features by ")
    means = {layer: float(value) for value, layer in (
        part.split(" in ") for part in sentences[0].split(" by ")[1].split(" on average")[0].split(", ")
    )}  # fmt: skip
    claimed = "as the paper claims" in sentences[0]
    assert claimed == (means["active"] < 0.9 * means["relu"])


@pytest.mark.parametrize(
    ("top", "words"),
    [
        (0.5, "less than the first, as the paper claims."),
        (0.98, "about as much as the first, which is not what the paper claims."),
        (1.5, "more than the first, which is not what the paper claims."),
    ],
)
def test_small_differences_of_layers_are_not_called_a_finding(top, words, monkeypatch):
    layers = (SimpleNamespace(name="first"), SimpleNamespace(name="top"))
    monkeypatch.setattr(findings, "mean_change", lambda one, transform: [1.0, top])
    assert findings._change(SimpleNamespace(layers=layers), "translate").endswith(words)


def test_report_shows_the_invariance(found, tmp_path):
    page = dv.report(found, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "invariance of relu, active" in page
