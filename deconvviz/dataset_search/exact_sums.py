"""Sums that do not depend on the order of the numbers."""

from __future__ import annotations

from deconvviz.dataset_search.peak_finder import Numbers


def add_exactly(total: Numbers, values: Numbers, rounding: Numbers) -> Numbers:
    """Return total + values, and add the exact rounding errors (Knuth's TwoSum) to `rounding` in place."""
    result: Numbers = total + values
    part = result - total
    rounding += (total - (result - part)) + (values - part)
    return result
