"""Phrases and numbers of the pages of an atlas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deconvviz.dataset_search.result import LACKING
from deconvviz.layers import Layer
from deconvviz.likeness import ALIKE
from deconvviz.wording import counted


def number(value: float) -> str:
    """Return a number with three digits, or without decimals from 1,000 on."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def percent(share: float) -> str:
    """Return a share as a percentage. Only 0 and 1 are written as 0 % and 100 %."""
    value = 100 * share
    if 0 < value < 0.1 or 99.9 < value < 100:
        return "under 0.1 %" if value < 50 else "over 99.9 %"
    return f"{value:.1f} %" if value % 1 else f"{value:.0f} %"


def channel_name(shape_length: int, channel: int, name: str | None) -> str:
    """Return ``channel 5``, ``unit 5`` for a unit without position, or ``car (class 5)``."""
    if name is not None:
        return f"{name} (class {channel})"
    return f"{'channel' if shape_length == 3 else 'unit'} {channel}"


def field_name(layer: Layer) -> str:
    """Return the receptive field of a layer without the words `receptive field`."""
    return layer.field_text.removeprefix("receptive field").lstrip(": ")


def lacking(lacks: Iterable[str]) -> list[str]:
    """Return a sentence on what an old search did not keep, if anything."""
    missing = [LACKING[name] for name in LACKING if name in set(lacks)]
    if not missing:
        return []
    listed = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
    return [
        f"This search lacks {listed}, because an earlier version of deconvviz made it. Search again to add "
        "them to the pages."
    ]


def likeness_text(found: Mapping[str, Any] | None, layer: str) -> str:
    """Return how alike the strongest projection is to those of other channels at the same place."""
    if found is None:
        return "No other channel is active at the place of the strongest peak, so nothing can be compared."
    others = " and ".join(map(str, found["channels"]))
    many = len(found["channels"]) > 1
    value = f"{found['value']:.2f}"
    who = f"the projection{'s' * many} of channel{'s' * many} {others}, the strongest other{'s' * many} there"
    if found["value"] > ALIKE:
        return (
            f"At the place of the strongest peak, the projection is nearly the same as {who} (correlation "
            f"{value}). Read it as what {layer} uses at this place, not as what sets this channel apart."
        )
    return f"At the place of the strongest peak, the projection differs from {who} (correlation {value})."


def classes_text(classes: Sequence[Sequence[Any]], purity: float | None, shown: int, lacks: bool) -> str:
    """Return which classes the shown images have."""
    if not shown:
        return "No image activates this channel."
    if lacks:
        return "The labels of the images are not known."
    if not classes:
        return "The images have no class labels."
    known = sum(count for _, count in classes)
    named = ", ".join(f"{label} ({count})" for label, count in classes)
    whole = (
        f"Of the {counted(shown, 'image')} above" if known == shown else f"Of {known} labelled images above"
    )
    return f"{whole}: {named}. Purity: {percent(purity or 0)} (share of the most frequent class)."


def citation(network: str, weights: str, what: str, images: str) -> str:
    """Return a sentence to cite a page."""
    return f"{what} of {network} (weights {weights[:19]}), {images}, made with deconvviz."
