"""Phrases shared by messages."""

from __future__ import annotations

from deconvviz.wording import counted


def test_counted_has_singular_and_plural() -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 1000)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,000 images",
    ]
    assert counted(2, "class", "classes") == "2 classes" and counted(1, "class", "classes") == "1 class"
