"""Make a result again from its manifest."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deconvviz.described_network import load_described
from deconvviz.engine.choice import UnitChoice
from deconvviz.engine.units import Unit
from deconvviz.errors import ManifestError
from deconvviz.files import existing
from deconvviz.images.standard_input import NAME as STANDARD_INPUT
from deconvviz.likeness import PlaceLikeness
from deconvviz.methods.verify import Report, confirmed
from deconvviz.methods.verify import verify as compute_again
from deconvviz.network import Network
from deconvviz.paths import no_manifest, path_as_typed
from deconvviz.projection import FORMAT, Projection, Style, pixel_digest


@dataclass(frozen=True)
class Remade:
    """Projection made again from a manifest, with the style of its figure."""

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
    verify: bool = False,
    report: Report | None = None,
) -> Remade:
    """Make the projection of a manifest again.

    The likeness of the projection is that of the manifest.

    Args:
        path: The manifest.
        weights: Where the weights are now, if they were moved.
        device: As for `load`.
        allow_code: Allow the code in the ``file.py`` that makes the network to run. The file must not have
            changed since. Use it only for files that you trust.
        memory: As for `Recording.project`.
        verify: Compute the projection a second time and compare (see `deconvviz.verify`).
        report: Called with the number of verified units and the number of all units.

    Raises:
        VerificationError: If a second computation differs, or does not know the network.
        ManifestError: If the file is not a manifest, or code, weights, image or activations differ from it.
    """
    path = path_as_typed(os.fspath(path))
    stored = _read(Path(path))
    try:
        network, remade = _remake(stored, Path(path), weights, device, memory, allow_code=allow_code)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ManifestError(f"{path} is not a complete manifest: {error!r}") from error
    if not verify:
        return remade
    projection = remade.projection
    found = confirmed(compute_again(network, projection, report=report), projection)
    return replace(remade, projection=replace(projection, verification=found))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(no_manifest(path)) from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as a manifest: {error}") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ManifestError(f"{path} is not a manifest of this version: its format is not {FORMAT!r}")
    return stored


def _remake(
    stored: Mapping[str, Any],
    path: Path,
    weights: str | Path | None,
    device: str,
    memory: int | None,
    *,
    allow_code: bool,
) -> tuple[Network, Remade]:
    network = load_described(stored["network"], path, weights=weights, device=device, allow_code=allow_code)
    if not stored["pictures"] or not stored["units"]:
        raise ManifestError(
            f"{path} was made in Python from a tensor: only the program that made it can make it again"
        )
    images = [_image_path(one, path) for one in stored["pictures"]]
    named = any(one.get("top_class") for one in stored["pictures"])
    method = stored.get("method", "deconvnet")  # older manifests do not name it
    recording = network.record(images, stored["layer"]["name"], scores=named, methods=method)
    for image, one in zip(recording.input_images, stored["pictures"], strict=True):
        if pixel_digest(image.rgb) != one["pixels"]:
            raise ManifestError(
                f"the pixels of {image.path} are not those of {path}: the file has changed, "
                "or this machine decodes it differently"
            )
    units: Sequence[Unit] = [Unit(**unit) for unit in stored["units"]]
    if (chosen := stored.get("selection")) is not None:
        units = UnitChoice.from_json(chosen, units)
    projection = recording.project(stored["layer"]["name"], units, method=method, memory=memory)
    # older manifests have no likeness
    projection = replace(projection, likeness=PlaceLikeness.from_json(stored.get("likeness")))
    for unit, one in zip(projection.units, stored["units"], strict=True):
        if not math.isclose(unit.activation, one["activation"], rel_tol=1e-3, abs_tol=1e-5):
            raise ManifestError(
                f"an activation differs from {path}: {unit} of {projection.layer.name} "
                f"was {one['activation']:.6g}"
            )
    style = {"crop": "field", **stored["style"]}  # older manifests have no crop setting
    dpi = float(style.pop("dpi"))
    return network, Remade(projection, Style(**style), dpi)


def _image_path(one: Mapping[str, Any], manifest: Path) -> Path:
    if one["path"] is None and one.get("name") == STANDARD_INPUT:
        raise ManifestError(
            f"{manifest} was made from an image on standard input, which was not kept. Save that image as a "
            "file and project the file"
        )
    if one["path"] is None:
        raise ManifestError(
            f"{manifest} was made from an image in memory: only the program that made it can make it again"
        )
    place = existing(one, manifest.resolve().parent)
    if place is None:
        raise ManifestError(f"the image of {manifest} no longer exists: it was {one['path']}")
    return place
