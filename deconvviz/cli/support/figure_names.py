"""File names of the figures that commands write. Does not import torch."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer

from deconvviz.cli.support.options import DEFAULT_FORMAT
from deconvviz.cli.support.selection import Selection
from deconvviz.paths import file_part
from deconvviz.printable_names import printable_path

FORMATS = ("png", "svg", "pdf")

_LONGEST_NAME = 255  # bytes, on most file systems
_LONGEST_SUFFIX = len(".json")


def stems(images: Sequence[Path]) -> list[str]:
    """Return a file stem per image: its name, with suffix and folder where two names are equal."""
    names = [image.stem for image in images]
    for fuller in (lambda path: path.name, lambda path: f"{path.absolute().parent.name}-{path.name}"):
        count = Counter(names)
        names = [
            fuller(image) if count[name] > 1 else name for image, name in zip(images, names, strict=True)
        ]
    count = Counter(names)
    return [f"{name}-{n}" if count[name] > 1 else name for n, name in enumerate(names, 1)]


def file_name(stem: str, ending: str, format: str) -> str:
    """Return the file name of a figure; a digest replaces the end of a stem that is too long."""
    rest = f"-{ending}.{format}"
    room = _LONGEST_NAME - len(os.fsencode(f"-{ending}")) - _LONGEST_SUFFIX
    raw = os.fsencode(stem)
    if len(raw) > room:
        digest = hashlib.sha256(raw).hexdigest()[:8]
        whole_characters = raw[: room - len(digest) - 1].decode("utf-8", "ignore")
        stem = f"{os.fsdecode(whole_characters.encode())}~{digest}"
    return stem + rest


def ending(layer: str, classes: Sequence[str], selection: Selection, detections: Sequence[int] = ()) -> str:
    """Return the part of a file name that describes what is projected."""
    if detections:
        return file_part("detection-" + "-".join(map(str, detections)))
    if classes:
        units = "class-" + "-".join(classes)
        units += "".join(f"-at{text.replace(',', '_').replace(' ', '')}" for text in selection.at)
        units += f"-mask-{Path(selection.mask).stem}" if selection.mask else ""
    elif selection.units:
        units = "units-" + "-".join(text.replace(",", "_").replace(" ", "") for text in selection.units)
    else:
        units = "".join(f"-channel{c}" for c in selection.channels).lstrip("-")
        units += ("-" if units else "") + "whole" if selection.whole_channel else ""
    name = f"{layer}-{units}" if units else layer
    return file_part(name)


def target_of(out: Path, format: str | None, stem: str) -> Path:
    """Return the path of the figure: `out`, or a file in it if `out` is a folder or has no suffix."""
    if out.is_dir() or not out.suffix:
        return out / f"{stem}.{format or DEFAULT_FORMAT}"
    suffix = out.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise typer.BadParameter(
            f"{printable_path(out)} is not a figure file: use .png, .svg or .pdf, or an existing folder",
            param_hint="--out",
        )
    if format is not None and suffix != format:
        raise typer.BadParameter(
            f"{format} does not match --out {printable_path(out)}", param_hint="--format"
        )
    return out
