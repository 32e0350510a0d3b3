"""Carry out a plan of ``deconvviz search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from deconvviz.cli.support.console import say, stage, tell
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.exit_codes import INTERRUPTED, is_out_of_memory
from deconvviz.cli.support.notes import tell_origin
from deconvviz.cli.support.progress import SearchProgress
from deconvviz.cli.support.search_plan import SearchJob
from deconvviz.dataset_search.checkpoint import batch_size_of, progress_of
from deconvviz.dataset_search.result import Search
from deconvviz.dataset_search.search import search
from deconvviz.errors import SearchError
from deconvviz.printable_names import printable_path


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
    asked = job.layers if network.layers is job.sketch.layers else layers  # those of the sketch are its own
    detail_network(network)
    if (there := progress_of(out)) is not None and options.get("resume"):
        tell(f"going on with {printable_path(out)}: {there[0]} of {there[1]} batches are done", quiet=quiet)
    try:
        return search(network, job.source, asked, out=out, report=progress, **options)
    except KeyboardInterrupt:
        if (there := progress_of(out)) is None:
            raise
        say(
            f"deconvviz: interrupted; {there[0]} of {there[1]} batches are kept in {printable_path(out)}: "
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
