"""State of a search, saved in a checkpoint file from which the search can be resumed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deconvviz.dataset_search.pace import Pace
from deconvviz.dataset_search.peak_finder import Numbers, Peaks
from deconvviz.dataset_search.plan import Plan, decoding_in
from deconvviz.dataset_search.search_folder import CHECKPOINT as CHECKPOINT
from deconvviz.dataset_search.summary import Summary
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import SearchError
from deconvviz.files import read_arrays, write_whole

FORMAT = "deconvviz checkpoint 2"
OLDER_FORMAT = "deconvviz checkpoint 1"  # without a summary
_ARRAYS = tuple(array.name for array in fields(Top) if array.name != "image_count")


@dataclass(eq=False)
class State:
    """Results so far, the batches that they come from, and the images that could not be read."""

    top: Top
    summary: Summary | None  # None for a search that an earlier version has begun
    done: Numbers  # (batches) bool
    skipped: dict[int, str] = field(default_factory=dict)  # image index: reason

    @classmethod
    def begin(cls, plan: Plan) -> State:
        return cls(plan.empty(), plan.empty_summary(), np.zeros(len(plan.batches), np.bool_))

    def add(self, indices: Sequence[int], found: Top, peaks: Peaks) -> None:
        """Add the strongest peaks and all peaks of some batches. Batches added before are ignored."""
        added = self.done[list(indices)]
        if added.all():
            return
        if added.any():
            raise ValueError("some of these batches, but not all, were added before")
        self.top.merge(found)
        self._add_to_summary(peaks)
        self.done[list(indices)] = True

    def add_batch(self, index: int, peaks: Peaks) -> None:
        """Add the peaks of one batch. A batch that was added before is ignored."""
        if self.done[index]:
            return
        self.top.add(peaks)
        self._add_to_summary(peaks)
        self.done[index] = True

    def _add_to_summary(self, peaks: Peaks) -> None:
        if self.summary is not None:
            self.summary.add(peaks.activations, peaks.numbers)
        self.skipped.update(peaks.skipped)

    @property
    def pending(self) -> list[int]:
        """Indices of the batches that have not been processed."""
        return [int(index) for index in np.flatnonzero(~self.done)]

    @property
    def seen(self) -> int:
        """Number of processed images, including those that could not be read."""
        return self.top.image_count + len(self.skipped)


class Saver:
    """Callable that writes a checkpoint at most every `every` seconds, in at most 2% of the time.

    With `every=0` each call writes one.
    """

    def __init__(self, plan: Plan, folder: Path, every: float) -> None:
        self._identity, self._folder = plan.identity(), folder
        self._pace = Pace(every, at_once=True)  # so that a folder without write access fails early

    def __call__(self, state: State) -> None:
        self._pace(lambda: write(state, self._identity, self._folder))


def write(state: State, identity: Mapping[str, Any], folder: Path) -> None:
    """Write a state as a checkpoint, completely or not at all. Raises OutputError."""
    header = {
        "format": OLDER_FORMAT if state.summary is None else FORMAT,
        "identity": identity,
        "pictures": state.top.image_count,
        "skipped": list(state.skipped.items()),
    }
    write_whole(folder / CHECKPOINT, partial(_dump, state, json.dumps(header)), force=True)


def read(plan: Plan, folder: Path) -> State | None:
    """Return the state from the checkpoint of a plan; None if there is no checkpoint.

    Raises SearchError, with all differences, if the checkpoint belongs to another plan.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    header, arrays = _load(path)
    # earlier versions always decoded whole images, and did not write so
    check_same({**decoding_in({}), **header["identity"]}, plan.identity(), path)
    top = Top(**{name: arrays[name] for name in _ARRAYS}, image_count=int(header["pictures"]))
    skipped = {int(index): str(reason) for index, reason in header["skipped"]}
    summary = plan.empty_summary() if header["format"] == FORMAT else None
    if summary is not None and arrays["done"].any():
        try:
            summary = summary.with_arrays(arrays)
        except KeyError as reason:
            raise _unreadable(path, reason) from reason
    return State(top, summary, arrays["done"], skipped)


def batch_size_of(folder: Path) -> int | None:
    """Return the batch size of the interrupted search in a folder; None if there is none."""
    path = folder / CHECKPOINT
    return int(_load(path)[0]["identity"]["batch size"]) if path.exists() else None


def progress_of(folder: Path) -> tuple[int, int] | None:
    """Return the number of finished batches and of all batches of an interrupted search, or None."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    done = _load(path)[1]["done"]
    return int(done.sum()), len(done)


def remove(folder: Path) -> None:
    """Delete the checkpoint and any partial file left by a killed process."""
    for path in (folder / CHECKPOINT, *folder.glob(".deconvviz-*.part")):
        with suppress(OSError):
            path.unlink()


def check_same(then: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Raise SearchError with all differences if two identities differ.

    What `then` lacks, an earlier version did not write.
    """
    differences = [
        f"{name} {_short(then[name])} before, {_short(value)} now"
        for name, value in now.items()
        if name in then and then[name] != value
    ]
    if differences:
        raise SearchError(
            f"cannot resume {path}, which belongs to another search: {'; '.join(differences)}. "
            "Start again with {option}, or choose another folder ({option})",
            option=("force=True", "out=FOLDER"),
        )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:4])) + (f" ... ({len(value)})" if len(value) > 4 else "")
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[:19] + "..."
    return str(value)


def _dump(state: State, header: str, stream: BinaryIO) -> None:
    arrays = {name: getattr(state.top, name) for name in _ARRAYS}
    if state.summary is not None and state.done.any():  # without batches the arrays are empty, but large
        arrays |= state.summary.arrays()
    np.savez(stream, told=np.array(header), done=state.done, **arrays)


def _lowest(kept: Numbers) -> Numbers:
    """Return the lowest kept peak (N) of each channel, for a checkpoint of an earlier version."""
    lowest: Numbers = np.where(np.isinf(kept), np.inf, kept).min(axis=1).astype(kept.dtype)
    return lowest


def _unreadable(path: Path, reason: Exception) -> SearchError:
    return SearchError(
        f"cannot read the checkpoint {path}: {str(reason).rstrip('.')}. Start again with {{option}}",
        option="force=True",
    )


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Numbers]]:
    try:
        arrays = read_arrays(path)
        header = json.loads(str(arrays.pop("told")))
        if "lowest" not in arrays:
            arrays["lowest"] = _lowest(arrays["activation"])
        _ = [arrays[name] for name in ("done", *_ARRAYS)]  # raises KeyError if one is missing
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as reason:
        raise _unreadable(path, reason) from reason
    if header.get("format") not in (FORMAT, OLDER_FORMAT):
        raise SearchError(
            f"{path} is not a checkpoint of this version. Start again with {{option}}", option="force=True"
        )
    return header, arrays
