"""Text about clipped colours, the same in every figure."""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.figures.spec.colour import Limit


def clipping_text(percentile: float, limits: Sequence[Limit]) -> list[str]:
    """Return one line about the clipping percentile, or no line if no value is clipped."""
    if percentile == 100 or not any(limit.clipped for limit in limits):
        return []
    return [f"clipped at the {_ordinal(percentile)} percentile"]


def _ordinal(percentile: float) -> str:
    """Return an ordinal number: 99.5 -> '99.5th', 1 -> '1st', 92 -> '92nd'."""
    text = f"{percentile:g}"
    if text.endswith(("11", "12", "13")) or "." in text:
        return f"{text}th"
    return text + {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th")
