"""What stands beside every figure, so that it can be made again.

A manifest is a JSON object: network, weights, pictures, layer, units, style, versions. `remake` reads one,
checks that weights and pictures are still those that it names, and gives the same arrays.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deconvviz.engine.units import Unit
from deconvviz.errors import ManifestError, OutputError
from deconvviz.figures.page.save import save as save_figure
from deconvviz.figures.sheet.draw import draw
from deconvviz.files import write_text, write_whole
from deconvviz.projection import Projection, Style
from deconvviz.provenance import describe_network, existing, network_of, place_of, versions

FORMAT = "deconvviz manifest 1"


def save_projection(
    projection: Projection, path: Path, style: Style, *, dpi: float, force: bool, arrays: bool
) -> list[Path]:
    """Write a figure, its manifest, and if asked its arrays; the paths, in that order. Raises OutputError."""
    written = targets(path, arrays)
    refuse_existing(written, force=force)
    figure = draw(projection.sheet(style))
    described = describe(projection, path, style, dpi)
    save_figure(figure, path, dpi=dpi, force=force)
    text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(written[1], text, force=force)
    if arrays:
        write_arrays(written[2], projection.arrays(), force=force)
    return written


def targets(figure: Path, arrays: bool) -> list[Path]:
    """The files of one figure: itself, its manifest, and if asked its arrays."""
    beside = [Path(f"{figure.with_suffix('')}{suffix}") for suffix in (".json", ".npz")]
    return [figure, beside[0], *(beside[1:] if arrays else [])]


def write_arrays(path: Path, numbers: Mapping[str, Any], *, force: bool) -> None:
    """A compressed .npz, whole or not at all. Raises OutputError."""

    def write(stream: BinaryIO) -> None:
        np.savez_compressed(stream, **numbers)

    write_whole(path, write, force=force)


def refuse_existing(targets: list[Path], *, force: bool) -> None:
    """Raise OutputError, before any work is done, if one of the files is there already."""
    there = [target for target in targets if target.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise OutputError(
            f"{there[0]}{more} exists and is left as it is; "
            "overwrite with --force (force=True) or choose another place"
        )


def describe(projection: Projection, figure: Path, style: Style, dpi: float) -> dict[str, Any]:
    """The manifest of a figure, as plain JSON values."""
    network = projection.network
    return {
        "format": FORMAT,
        "figure": figure.name,
        "network": describe_network(network, figure.parent),
        "pictures": [
            {
                **place_of(picture.path, figure.parent),
                "pixels": pixel_digest(picture.rgb),
                "notes": list(picture.notes),
            }
            for picture in projection.pictures
        ],
        "layer": {"name": projection.layer.name, "module": projection.layer.dotted},
        "units": [asdict(unit) for unit in projection.units],
        "boxes": [list(box) for box in projection.boxes],
        "by_analogy": analogies(projection),
        "style": {**asdict(style), "dpi": dpi},
        "versions": versions(network),
    }


def analogies(projection: Projection) -> list[dict[str, Any]]:
    """What on the way down is no operation that the paper describes: how often, and what is done instead."""
    return [{"op": use.op, "count": use.count, "how": use.how} for use in projection.coverage.by_analogy]


def pixel_digest(rgb: np.ndarray[Any, Any]) -> str:
    """``sha256:...`` of a decoded picture: its size and its pixels."""
    size = "x".join(map(str, rgb.shape))
    return "sha256:" + hashlib.sha256(size.encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()


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
            f"no manifest {path}: it stands beside a figure, with the same name and .json"
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
    network = network_of(stored["network"], path, weights=weights, device=device, allow_code=allow_code)
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
