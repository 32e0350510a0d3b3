"""Existing results in the output folder: keep, resume or overwrite them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search.plan import Plan, decoding_in
from deconvviz.dataset_search.result import Reopening, Search, open_search
from deconvviz.dataset_search.search_folder import MANIFEST, refuse_search
from deconvviz.errors import OutputError, SearchError
from deconvviz.folder_lock import check_unlocked
from deconvviz.paths import reason_of


def check_free(folder: Path, *, resume: bool, force: bool, has_lock: bool = False) -> None:
    """Check that a search may write into a folder. `has_lock` states that the caller has locked it.

    Raises OutputError if existing results would be lost or another process is writing into the folder, and
    SearchError if `resume` and `force` are both given.
    """
    if not has_lock:
        check_unlocked(folder)
    if resume and force:
        raise SearchError(
            "{option} continues an existing search and {option} overwrites it: give only one of them",
            option=("resume=True", "force=True"),
        )
    if resume or force:
        return
    refuse_search(folder)
    done, batches = state.progress_of(folder) or (0, 0)
    if done:
        raise OutputError(
            f"{folder} contains an interrupted search: {done} of {batches} batches are done. Continue with "
            "{option}, or start again with {option}",
            option=("resume=True", "force=True"),
        )


def batch_size_in(folder: Path) -> int | None:
    """Return the batch size of the finished or interrupted search in a folder, or None."""
    if (folder / MANIFEST).exists():
        return int(open_search(folder).manifest["batch_size"])
    return state.batch_size_of(folder)


def finished(planned: Plan, folder: Path) -> Search | None:
    """Return the finished search in a folder, or None. Raises SearchError if its parameters differ."""
    if not (folder / MANIFEST).exists():
        return None
    found = open_search(folder)
    state.check_same(_identity(found.manifest), planned.identity(), folder / MANIFEST)
    state.remove(folder)
    return replace(found, reopening=Reopening(searched=ref(planned.network), source=planned.source))


def clear(folder: Path) -> None:
    """Delete the manifest, which makes the other files invalid, and the checkpoint. Raises OutputError."""
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
    except NotADirectoryError:
        return  # the first checkpoint raises a better error
    except OSError as reason:
        raise OutputError(f"cannot overwrite {folder / MANIFEST}: {reason_of(reason)}") from reason
    state.remove(folder)


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `Plan.identity` for a finished search."""
    network = manifest["network"]
    return {
        "network": network["name"],
        "weights": network["digest"],
        "preprocessing": network["preprocessing"],
        "type of numbers": network["dtype"],
        "layers": [layer["module"] for layer in manifest["layers"]],
        "top": manifest["top"],
        "batch size": manifest["batch_size"],
        **decoding_in(manifest),
        "source": manifest["source"]["digest"],
        **({"labels": manifest["labels"]["digest"]} if "labels" in manifest else {}),
    }
