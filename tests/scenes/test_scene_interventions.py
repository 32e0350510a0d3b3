"""Scenes that are redrawn without a part, or with a part in another colour."""

from collections.abc import Callable

import numpy as np
import pytest

from deconvviz.scenes import CLASSES, compose, scene
from deconvviz.scenes.canvas import Mask, Pen
from deconvviz.scenes.colours import Palette, hsv, other_hue
from deconvviz.scenes.dice import SceneRng

pytestmark = pytest.mark.slow

FEW = range(8)


def dilated(mask: Mask) -> Mask:
    """Return the mask with its neighbours, by loops over its pixels."""
    grown = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        grown[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = True
    return grown


@pytest.mark.parametrize("seeds", [FEW, pytest.param(range(8, 200), marks=pytest.mark.slow)])
def test_only_the_pixels_of_a_missing_part_change(seeds: range) -> None:
    for complete in map(scene, seeds):
        for part, mask in complete.parts.items():
            redrawn = scene(complete.seed, without=part)
            changed = (complete.image != redrawn.image).any(axis=2)
            assert not changed[~dilated(mask)].any(), (complete, part)
            assert changed[mask].mean() > 0.5, (complete, part)
            assert redrawn.without == (part,)
            assert redrawn.recolour == ()


@pytest.mark.parametrize("seeds", [FEW, pytest.param(range(8, 80), marks=pytest.mark.slow)])
def test_only_the_pixels_of_a_recoloured_part_change(seeds: range) -> None:
    for complete in map(scene, seeds):
        for part, mask in complete.parts.items():
            redrawn = scene(complete.seed, recolour=part)
            difference = np.abs(complete.image.astype(int) - redrawn.image).max(axis=2)
            assert not difference[~dilated(mask)].any(), (complete, part)
            assert difference[mask].mean() > 20, (complete, part)
            assert list(redrawn.parts) == list(complete.parts)
            assert all(np.array_equal(redrawn.parts[name], complete.parts[name]) for name in complete.parts)
            assert redrawn.recolour == (part,)
            assert redrawn.without == ()


@pytest.mark.parametrize("size", [32, 50, 128])
def test_only_the_pixels_of_a_part_change_at_every_image_size(size: int) -> None:
    for seed in range(3):
        complete = scene(seed, size=size)
        for part, mask in complete.parts.items():
            for redrawn in (complete.redrawn(without=part), complete.redrawn(recolour=part)):
                changed = (complete.image != redrawn.image).any(axis=2)
                assert changed.any()
                assert not changed[~dilated(mask)].any()


def test_missing_part_has_no_mask_and_other_masks_grow_only_where_it_was() -> None:
    pairs = [(complete, part) for complete in map(scene, range(20)) for part in complete.parts]
    for complete, part in pairs:
        redrawn = complete.redrawn(without=part)
        assert part not in redrawn.parts
        assert set(redrawn.parts) >= set(complete.parts) - {part}
        for before, after in (
            (complete.parts, redrawn.parts),
            (complete.distractors, redrawn.distractors),
        ):
            for name, mask in after.items():
                known = before.get(name, np.zeros_like(mask))
                assert not (known & ~mask).any()
                assert not (mask & ~known & ~complete.parts[part]).any()


def test_part_under_a_missing_part_becomes_visible() -> None:
    complete = scene(1, label="car")
    without_doors = scene(1, label="car", without="door")
    hidden = complete.parts["door"]
    assert (without_doors.parts["body"] & hidden).sum() > 0.9 * hidden.sum()


def test_all_parts_can_be_missing() -> None:
    complete = scene(5)
    empty = scene(5, without=complete.parts)
    assert not empty.parts
    assert not empty.object_mask.any()
    outside = ~dilated(complete.object_mask)
    assert np.array_equal(empty.image[outside], complete.image[outside])


def two_squares(also: str) -> Callable[[Pen, Palette, SceneRng], None]:
    """Return a drawing function: `low` hides `deep`, and `high` hides a part of `low`.

    `also` names those that are drawn. The same random numbers are used in any case.
    """

    def draw(pen: Pen, palette: Palette, rng: SceneRng) -> None:
        shift = rng.between(-0.1, 0.1)
        if "deep" in also:
            pen.box("deep", -0.2, -0.2, 0.1, 0.1, (255, 255, 0))
        if "low" in also:
            pen.box("low", -0.8 + shift, -0.8, 0.3, 0.3, palette.main, over=palette.accent)
        shift = rng.between(-0.1, 0.1)
        if "high" in also:
            pen.box("high", 0.2, 0.2, 0.8 + shift, 0.8, palette.second)

    return draw


def redefine_cars(monkeypatch: pytest.MonkeyPatch, also: str) -> None:
    monkeypatch.setitem(compose.OBJECT_CLASSES, "car", compose.ObjectClass(two_squares(also), 20))


@pytest.mark.parametrize(("missing", "rest"), [("low", "deep, high"), ("high", "deep, low")])
def test_missing_part_shows_what_is_behind_it(
    monkeypatch: pytest.MonkeyPatch, missing: str, rest: str
) -> None:
    """Compare with an object that never had the part."""
    for seed in range(12):
        redefine_cars(monkeypatch, "deep, low, high")
        complete, redrawn = scene(seed, "car"), scene(seed, "car", without=missing)
        redefine_cars(monkeypatch, rest)
        expected = scene(seed, "car")
        part = complete.parts[missing]
        assert np.array_equal(redrawn.image[part], expected.image[part])
        outside = ~dilated(part)
        assert np.array_equal(redrawn.image[outside], complete.image[outside])
        for found, wanted in ((redrawn.parts, expected.parts), (redrawn.distractors, expected.distractors)):
            assert list(found) == list(wanted)
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_completely_hidden_part_gets_a_mask_when_it_becomes_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    redefine_cars(monkeypatch, "deep, low, high")
    assert list(scene(3, "car").parts) == ["low", "high"]
    assert list(scene(3, "car", without="low").parts) == ["deep", "high"]
    with pytest.raises(ValueError, match="cannot leave out 'deep': the parts of this car are low, high"):
        scene(3, "car", without="deep")


def test_several_parts_can_change_at_once() -> None:
    complete = scene(9, label="robot")
    redrawn = scene(9, label="robot", without=["eye", "arm"], recolour={"body"})
    assert redrawn.without == ("arm", "eye")  # in the order of the parts
    assert redrawn.recolour == ("body",)
    assert not {"eye", "arm"} & set(redrawn.parts)
    body = complete.parts["body"]
    difference = np.abs(complete.image.astype(int) - redrawn.image).max(axis=2)
    assert difference[body].mean() > 20
    outside = ~dilated(body | complete.parts["arm"] | complete.parts["eye"])
    assert not difference[outside].any()


def test_parts_of_a_distractor_do_not_change() -> None:
    """The distractor wheel of a car stays when the wheels of the car are missing, and keeps its colour."""
    seed = next(seed for seed in range(200) if "wheel" in scene(seed, label="car").distractors)
    complete = scene(seed, label="car")
    distractor = complete.distractors["wheel"] & ~dilated(complete.parts["wheel"])
    for redrawn in (complete.redrawn(without="wheel"), complete.redrawn(recolour="wheel")):
        assert np.array_equal(redrawn.image[distractor], complete.image[distractor])
        assert (redrawn.distractors["wheel"] & distractor).sum() == distractor.sum()


def test_same_arguments_give_the_same_redrawn_scene() -> None:
    for arguments in ({"without": "wheel"}, {"recolour": "wheel"}):
        one, two = (scene(4, label="train", **arguments) for _ in range(2))  # type: ignore[arg-type]
        assert one.image.tobytes() == two.image.tobytes()


def test_no_part_to_change_gives_the_complete_scene() -> None:
    assert scene(6, without=[], recolour=[]).image.tobytes() == scene(6).image.tobytes()


def test_redrawn_keeps_class_and_size() -> None:
    one = scene(7, label="house", size=60)
    redrawn = one.redrawn(without="roof", recolour=["door"])
    same = scene(7, label="house", size=60, without="roof", recolour="door")
    assert redrawn.image.tobytes() == same.image.tobytes()
    assert redrawn.redrawn().image.tobytes() == one.image.tobytes()


def test_other_hue_is_clearly_different_for_every_colour() -> None:
    greys = [(value, value, value) for value in range(0, 256, 15)]
    vivid = [hsv(hue / 12, 0.3 + 0.1 * s, 0.1 * v) for hue in range(12) for s in range(8) for v in range(11)]
    for colour in greys + vivid:
        for turn in (0.35, 0.5, 0.65):
            changed = other_hue(colour, turn)
            assert max(abs(a - b) for a, b in zip(colour, changed, strict=True)) > 40


def test_repr_names_the_changes() -> None:
    text = repr(scene(2, label="fish", size=48, without="tail", recolour=["eye", "body"]))
    assert text.startswith(
        "Scene('fish', seed=2, 48x48, without tail, recoloured body, eye, parts: fin, body"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"without": "wing"}, r"cannot leave out 'wing': the parts of this face are \w+, .*eye"),
        ({"recolour": ["eye", "wing"]}, r"cannot recolour 'wing': the parts of this face are \w+, .*eye"),
        ({"without": ""}, "cannot leave out ''"),
        ({"without": "eye", "recolour": "eye"}, "cannot both leave out and recolour a part: eye"),
    ],
)
def test_unknown_and_contradictory_parts_raise_value_error(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scene(0, label="face", **arguments)  # type: ignore[arg-type]


def test_every_class_can_be_redrawn_without_each_of_its_parts() -> None:
    for name in CLASSES:
        complete = scene(12, label=name)
        for part in complete.parts:
            assert set(complete.parts) - {part} <= set(complete.redrawn(without=part).parts)
