import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from deconvviz.scenes import CLASSES, Scene, scene, scenes

SEEDS_OF_EACH_CLASS = range(4)


@pytest.fixture(scope="module")
def gallery() -> list[Scene]:
    return [scene(seed, label=name) for name in CLASSES for seed in SEEDS_OF_EACH_CLASS]


def test_a_seed_draws_the_same_scene_again() -> None:
    one, two = scene(11), scene(11)
    assert one.image.tobytes() == two.image.tobytes()
    assert list(one.parts) == list(two.parts)
    assert all(np.array_equal(one.parts[part], two.parts[part]) for part in one.parts)


def test_a_seed_draws_the_same_scene_in_another_process() -> None:
    program = (
        "from deconvviz.scenes import scene; import sys; sys.stdout.buffer.write(scene(11).image.tobytes())"
    )
    drawn = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert drawn == scene(11).image.tobytes()


def test_seeds_differ() -> None:
    assert len({one.image.tobytes() for one in scenes(12)}) == 12


def test_the_stream_of_labels_is_fixed() -> None:
    """A changed stream would draw other scenes from old seeds: what was measured on them would be void."""
    drawn = " ".join(one.name for one in scenes(12))
    assert drawn == "fish face boat bicycle train house face fish boat robot train bicycle"


def test_scenes_runs_over_neighbouring_seeds() -> None:
    three = list(scenes(3, seed=40, size=64))
    assert [one.seed for one in three] == [40, 41, 42]
    assert three[1].image.tobytes() == scene(41, size=64).image.tobytes()


def test_every_class_is_drawn_about_equally_often() -> None:
    counts = Counter(one.name for one in scenes(360, size=32))
    assert set(counts) == set(CLASSES)
    assert min(counts.values()) > 10  # 30 expected


def test_a_label_can_be_asked_for_by_name_or_number() -> None:
    by_name, by_number = scene(3, label="fish"), scene(3, label=CLASSES.index("fish"))
    assert by_name.name == by_number.name == "fish"
    assert by_name.label == by_number.label == CLASSES.index("fish")
    assert by_name.image.tobytes() == by_number.image.tobytes()


@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_sizes(size: int) -> None:
    one = scene(8, label="car", size=size)
    assert one.image.shape == (size, size, 3)
    assert one.image.dtype == np.uint8
    assert all(mask.shape == (size, size) and mask.dtype == np.bool_ for mask in one.parts.values())


def test_a_larger_scene_shows_the_same_object_in_the_same_place() -> None:
    small, large = (scene(8, label="house", size=size).object_mask for size in (48, 144))
    assert np.mean(small == large[1::3, 1::3]) > 0.97


def test_masks_are_never_empty_and_never_overlap(gallery: list[Scene]) -> None:
    for one in gallery:
        masks = [*one.parts.values(), *one.strays.values()]
        assert all(mask.any() for mask in masks)
        assert np.sum(masks, axis=0).max() == 1


def test_the_object_is_plainly_in_the_picture(gallery: list[Scene]) -> None:
    shares = [one.object_mask.mean() for one in gallery]
    assert min(shares) > 0.06
    assert max(shares) < 0.75


def test_every_class_is_built_from_at_least_three_parts(gallery: list[Scene]) -> None:
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
def test_parts_are_shared_between_classes(gallery: list[Scene], part: str, classes: set[str]) -> None:
    assert {one.name for one in gallery if part in one.parts} == classes


def test_a_part_has_its_own_look_inside_its_mask() -> None:
    """Ground truth checked against the pixels: a car's tyres are dark, a house's windows are pale."""
    for seed in range(5):
        car, house = scene(seed, label="car"), scene(seed, label="house")
        tyres = car.image[car.parts["wheel"]].mean(1)
        assert np.percentile(tyres, 20) < 75
        assert np.percentile(house.image[house.parts["window"]].mean(1), 60) > 120


def test_strays_lie_about_and_are_not_the_objects() -> None:
    found = Counter(part for one in scenes(120, size=64) for part in one.strays)
    assert set(found) == {"wheel", "eye", "window", "petal", "leaf", "door"}
    one = next(one for one in scenes(120) if one.strays)
    assert not (one.object_mask & next(iter(one.strays.values()))).any()


def test_repr_tells_class_seed_size_and_parts() -> None:
    told = repr(scene(2, label="fish", size=48))
    assert told.startswith("Scene('fish', seed=2, 48x48, parts: tail, fin, body")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"label": "dog"}, "no class 'dog' in the scenes: there are airplane, bicycle, bird"),
        ({"label": 12}, "no class number 12 in the scenes: they run from 0 to 11"),
        ({"label": -1}, "no class number -1 in the scenes: they run from 0 to 11"),
        ({"size": 31}, "size 31 asked for: a scene needs at least 32 px to show its parts"),
        ({"seed": -4}, "seed -4 asked for: a seed is a whole number from 0 on"),
    ],
)
def test_what_cannot_be_drawn_is_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene(**{"seed": 0, **asked})  # type: ignore[arg-type]


def test_scenes_refuses_before_it_is_iterated() -> None:
    with pytest.raises(ValueError, match="count -1 asked for"):
        scenes(-1)


def test_scenes_need_no_torch() -> None:
    program = "import sys, deconvviz.scenes; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
