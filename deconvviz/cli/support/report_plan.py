"""What a user asks of ``deconvviz report``, and checks of it that do not need torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from deconvviz.cli.support.early import check_folder, check_images, check_network, searched_layers
from deconvviz.cli.support.parsing import no_layer
from deconvviz.methods.method import METHODS, check_method
from deconvviz.models.providers import parse
from deconvviz.printable_names import path_to_text

DEFAULT_REPORT = Path("report.html")
TOP = 6


@dataclass(frozen=True)
class Asked:
    """What a user asked for."""

    images: tuple[str, ...]
    layers: tuple[str, ...]
    model: str
    arguments: Mapping[str, Any]
    weights: str | None
    seed: int
    device: str
    top: int
    search: Path | None
    methods: tuple[str, ...]  # to compare; empty for no comparison
    trust: bool
    title: str | None
    notes: str
    out: Path

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        words = ["deconvviz", "report", *map(path_to_text, self.images)]
        words += shlex.split(parse(self.model, self.arguments).options)
        words += [word for layer in self.layers for word in ("--layer", layer)]
        words += ["--weights", self.weights] if self.weights is not None else []
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--top", str(self.top)] if self.top != TOP else []
        words += ["--search", path_to_text(self.search)] if self.search is not None else []
        words += ["--compare", ",".join(self.methods)] if self.methods else []
        words += ["--trust"] if self.trust else []
        words += ["--title", self.title] if self.title is not None else []
        words += ["--notes", self.notes] if self.notes else []
        words += ["--out", path_to_text(self.out)] if self.out != DEFAULT_REPORT else []
        return shlex.join(words)


def methods_of(typed: str | None) -> tuple[str, ...]:
    """Return the names in a list such as ``deconvnet,guided``. Raises MethodError."""
    if typed is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in typed.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter(f"name a method: {', '.join(METHODS)}", param_hint="--compare")
    for name in names:
        check_method(name)
    return names


def check_asked(asked: Asked, *, force: bool) -> None:
    """Raise an error for a mistake, as far as it is known without torch."""
    if not asked.layers:
        raise no_layer()
    check_images(asked.images, asked.model)
    check_network(
        asked.model, asked.arguments, layers=asked.layers, weights=asked.weights, device=asked.device
    )
    if asked.search is not None:
        searched_layers(asked.search, asked.layers, [])
    from deconvviz.web.report.target import checked_target

    check_folder(asked.out.parent)
    checked_target(asked.out, force=force)
