from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.named import preprocessing_of_network
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from deconvviz.errors import ManifestError, NetworkError
from deconvviz.images.image import open_image
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models.expected_input import preprocessing_of_entry
from deconvviz.models.torchvision_models import default_entry, entries

REAL = os.environ.get("DECONVVIZ_REAL_DATA")
IMAGENET = preprocessing_of_network("vgg19")


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def preset(name: str) -> Any:
    return default_entry(name).transforms()  # type: ignore[attr-defined]


def test_what_vgg19_expects() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert Preprocessing(256, 224, mean, std, interpolation="bilinear", antialias=True) == IMAGENET


def test_versions_of_weights_differ_in_what_they_expect() -> None:
    first, second = (preprocessing_of_entry(entry) for entry in entries("resnet50").values())
    assert (first.resize, second.resize) == (256, 232)
    assert preprocessing_of_network("resnet50") == second


def test_what_minivgg_expects() -> None:
    own = preprocessing_of_network("minivgg")
    assert (own.resize, own.crop, own.mean, own.std) == (96, 96, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


NETWORKS = ["vgg19", "efficientnet_b0", "inception_v3", "efficientnet_v2_l", "resnet50"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(300, 400, 3), (500, 333, 3), (50, 70, 3), (97, 1200, 3)])
def test_bit_for_bit_what_the_preset_makes(name: str, shape: tuple[int, ...]) -> None:
    rgb = noise(*shape)
    made = preprocessing_of_network(name).apply(rgb)
    assert made.dtype == torch.float32
    assert torch.equal(made, preset(name)(Image.fromarray(rgb)))


def sizes(longest: int = 60) -> st.SearchStrategy[int | tuple[int, int]]:
    side = st.integers(1, longest)
    return side | st.tuples(side, side)


MODES = [mode.value for mode in InterpolationMode]


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)), sizes(), sizes(), st.sampled_from(MODES),
    st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_bit_for_bit_what_torchvision_makes(
    shape: tuple[int, int], resize: Any, crop: Any, mode: str, grey: bool, seed: int
) -> None:
    """Of images of all shapes, also where the crop is larger than what was resized, or nothing changes."""
    assume(max(shape) <= 20 * min(shape))  # longer ones are cut first
    dice = np.random.default_rng(seed)
    mean, std = (tuple(dice.random(1 if grey else 3).tolist()) for _ in range(2))
    own = Preprocessing(resize, crop, mean, tuple(1e-3 + one for one in std), mode, crop_mode="squash")
    if isinstance(resize, int):
        own = dataclasses.replace(own, crop_mode="center")
    rgb = dice.integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(rgb).convert("L" if grey else "RGB")
    resized = F.resize(image, [resize] if isinstance(resize, int) else list(resize), InterpolationMode(mode))
    cut = F.center_crop(resized, [crop] if isinstance(crop, int) else list(crop))
    pixels = F.convert_image_dtype(F.pil_to_tensor(cut), torch.float)
    theirs = F.normalize(pixels, list(own.mean), list(own.std))
    made = own.apply(rgb)
    assert torch.equal(made, theirs) and made.stride() == theirs.stride() and made.dtype == theirs.dtype


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), sizes(), sizes(), st.booleans())
def test_borders_are_padded_as_torchvision_pads(
    shape: tuple[int, int], resize: Any, crop: Any, grey: bool
) -> None:
    mean = (0.3,) if grey else (0.1, 0.5, 0.9)
    own = Preprocessing(resize, crop, mean, (1.0,) * len(mean), crop_mode="border")
    rgb = noise(*shape, 3)
    image = Image.fromarray(rgb).convert("L" if grey else "RGB")
    (rows, columns), (high, wide) = ((one, one) if isinstance(one, int) else one for one in (resize, crop))
    ratio = max(shape[0] / rows, shape[1] / columns)
    resized = F.resize(image, [max(1, round(side / ratio)) for side in shape])
    more_rows, more_columns = max(0, high - resized.height), max(0, wide - resized.width)
    padding = [more_columns // 2, more_rows // 2, (more_columns + 1) // 2, (more_rows + 1) // 2]
    fill = [round(255 * one) for one in mean]
    cut = F.center_crop(F.pad(resized, padding, fill=fill if len(fill) > 1 else fill[0]), [high, wide])
    theirs = F.normalize(F.convert_image_dtype(F.pil_to_tensor(cut)), list(mean), [1.0] * len(mean))
    assert torch.equal(own.apply(rgb), theirs)


def test_the_interpolations_are_torchvisions() -> None:
    for mode in MODES:
        Preprocessing(8, 8, (0.5,), (0.5,), mode)
    with pytest.raises(NetworkError, match=f"no interpolation 'cubic': there are {', '.join(MODES)}"):
        Preprocessing(8, 8, (0.5,), (0.5,), "cubic")


@pytest.mark.skipif(not REAL, reason="DECONVVIZ_REAL_DATA is not set: no photographs")
@pytest.mark.parametrize("name", NETWORKS)
def test_bit_for_bit_what_the_preset_makes_of_photographs(name: str) -> None:
    photographs = sorted(Path(str(REAL), "imagenet-sample").iterdir())[::60]
    assert len(photographs) >= 5
    for path in photographs:
        with Image.open(path) as image:
            theirs = preset(name)(image.convert("RGB"))
        assert torch.equal(preprocessing_of_network(name).apply(open_image(path).rgb), theirs)


@pytest.mark.parametrize("name", NETWORKS)
def test_view_gives_back_the_colours_that_went_in(name: str) -> None:
    own, rgb = preprocessing_of_network(name), noise(400, 400, 3)
    small = F.resize(Image.fromarray(rgb), [own.resize], InterpolationMode(own.interpolation))
    cropped = np.asarray(F.center_crop(small, [own.crop]))
    seen = own.view(own.apply(rgb))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, cropped / 255, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_view_undoes_normalisation_and_stays_in_range(seed: int, pictures: int) -> None:
    pixels = np.random.default_rng(seed).random((pictures, 3, 4, 5))
    tensor = F.normalize(torch.from_numpy(pixels), list(IMAGENET.mean), list(IMAGENET.std))
    np.testing.assert_allclose(IMAGENET.view(tensor), np.moveaxis(pixels, 1, -1), atol=1e-6)
    seen = IMAGENET.view(tensor * 10)
    assert seen.min() >= 0 and seen.max() <= 1


def test_grey_networks() -> None:
    own = Preprocessing.simple(16, (0.5,), (0.5,))
    rgb = np.broadcast_to(np.array([255, 0, 0], np.uint8), (20, 20, 3))
    made = own.apply(rgb)
    assert made.shape == (1, 16, 16)
    np.testing.assert_allclose(own.view(made), 76 / 255, atol=1e-6)  # the luma of red
    assert own.view(made).shape == (16, 16, 3)


@pytest.mark.parametrize("shape", [(2001, 1, 3), (1, 2000, 3), (40, 900, 3), (2501, 40, 3)])
def test_long_strips_are_cut_before_they_are_resized(shape: tuple[int, ...]) -> None:
    own, rgb = Preprocessing.simple(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), noise(*shape)
    whole = F.center_crop(F.resize(Image.fromarray(rgb), [32]), [32])
    difference = own.view(own.apply(rgb)) - np.asarray(whole) / 255
    assert abs(difference).max() * 255 < 1.5  # rounding alone


def test_a_very_long_strip_needs_no_memory() -> None:
    assert IMAGENET.apply(noise(1, 60_000, 3)).shape == (3, 224, 224)  # 256 x 15 360 000 on the way, once


def test_simple_crops_the_centre() -> None:
    rgb = np.zeros((10, 30, 3), np.uint8)
    rgb[:, 10:20] = 255
    own = Preprocessing.simple(10, (0, 0, 0), (1, 1, 1))
    assert torch.equal(own.apply(rgb), torch.ones(3, 10, 10))


def test_small_pictures_are_scaled_up() -> None:
    assert Preprocessing.simple(64, (0, 0, 0), (1, 1, 1)).apply(noise(5, 9, 3)).shape == (3, 64, 64)


@pytest.mark.parametrize("name", [*NETWORKS, "minivgg"])
def test_json_and_back(name: str) -> None:

    own = preprocessing_of_network(name)
    assert Preprocessing.from_json(json.loads(json.dumps(own.to_json()))) == own


@pytest.mark.parametrize(
    "spoiled",
    [{"crop": "224"}, {"resize": 256.5}, {"mean": 3}, {"std": [0, 0, 0]}, {"more": 1}, {"mean": ["a"] * 3}],
)
def test_json_that_is_no_preprocessing(spoiled: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="no preprocessing in"):
        Preprocessing.from_json({**IMAGENET.to_json(), **spoiled})
    with pytest.raises(ManifestError):
        Preprocessing.from_json({"resize": 256})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"crop": 0}, "at least 1"),
        ({"mean": (0.5, 0.5)}, "one of each for every channel"),
        ({"std": (0.2, 0.2, 0.0)}, "std above 0"),
        ({"mean": (0.2, float("nan"), 0.0)}, "finite"),
        ({"interpolation": "cubist"}, "no interpolation 'cubist': there are nearest"),
    ],
)
def test_impossible_preprocessing(changed: dict[str, Any], message: str) -> None:
    fields = {"resize": 8, "crop": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3, **changed}
    with pytest.raises(NetworkError, match=message):
        Preprocessing(**fields)
