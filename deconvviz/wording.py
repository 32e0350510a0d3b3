"""Phrases shared by messages, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, such as ``1 image`` or ``1,000 images``. Default plural: noun + s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def with_article(noun: str) -> str:
    """Return ``an image`` or ``a weights file``."""
    return f"a{'n' * (noun[:1].lower() in 'aeiou')} {noun}"


def listed(names: Sequence[str], shown: int = 3) -> str:
    """Return the first names and the number of others: ``a, b, c and 2 more``."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def missing_number(noun: str, number: int, where: str, count: int) -> str:
    """Return the message for a number outside 0 to count - 1, such as ``no channel 7 in conv3: ...``."""
    there = f"there are 0 to {count - 1}" if count > 1 else "there is only 0"
    return f"no {noun} {number} in {where}: {there}"
