"""Preprocessing compared with torchvision's, and its form in manifests."""

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


def test_preprocessing_of_vgg19() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert Preprocessing(256, 224, mean, std, interpolation="bilinear", antialias=True) == IMAGENET


def test_preprocessing_depends_on_the_version_of_the_weights() -> None:
    first, second = (preprocessing_of_entry(entry) for entry in entries("resnet50").values())
    assert (first.resize, second.resize) == (256, 232)
    assert preprocessing_of_network("resnet50") == second


def test_preprocessing_of_minivgg() -> None:
    own = preprocessing_of_network("minivgg")
    assert (own.resize, own.crop, own.mean, own.std) == (96, 96, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


NETWORKS = ["vgg19", "efficientnet_b0", "inception_v3", "efficientnet_v2_l", "resnet50"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(300, 400, 3), (500, 333, 3), (50, 70, 3), (97, 1200, 3)])
def test_result_equals_torchvisions_preset_bit_for_bit(name: str, shape: tuple[int, ...]) -> None:
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
def test_result_equals_torchvision_bit_for_bit(
    shape: tuple[int, int], resize: Any, crop: Any, mode: str, grey: bool, seed: int
) -> None:
    """Compare images of all shapes, also with a crop larger than the resized image, or without any change."""
    assume(max(shape) <= 20 * min(shape))  # longer images are cropped before they are resized
    rng = np.random.default_rng(seed)
    mean, std = (tuple(rng.random(1 if grey else 3).tolist()) for _ in range(2))
    own = Preprocessing(resize, crop, mean, tuple(1e-3 + one for one in std), mode, crop_mode="squash")
    if isinstance(resize, int):
        own = dataclasses.replace(own, crop_mode="center")
    rgb = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(rgb).convert("L" if grey else "RGB")
    resized = F.resize(image, [resize] if isinstance(resize, int) else list(resize), InterpolationMode(mode))
    cut = F.center_crop(resized, [crop] if isinstance(crop, int) else list(crop))
    pixels = F.convert_image_dtype(F.pil_to_tensor(cut), torch.float)
    theirs = F.normalize(pixels, list(own.mean), list(own.std))
    made = own.apply(rgb)
    assert torch.equal(made, theirs) and made.stride() == theirs.stride() and made.dtype == theirs.dtype


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), sizes(), sizes(), st.booleans())
def test_borders_are_padded_like_torchvision(
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


def test_all_interpolations_of_torchvision_are_accepted() -> None:
    for mode in MODES:
        Preprocessing(8, 8, (0.5,), (0.5,), mode)
    with pytest.raises(NetworkError, match=f"no interpolation 'cubic': there are {', '.join(MODES)}"):
        Preprocessing(8, 8, (0.5,), (0.5,), "cubic")


@pytest.mark.skipif(not REAL, reason="DECONVVIZ_REAL_DATA is not set: no photographs")
@pytest.mark.parametrize("name", NETWORKS)
def test_photographs_equal_torchvisions_preset_bit_for_bit(name: str) -> None:
    photographs = sorted(Path(str(REAL), "imagenet-sample").iterdir())[::60]
    assert len(photographs) >= 5
    for path in photographs:
        with Image.open(path) as image:
            theirs = preset(name)(image.convert("RGB"))
        assert torch.equal(preprocessing_of_network(name).apply(open_image(path).rgb), theirs)


@pytest.mark.parametrize("name", NETWORKS)
def test_view_restores_the_original_colours(name: str) -> None:
    own, rgb = preprocessing_of_network(name), noise(400, 400, 3)
    small = F.resize(Image.fromarray(rgb), [own.resize], InterpolationMode(own.interpolation))
    cropped = np.asarray(F.center_crop(small, [own.crop]))
    seen = own.view(own.apply(rgb))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, cropped / 255, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_view_undoes_normalisation_and_clips_to_range(seed: int, count: int) -> None:
    pixels = np.random.default_rng(seed).random((count, 3, 4, 5))
    tensor = F.normalize(torch.from_numpy(pixels), list(IMAGENET.mean), list(IMAGENET.std))
    np.testing.assert_allclose(IMAGENET.view(tensor), np.moveaxis(pixels, 1, -1), atol=1e-6)
    seen = IMAGENET.view(tensor * 10)
    assert seen.min() >= 0 and seen.max() <= 1


def test_grey_network_gets_one_channel() -> None:
    own = Preprocessing.simple(16, (0.5,), (0.5,))
    rgb = np.broadcast_to(np.array([255, 0, 0], np.uint8), (20, 20, 3))
    made = own.apply(rgb)
    assert made.shape == (1, 16, 16)
    np.testing.assert_allclose(own.view(made), 76 / 255, atol=1e-6)  # the luma of red
    assert own.view(made).shape == (16, 16, 3)


@pytest.mark.parametrize("shape", [(2001, 1, 3), (1, 2000, 3), (40, 900, 3), (2501, 40, 3)])
def test_long_images_are_cropped_before_they_are_resized(shape: tuple[int, ...]) -> None:
    own, rgb = Preprocessing.simple(32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), noise(*shape)
    whole = F.center_crop(F.resize(Image.fromarray(rgb), [32]), [32])
    difference = own.view(own.apply(rgb)) - np.asarray(whole) / 255
    assert abs(difference).max() * 255 < 1.5  # only rounding


def test_very_long_image_needs_little_memory() -> None:
    assert IMAGENET.apply(noise(1, 60_000, 3)).shape == (
        3,
        224,
        224,
    )  # resized as a whole it would be 256 x 15 360 000


def test_simple_crops_the_centre() -> None:
    rgb = np.zeros((10, 30, 3), np.uint8)
    rgb[:, 10:20] = 255
    own = Preprocessing.simple(10, (0, 0, 0), (1, 1, 1))
    assert torch.equal(own.apply(rgb), torch.ones(3, 10, 10))


def test_small_images_are_scaled_up() -> None:
    assert Preprocessing.simple(64, (0, 0, 0), (1, 1, 1)).apply(noise(5, 9, 3)).shape == (3, 64, 64)


@pytest.mark.parametrize("name", [*NETWORKS, "minivgg"])
def test_json_round_trip_preserves_preprocessing(name: str) -> None:
    own = preprocessing_of_network(name)
    assert Preprocessing.from_json(json.loads(json.dumps(own.to_json()))) == own


@pytest.mark.parametrize(
    "spoiled",
    [{"crop": "224"}, {"resize": 256.5}, {"mean": 3}, {"std": [0, 0, 0]}, {"more": 1}, {"mean": ["a"] * 3}],
)
def test_invalid_json_raises_manifest_error(spoiled: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="invalid preprocessing"):
        Preprocessing.from_json({**IMAGENET.to_json(), **spoiled})
    with pytest.raises(ManifestError):
        Preprocessing.from_json({"resize": 256})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"crop": 0}, "Give at least 1 pixel"),
        ({"mean": (0.5, 0.5)}, "one of each for every channel"),
        ({"std": (0.2, 0.2, 0.0)}, "every std above 0"),
        ({"mean": (0.2, float("nan"), 0.0)}, "finite"),
        ({"interpolation": "cubist"}, "no interpolation 'cubist': there are nearest"),
    ],
)
def test_invalid_preprocessing_is_rejected(changed: dict[str, Any], message: str) -> None:
    fields = {"resize": 8, "crop": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3, **changed}
    with pytest.raises(NetworkError, match=message):
        Preprocessing(**fields)
