"""``deconvviz remake``: make a figure and its numbers again from the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, stage
from deconvviz.cli.support.early import check_folder
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_FORMAT,
    DEFAULT_OUT,
    Device,
    Dpi,
    Force,
    Format,
    Json,
    Quiet,
    Verbose,
    Weights,
    allow_code_option,
    out_option,
)
from deconvviz.errors import ManifestError
from deconvviz.paths import no_manifest
from deconvviz.results import refuse_existing, targets


def remake(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            metavar="MANIFEST",
            help="The manifest (.json) next to a figure of project or of an experiment, or from a report.",
            show_default=False,
        ),
    ] = None,
    weights: Weights = None,
    allow_code: Annotated[
        bool,
        allow_code_option(
            "Allow running the file.py that the manifest names. Use it only for files that you trust."
        ),
    ] = False,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    format: Format = None,
    dpi: Dpi = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a result again from its manifest.

    Takes the manifests of project, evolve, invariance, filters, occlude and
    correspond. Verifies weights, images and checkpoints, and compares the numbers
    of the result with those of the manifest. If something is missing or differs,
    nothing is written.
    """
    if manifest is None:
        raise typer.BadParameter("name the .json file next to a figure", param_hint="MANIFEST")
    if not manifest.is_file():
        raise ManifestError(no_manifest(manifest))
    check_folder(out)
    kind = format or DEFAULT_FORMAT
    refuse_existing(targets(out / f"{manifest.stem}.{kind}", arrays=False), force=force)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.remake_run import run
    written = run(
        manifest,
        out,
        weights=weights,
        device=device,
        allow_code=allow_code,
        format=kind,
        dpi=dpi,
        force=force,
        quiet=quiet,
    )
    if json:
        print_json({"files": paths_as_json(written)})
        return
    print_paths(written)
