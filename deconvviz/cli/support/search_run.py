"""Carry out a plan of ``deconvviz search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from deconvviz.cli.support.console import say, stage, tell
from deconvviz.cli.support.exit_codes import INTERRUPTED, is_out_of_memory
from deconvviz.cli.support.notes import tell_origin
from deconvviz.cli.support.progress import SearchProgress
from deconvviz.cli.support.search_plan import SearchJob
from deconvviz.dataset_search.checkpoint import batch_size_of, progress_of
from deconvviz.dataset_search.result import CHANNELS, MANIFEST, PEAKS, SKIPPED, Search
from deconvviz.dataset_search.search import search
from deconvviz.errors import SearchError


def files_of_search(out: Path) -> list[str]:
    """Return the files that a search writes into its folder."""
    return [str(out / name) for name in (PEAKS, CHANNELS, SKIPPED, MANIFEST)]


def search_dataset(
    job: SearchJob,
    layers: str | list[str],
    out: Path,
    progress: SearchProgress,
    *,
    quiet: bool,
    **options: Any,
) -> Search:
    """Search, with the options of `dv.search`; if it is interrupted, print how to go on."""
    name = job.request.spec.text
    with stage(f"loading {name}", quiet=quiet):
        network = job.request.load(job.sketch)
    tell_origin(network, name, quiet=quiet)
    if (there := progress_of(out)) is not None and options.get("resume"):
        tell(f"going on with {out}: {there[0]} of {there[1]} batches are done", quiet=quiet)
    try:
        return search(network, job.source, layers, out=out, report=progress, **options)
    except KeyboardInterrupt:
        if (there := progress_of(out)) is None:
            raise
        say(
            f"deconvviz: interrupted; {there[0]} of {there[1]} batches are kept in {out}: "
            "go on with the same command and --resume"
        )
        raise typer.Exit(INTERRUPTED) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SearchError(
            f"out of memory with batches of {batch_size_of(out)} pictures: start anew with --force and a "
            "smaller --batch-size"
        ) from error
