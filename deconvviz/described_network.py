"""Load the network described by a manifest, and verify its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deconvviz.errors import ManifestError, NetworkError
from deconvviz.files import existing
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.loading import ModelRequest
from deconvviz.models.model_spec import PLAIN, ModelSpec, from_literals
from deconvviz.models.providers import provider_of
from deconvviz.network import Network
from deconvviz.paths import path_as_written


def load_described(
    described: Mapping[str, Any],
    manifest: Path,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Network:
    """Load the network described by a manifest and verify its weights. `weights` overrides their location.

    Raises ManifestError if the network was made in Python, if its weights differ, or if user code would have
    to run without `allow_code`.
    """
    spec = _spec(described, manifest)
    if spec is None or described["weights"] is None:
        raise ManifestError(
            f"{manifest} was made in Python from a module, not by name: "
            "only the program that made it can make it again"
        )
    if provider_of(spec).runs_code and not allow_code:
        raise ManifestError(
            f"the network of {manifest} is made by the code in {spec.file}. "
            "If you trust that file, let it run with {option}",
            option="allow_code=True",
        )
    stored = str(path_as_written(described["weights"]))
    network = ModelRequest(spec, weights or stored, described["seed"] or 0, device).load()
    if network.digest != described["digest"]:
        raise ManifestError(
            f"the weights of {described['name']} are not those of {manifest}: {network.digest} instead of "
            f"{described['digest']}. Give the right file with {{option}}",
            option="weights=FILE",
        )
    network.module.to(getattr(torch, described["dtype"]))
    network.preprocessing = Preprocessing.from_json(described["preprocessing"])
    return network


def _spec(described: Mapping[str, Any], manifest: Path) -> ModelSpec | None:
    """Return the network that a manifest names; None if it was made in Python."""
    if "model" not in described:  # manifests from before there were other kinds of networks
        return ModelSpec(PLAIN, described["name"])
    model = described["model"]
    if model is None:
        return None
    spec = ModelSpec(str(model["registry"]), model["name"], from_literals(model["arguments"]))
    try:
        runs_code = provider_of(spec).runs_code
    except NetworkError as reason:
        raise ManifestError(f"{manifest} is not a complete manifest: {reason}") from reason
    if not runs_code:
        return spec
    file = existing(model["file"], manifest.resolve().parent)
    if file is None:
        raise ManifestError(
            f"the file that makes the network of {manifest} no longer exists: it was {model['file']['path']}"
        )
    return replace(spec, file=file, digest=str(model["file"]["digest"]))
