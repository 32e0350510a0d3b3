import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from deconvviz.scenes import CLASSES, Scene, scene, scenes

SEEDS_PER_CLASS = range(4)


@pytest.fixture(scope="module")
def gallery() -> list[Scene]:
    return [scene(seed, label=name) for name in CLASSES for seed in SEEDS_PER_CLASS]


def test_same_seed_gives_the_same_scene() -> None:
    one, two = scene(11), scene(11)
    assert one.image.tobytes() == two.image.tobytes()
    assert list(one.parts) == list(two.parts)
    assert all(np.array_equal(one.parts[part], two.parts[part]) for part in one.parts)


def test_same_seed_gives_the_same_scene_in_another_process() -> None:
    program = (
        "from deconvviz.scenes import scene; import sys; sys.stdout.buffer.write(scene(11).image.tobytes())"
    )
    drawn = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert drawn == scene(11).image.tobytes()


def test_different_seeds_give_different_images() -> None:
    assert len({one.image.tobytes() for one in scenes(12)}) == 12


def test_classes_of_the_first_seeds_never_change() -> None:
    """If a seed gave another scene, published measurements on scenes would no longer be valid."""
    drawn = " ".join(one.name for one in scenes(12))
    assert drawn == "fish face boat bicycle train house face fish boat robot train bicycle"


def test_scenes_yields_consecutive_seeds() -> None:
    three = list(scenes(3, seed=40, size=64))
    assert [one.seed for one in three] == [40, 41, 42]
    assert three[1].image.tobytes() == scene(41, size=64).image.tobytes()


def test_all_classes_are_about_equally_frequent() -> None:
    counts = Counter(one.name for one in scenes(360, size=32))
    assert set(counts) == set(CLASSES)
    assert min(counts.values()) > 10  # 30 expected


def test_label_can_be_a_name_or_a_number() -> None:
    by_name, by_number = scene(3, label="fish"), scene(3, label=CLASSES.index("fish"))
    assert by_name.name == by_number.name == "fish"
    assert by_name.label == by_number.label == CLASSES.index("fish")
    assert by_name.image.tobytes() == by_number.image.tobytes()


@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_image_and_masks_have_the_requested_size(size: int) -> None:
    one = scene(8, label="car", size=size)
    assert one.image.shape == (size, size, 3)
    assert one.image.dtype == np.uint8
    assert all(mask.shape == (size, size) and mask.dtype == np.bool_ for mask in one.parts.values())


def test_object_has_the_same_place_at_every_image_size() -> None:
    small, large = (scene(8, label="house", size=size).object_mask for size in (48, 144))
    assert np.mean(small == large[1::3, 1::3]) > 0.97


def test_masks_are_not_empty_and_do_not_overlap(gallery: list[Scene]) -> None:
    for one in gallery:
        masks = [*one.parts.values(), *one.distractors.values()]
        assert all(mask.any() for mask in masks)
        assert np.sum(masks, axis=0).max() == 1


def test_object_covers_between_6_and_75_percent_of_the_image(gallery: list[Scene]) -> None:
    shares = [one.object_mask.mean() for one in gallery]
    assert min(shares) > 0.06
    assert max(shares) < 0.75


def test_every_object_shows_at_least_three_parts(gallery: list[Scene]) -> None:
    assert len(CLASSES) >= 10
    assert all(len(one.parts) >= 3 for one in gallery)


@pytest.mark.parametrize(
    ("part", "classes"),
    [
        ("wheel", {"bicycle", "car", "train"}),
        ("eye", {"bird", "face", "fish", "robot"}),
        ("window", {"airplane", "boat", "car", "house", "train"}),
        ("wing", {"airplane", "bird", "butterfly"}),
        ("antenna", {"butterfly", "robot"}),
        ("door", {"car", "house"}),
    ],
)
def test_part_occurs_in_exactly_these_classes(gallery: list[Scene], part: str, classes: set[str]) -> None:
    assert {one.name for one in gallery if part in one.parts} == classes


def test_pixels_in_a_mask_have_the_brightness_of_the_part() -> None:
    """Tyres of cars are dark, and windows of houses are bright."""
    for seed in range(5):
        car, house = scene(seed, label="car"), scene(seed, label="house")
        tyres = car.image[car.parts["wheel"]].mean(1)
        assert np.percentile(tyres, 20) < 75
        assert np.percentile(house.image[house.parts["window"]].mean(1), 60) > 120


def test_distractors_occur_and_are_not_in_the_object_mask() -> None:
    found = Counter(part for one in scenes(120, size=64) for part in one.distractors)
    assert set(found) == {"wheel", "eye", "window", "petal", "leaf", "door"}
    one = next(one for one in scenes(120) if one.distractors)
    assert not (one.object_mask & next(iter(one.distractors.values()))).any()


def test_repr_shows_class_seed_size_and_parts() -> None:
    text = repr(scene(2, label="fish", size=48))
    assert text.startswith("Scene('fish', seed=2, 48x48, parts: tail, fin, body")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "dog"}, "no scene class 'dog': the classes are airplane, bicycle, bird"),
        ({"label": 12}, "no scene class 12: the class numbers are 0 to 11"),
        ({"label": -1}, "no scene class -1: the class numbers are 0 to 11"),
        ({"size": 31}, "invalid size 31: a scene must have at least 32 px to show its parts"),
        ({"seed": -4}, "invalid seed -4: a seed must be 0 or more"),
    ],
)
def test_invalid_arguments_raise_value_error(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene(**{"seed": 0, **arguments})  # type: ignore[arg-type]


def test_scenes_raises_before_it_is_iterated() -> None:
    with pytest.raises(ValueError, match="invalid count -1"):
        scenes(-1)


def test_scenes_import_neither_torch_nor_matplotlib() -> None:
    program = "import sys, deconvviz.scenes; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
