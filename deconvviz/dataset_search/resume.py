"""What an earlier search has left in a folder: kept, gone on with, or thrown away, as it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search.plan import Plan
from deconvviz.dataset_search.result import Reopening, Search, open_search
from deconvviz.dataset_search.search_folder import MANIFEST, refuse_search
from deconvviz.errors import OutputError, SearchError
from deconvviz.folder_lock import check_unlocked
from deconvviz.paths import reason_of


def check_free(folder: Path, *, resume: bool, force: bool, alone: bool = False) -> None:
    """Raise OutputError where a search would be lost, SearchError for what cannot be asked together.

    Also raise OutputError if another process writes there now, unless the caller has the lock (`alone`).
    """
    if not alone:
        check_unlocked(folder)
    if resume and force:
        raise SearchError(
            "{option} goes on with what is there and {option} throws it away: give one of them",
            option=("resume=True", "force=True"),
        )
    if resume or force:
        return
    refuse_search(folder)
    done, batches = state.progress_of(folder) or (0, 0)
    if done:
        raise OutputError(
            f"{folder} holds a search that was broken off, {done} of {batches} batches done: go on with "
            "{option}, or start anew with {option}",
            option=("resume=True", "force=True"),
        )


def batch_size_in(folder: Path) -> int | None:
    """That of the search in this folder, done or broken off."""
    if (folder / MANIFEST).exists():
        return int(open_search(folder).manifest["batch_size"])
    return state.batch_size_of(folder)


def finished(planned: Plan, folder: Path) -> Search | None:
    """The search that is done in this folder already. Raises SearchError if it is another."""
    if not (folder / MANIFEST).exists():
        return None
    found = open_search(folder)
    state.check_same(_identity(found.manifest), planned.identity(), folder / MANIFEST)
    state.remove(folder)
    return replace(found, reopening=Reopening(searched=ref(planned.network), source=planned.source))


def clear(folder: Path) -> None:
    """Without a manifest what lies in the folder is no search, whatever happens from here on."""
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
    except NotADirectoryError:
        return  # the first checkpoint tells it better
    except OSError as reason:
        raise OutputError(f"cannot overwrite {folder / MANIFEST}: {reason_of(reason)}") from reason
    state.remove(folder)


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """As `Plan.identity`, of a search that is done."""
    network = manifest["network"]
    return {
        "network": network["name"],
        "weights": network["digest"],
        "preprocessing": network["preprocessing"],
        "type of numbers": network["dtype"],
        "layers": [layer["module"] for layer in manifest["layers"]],
        "top": manifest["top"],
        "batch size": manifest["batch_size"],
        "source": manifest["source"]["digest"],
    }
