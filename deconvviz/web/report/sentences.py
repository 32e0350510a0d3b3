"""Three sentences about an image: its class, the layers, and how far to trust the projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvviz.likeness import ALIKE
from deconvviz.trust_measures.summary import SIMILAR
from deconvviz.web.report.document import ClassBar
from deconvviz.web.report.words import all_of
from deconvviz.wording import counted


@dataclass(frozen=True)
class Projected:
    """Units of one layer that were projected for an image; `likeness` is None if it is not known."""

    layer: str
    units: int
    likeness: float | None


@dataclass(frozen=True)
class Blurred:
    """What the trust measures say about the bright pixels of the projections of one layer.

    `matter` states whether blurring them lowers the activation more than blurring random pixels. It is None
    if the interval contains the baseline, or is not known.
    """

    layer: str
    matter: bool | None
    pictures: tuple[str, ...] = ()  # names of the images that were used


def takes_for(network: str, top: Mapping[str, Any] | None) -> str:
    """Return the sentence about the class of an image."""
    if top is None:
        return f"It is not known what {network} takes this image for: the results have no class scores of it."
    probability = top.get("probability")
    if probability is None:
        return f"{network} takes this image for {top['name']} (score {top['score']:.3g})."
    return f"{network} takes this image for {top['name']} ({_percent(probability)})."


def class_bars(top: Mapping[str, Any] | None) -> tuple[ClassBar, ...]:
    """Return the top classes of an image with their probabilities, or their scores if these are not known."""
    if top is None:
        return ()
    ranked = [top, *(top.get("others") or ())]
    highest = max(abs(float(one["score"])) for one in ranked) or 1.0
    return tuple(
        ClassBar(str(one["name"]), f"{one['score']:.3g}", max(0.0, float(one["score"]) / highest))
        if one.get("probability") is None
        else ClassBar(str(one["name"]), _percent(one["probability"]), float(one["probability"]))
        for one in ranked
    )


def asked(projected: Sequence[Projected]) -> str:
    """Return the sentence about the layers."""
    layers = all_of([f"{one.layer} ({counted(one.units, 'unit')})" for one in projected])
    return f"Units of {counted(len(projected), 'layer')} were projected back to pixels: {layers}."


def trust(projected: Sequence[Projected], blurred: Sequence[Blurred], picture: str) -> str:
    """Return the sentence about trust in an image, and another one if trust was measured."""
    known = [one for one in projected if one.likeness is not None]
    groups = (
        (
            [one for one in known if _of(one) > ALIKE],
            "other strong units of the same places have nearly the same projection ({}), so read these "
            "projections as what the network uses at the place, and not as what sets one channel apart",
        ),
        (
            [one for one in known if SIMILAR <= _of(one) <= ALIKE],
            "other strong units of the same places have a similar projection ({}), so a part of each "
            "projection belongs to the place and not to the channel",
        ),
        (
            [one for one in known if _of(one) < SIMILAR],
            "other strong units of the same places have a different projection ({}), which alone does not "
            "say that the difference is true",
        ),
    )
    parts = [
        f"at {all_of([one.layer for one in some])}, {text.format(_correlations(some))}"
        for some, text in groups
        if some
    ]
    unknown = [one.layer for one in projected if one.likeness is None]
    if unknown:
        parts.append(
            f"at {all_of(unknown)}, the report does not know how alike the projections of other units are, "
            "so it cannot say what belongs to the channel and what to the place"
        )
    said = "; ".join(parts)
    own = [one for one in blurred if picture in one.pictures]
    others = [one for one in blurred if one not in own]
    measured = [_measured(own, "Measured"), _measured(others, "Measured on other images")]
    return " ".join(filter(None, [f"{said[:1].upper()}{said[1:]}.", *measured]))


def _measured(blurred: Sequence[Blurred], begin: str) -> str:
    """Return the sentence about the measures of trust; empty without them."""
    words = {
        True: "blurring the bright pixels of the projections lowers the activation more than blurring "
        "random pixels",
        False: "blurring the bright pixels of the projections lowers the activation less than blurring "
        "random pixels",
        None: "no clear difference between blurring the bright pixels of the projections and blurring random "
        "pixels was found",
    }
    parts = [
        f"at {all_of(layers)}, {text}"
        for matter, text in words.items()
        if (layers := [one.layer for one in blurred if one.matter is matter])
    ]
    return f"{begin} (see Trust): {'; '.join(parts)}." if parts else ""


def blurred_of(described: Mapping[str, Any]) -> Blurred | None:
    """Return what a description of trust measures says about the deconvnet; None if it says nothing."""
    measures = ((described.get("trust") or {}).get("methods") or {}).get("deconvnet")
    if measures is None:
        return None
    one = measures["deletion"]
    low, high, base = one["low"], one["high"], one["baseline"]
    matter = None
    if low is not None and high is not None and base is not None and not low <= base <= high:
        matter = bool(high < base)
    return Blurred(described["layer"]["name"], matter, tuple(described.get("pictures") or ()))


def _of(one: Projected) -> float:
    return one.likeness or 0.0


def _correlations(some: Sequence[Projected]) -> str:
    numbers = all_of([f"{_of(one):.2f}" for one in some])
    return f"median correlation {numbers}"


def _percent(probability: float) -> str:
    percent = 100 * probability
    return ">99.9 %" if percent > 99.9 else "<0.1 %" if percent < 0.1 else f"{percent:.3g} %"
