"""Checks of ``deconvviz trust`` that do not need torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from deconvviz.cli.support.early import check_folder, check_images, check_network, searched_layers
from deconvviz.cli.support.figure_names import target_of
from deconvviz.cli.support.options import DEFAULT_MODEL
from deconvviz.cli.support.parsing import no_layer
from deconvviz.dataset_search.search_folder import CHECKPOINT, MANIFEST
from deconvviz.methods.method import METHODS, check_method
from deconvviz.paths import SCENES, file_part, path_as_typed

_SOURCES = (SCENES, "hf:")
_FILES = (".zip", ".tar", ".txt", ".lst")


@dataclass(frozen=True)
class Asked:
    """What a user asked for."""

    images: tuple[str, ...]
    layer: str
    model: str | None
    arguments: Mapping[str, Any]
    weights: str | None
    seed: int
    device: str
    allow_code: bool
    top: int
    methods: tuple[str, ...]
    limit: int | None

    @property
    def search(self) -> Path | None:
        """The folder of a search, if that was given."""
        folder = Path(path_as_typed(self.images[0])) if len(self.images) == 1 else None
        if folder is None or not any((folder / name).is_file() for name in (MANIFEST, CHECKPOINT)):
            return None
        return folder

    @property
    def source(self) -> str | None:
        """A source of images, if that was given: scenes, a folder, an archive or a list."""
        if len(self.images) != 1:
            return None
        one = self.images[0]
        whole = one.startswith(_SOURCES) or one.lower().endswith(_FILES) or os.path.isdir(path_as_typed(one))
        return one if whole else None


def method_names(typed: str) -> tuple[str, ...]:
    """Return the names in a list such as ``deconvnet,guided``. Raises MethodError."""
    names = tuple(dict.fromkeys(name.strip() for name in typed.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter(f"name a method: {', '.join(METHODS)}", param_hint="--methods")
    for name in names:
        check_method(name)
    return names


def check_asked(asked: Asked, target: Path | None, *, arrays: bool, force: bool) -> None:
    """Raise an error for a mistake, as far as it is known without torch."""
    if not asked.layer:
        raise no_layer()
    if asked.search is not None:
        if asked.model is not None or asked.arguments:
            raise typer.BadParameter("the search already names the network", param_hint="--model")
        searched_layers(asked.search, [asked.layer], [])
    else:
        if asked.allow_code:
            raise typer.BadParameter(
                "needs the folder of a search. --model runs its file without it", param_hint="--allow-code"
            )
        if asked.source is None:
            check_images(list(asked.images))
        check_network(
            asked.model or DEFAULT_MODEL,
            asked.arguments,
            layers=[asked.layer],
            weights=asked.weights,
            device=asked.device,
        )
    if target is not None:
        from deconvviz.results import refuse_existing, targets

        check_folder(target.parent)
        refuse_existing(targets(target, arrays), force=force)


def target_path(out: Path, format: str | None, layer: str | None) -> Path:
    """Return the path of the figure: `out`, or a file named after the layer in it."""
    return target_of(out, format, file_part(f"trust-{layer}"))
