"""From a manifest back to the result."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.described_network import load_described
from deconvviz.engine.units import Unit
from deconvviz.errors import ManifestError
from deconvviz.files import existing
from deconvviz.projection import FORMAT, Projection, Style, pixel_digest


@dataclass(frozen=True)
class Remade:
    """A projection made again, and how its figure was drawn."""

    projection: Projection
    style: Style
    dpi: float


def remake(
    path: str | os.PathLike[str],
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
    memory: int | None = None,
) -> Remade:
    """Make the projection of a manifest again. `weights` says where they are now, if they were moved.

    A network of ``file.py:factory`` is made by running that file, as it was when the manifest was written:
    only with `allow_code`, since somebody else may have written both. `memory` (bytes) is for `project`.

    Raises ManifestError if the file is no manifest, or if code, weights, picture or activations are not those
    that it names.
    """
    stored = _read(Path(path))
    try:
        return _remake(stored, Path(path), weights, device, memory, allow_code=allow_code)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ManifestError(f"{path} is no complete manifest: {error!r}") from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(
            f"no manifest {path}: it is next to a figure, with the same name and .json"
        ) from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as a manifest: {error}") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ManifestError(f"{path} is no manifest of this version: its format is not {FORMAT!r}")
    return stored


def _remake(
    stored: Mapping[str, Any],
    path: Path,
    weights: str | Path | None,
    device: str,
    memory: int | None,
    *,
    allow_code: bool,
) -> Remade:
    network = load_described(stored["network"], path, weights=weights, device=device, allow_code=allow_code)
    if not stored["pictures"] or not stored["units"]:
        raise ManifestError(
            f"{path} was made in Python from a tensor of the user's own; only that program can make it again"
        )
    pictures = [_picture_path(one, path) for one in stored["pictures"]]
    recording = network.record(pictures, stored["layer"]["name"])
    for picture, one in zip(recording.pictures, stored["pictures"], strict=True):
        if pixel_digest(picture.rgb) != one["pixels"]:
            raise ManifestError(
                f"the pixels of {picture.path} are not those of {path}: the file has changed, "
                "or is decoded otherwise on this machine"
            )
    units = [Unit(**unit) for unit in stored["units"]]
    projection = recording.project(stored["layer"]["name"], units, memory=memory)
    for unit, one in zip(projection.units, stored["units"], strict=True):
        if not math.isclose(unit.activation, one["activation"], rel_tol=1e-3, abs_tol=1e-5):
            raise ManifestError(
                f"something has changed since {path} was written: at {unit} of {projection.layer.name} "
                f"it has {one['activation']:.6g}"
            )
    style = dict(stored["style"])
    dpi = float(style.pop("dpi"))
    return Remade(projection, Style(**style), dpi)


def _picture_path(one: Mapping[str, Any], manifest: Path) -> Path:
    if one["path"] is None:
        raise ManifestError(
            f"{manifest} was made from a picture in memory; only that program can make it again"
        )
    place = existing(one, manifest.resolve().parent)
    if place is None:
        raise ManifestError(f"the picture of {manifest} is gone: it was {one['path']}")
    return place
