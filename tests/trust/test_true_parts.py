"""Scores on parts: maps that are known, and two networks side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import trust
from scipy import stats
from torch import nn

from deconvviz.methods.method import method
from deconvviz.scenes import scene
from deconvviz.trust_measures import part_scores
from deconvviz.trust_measures.part_controls import PartControls
from deconvviz.trust_measures.parts import Parts
from deconvviz.trust_measures.place import Case
from deconvviz.trust_measures.true_effects import Effects, effects_at, prepared_mask

PARTS, UNITS, SIDE = 5, 4, 20


def effects(seed=0, removed=None):
    """Return effects of five parts of different sizes on four units."""
    random = np.random.default_rng(seed)
    masks = np.zeros((PARTS, SIDE, SIDE), bool)
    for number in range(PARTS):
        masks[number, 4 * number : 4 * number + 3, : 4 + 2 * number] = True
    true = random.uniform(-0.2, 1, (PARTS, UNITS)) if removed is None else np.asarray(removed, float)
    return Effects(tuple("abcde"), masks, true, random.permuted(true, axis=0), true)


def maps_of(said, masks):
    """Return maps (K, h, w) whose sum over part p is said[p, k]."""
    return np.einsum("pk,phw->khw", said / masks.sum((1, 2))[:, None], masks.astype(float))


def test_perfect_contributions_score_1():
    truth = effects()
    pixels = maps_of(truth.removed, truth.masks)
    said = part_scores.shares(truth, pixels * 7, "contribution")
    scale = np.abs(pixels).sum((1, 2))
    same_scale = part_scores.shares(truth, pixels / scale[:, None, None], "contribution")
    assert said == pytest.approx(same_scale)
    assert part_scores.finds(said, truth) == pytest.approx(np.ones(UNITS))
    assert part_scores.tells_apart(truth.removed, truth).value == pytest.approx(1)
    heights = np.einsum("pk,phw->khw", truth.removed, truth.masks.astype(float))
    assert part_scores.pointing(heights, truth).tolist() == [1] * UNITS


def test_contributions_are_divided_by_the_activations_if_they_are_given():
    truth, activations = effects(), np.array([1.0, 2.0, 0.5, 4.0])
    pixels = maps_of(truth.removed * activations, truth.masks)
    assert part_scores.shares(truth, pixels, "contribution", activations) == pytest.approx(truth.removed)
    assert np.array_equal(
        part_scores.shares(truth, np.abs(pixels), "energy", activations),
        part_scores.shares(truth, np.abs(pixels), "energy"),
    )


def test_finds_is_the_rank_correlation_of_scipy_for_each_unit():
    truth, said = effects(), np.random.default_rng(5).standard_normal((PARTS, UNITS))
    expected = [stats.spearmanr(said[:, k], truth.removed[:, k]).statistic for k in range(UNITS)]
    assert part_scores.finds(said, truth) == pytest.approx(expected)


def test_tells_apart_is_the_rank_correlation_without_the_mean_over_units():
    truth, said = effects(), np.random.default_rng(6).standard_normal((PARTS, UNITS))
    left = [values - values.mean(1, keepdims=True) for values in (said, truth.removed)]
    expected = stats.spearmanr(left[0].ravel(), left[1].ravel()).statistic
    assert part_scores.tells_apart(said, truth).value == pytest.approx(expected)


def test_one_map_for_all_units_tells_nothing_apart():
    truth = effects()
    pixels = np.broadcast_to(np.random.default_rng(1).random((SIDE, SIDE)), (UNITS, SIDE, SIDE))
    for reading in ("energy", "contribution"):
        said = part_scores.shares(truth, pixels * np.array([1, 3, 1e-6, 70])[:, None, None], reading)
        assert part_scores.tells_apart(said, truth).value == 0


def test_random_maps_score_about_the_baseline():
    finds, apart = [], []
    for seed in range(60):
        truth = effects(seed)
        pixels = np.random.default_rng(1000 + seed).standard_normal((UNITS, SIDE, SIDE))
        said = part_scores.shares(truth, pixels, "contribution")
        finds += part_scores.finds(said, truth).tolist()
        apart.append(part_scores.tells_apart(said, truth).value)
    assert abs(np.mean(finds)) < 0.1
    assert abs(np.mean(apart)) < 0.06


def test_units_that_no_part_moves_are_left_out():
    removed = np.random.default_rng(2).uniform(0.2, 1, (PARTS, UNITS))
    removed[:, 1] = 0.049
    truth = effects(removed=removed)
    assert truth.moved.tolist() == [True, False, True, True]
    assert len(part_scores.finds(removed, truth)) == 3
    assert part_scores.tells_apart(removed, truth).units == 3


def test_energy_over_area_of_known_maps():
    truth = effects()
    uniform = np.ones((UNITS, SIDE, SIDE))
    assert part_scores.energy_over_area(uniform, truth) == pytest.approx(np.ones(UNITS))
    best = truth.removed.argmax(0)
    only = truth.masks[best].astype(float)
    expected = SIDE * SIDE / truth.masks.sum((1, 2))[best]
    assert part_scores.energy_over_area(only, truth) == pytest.approx(expected)
    assert part_scores.pointing(uniform, truth) == pytest.approx(1 / expected)
    assert part_scores.area_of_best(truth) == pytest.approx(1 / expected)


def test_distraction_is_the_energy_on_parts_without_effect_over_their_area():
    removed = np.array([[0.5, 0.5], [0.0, 0.2], [0.01, 0.2], [0.3, 0.2], [0.4, 0.2]])
    truth = effects(removed=removed)
    areas = truth.masks.sum((1, 2))
    pixels = maps_of(np.array([[1.0, 1], [2, 1], [3, 1], [4, 1], [0, 1]]), truth.masks)
    found = part_scores.distraction(pixels, truth)
    assert found[0] == pytest.approx(5 / 10 / ((areas[1] + areas[2]) / SIDE**2))
    assert np.isnan(found[1])  # every part has an effect


COLOURS = {"red": (250, 128, 128), "blue": (128, 128, 250), "both": (230, 128, 230), "pale": (150, 128, 140)}


@pytest.fixture(scope="module")
def planted():
    """Return a place of two networks side by side: channels 0 to 3 see only red, 4 to 7 only blue.

    The weights of the two groups are separate and positive, so a unit of one group cannot depend on the other
    colour.
    """
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 1, groups=3, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 12, trust.SIDE // 2, groups=3, bias=False),
        nn.ReLU(),
    )
    with torch.no_grad():
        for part in (module[0], module[3]):
            part.weight.copy_(torch.rand_like(part.weight) + 0.2)
        module[3].weight[4:8] *= 0  # the green group is silent
        module[3].weight[:4] *= 1 / 20
        module[3].weight[8:] *= 1 / 20
    blocks = trust.Blocks(COLOURS)
    return trust.place(trust.network(module), "4", k=8, of=blocks.picture())


def test_true_effects_equal_passes_of_the_module_on_redrawn_pictures(planted):
    found = effects_at(planted)
    assert found.names == tuple(COLOURS)
    blocks = trust.Blocks(COLOURS)
    channels = [unit.channel for unit in planted.units]

    def answers(image):
        with torch.no_grad():
            out = planted.network.module(planted.network.preprocessing.apply(image)[None])
        return out[0, channels, 0, 0].numpy()

    whole = answers(blocks.image)
    for number, name in enumerate(COLOURS):
        for kind in ("without", "recolour"):
            fall = 1 - answers(blocks.redrawn(**{kind: name}).image) / whole
            table = found.removed if kind == "without" else found.recoloured
            assert table[number] == pytest.approx(fall, abs=1e-5)


def test_planted_units_depend_on_their_own_colour_only(planted):
    removed = effects_at(planted).removed
    for number, unit in enumerate(planted.units):
        other = "blue" if unit.channel < 4 else "red"
        own = "red" if unit.channel < 4 else "blue"
        assert abs(removed[list(COLOURS).index(other), number]) < 1e-5
        assert removed[list(COLOURS).index(own), number] > 0.2


def scored(place, own):
    parts = Parts()
    parts.see(Case.of(place, own))
    return parts.to_json()


@pytest.mark.parametrize("name", ["deconvnet", "gradient"])
def test_methods_tell_planted_units_apart(planted, name):
    subject = type(planted.subject).record(planted.network, planted.inputs, planted.layer, [name])
    again = trust.Place(
        **{**{f: getattr(planted, f) for f in planted.__dataclass_fields__}, "subject": subject}
    )
    found = scored(again, method(name))
    assert found["tells_apart"]["value"] > 0.6
    assert found["finds"]["value"] > 0.6


def test_method_that_cannot_tell_the_groups_apart_has_0(planted):
    """The sum of the maps of all units is the same for each unit."""
    maps = Case.of(planted, method("deconvnet")).maps.sum(0)
    blind = trust.KnownMaps("blind", lambda subject, unit: torch.from_numpy(maps))
    found = scored(planted, blind)
    assert found["tells_apart"]["value"] == 0
    assert found["readings"]["contribution"]["tells_apart"] == 0
    assert found["controls"]["other_unit"]["finds"] == pytest.approx(found["finds"]["value"])


def test_true_contributions_of_planted_units_score_1(planted):
    truth = effects_at(planted)
    channels = {unit.channel: number for number, unit in enumerate(planted.units)}

    def map_of(subject, unit):
        pixels = unit.activation * maps_of(truth.removed, truth.masks)[channels[unit.channel]]
        return torch.from_numpy(np.stack([pixels / 2, pixels / 4, pixels / 4])).float()

    found = scored(planted, trust.KnownMaps("truth", map_of, signed=True))
    assert found["reading"] == "contribution"
    assert found["finds"]["value"] == pytest.approx(1)
    assert found["tells_apart"]["value"] == pytest.approx(1)
    assert found["pointing"]["value"] == 1


def test_controls_know_nothing_of_the_units(planted):
    controls = PartControls()
    controls.see(planted)
    found = controls.to_json()
    assert found["uniform"]["tells_apart"] == 0
    assert found["sobel"]["tells_apart"] == 0
    truth = effects_at(planted)
    expected = [
        stats.spearmanr(truth.blurred[:, k], truth.removed[:, k]).statistic for k in range(len(planted.units))
    ]
    assert found["blurred"]["finds"] == pytest.approx(np.mean(expected))


def test_picture_without_a_scene_has_no_parts():
    at = trust.place(trust.convolutions(), "4")
    assert scored(at, method("deconvnet")) is None
    assert PartControls().to_json() is None


def test_reading_of_a_scene_is_chosen_on_other_scenes(monkeypatch):
    """On even scenes energy is perfect and contribution is not, on odd scenes the reverse."""
    parts = Parts()
    good, bad = np.array([1.0, 1.0]), np.array([0.0, 0.0])

    class Scores:
        def __init__(self, finds):
            self.finds = self.pointing = self.energy_over_area = self.distraction = finds
            self.tells_apart = part_scores.Group(2, lambda units: float(finds.mean()))

    for number in range(4):
        even = number % 2 == 0
        parts._scenes.append(
            {"energy": Scores(good if even else bad), "contribution": Scores(bad if even else good)}
        )
        parts._controls.append({})
        parts._effects.append(effects(number))
    found = parts.to_json()
    assert found["finds"]["value"] == 0  # a choice on the same scenes would give 1
    assert found["readings"]["energy"]["finds"] == found["readings"]["contribution"]["finds"] == 0.5
    assert found["scenes"] == 4


def test_mask_is_resized_and_cropped_like_the_scene():
    import deconvviz as dv

    drawn = scene(5)
    net = dv.Network(nn.Conv2d(3, 1, 3), size=200)
    whole = prepared_mask(drawn.object_mask, net.preprocessing)
    assert whole.shape == (200, 200)
    assert whole.mean() == pytest.approx(drawn.object_mask.mean(), abs=0.01)
    at_size = dv.Network(nn.Conv2d(3, 1, 3), size=96)
    assert (prepared_mask(drawn.object_mask, at_size.preprocessing) == drawn.object_mask).all()
