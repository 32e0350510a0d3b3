"""`dv.correspondence` against loops in NumPy, its parts, its statistics and its edge cases."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.asking import noise, seeded
from PIL import Image
from torch import nn

import deconvviz as dv
from deconvviz.errors import LayerError, MethodError, SourceError, UnitError
from deconvviz.experiments.correspondence_parts import PartBox, box_of, random_place, read_parts
from deconvviz.experiments.correspondence_statistics import (
    bootstrap,
    compared,
    off_diagonal,
    permutation_test,
)
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow  # together about 10 s

SIZE = 20
PARTS = [
    PartBox("input 0", "eye", (2, 3, 8, 9)),
    PartBox("input 1", "eye", (10, 4, 15, 9)),
    PartBox("input 2", "eye", (5, 11, 11, 17)),
    PartBox("input 0", "nose", (9, 9, 13, 14)),
    PartBox("input 2", "nose", (1, 1, 6, 5)),
]


def build():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(392, 5),
    )


@pytest.fixture(scope="module")
def net():
    return dv.Network(seeded(build), size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))


@pytest.fixture(scope="module")
def images():
    return noise(3, 3, SIZE, SIZE).clamp(-1, 1)


def by_hand(net, images, part, depth):
    """Return Delta, its deviation, the share of changes and the cosine for one part, by loops."""
    grey = torch.tensor([(0.5 - 0.5) / 0.2, (0.5 - 0.4) / 0.25, (0.5 - 0.3) / 0.5], dtype=torch.float64)
    changes = []
    with torch.no_grad():
        for number, image in enumerate(images):
            boxes = [one.box for one in PARTS if (one.image, one.part) == (f"input {number}", part)]
            if not boxes:
                continue
            hidden = image.clone()
            for x0, y0, x1, y1 in boxes:
                hidden[:, y0:y1, x0:x1] = grey.view(3, 1, 1)
            changes.append(
                (net.module[:depth](image[None]) - net.module[:depth](hidden[None])).flatten().numpy()
            )
    delta, cosine, among = [], [], []
    for i, one in enumerate(changes):
        for j, other in enumerate(changes):
            if i == j:
                continue
            differ = sum(np.sign(a) != np.sign(b) for a, b in zip(one, other, strict=True))
            delta.append(differ / len(one))
            among.append(differ / sum(a != 0 or b != 0 for a, b in zip(one, other, strict=True)))
            cosine.append(one @ other / np.sqrt((one @ one) * (other @ other)))
    changed = np.mean([np.mean(one != 0) for one in changes])
    return np.mean(delta), np.std(delta), changed, np.mean(among), np.mean(cosine), len(changes)


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize(("layer", "depth"), [("1", 2), ("4", 5), ("6", 7)])
def test_rows_equal_loops_in_numpy(net, images, layer, depth, batch):
    found = dv.correspondence(net, images, PARTS, layer, batch=batch)
    for part in ("eye", "nose"):
        row = found.row(layer, part)
        wanted = by_hand(net, images, part, depth)
        numbers = (row.mean, row.std, row.changed, row.mean_of_changed, row.cosine, row.images)
        assert numbers == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_image_without_a_part_is_left_out_for_this_part(net, images):
    found = dv.correspondence(net, images, PARTS, "4")
    assert found.images_of == {"eye": ["input 0", "input 1", "input 2"], "nose": ["input 0", "input 2"]}
    assert found.row("4", "nose").low is None  # two images have one pair, and no interval
    assert found.row("4", "random").images == 3


def test_same_image_with_the_same_part_corresponds_completely(net, images):
    same = images[:1].repeat(4, 1, 1, 1)
    boxes = [PartBox(f"input {number}", "eye", (2, 3, 8, 9)) for number in range(4)]
    row = dv.correspondence(net, same, boxes, "4").row("4", "eye")
    assert row.mean == 0
    assert row.cosine == pytest.approx(1)
    assert row.p_value < 0.05
    assert row.mean < row.random_mean


def test_result_depends_on_the_seed_only(net, images):
    first, again, other = (dv.correspondence(net, images, PARTS, "4", seed=seed) for seed in (0, 0, 1))
    assert first.rows == again.rows
    assert first.row("4", "random") != other.row("4", "random")
    assert first.row("4", "eye").mean == other.row("4", "eye").mean


def test_random_row_has_the_places_of_all_parts(net, images):
    found = dv.correspondence(net, images, PARTS, "4", draws=3)
    eye, nose = found.row("4", "eye"), found.row("4", "nose")
    pairs = {"eye": 6, "nose": 2}
    wanted = (pairs["eye"] * eye.random_mean + pairs["nose"] * nose.random_mean) / 8
    assert found.row("4", "random").mean == pytest.approx(wanted)
    assert found.row("4", "random").p_value is None


def test_scenes_without_a_part_are_drawn_again():
    net = dv.load("minivgg")
    drawn = [scene(seed, "face") for seed in range(3)]
    row = dv.correspondence(net, drawn, ["eye"], "relu4_2", fill="without", draws=2).row("relu4_2", "eye")
    changes = []
    with torch.no_grad():
        for one in drawn:
            inputs = [net.preprocessing.apply(each.image) for each in (one, one.redrawn(without="eye"))]
            complete, hidden = net.module.features[:19](torch.stack(inputs)).flatten(1).numpy()
            changes.append(complete - hidden)
    differ = [np.mean(np.sign(a) != np.sign(b)) for a in changes for b in changes if a is not b]
    assert row.mean == pytest.approx(np.mean(differ), abs=0.01)  # float32: signs of tiny changes may differ


def test_box_file(tmp_path, net):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    csv = tmp_path / "parts.csv"
    csv.write_text("image,part,x0,y0,x1,y1\n0.png,eye,1,2,5,6\n1.png,eye,3,4,9,9\n0.png,object,0,0,18,12\n")
    found = dv.correspondence(net, tmp_path, csv, ["1", "4"])
    assert found.images == ("0.png", "1.png")  # 2.png has no box
    assert [row.part for row in found.rows] == ["eye", "random"] * 2
    assert [row.layer for row in found.rows] == ["1", "1", "4", "4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,part,x0,y0,x1\n", "lacks the columns y1"),
        ("image,part,x0,y0,x1,y1\n", "has no boxes"),
        ("image,part,x0,y0,x1,y1\na.png,eye,1,2,3,x\n", "line 2: x0, y0, x1 and y1 must be whole numbers"),
        ("image,part,x0,y0,x1,y1\na.png,eye,5,2,3,4\n", "line 2: the box 5, 2, 3, 4 of eye is empty"),
        ("image,part,x0,y0,x1,y1\na.png,,1,2,3,4\n", "line 2: image and part must not be empty"),
        ("image,part,x0,y0,x1,y1\na.png,eye,-1,2,3,4\n", "is empty or negative"),
    ],
)
def test_errors_in_box_files(tmp_path, content, message):
    file = tmp_path / "parts.csv"
    file.write_text(content)
    with pytest.raises(SourceError, match=message):
        read_parts(file)


def test_missing_box_file(tmp_path):
    with pytest.raises(SourceError, match="cannot read"):
        read_parts(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("parts", "settings", "error", "message"),
    [
        (PARTS[:1], {}, SourceError, "must be in at least 2 images, and one image has it"),
        ([PartBox("input 9", "eye", (0, 0, 1, 1))], {}, SourceError, "input 9 of the boxes is not among"),
        (
            [PartBox("input 0", "eye", (0, 0, 25, 5))],
            {},
            SourceError,
            "not inside the network's input of 20 x 20",
        ),
        ([PartBox("input 0", "random", (0, 0, 2, 2))], {}, SourceError, "cannot have the name 'random'"),
        ([PartBox("input 0", "object", (0, 0, 2, 2))], {}, SourceError, "no part was given"),
        (["eye"], {}, SourceError, "the parts of input 0 are not known"),
        (PARTS, {"draws": 0}, UnitError, "0 random places"),
        (PARTS, {"fill": "white"}, MethodError, "no fill 'white'"),
    ],
)
def test_errors(net, images, parts, settings, error, message):
    with pytest.raises(error, match=message):
        dv.correspondence(net, images, parts, "4", **settings)


def test_unknown_layers_and_parts(net, images):
    with pytest.raises(LayerError, match="no layer was given"):
        dv.correspondence(net, images, PARTS, [])
    with pytest.raises(SourceError, match=r"no image has it\. There are \w+, \w+"):
        dv.correspondence(dv.load("minivgg"), "scenes:3", ["engine"], "relu4_2")


def test_random_places_have_the_shape_of_the_part_and_avoid_it():
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 30), bool)
    mask[4:8, 5:9] = mask[8:10, 5] = True
    region = np.zeros_like(mask)
    region[2:25, 3:28] = True
    for _ in range(50):
        place = random_place(mask, region, mask, rng)
        x0, y0, x1, y1 = box_of(place)
        assert np.array_equal(place[y0:y1, x0:x1], mask[4:10, 5:9])
        assert not (place & mask).any()
        assert not (place & ~region).any()


def test_random_place_of_a_part_that_fills_its_region_is_somewhere_in_the_image():
    mask = np.zeros((12, 12), bool)
    mask[:9, :9] = True
    region = np.zeros_like(mask)
    region[:4, :4] = True
    assert random_place(mask, region, mask, np.random.default_rng(0)).sum() == 81


def test_comparison_of_changes_equals_loops():
    changes = torch.tensor([[1.0, 0, -2, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
    found = compared(changes)
    assert found.differ[0, 1] == 1 / 4
    assert found.differ_of_changed[0, 1] == 1 / 2
    assert found.cosine[0, 1] == pytest.approx((3 - 8) / (np.sqrt(5) * 5))
    assert found.differ[0, 2] == 2 / 4
    assert found.differ_of_changed[0, 2] == 1
    assert found.cosine[0, 2] == 0
    assert found.differ_of_changed[2, 2] == 0
    assert found.changed.tolist() == [0.5, 0.5, 0]


def test_bootstrap_interval_contains_the_mean_and_needs_three_images():
    rng = np.random.default_rng(0)
    table = rng.random((8, 8))
    table = table + table.T
    low, high = bootstrap(table, rng)
    assert low < off_diagonal(table).mean() < high
    assert np.isnan(bootstrap(table[:2, :2], rng)).all()


def test_permutation_test_is_uniform_without_a_difference_and_small_with_one():
    rng = np.random.default_rng(0)
    images, places = 5, 4
    values = []
    for _ in range(200):
        points = rng.standard_normal((images * places, 6))
        table = np.linalg.norm(points[:, None] - points[None], axis=2)
        values.append(permutation_test(table, images, rng, 200))
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.06)
    points = rng.standard_normal((images * places, 6))
    points[::places] = 0.1 * points[::places] + 3  # the part is alike in all images
    table = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert permutation_test(table, images, rng, 1000) < 0.02


def test_permutation_test_with_all_assignments_counted_by_hand():
    rng = np.random.default_rng(1)
    table = rng.random((4, 4))
    table = table + table.T  # 2 images, 2 places
    first = table[0, 2] - table[1, 3]  # part minus draw
    second = table[0, 3] - table[1, 2]  # one image exchanged
    share = np.mean([abs(value) >= abs(first) for value in (first, second, -first, -second)])
    assert permutation_test(table, 2, rng, 4000) == pytest.approx(share, abs=0.03)


def test_files_and_text(tmp_path, net, images):
    found = dv.correspondence(net, images, PARTS, ["1", "4"])
    written = found.save_into(tmp_path)
    assert [path.name for path in written] == [
        "correspondence.png",
        "correspondence.json",
        "correspondence.parquet",
        "correspondence-hidden.png",
    ]
    table = pq.read_table(tmp_path / "correspondence.parquet")
    assert table.equals(found.table)
    assert table.column_names[:6] == ["layer", "part", "mean", "std", "images", "p_value"]
    manifest = json.loads((tmp_path / "correspondence.json").read_text())
    assert manifest["settings"]["images_of"]["nose"] == ["input 0", "input 2"]
    lines = found.text().splitlines()
    assert lines[0].split() == ["sign", "change", "1", "4"]
    row = found.row("1", "eye")
    assert f"{row.mean:.3f} ± {row.std:.3f} (p {row.p_value:.2g})" in lines[1]


def test_figures_show_all_parts(net, images):
    found = dv.correspondence(net, images, PARTS, ["1", "4"])
    spec = found.spec()
    assert spec.methods == ("eye", "nose", "random")
    assert [panel.title for panel in spec.bars] == [
        f"{layer}: {what}" for layer in "14" for what in ("sign change", "among changed entries", "cosine")
    ]
    assert spec.bars[0].bars[0].value == found.row("1", "eye").mean
    hidden = found.hidden_spec()
    assert hidden.column_labels == ("complete", "eye", "nose", "random (eye)", "random (nose)")
    x0, y0, x1, y1 = PARTS[0].box
    np.testing.assert_allclose(hidden.tiles[0][1].values[y0:y1, x0:x1], 0.5, atol=1e-6)
