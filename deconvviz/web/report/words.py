"""Phrases that several parts of a report share."""

from __future__ import annotations

from collections.abc import Sequence


def all_of(names: Sequence[str]) -> str:
    """Return all names as a phrase: ``a``, ``a and b`` or ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
