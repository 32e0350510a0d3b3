"""How far a search has come, kept in a file from which it can be gone on with."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deconvviz.dataset_search.peak_finder import Numbers, Peaks
from deconvviz.dataset_search.plan import Plan
from deconvviz.dataset_search.search_folder import CHECKPOINT as CHECKPOINT
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import SearchError
from deconvviz.files import write_whole

FORMAT = "deconvviz checkpoint 1"
_ARRAYS = tuple(one.name for one in fields(Top) if one.name != "image_count")


@dataclass(eq=False)
class State:
    """What was found so far, which batches it was found in, and which pictures could not be read."""

    top: Top
    done: Numbers  # bool, one for each batch
    skipped: dict[int, str] = field(default_factory=dict)  # picture number, reason

    @classmethod
    def begin(cls, plan: Plan) -> State:
        return cls(plan.empty(), np.zeros(len(plan.batches), np.bool_))

    def take(self, indices: Sequence[int], found: Top, skipped: Mapping[int, str]) -> None:
        """Take in what was found in some batches, once: a second time it changes nothing."""
        there = self.done[list(indices)]
        if there.all():
            return
        if there.any():
            raise ValueError("some of these batches, but not all, were taken in before")
        self.top.merge(found)
        self.skipped.update(skipped)
        self.done[list(indices)] = True

    def take_batch(self, index: int, peaks: Peaks) -> None:
        """Take in one batch, once."""
        if self.done[index]:
            return
        self.top.add(peaks)
        self.skipped.update(peaks.skipped)
        self.done[index] = True

    @property
    def pending(self) -> list[int]:
        """The batches that are left."""
        return [int(index) for index in np.flatnonzero(~self.done)]

    @property
    def seen(self) -> int:
        """Pictures that were looked at, those that could not be read included."""
        return self.top.image_count + len(self.skipped)


class Saver:
    """Writes checkpoints, at most one in `every` seconds, and so seldom that they take a fiftieth of the time.

    With `every` = 0, each call writes one.
    """

    SHARE = 0.02

    def __init__(self, plan: Plan, folder: Path, every: float) -> None:
        self._identity, self._folder, self._every = plan.identity(), folder, every
        self._next = time.monotonic()  # a first one at once: what cannot be written is told early

    def __call__(self, state: State) -> None:
        begun = time.monotonic()
        if begun < self._next:
            return
        write(state, self._identity, self._folder)
        took = time.monotonic() - begun
        self._next = begun + (max(self._every, took / self.SHARE) if self._every else 0)


def write(state: State, identity: Mapping[str, Any], folder: Path) -> None:
    """The state, whole or not at all. Raises OutputError."""
    told = {
        "format": FORMAT,
        "identity": identity,
        "pictures": state.top.image_count,
        "skipped": list(state.skipped.items()),
    }
    write_whole(folder / CHECKPOINT, partial(_dump, state, json.dumps(told)), force=True)


def read(plan: Plan, folder: Path) -> State | None:
    """The state that a search of this plan has left; None if there is none.

    Raises SearchError if it is of another plan, and says what differs.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    told, arrays = _load(path)
    check_same(told["identity"], plan.identity(), path)
    top = Top(**{name: arrays[name] for name in _ARRAYS}, image_count=int(told["pictures"]))
    return State(top, arrays["done"], {int(number): str(reason) for number, reason in told["skipped"]})


def batch_size_of(folder: Path) -> int | None:
    """That of the search which was broken off in this folder, if there is one."""
    path = folder / CHECKPOINT
    return int(_load(path)[0]["identity"]["batch size"]) if path.exists() else None


def progress_of(folder: Path) -> tuple[int, int] | None:
    """How many of how many batches are done in the search that was broken off in this folder."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    done = _load(path)[1]["done"]
    return int(done.sum()), len(done)


def remove(folder: Path) -> None:
    """Take the checkpoint away, and what a killed process may have left of one."""
    for path in (folder / CHECKPOINT, *folder.glob(".deconvviz-*.part")):
        with suppress(OSError):
            path.unlink()


def check_same(then: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Raise SearchError that says in what two identities differ."""
    differs = [
        f"{name} was {_short(then.get(name))} and is {_short(value)}"
        for name, value in now.items()
        if then.get(name) != value
    ]
    if differs:
        raise SearchError(
            f"the search of {path} cannot be gone on with: {'; '.join(differs)} "
            "(start anew with {option}, or choose another {option})",
            option=("force=True", "out=FOLDER"),
        )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:4])) + (f" ... ({len(value)})" if len(value) > 4 else "")
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[:19] + "..."
    return str(value)


def _dump(state: State, told: str, stream: BinaryIO) -> None:
    arrays = {name: getattr(state.top, name) for name in _ARRAYS}
    np.savez(stream, told=np.array(told), done=state.done, **arrays)


def _lowest(kept: Numbers) -> Numbers:
    """The lowest peak of each channel as far as a checkpoint of an earlier version tells it."""
    lowest: Numbers = np.where(np.isinf(kept), np.inf, kept).min(axis=1).astype(kept.dtype)
    return lowest


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Numbers]]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("done", *_ARRAYS) if name != "lowest"}
            arrays["lowest"] = stored["lowest"] if "lowest" in stored else _lowest(arrays["activation"])
            told = json.loads(str(stored["told"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as reason:
        raise SearchError(
            f"{path} cannot be read as a checkpoint: {reason} (start anew with {{option}})",
            option="force=True",
        ) from reason
    if told.get("format") != FORMAT:
        raise SearchError(
            f"{path} is no checkpoint of this version (start anew with {{option}})", option="force=True"
        )
    return told, arrays
