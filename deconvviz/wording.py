"""Small pieces of English that messages, figures and tables share."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return ``1 image`` or ``1,000 images``; `plural` is for nouns that take no s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
