"""Run a plan of ``deconvviz search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from deconvviz.cli.support.console import print_message, print_note, stage
from deconvviz.cli.support.details import detail_network
from deconvviz.cli.support.exit_codes import INTERRUPTED, is_out_of_memory
from deconvviz.cli.support.notes import print_origin
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
    """Run `dv.search` with `options`. If it is interrupted, print how to resume it."""
    name = job.request.spec.text
    with stage(f"loading {name}", quiet=quiet):
        network = job.request.load(job.sketch)
    print_origin(network, name, quiet=quiet)
    # The planned layers can be used only if the loaded network has the same layer table
    targets = job.layers if network.layers is job.sketch.layers else layers
    detail_network(network)
    if (saved := progress_of(out)) is not None and options.get("resume"):
        print_note(f"resuming {printable_path(out)}: {saved[0]} of {saved[1]} batches are done", quiet=quiet)
    try:
        return search(network, job.source, targets, out=out, report=progress, **options)
    except KeyboardInterrupt:
        if (saved := progress_of(out)) is None:
            raise
        print_message(
            f"deconvviz: interrupted: {saved[0]} of {saved[1]} batches are saved in {printable_path(out)}. "
            "Continue with the same command and --resume"
        )
        raise typer.Exit(INTERRUPTED) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SearchError(
            f"out of memory with batches of {batch_size_of(out)} images. Start again with --force and a "
            "smaller --batch-size"
        ) from error
