"""Make a projection, or the result of an experiment, again from its manifest."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from deconvviz.described_network import load_described
from deconvviz.engine.choice import UnitChoice
from deconvviz.engine.region import Region
from deconvviz.engine.units import Unit
from deconvviz.errors import ManifestError
from deconvviz.images.described import described_file
from deconvviz.images.image import InputImage, open_image
from deconvviz.likeness import PlaceLikeness
from deconvviz.methods.verify import Report, confirmed
from deconvviz.methods.verify import verify as compute_again
from deconvviz.models.detections import Detection
from deconvviz.network import Network
from deconvviz.paths import no_manifest, path_as_typed
from deconvviz.projection import FORMAT, Projection, Style, array_digest, as_numpy, picture_digest
from deconvviz.recording import Recording


@dataclass(frozen=True)
class Remade:
    """Result made again from a manifest, with the style and the resolution of its figure.

    Attributes:
        result: A `Projection`, or the result of an experiment, such as an `Evolution`.
        style: The style, for `result.save`.
        dpi: Dots per inch.
    """

    result: Any
    style: Any
    dpi: float

    @property
    def projection(self) -> Projection:
        """The result of the manifest of a projection. Raises ManifestError for other manifests."""
        if not isinstance(self.result, Projection):
            raise ManifestError(f"the manifest is that of {self.result!r}, not of a projection: use .result")
        return self.result


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
    """Make the projection or the experiment of a manifest again.

    The likeness of a projection is that of the manifest. The numbers of an experiment must be those of the
    manifest, within 1 %.

    Args:
        path: The manifest.
        weights: Where the weights are now, if they were moved.
        device: As for `load`.
        allow_code: Allow the code in the ``file.py`` that makes the network to run. The file must not have
            changed since. Use it only for files that you trust.
        memory: As for `Recording.project`.
        verify: Compute the projection a second time and compare (see `deconvviz.verify`).
        report: Called with the number of verified units and the number of all units; for an experiment, with
            the number of finished steps and of all steps.

    Raises:
        VerificationError: If a second computation differs, or does not know the network.
        ManifestError: If the file is not a manifest, or code, weights, images, activations or the numbers of
            an experiment differ from it.
        SourceError: If the source of the images of an experiment is missing or has changed.
    """
    path = path_as_typed(os.fspath(path))
    stored = _read(Path(path))
    try:
        if stored["format"] != FORMAT:
            return _experiment(stored, Path(path), weights, device, report, allow_code=allow_code)
        network, remade = _remake(stored, Path(path), weights, device, memory, allow_code=allow_code)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ManifestError(f"{path} is not a complete manifest: {error!r}") from error
    if not verify:
        return remade
    projection = remade.projection
    found = confirmed(compute_again(network, projection, report=report), projection)
    return replace(remade, result=replace(projection, verification=found))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(no_manifest(path)) from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as a manifest: {error}") from error
    found = stored.get("format") if isinstance(stored, dict) else None
    if found == FORMAT:
        return dict(stored)
    from deconvviz.experiments.remaking import EXPERIMENTS

    if found not in EXPERIMENTS:
        known = ", ".join(repr(one) for one in (FORMAT, *EXPERIMENTS))
        raise ManifestError(
            f"{path} is not a manifest that can be made again: its format is {found!r}. There are {known}"
        )
    return dict(stored)


def _experiment(
    stored: Mapping[str, Any],
    path: Path,
    weights: str | Path | None,
    device: str,
    report: Report | None,
    *,
    allow_code: bool,
) -> Remade:
    from deconvviz.experiments.remaking import Again, make_again

    def load(described: Mapping[str, Any], place: str | None) -> Network:
        moved = weights if described is stored["network"] else None
        return load_described(described, path, weights=place or moved, device=device, allow_code=allow_code)

    return Remade(*make_again(Again(stored, path, load, allow_code, report)))


Given: TypeAlias = Path | InputImage


def _images_of(stored: Mapping[str, Any], path: Path) -> list[Given] | dict[str, list[Given] | Given]:
    """Return the files of the images, or those of every input of a network with several."""
    if "inputs" not in stored:
        return [_image_of(one, path) for one in stored["pictures"]]
    found: dict[str, list[Given] | Given] = {}
    for one in stored["inputs"]:
        files = [_image_of(entry, path) for entry in one.get("pictures") or [one["array"]]]
        found[one["name"]] = files if "pictures" in one else files[0]
    return found


def _image_of(one: Mapping[str, Any], path: Path) -> Given:
    """Return the file of an image, or its pixels if they were decoded at a fraction of their size."""
    file, by = described_file(one, path), int(one.get("reduced", 1))
    return file if by == 1 else open_image(file, reduction=lambda size: by)


def _check_inputs(stored: Mapping[str, Any], recording: Recording, path: Path) -> None:
    """Raise ManifestError if a picture or an array is not that of the manifest."""
    entries = stored.get("inputs") or [{"name": recording.input_names[0], "pictures": stored["pictures"]}]
    recorded = {one.name: one for one in (*recording.recorded_inputs, *recording.constants)}
    for entry in entries:
        found = recorded[entry["name"]]
        for image, one in zip(found.images, entry.get("pictures", ()), strict=True):
            if picture_digest(image) != one["pixels"]:
                raise ManifestError(
                    f"the pixels of {image.path} are not those of {path}: the file has changed, "
                    "or this machine decodes it differently"
                )
        if "array" in entry and array_digest(as_numpy(found.tensor))["digest"] != entry["array"]["digest"]:
            raise ManifestError(f"the array in {found.path} is not that of {path}: the file has changed")


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
    images = _images_of(stored, path)
    named = any(one.get("top_class") for one in stored["pictures"])
    method = stored.get("method", "deconvnet")  # older manifests do not name it
    recording = network.record(images, stored["layer"]["name"], scores=named, methods=method)
    _check_inputs(stored, recording, path)
    units: Sequence[Unit] = [
        Detection.from_json(unit) if "index" in unit else Region.from_json(unit) for unit in stored["units"]
    ]
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
