"""Facts about a network at the time of a recording, kept by results instead of the network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.files import place_of
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.models.model_spec import ModelSpec, as_literals
from deconvviz.printable_names import path_to_text, printable
from deconvviz.wording import listed


@dataclass(frozen=True)
class Origin:
    """Where a network and its weights come from, in enough detail to load them again."""

    spec: (
        str | None
    )  # `weights` argument of `load`: default, random, a file; None for a module made in Python
    seed: int | None  # seed of random weights and of user code
    source: str  # description for people
    notes: tuple[str, ...] = ()  # remarks for the user
    model: ModelSpec | None = None  # the network that `load` loaded
    missing: tuple[str, ...] = ()  # names of missing tensors; layers that need them cannot be requested

    @property
    def short(self) -> str:
        """Source for a figure's title; only the name of a file."""
        return Path(self.source).name if self.source == self.spec else self.source

    @property
    def missing_text(self) -> str:
        """The missing weights as a clause; an empty string if none are missing."""
        if not self.missing:
            return ""
        names = listed([printable(name) for name in self.missing])
        return f"weights that {printable(self.short)} does not have ({names})"

    @property
    def trained(self) -> bool:
        """Whether no weights are missing and deconvviz did not initialise them at random.

        A module made in Python may still be untrained.
        """
        ours = self.model is not None and self.model.file is None
        is_drawn = self.spec == "random" or (ours and self.seed is not None)
        return not is_drawn and not self.missing

    def see_coverage(self, layers: Sequence[str] = ()) -> str:
        """Return the command that lists every operation in the projection of some layers."""
        if self.model is None:
            return "net.coverage()"
        options = "".join(f" --layer {shlex.quote(name)}" for name in layers)
        return f"deconvviz check {self.model.options.removeprefix('--model ')}{options}"


@dataclass(frozen=True)
class NetworkInfo:
    """Facts about a network at the time of a recording. Holds no module and no weights."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    origin: Origin
    device: str
    dtype: str  # "float32"
    digest: str  # "sha256:..." of the weights

    def to_json(self) -> dict[str, Any]:
        """Return the entry of a manifest that describes the network, without paths."""
        return {
            "name": self.name,
            "model": _model(self.origin.model),
            "weights": None if self.origin.spec is None else path_to_text(self.origin.spec),
            "seed": self.origin.seed,
            "source": path_to_text(self.origin.source),
            "digest": self.digest,
            "preprocessing": self.preprocessing.to_json(),
            "device": self.device,
            "dtype": self.dtype,
            **({"missing": list(map(printable, self.origin.missing))} if self.origin.missing else {}),
        }

    def places(self, folder: Path) -> dict[str, Any]:
        """Return the path of the user's file that makes the network, if any, with the keys of `to_json`."""
        model = self.origin.model
        if model is None or model.file is None or _model(model) is None:
            return {}
        return {"model": {"file": place_of(model.file, folder)}}


def _model(spec: ModelSpec | None) -> dict[str, Any] | None:
    """Return the description of the loaded network; None for a network made in Python."""
    if spec is None or (arguments := as_literals(spec.arguments)) is None:
        return None
    described = {"registry": spec.registry, "name": spec.name, "arguments": arguments}
    return {**described, "file": {"digest": spec.digest}} if spec.file else described
