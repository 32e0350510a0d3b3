"""The three sentences, for numbers that are known."""

from __future__ import annotations

import pytest

from deconvviz.trust_measures.summary import sentences

TITLES = {"deconvnet": "deconvnet", "guided": "guided backprop"}


def number(value, low=None, high=None, baseline=0.0):
    return {"value": value, "low": low, "high": high, "baseline": baseline}


def measures(likeness=0.96, parts=None, deletion=None, identification=None):
    return {
        "likeness": number(likeness),
        "parts": parts,
        "deletion": deletion or number(0.31, 0.2, 0.4, 0.55),
        "identification": identification or number(0.4, 0.3, 0.5, 0.11),
    }


def parts(finds, apart):
    return {"finds": finds, "tells_apart": apart}


@pytest.mark.parametrize(
    ("likeness", "words"),
    [
        (0.96, "nearly the same projection (0.96): read it as what the network uses at this place, not as"),
        (0.80, "nearly the same projection (0.80)"),
        (0.62, "a similar projection (0.62): a part of it belongs to the place"),
        (0.31, "a different projection (0.31), which alone does not say that the difference is true"),
        (None, "It is not known how alike the projections"),
    ],
)
def test_first_sentence_says_how_alike_the_projections_are(likeness, words):
    assert words in sentences({"deconvnet": measures(likeness)}, TITLES, 1)[0]


def test_first_sentence_names_the_number_of_images():
    assert "(0.96, median of 20 images)" in sentences({"deconvnet": measures()}, TITLES, 20)[0]


@pytest.mark.parametrize(
    ("deletion", "words"),
    [
        (
            number(0.31, 0.2, 0.4, 0.55),
            "0.31 [0.20, 0.40] of the activation is left on average, against 0.55",
        ),
        (number(0.31, 0.2, 0.4, 0.55), "its bright pixels matter more than others"),
        (number(0.31, 0.2, 0.4, 0.35), "no clear difference"),
        (number(0.61, 0.6, 0.7, 0.35), "matter less than others"),
        (number(0.31, None, None, 0.55), "no clear difference"),
    ],
)
def test_second_sentence_on_photographs_compares_with_random_pixels(deletion, words):
    assert words in sentences({"deconvnet": measures(deletion=deletion)}, TITLES, 3)[1]


def test_second_sentence_on_scenes_says_no_more_than_the_intervals():
    scores = parts(number(0.76, 0.7, 0.8, 0.49), number(0.1, -0.05, 0.2))
    found = sentences({"deconvnet": measures(parts=scores)}, TITLES, 3)[1]
    assert "effect better than their area alone (rank correlation 0.76 [0.70, 0.80]; area: 0.49)" in found
    assert "apart not clearly better than chance (0.10 [-0.05, 0.20]; 1 is perfect)" in found


def test_third_sentence_names_the_best_method_and_those_that_are_not_clearly_worse():
    table = {
        "deconvnet": measures(identification=number(0.3, 0.2, 0.45, 0.11)),
        "guided": measures(identification=number(0.5, 0.4, 0.6, 0.11)),
    }
    found = sentences(table, TITLES, 3)[2]
    assert found.startswith(
        "Of the 2 methods, guided backprop has the highest number: it excites its own unit"
    )
    assert found.endswith("the intervals of deconvnet overlap with this.")
    table["deconvnet"]["identification"] = number(0.3, 0.2, 0.35, 0.11)
    assert "overlap" not in sentences(table, TITLES, 3)[2]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.2, 0.4, "clearly above chance (0.11)"), (0.05, 0.4, "maps, not clearly above chance (0.11)")],
)
def test_third_sentence_compares_with_chance(low, high, words):
    table = {"deconvnet": measures(identification=number(0.3, low, high, 0.11))}
    assert words in sentences(table, TITLES, 3)[2]


def test_third_sentence_uses_the_true_effects_where_all_methods_have_them():
    scores = parts(number(0.7, 0.6, 0.8), number(0.2, 0.1, 0.3))
    better = parts(number(0.7, 0.6, 0.8), number(0.5, 0.4, 0.6))
    table = {"deconvnet": measures(parts=scores), "guided": measures(parts=better)}
    assert "guided backprop has the highest number: it tells the units" in sentences(table, TITLES, 3)[2]


def test_sentences_name_the_first_method_without_the_deconvnet():
    found = sentences({"guided": measures()}, TITLES, 2)
    assert "nearly the same guided backprop map" in found[0]
    assert found[2].startswith("The only method measured, guided backprop, excites its own unit")
    assert len(found) == 3
