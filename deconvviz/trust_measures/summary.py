"""Three sentences in plain words about the measures, which never say more than the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deconvviz.likeness import ALIKE
from deconvviz.wording import counted

SIMILAR = 0.5


def sentences(
    measures: Mapping[str, Mapping[str, Any]],
    titles: Mapping[str, str],
    pictures: int,
    *,
    positions: bool = True,
) -> list[str]:
    """Return three sentences: how alike the maps of a place are, whether they are true, and which is best.

    The first two are about the deconvnet, or about the first method if the deconvnet was not asked for.
    `positions` states whether the units have a position.
    """
    main = "deconvnet" if "deconvnet" in measures else next(iter(measures))
    noun = "projection" if main == "deconvnet" else f"{titles[main]} map"
    return [
        _likeness(measures[main]["likeness"], noun, pictures, positions=positions),
        _truth(measures[main], noun),
        _best(measures, titles),
    ]


def _likeness(measure: Mapping[str, Any], noun: str, pictures: int, *, positions: bool) -> str:
    value = measure["value"]
    if value is None:
        return (
            f"It is not known how alike the {noun}s of the units of one place are: their maps are constant."
        )
    where = ("at this place" if pictures == 1 else "at a place") if positions else "of this layer"
    number = f"{value:.2f}" if pictures == 1 else f"{value:.2f}, median of {counted(pictures, 'image')}"
    if value >= ALIKE:
        return (
            f"Other strong units {where} have nearly the same {noun} ({number}): read it as what the network "
            f"uses {where if positions else 'in the image'}, not as what sets one channel apart."
        )
    if value >= SIMILAR:
        return (
            f"Other strong units {where} have a similar {noun} ({number}): a part of it belongs to the "
            f"{'place' if positions else 'image'} and not to the channel."
        )
    return (
        f"Other strong units {where} have a different {noun} ({number}), which alone does not say that "
        "the difference is true."
    )


def _truth(measures: Mapping[str, Any], noun: str) -> str:
    parts = measures["parts"]
    if parts is not None:
        finds, apart = parts["finds"], parts["tells_apart"]
        return (
            f"On scenes, the {noun} ranks the parts by their true effect "
            f"{_against(finds, 'their area alone')} (rank correlation {_number(finds)}; area: "
            f"{_plain(finds['baseline'])}), and tells the units of one place apart "
            f"{_against(apart, 'chance')} ({_number(apart)}; 1 is perfect)."
        )
    deletion = measures["deletion"]
    if deletion["value"] is None or deletion["baseline"] is None:
        return f"It is not known whether the bright pixels of the {noun} matter to the unit."
    clear = _clear(deletion, lower_is_better=True)
    verdict = {
        True: "its bright pixels matter more than others",
        False: "its bright pixels matter less than others",
        None: "no clear difference",
    }[clear]
    return (
        f"While the 1 to 50 % of pixels with most energy in the {noun} are blurred, {_number(deletion)} of "
        f"the activation is left on average, against {_plain(deletion['baseline'])} for random pixels: "
        f"{verdict}."
    )


def _best(measures: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    scenes = all(one["parts"] is not None for one in measures.values())
    found = {
        name: one["parts"]["tells_apart"] if scenes else one["identification"]
        for name, one in measures.items()
    }
    known = {name: one for name, one in found.items() if one["value"] is not None}
    if not known:
        return "It is not known which method tells the units of one place apart."
    order = sorted(known, key=lambda name: -known[name]["value"])
    best, top = titles[order[0]], known[order[0]]
    if scenes:
        said = (
            f"tells the units of one place apart {_against(top, 'chance')} (rank correlation {_number(top)})"
        )
    else:
        above = {True: "clearly above", False: "clearly below", None: "not clearly above"}
        said = (
            f"excites its own unit most in a share of {_number(top)} of its maps, "
            f"{above[_clear(top, lower_is_better=False)]} chance ({_plain(top['baseline'])})"
        )
    if len(known) == 1:
        return f"The only method measured, {best}, {said}."
    close = [titles[name] for name in order[1:] if _overlap(top, known[name])]
    rest = f"; the intervals of {', '.join(close)} overlap with this" if close else ""
    return f"Of the {len(known)} methods, {best} has the highest number: it {said}{rest}."


def _against(measure: Mapping[str, Any], baseline: str) -> str:
    """Return whether a measure is clearly better than its baseline, as words."""
    clear = _clear(measure, lower_is_better=False)
    words = {True: "better than", False: "worse than", None: "not clearly better than"}[clear]
    return f"{words} {baseline}"


def _clear(measure: Mapping[str, Any], *, lower_is_better: bool) -> bool | None:
    """Return whether the interval lies on the better side (True) or the worse side (False) of the baseline.

    Return None if it contains the baseline, or if either is not known.
    """
    low, high, baseline = measure["low"], measure["high"], measure["baseline"]
    if low is None or high is None or baseline is None or low <= baseline <= high:
        return None
    return bool((high < baseline) == lower_is_better)


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if None in (one["low"], other["high"]):
        return True
    return bool(other["high"] >= one["low"])


def _number(measure: Mapping[str, Any]) -> str:
    """Return a value with its interval, such as ``0.76 [0.70, 0.81]``."""
    if measure["low"] is None or measure["high"] is None:
        return f"{_plain(measure['value'])}, interval not known"
    return f"{_plain(measure['value'])} [{measure['low']:.2f}, {measure['high']:.2f}]"


def _plain(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
