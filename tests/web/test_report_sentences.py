"""The sentences of a report say what the numbers say."""

from __future__ import annotations

import pytest

from deconvviz.web.report.sentences import (
    Blurred,
    Projected,
    asked,
    blurred_of,
    class_bars,
    takes_for,
    trust,
)


def entry(name: str, probability: float | None, score: float) -> dict[str, object]:
    return {"name": name, "index": 0, "probability": probability, "score": score}


def test_class_sentence_has_the_probability_or_the_score() -> None:
    assert takes_for("net", entry("cat", 0.643, 9.0)) == "net takes this image for cat (64.3 %)."
    assert takes_for("net", entry("cat", None, 0.75)) == "net takes this image for cat (score 0.75)."
    assert "not known what net takes this image for" in takes_for("net", None)


def test_bars_are_probabilities_of_all_known_classes() -> None:
    top = {**entry("cat", 0.9, 8.0), "others": [entry("dog", 0.05, 5.0), entry("cow", 0.0004, 1.0)]}
    bars = class_bars(top)
    assert [(bar.name, bar.value, bar.share) for bar in bars] == [
        ("cat", "90 %", 0.9),
        ("dog", "5 %", 0.05),
        ("cow", "<0.1 %", 0.0004),
    ]
    assert class_bars(None) == ()


def test_bars_of_scores_are_shares_of_the_highest_and_never_negative() -> None:
    top = {**entry("cat", None, 4.0), "others": [entry("dog", None, 1.0), entry("cow", None, -2.0)]}
    assert [bar.share for bar in class_bars(top)] == [1.0, 0.25, 0.0]


def test_layers_are_named_with_their_numbers_of_units() -> None:
    found = asked([Projected("a", 9, None), Projected("b", 1, None), Projected("c", 2, None)])
    assert (
        found == "Units of 3 layers were projected back to pixels: a (9 units), b (1 unit) and c (2 units)."
    )
    assert asked([Projected("a", 1, None)]) == "Units of 1 layer were projected back to pixels: a (1 unit)."


@pytest.mark.parametrize(
    ("likeness", "said"),
    [
        (0.81, "nearly the same projection (median correlation 0.81), so read these projections as what"),
        (0.8, "a similar projection (median correlation 0.80), so a part of each projection belongs"),
        (0.5, "a similar projection"),
        (0.49, "a different projection (median correlation 0.49), which alone does not say"),
        (None, "does not know how alike"),
    ],
)
def test_trust_depends_on_the_likeness(likeness: float | None, said: str) -> None:
    found = trust([Projected("conv3", 9, likeness)], [], "cat.png")
    assert said in found and found.startswith("At conv3, ") and "Measured" not in found


def test_layers_of_one_verdict_share_one_clause() -> None:
    found = trust([Projected("a", 1, 0.9), Projected("b", 1, 0.3), Projected("c", 1, 0.95)], [], "cat.png")
    assert found.startswith("At a and c, other strong units of the same places have nearly the same")
    assert "(median correlation 0.90 and 0.95)" in found
    assert "; at b, other strong units of the same places have a different projection" in found


def measured(low: float | None, high: float | None, baseline: float | None) -> dict[str, object]:
    deletion = {"value": 0.5, "low": low, "high": high, "baseline": baseline}
    measures = {"methods": {"deconvnet": {"deletion": deletion}}}
    return {"layer": {"name": "a"}, "pictures": ["cat.png"], "trust": measures}


@pytest.mark.parametrize(
    ("low", "high", "baseline", "matter"),
    [
        (0.3, 0.4, 0.8, True),
        (0.85, 0.9, 0.8, False),
        (0.3, 0.9, 0.8, None),
        (None, None, 0.8, None),
        (0.3, 0.4, None, None),
    ],
)
def test_deletion_is_compared_with_its_baseline(
    low: float | None, high: float | None, baseline: float | None, matter: bool | None
) -> None:
    found = blurred_of(measured(low, high, baseline))
    assert found == Blurred("a", matter, ("cat.png",))
    said = trust([Projected("a", 1, 0.9)], [found], "cat.png")
    assert "Measured (see Trust): " in said
    words = {True: "lowers the activation more", False: "lowers the activation less", None: "no clear"}
    assert words[matter] in said


def test_measures_of_other_images_are_said_to_be() -> None:
    said = trust([Projected("a", 1, 0.9)], [Blurred("a", True, ("dog.png",))], "cat.png")
    assert "Measured on other images (see Trust): at a, blurring" in said
    assert said.count("Measured") == 1


def test_measures_without_the_deconvnet_say_nothing_about_projections() -> None:
    assert blurred_of({"trust": {"methods": {"guided": {}}}}) is None
    assert blurred_of({}) is None
