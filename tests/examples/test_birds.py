"""Example birds.py: a short run, its numbers against the saved arrays, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers.example_files import EXAMPLES, load, run_once
from PIL import Image

import deconvviz as dv
from deconvviz.models.minivgg import load_minivgg
from deconvviz.scenes import scene

pytestmark = pytest.mark.slow

FIGURES = (
    "training",
    "segmented",
    "channels-before",
    "channels-after",
    "channels-removed",
    "evolution",
    "projections",
    "masking",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run."""
    return run_once(tmp_path_factory, "birds", "--threads", "1")[0]


def _script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / "birds.py", "--quick", "--threads", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def numbers(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "birds.json").read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def masks(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "birds-masks.npz") as stored:
        return dict(stored)


def test_short_run_writes_all_figures(run: Path) -> None:
    for name in (*FIGURES, "deletion"):
        with Image.open(run / f"birds-{name}.png") as image:
            assert image.width > 400, name


def test_training_lowers_the_loss_and_raises_the_iou(numbers: dict[str, Any]) -> None:
    before, first, last = numbers["training"]["epochs"]
    assert before["loss"] is None and last["loss"] < first["loss"]
    assert last["validation"] > before["validation"] + 0.2


def test_reported_iou_equals_that_of_the_saved_masks(
    numbers: dict[str, Any], masks: dict[str, np.ndarray]
) -> None:
    true, found = masks["masks"].ravel().tolist(), masks["found"].ravel().tolist()
    pairs = list(zip(true, found, strict=True))
    bird = sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs)
    background = sum(not a and not b for a, b in pairs) / sum(not (a and b) for a, b in pairs)
    fresh = numbers["fresh pictures"]
    assert fresh["IoU of the object"] == pytest.approx(bird)
    assert fresh["mean IoU"] == pytest.approx((bird + background) / 2)


def test_true_masks_are_all_parts_of_birds_of_scenes_outside_the_training(
    numbers: dict[str, Any], masks: dict[str, np.ndarray]
) -> None:
    seeds = [int(name.removeprefix("scene-")) for name in masks["names"]]
    trained = range(20_000_000, 20_000_000 + numbers["training"]["pictures"])
    assert not set(seeds) & set(trained)
    for seed, mask in zip(seeds, masks["masks"], strict=True):
        parts = scene(seed, "bird", mask.shape[0]).parts.values() if mask.any() else ()
        assert mask.sum() == sum(int(part.sum()) for part in parts)
    assert sum(mask.any() for mask in masks["masks"]) == len(seeds) // 2


def test_projected_pixels_are_where_they_are_said_to_be_and_look_there(
    run: Path, numbers: dict[str, Any]
) -> None:
    with np.load(run / "birds-projections.npz") as stored:
        arrays = dict(stored)
    medians = {}
    for place, key in (("inside", "inside the object"), ("outside", "outside the object")):
        shares = []
        for mask, energy, (y, x) in zip(
            arrays["masks"], arrays[f"{place}_energy"], arrays[f"{place}_pixel"], strict=True
        ):
            assert mask[y, x] == (place == "inside")
            shares.append(energy[mask].sum() / energy.sum())
        medians[place] = float(np.median(shares))
        assert numbers["projections"][key]["energy on the object (median)"][-1] == pytest.approx(
            medians[place]
        )
    assert medians["inside"] > numbers["projections"]["median area of the object"]
    assert medians["inside"] > medians["outside"]


def test_removing_all_pixels_gives_the_same_mask_in_every_order(numbers: dict[str, Any]) -> None:
    removed = numbers["deletion"]["IoU of the object"]
    grey = [values for order, values in removed.items() if not order.endswith("imputed")]
    assert len(grey) == 5
    assert len({values[0] for values in grey}) == 1 and len({values[-1] for values in grey}) == 1


@pytest.mark.nightly  # the short run covers the same steps, with training
def test_saved_weights_give_the_same_numbers_without_training(
    run: Path, numbers: dict[str, Any], tmp_path: Path
) -> None:
    done = _script("--out", str(tmp_path / "again"), "--weights", str(run / "birds.safetensors"))
    again = json.loads((tmp_path / "again" / "birds.json").read_text("utf-8"))
    assert "epoch 1" not in done.stderr
    assert not (tmp_path / "again" / "birds.safetensors").exists()
    for key in ("fresh pictures", "channels", "projections", "deletion"):
        assert again[key] == numbers[key]


# ---- the parts of the script


@pytest.fixture(scope="module")
def training() -> ModuleType:
    return load("stories.birds_training")


@pytest.fixture(scope="module")
def opened() -> ModuleType:
    return load("stories.birds_opened")


def test_encoder_with_minivggs_weights_equals_minivgg(training: ModuleType) -> None:
    network = training.fresh_network("minivgg", "default").eval()
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.encode(images)[0], load_minivgg().features(images))


def test_encoder_in_the_layout_of_vgg19_equals_vgg19(training: ModuleType) -> None:
    network = training.fresh_network("vgg19", "random").eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = dv.load("vgg19", weights="random").module.features(images)
        torch.testing.assert_close(network.encode(images)[0], expected)
        assert network(images).shape == (1, 2, 64, 64)


def test_silencing_a_channel_equals_a_hook_that_sets_it_to_zero(
    run: Path, training: ModuleType, opened: ModuleType
) -> None:
    data = load("stories.scene_data")
    network = training.load(run / "birds.safetensors")[0]
    pictures = data.bird_scenes(0, 2, 96)
    falls = opened.silenced(network, pictures)
    before = training.overlap(pictures.masks, training.predicted(network, pictures.images)).mean
    assert 0 < before < 1 and np.any(falls != 0)
    for channel in (3, 50):

        def silence(module: Any, inputs: Any, output: torch.Tensor, channel: int = channel) -> torch.Tensor:
            return output.index_fill(1, torch.tensor([channel]), 0)

        hook = network.relu4_2.register_forward_hook(silence)
        after = training.overlap(pictures.masks, training.predicted(network, pictures.images)).mean
        hook.remove()
        assert falls[channel] == pytest.approx(before - after)


def test_separation_is_the_share_of_pairs_in_the_right_order(
    training: ModuleType, opened: ModuleType
) -> None:
    data = load("stories.scene_data")
    network = training.fresh_network("minivgg", "default").eval()
    pictures = data.bird_scenes(0, 6, 96)
    with torch.no_grad():
        maps = data.normalised(pictures.images)
        for name in ("conv1_1", "relu1_1", "conv1_2", "relu1_2"):
            maps = network.get_submodule(name)(maps)
    peaks = maps.amax((2, 3)).numpy()
    expected = [
        np.mean([(a > b) + 0.5 * (a == b) for a in one[pictures.positive] for b in one[~pictures.positive]])
        for one in peaks.T
    ]
    np.testing.assert_allclose(opened.separation(network, "relu1_2", pictures), expected)


def test_seen_share_counts_the_pixels_of_most_energy() -> None:
    pixels = load("stories.birds_pixels")
    energy = np.array([[[90.0, 4], [6, 0]], [[1, 1], [1, 1]]])  # 96 % in two pixels; all four are needed
    np.testing.assert_allclose(pixels.seen_share(energy), [0.5, 1.0])
    mask = np.array([[[True, False], [False, False]]] * 2)
    np.testing.assert_allclose(pixels.share_on(energy, mask), [0.9, 0.25])


def test_share_near_looks_at_the_pixels_around_the_output_pixel() -> None:
    pixels = load("stories.birds_pixels")
    energy = np.zeros((1, 3, 3))
    energy[0, 0] = 1  # three pixels have the energy
    mask = np.zeros((1, 3, 3), bool)
    mask[0, 2, 1:] = True
    assert pixels.share_near(energy, mask, np.array([[2, 2]])).tolist() == pytest.approx([2 / 3])


def test_deletion_reports_the_last_share_above_the_limit() -> None:
    pixels = load("stories.birds_pixels")
    one = pixels.Deletion(
        np.array([0, 0.5, 0.9]), {"a": np.array([0.8, 0.77, 0.1]), "b": np.array([0.8] * 3)}
    )
    assert one.spare("a") == 0.5 and one.spare("b") == 0.9


# ---- photographs and errors


def _photographs(folder: Path, count: int = 10) -> Path:
    """Write drawn scenes of 120 x 100 px as photographs with masks."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        drawn = scene(number, "bird", 120)
        Image.fromarray(drawn.image[:100]).save(folder / "images" / f"{number:02d}.jpg", quality=95)
        Image.fromarray(drawn.object_mask[:100]).save(folder / "masks" / f"{number:02d}.png")
    return folder


def test_photographs_and_masks_are_cropped_alike_and_split(tmp_path: Path) -> None:
    split = load("stories.birds_data").photographs(_photographs(tmp_path / "photos"), 96)
    assert split.fresh.names == ("04", "09") and split.validation.names == ("03", "08")
    assert len(split.training) == 6
    drawn = scene(4, "bird", 120)
    size = (115, 96)  # 120 x 100 px with the shorter side resized to 96 px
    whole = Image.fromarray(drawn.object_mask[:100]).convert("L").resize(size, Image.Resampling.NEAREST)
    left = round((115 - 96) / 2)
    expected = np.asarray(whole)[:, left : left + 96] > 127
    assert (split.fresh.masks[0] != expected).mean() < 0.01
    colours = Image.fromarray(drawn.image[:100]).resize(size, Image.Resampling.BILINEAR)
    difference = np.asarray(colours)[:, left : left + 96].astype(float) - split.fresh.images[0]
    assert np.abs(difference).mean() < 6  # JPEG


@pytest.mark.nightly  # the short run covers the training, and the tests below the reading of photographs
def test_photographs_are_trained_on_and_the_kept_ones_reported(tmp_path: Path) -> None:
    folder = _photographs(tmp_path / "photos")
    _script("--out", str(tmp_path / "run"), "--data", str(folder))
    with np.load(tmp_path / "run" / "birds-masks.npz") as stored:
        assert stored["names"].tolist() == ["04", "09"]
    numbers = json.loads((tmp_path / "run" / "birds.json").read_text("utf-8"))
    assert numbers["training"]["pictures"] == 6 and numbers["fresh pictures"]["count"] == 2


def _remove_a_mask(folder: Path) -> None:
    (folder / "masks" / "03.png").unlink()


def _remove_the_masks(folder: Path) -> None:
    (folder / "masks").rename(folder / "labels")


def _shrink_a_mask(folder: Path) -> None:
    Image.new("L", (50, 40)).save(folder / "masks" / "03.png")


def _blacken_the_masks(folder: Path) -> None:
    for mask in (folder / "masks").iterdir():
        Image.new("L", (120, 100)).save(mask)


def _keep_few(folder: Path) -> None:
    for image in sorted((folder / "images").iterdir())[4:]:
        image.unlink()


def _break_an_image(folder: Path) -> None:
    (folder / "images" / "02.jpg").write_bytes(b"no image")


def _repeat_a_name(folder: Path) -> None:
    Image.new("RGB", (120, 100)).save(folder / "images" / "02.png")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (_remove_a_mask, "1 of 10 images in {folder}/images have no mask: {folder}/masks needs 03.png"),
        (_remove_the_masks, "no folder {folder}/masks: --data needs a folder with images/NAME.jpg"),
        (_shrink_a_mask, "03.jpg has 120 x 100 px and {folder}/masks/03.png has 50 x 40"),
        (_blacken_the_masks, "no mask in {folder}/masks shows an object"),
        (_keep_few, "4 images with a mask in {folder}: give at least 10"),
        (_break_an_image, "02.jpg"),
        (_repeat_a_name, "two images in {folder}/images are named 02"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_data_that_cannot_be_used_is_a_plain_error(
    spoil: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _photographs(tmp_path / "photos")
    spoil(folder)
    error = _error(monkeypatch, capsys, tmp_path / "out", "--data", str(folder))
    assert text.format(folder=folder) in error


def _error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, *arguments: str
) -> str:
    """Return the message of a run that must fail, in one line, without any file written."""
    birds = load("birds")
    monkeypatch.setattr(sys, "argv", ["birds.py", "--threads", "1", "--out", str(out), *arguments])
    assert birds.main() == 2
    assert not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_weights_that_birds_did_not_write_are_a_plain_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, other = tmp_path / "no.safetensors", tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    out = tmp_path / "out"
    assert "no weights file" in _error(monkeypatch, capsys, out, "--weights", str(missing))
    assert "does not contain a network of birds.py" in _error(
        monkeypatch, capsys, out, "--weights", str(other)
    )


def test_size_that_the_pools_do_not_divide_is_a_plain_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _error(monkeypatch, capsys, tmp_path / "out", "--size", "50")
    assert "the size 50 does not fit this trunk: give a multiple of 16" in error


def test_result_is_not_overwritten(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["birds.py", "--out", str(run)])
    assert load("birds").main() == 2
    assert "has a result already: choose another --out, or give --force" in capsys.readouterr().err
