import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.scenes.backgrounds import TEXTURES, Texture, background
from deconvviz.scenes.colours import BLACK, WHITE, darker, distance, lighter, mix, palette
from deconvviz.scenes.dice import SceneRng

colours = st.tuples(*[st.integers(0, 255)] * 3)


@given(colours, colours, st.floats(0, 1))
def test_mix_is_between_two_colours(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> None:
    assert all(min(p, q) <= m <= max(p, q) for p, q, m in zip(a, b, mix(a, b, share), strict=True))
    assert mix(a, b, 0) == a
    assert mix(a, b, 1) == b


@given(colours)
def test_darker_and_lighter_by_one_are_black_and_white(colour: tuple[int, int, int]) -> None:
    assert darker(colour, 1) == BLACK
    assert lighter(colour, 1) == WHITE


def test_distance_is_zero_for_equal_colours_and_one_for_black_and_white() -> None:
    assert distance(WHITE, WHITE) == 0
    assert distance((0, 0, 0), (255, 255, 255)) == pytest.approx(1)


def test_main_colour_differs_from_both_background_colours() -> None:
    drawn = [palette(SceneRng(seed)) for seed in range(300)]
    gaps = [min(distance(p.main, p.background), distance(p.main, p.background_two)) for p in drawn]
    assert min(gaps) > 0.08
    assert np.median(gaps) > 0.3


@pytest.mark.parametrize("texture", TEXTURES, ids=lambda texture: texture.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_texture_has_different_values_between_zero_and_one(texture: Texture, seed: int) -> None:
    share = texture(48, SceneRng(seed))
    assert share.shape == (48, 48)
    assert 0 <= share.min() < share.max() <= 1


def test_background_is_as_bright_as_its_two_colours() -> None:
    for seed in range(20):
        colours = palette(SceneRng(seed))
        mean = np.asarray(background(48, colours, SceneRng(seed))).mean()
        ends = sorted((sum(colours.background) / 3, sum(colours.background_two) / 3))
        assert ends[0] - 25 < mean < ends[1] + 25


def test_random_numbers_are_in_their_ranges() -> None:
    rng = SceneRng(5)
    assert {rng.integer(2, 4) for _ in range(200)} == {2, 3, 4}
    assert {rng.pick("abc") for _ in range(200)} == set("abc")
    drawn = [rng.between(-2, 3) for _ in range(400)]
    assert -2 <= min(drawn) < -1.8 and 2.8 < max(drawn) <= 3
    assert 0.2 < np.mean([rng.chance(0.3) for _ in range(600)]) < 0.4
