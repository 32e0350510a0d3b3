"""Small pieces of English that messages, figures and tables share."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return ``1 image`` or ``1,000 images``; `plural` is for nouns that take no s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], shown: int = 3) -> str:
    """Return the first names, and how many more there are: ``a, b, c and 2 more``."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def missing_number(noun: str, asked: int, where: str, count: int) -> str:
    """Return the message for a number that is not among the first `count`: ``no channel 7 in conv3: ...``."""
    there = f"there are 0 to {count - 1}" if count > 1 else "there is only 0"
    return f"no {noun} {asked} in {where}: {there}"
