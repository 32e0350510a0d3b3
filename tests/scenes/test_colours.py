import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.scenes.backgrounds import GROUNDS, Texture, ground
from deconvviz.scenes.colours import BLACK, WHITE, darker, distance, lighter, mix, palette
from deconvviz.scenes.dice import Dice

colours = st.tuples(*[st.integers(0, 255)] * 3)


@given(colours, colours, st.floats(0, 1))
def test_a_mix_lies_between(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> None:
    assert all(min(p, q) <= m <= max(p, q) for p, q, m in zip(a, b, mix(a, b, share), strict=True))
    assert mix(a, b, 0) == a
    assert mix(a, b, 1) == b


@given(colours)
def test_darker_and_lighter_go_to_black_and_white(colour: tuple[int, int, int]) -> None:
    assert darker(colour, 1) == BLACK
    assert lighter(colour, 1) == WHITE


def test_distance_runs_from_nothing_to_one() -> None:
    assert distance(WHITE, WHITE) == 0
    assert distance((0, 0, 0), (255, 255, 255)) == pytest.approx(1)


def test_the_objects_paint_stands_out_from_every_ground() -> None:
    drawn = [palette(Dice(seed)) for seed in range(300)]
    gaps = [min(distance(p.main, p.ground), distance(p.main, p.ground_two)) for p in drawn]
    assert min(gaps) > 0.08
    assert np.median(gaps) > 0.3


@pytest.mark.parametrize("texture", GROUNDS, ids=lambda texture: texture.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_a_texture_is_a_share_and_not_flat(texture: Texture, seed: int) -> None:
    share = texture(48, Dice(seed))
    assert share.shape == (48, 48)
    assert 0 <= share.min() < share.max() <= 1


def test_a_ground_has_the_palettes_brightness() -> None:
    for seed in range(20):
        colours = palette(Dice(seed))
        mean = np.asarray(ground(48, colours, Dice(seed))).mean()
        ends = sorted((sum(colours.ground) / 3, sum(colours.ground_two) / 3))
        assert ends[0] - 25 < mean < ends[1] + 25


def test_dice_stay_in_their_ranges() -> None:
    dice = Dice(5)
    assert {dice.whole(2, 4) for _ in range(200)} == {2, 3, 4}
    assert {dice.pick("abc") for _ in range(200)} == set("abc")
    drawn = [dice.between(-2, 3) for _ in range(400)]
    assert -2 <= min(drawn) < -1.8 and 2.8 < max(drawn) <= 3
    assert 0.2 < np.mean([dice.chance(0.3) for _ in range(600)]) < 0.4
