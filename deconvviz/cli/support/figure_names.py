"""The names of the figures that ``deconvviz project`` writes. Without torch."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from deconvviz.cli.support.selection import Selection

_LONGEST_NAME = 255  # bytes, on most file systems
_LONGEST_SUFFIX = len(".json")


def stems(images: Sequence[Path]) -> list[str]:
    """A name for each image's figures: its own, with suffix and folder where two are alike."""
    names = [image.stem for image in images]
    for fuller in (lambda path: path.name, lambda path: f"{path.absolute().parent.name}-{path.name}"):
        count = Counter(names)
        names = [
            fuller(image) if count[name] > 1 else name for image, name in zip(images, names, strict=True)
        ]
    count = Counter(names)
    return [f"{name}-{n}" if count[name] > 1 else name for n, name in enumerate(names, 1)]


def file_name(stem: str, ending: str, format: str) -> str:
    """Return the name of a figure; a digest replaces the end of a stem that leaves no room for the rest."""
    rest = f"-{ending}.{format}"
    room = _LONGEST_NAME - len(os.fsencode(f"-{ending}")) - _LONGEST_SUFFIX
    raw = os.fsencode(stem)
    if len(raw) > room:
        digest = hashlib.sha256(raw).hexdigest()[:8]
        whole_characters = raw[: room - len(digest) - 1].decode("utf-8", "ignore")
        stem = f"{os.fsdecode(whole_characters.encode())}~{digest}"
    return stem + rest


def ending(layer: str, classes: Sequence[str], selection: Selection) -> str:
    """Return the part of a figure's name that says what was projected."""
    if classes:
        asked = "class-" + "-".join(classes)
    elif selection.units:
        asked = "units-" + "-".join(text.replace(",", "_").replace(" ", "") for text in selection.units)
    else:
        asked = "".join(f"-channel{c}" for c in selection.channels).lstrip("-")
        asked += ("-" if asked else "") + "whole" if selection.whole_channel else ""
    name = f"{layer}-{asked}" if asked else layer
    return re.sub(r"[^\w.-]+", "_", name)[:100]
