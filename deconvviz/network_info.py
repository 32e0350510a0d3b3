"""Facts about a network, taken when something was recorded with it: what a result may know of a network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.files import place_of
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models.model_spec import ModelSpec, as_literals


@dataclass(frozen=True)
class Origin:
    """Where a network and its weights come from; enough to find them again."""

    spec: str | None  # what `load` was asked for: default, random, a file; None: a module of the user's own
    seed: int | None  # of random weights, and of what a user's file may draw
    source: str  # in words
    notes: tuple[str, ...] = ()  # what a user should know of them
    model: ModelSpec | None = None  # which network `load` was asked for

    @property
    def short(self) -> str:
        """For a figure's title: of a file its name alone."""
        return Path(self.source).name if self.source == self.spec else self.source

    def see_coverage(self, layers: Sequence[str] = ()) -> str:
        """Return what to type to see every operation below some layers."""
        if self.model is None:
            return "net.coverage()"
        options = "".join(f" --layer {shlex.quote(name)}" for name in layers)
        return f"deconvviz check {self.model.options.removeprefix('--model ')}{options}"


@dataclass(frozen=True)
class NetworkInfo:
    """A network as it was when something was recorded with it. It holds no module and no weights."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    origin: Origin
    device: str
    dtype: str  # "float32"
    digest: str  # "sha256:..." of the weights

    def to_json(self) -> dict[str, Any]:
        """Return the network as a manifest describes it, without paths."""
        return {
            "name": self.name,
            "model": _model(self.origin.model),
            "weights": self.origin.spec,
            "seed": self.origin.seed,
            "source": self.origin.source,
            "digest": self.digest,
            "preprocessing": self.preprocessing.to_json(),
            "device": self.device,
            "dtype": self.dtype,
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return where the user's file is that makes the network, if one does: laid out like `to_json`."""
        model = self.origin.model
        if model is None or model.file is None or _model(model) is None:
            return {}
        return {"model": {"file": place_of(model.file, folder)}}


def _model(spec: ModelSpec | None) -> dict[str, Any] | None:
    """What `load` was asked for; None for a network that was made in Python."""
    if spec is None or (arguments := as_literals(spec.arguments)) is None:
        return None
    described = {"registry": spec.registry, "name": spec.name, "arguments": arguments}
    return {**described, "file": {"digest": spec.digest}} if spec.file else described
