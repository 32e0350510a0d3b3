"""Checkpoints: written completely or not at all, and read only by the same search."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.searches import Noise, small

from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search.checkpoint import (
    CHECKPOINT,
    Saver,
    State,
    check_same,
    progress_of,
    read,
    remove,
    write,
)
from deconvviz.dataset_search.peak_finder import Peaks
from deconvviz.dataset_search.plan import Plan, plan
from deconvviz.errors import OutputError, SearchError
from deconvviz.image_sources.labels import Labels
from deconvviz.images.preprocessing import Preprocessing


def planned(count: int = 20, **more: Any) -> Plan:
    return plan(small(), Labelled(count), ["0", "3"], **{"top": 3, "batch_size": 4, **more})


NAMES = ("activations", "places", "numbers")


def peaks(plan: Plan, index: int, skipped: dict[int, str] | None = None) -> Peaks:
    """Return random peaks of one batch without its skipped images."""
    dice = np.random.default_rng(index)
    skipped = skipped or {}
    begin, end = index * plan.batch_size, min((index + 1) * plan.batch_size, len(plan.source))
    numbers = [number for number in range(begin, end) if number not in skipped]
    activations = dice.normal(size=(len(numbers), plan.channels)).astype(np.float32)
    places = dice.integers(0, 99, activations.shape).astype(np.int32)
    return Peaks(activations, places, np.array(numbers, np.int64), skipped)


def same(one: State, other: State) -> bool:
    names = ("activation", "image", "place", "fired", "total", "rounding", "lowest", "image_count")
    tops = all(np.array_equal(getattr(one.top, name), getattr(other.top, name)) for name in names)
    types = all(type(getattr(one.top, name)) is type(getattr(other.top, name)) for name in names)
    done = np.array_equal(one.done, other.done) and one.skipped == other.skipped
    return tops and types and done and arrays_of(one) == arrays_of(other)


def arrays_of(state: State) -> dict[str, Any] | None:
    if state.summary is None:
        return None
    return {name: (array.dtype, array.tolist()) for name, array in state.summary.arrays().items()}


class Labelled(Noise):
    """Source of noise images with three classes, and one image without a class."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._labels = Labels.of(None if number == 5 else "abc"[number % 3] for number in range(count))


def begun(plan: Plan) -> State:
    found = State.begin(plan)
    found.add_batch(0, peaks(plan, 0))
    found.add_batch(3, peaks(plan, 3, {13: "torn \ud800\n“”, 7 %"}))
    return found


def test_checkpoint_round_trip_keeps_the_state(tmp_path: Path) -> None:
    plan = planned()
    kept = begun(plan)
    write(kept, plan.identity(), tmp_path)
    again = read(plan, tmp_path)
    assert again is not None and same(again, kept)
    assert again.pending == [1, 2, 4]
    assert again.seen == 8 and again.top.image_count == 7
    assert progress_of(tmp_path) == (2, 5)
    assert state.batch_size_of(tmp_path) == 4
    for index in (4, 1, 2):
        for one in (kept, again):
            one.add_batch(index, peaks(plan, index))
    assert same(again, kept) and again.pending == []


def test_folder_without_checkpoint_has_no_state(tmp_path: Path) -> None:
    assert read(planned(), tmp_path) is None
    assert progress_of(tmp_path / "nowhere") is None and state.batch_size_of(tmp_path) is None


def test_batch_added_twice_counts_once() -> None:
    plan = planned()
    once = begun(plan)
    twice = begun(plan)
    twice.add_batch(3, peaks(plan, 3, {13: "another reason"}))
    assert same(once, twice)


def test_batches_added_together_twice_count_once() -> None:
    plan = planned()
    alone, together = begun(plan), begun(plan)
    found = plan.empty()
    both = [peaks(plan, index) for index in (1, 2)]
    for index, of_batch in enumerate(both, 1):
        alone.add_batch(index, of_batch)
        found.add(of_batch)
    every = Peaks(*(np.concatenate([getattr(one, name) for one in both]) for name in NAMES), {})
    for _ in range(2):
        together.add([1, 2], found, every)
    assert together.pending == [4]
    assert np.array_equal(alone.top.image, together.top.image)
    assert np.array_equal(alone.top.mean, together.top.mean)
    assert arrays_of(together) == arrays_of(alone)
    with pytest.raises(ValueError, match="some of these batches, but not all"):
        together.add([2, 4], found, every)
    assert together.pending == [4] and arrays_of(together) == arrays_of(alone)


def weights(plan: Plan) -> None:
    with torch.no_grad():
        plan.network.module[0].bias[0] += 1


def other(**changed: Any) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, **changed)


CHANGES: dict[str, tuple[Callable[[Plan], Any], str]] = {
    "network": (lambda p: setattr(p.network, "name", "other"), "network Sequential before, other now"),
    "weights": (weights, "weights sha256:"),
    "preprocessing": (
        lambda p: setattr(p.network, "preprocessing", Preprocessing.simple(16, (0.4,) * 3, (0.25,) * 3)),
        "preprocessing {",
    ),
    "numbers": (lambda p: p.network.module.double() and None, "type of numbers float32 before, float64 now"),
    "layers": (lambda p: replace(p, layers=p.layers[:1]), "layers 0, 3 before, 0 now"),
    "top": (other(top=4), "top 3 before, 4 now"),
    "batch": (other(batch_size=5), "batch size 4 before, 5 now"),
    "source": (other(source=Labelled(21)), "source sha256:"),
    "labels": (other(source=Noise(20)), "labels sha256:"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_checkpoint_of_another_search_is_rejected(change: str, tmp_path: Path) -> None:
    plan = planned()
    write(begun(plan), plan.identity(), tmp_path)
    alter, message = CHANGES[change]
    changed = alter(plan) or plan
    with pytest.raises(SearchError) as error:
        read(changed, tmp_path)
    assert message in str(error.value)
    assert "force=True" in str(error.value) and CHECKPOINT in str(error.value)
    differences = str(error.value).split("belongs to another search: ")[1]
    # Other numbers mean other weights, and other images mean other labels
    assert differences.count(" before, ") == (2 if change in ("numbers", "source") else 1)


def test_error_lists_all_differences(tmp_path: Path) -> None:
    then = {"top": 9, "layers": list("abcdefgh"), "weights": "sha256:" + "0" * 64}
    now = {"top": 4, "layers": list("abcdefg"), "weights": "sha256:" + "1" * 64}
    with pytest.raises(SearchError) as error:
        check_same(then, now, tmp_path)
    assert (
        "top 9 before, 4 now; layers a, b, c, d ... (8) before, a, b, c, d ... (7) now; "
        "weights sha256:000000000000... before, sha256:111111111111... now"
    ) in str(error.value)
    check_same(now, dict(now), tmp_path)


def other_format(path: Path) -> bytes:
    with np.load(path) as stored:
        arrays = dict(stored)
    header = {**json.loads(str(arrays.pop("told"))), "format": "deconvviz checkpoint 0"}
    np.savez(path, told=np.array(json.dumps(header)), **arrays)
    return path.read_bytes()


def one_array(path: Path) -> bytes:
    with open(path, "wb") as stream:
        np.save(stream, np.zeros(3))
    return path.read_bytes()


def without_top(path: Path) -> bytes:
    np.savez(path, told=np.array("{}"), done=np.zeros(3, np.bool_))
    return path.read_bytes()


def without_summary(path: Path) -> bytes:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "sketch.low"}
    np.savez(path, **arrays)
    return path.read_bytes()


DAMAGE: dict[str, Callable[[Path], bytes]] = {
    "first half only": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "last byte missing": lambda path: path.read_bytes()[:-1],
    "empty": lambda path: b"",
    "not an archive": lambda path: b"rubbish" * 100,
    "two changed bytes": lambda path: path.read_bytes()[:300] + b"\xff\xfe" + path.read_bytes()[302:],
    "pickle": lambda path: b"\x80\x04K\x01.",
    "single array": one_array,
    "older format": other_format,
    "missing arrays": without_top,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint_is_rejected_with_advice(damage: str, tmp_path: Path) -> None:
    plan = planned()
    write(begun(plan), plan.identity(), tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(DAMAGE[damage](path))
    for attempt in (lambda: read(plan, tmp_path), lambda: progress_of(tmp_path)):
        with pytest.raises(SearchError, match=r"checkpoint.*Start again with force=True"):
            attempt()
    remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_without_a_part_of_the_summary_is_rejected(tmp_path: Path) -> None:
    plan = planned()
    write(begun(plan), plan.identity(), tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(without_summary(tmp_path / CHECKPOINT))
    with pytest.raises(SearchError, match=r"sketch\.low.*Start again with force=True"):
        read(plan, tmp_path)


def test_checkpoint_before_the_first_batch_is_small_and_can_be_read(tmp_path: Path) -> None:
    plan = planned()
    empty = State.begin(plan)
    write(empty, plan.identity(), tmp_path)
    assert (tmp_path / CHECKPOINT).stat().st_size < 8000
    again = read(plan, tmp_path)
    assert again is not None and same(again, empty)


def as_older_version(path: Path) -> None:
    """Change a checkpoint into one of format 1, which has no summary and no digest of the labels."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if "." not in name}
    header = json.loads(str(arrays["told"]))
    del header["identity"]["labels"]
    arrays["told"] = np.array(json.dumps({**header, "format": "deconvviz checkpoint 1"}))
    np.savez(path, **arrays)


def test_checkpoint_of_the_previous_version_is_continued_without_a_summary(tmp_path: Path) -> None:
    plan = planned()
    kept = begun(plan)
    write(kept, plan.identity(), tmp_path)
    as_older_version(tmp_path / CHECKPOINT)
    kept.summary = None
    for _ in range(2):  # the second time from the checkpoint that this version writes
        again = read(plan, tmp_path)
        assert again is not None and same(again, kept)
        again.add_batch(1, peaks(plan, 1))
        kept.add_batch(1, peaks(plan, 1))
        write(again, plan.identity(), tmp_path)
    assert again.pending == [2, 4] and same(again, kept)


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_state_does_not_depend_on_the_order_of_batches(order: list[int]) -> None:
    plan = planned()
    one, other = State.begin(plan), State.begin(plan)
    for index in range(5):
        one.add_batch(index, peaks(plan, index))
        other.add_batch(order[index], peaks(plan, order[index]))
    assert arrays_of(one) == arrays_of(other) is not None


def test_failed_write_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned()
    kept = begun(plan)
    write(kept, plan.identity(), tmp_path)

    def full(*args: Any, **arrays: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    later = begun(plan)
    later.add_batch(1, peaks(plan, 1))
    with pytest.raises(OutputError, match=r"no space left on device .*free some space"):
        write(later, plan.identity(), tmp_path)
    monkeypatch.undo()
    again = read(plan, tmp_path)
    assert again is not None and same(again, kept)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_remove_deletes_partial_files_of_killed_processes(tmp_path: Path) -> None:
    plan = planned()
    write(begun(plan), plan.identity(), tmp_path)
    (tmp_path / ".deconvviz-0123456789ab.part").touch()
    (tmp_path / "notes.txt").touch()
    remove(tmp_path)
    remove(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


class Clock:
    """Simulated clock in which writing a checkpoint takes a given time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes: float) -> None:
        self.now, self.takes, self.written = 1000.0, takes, list[float]()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(state, "write", self._write)

    def _write(self, *args: Any) -> None:
        self.written.append(self.now)
        self.now += self.takes

    def run(self, saver: Saver, seconds: float, step: float, kept: State) -> None:
        end = self.now + seconds
        while self.now < end:
            saver(kept)
            self.now += step


@pytest.mark.parametrize(
    ("every", "takes"), [(30.0, 0.05), (0.01, 0.05), (0.01, 3.0), (30.0, 3.0), (5.0, 0.0)]
)
def test_checkpoints_take_at_most_two_percent_of_the_time(
    every: float, takes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, takes)
    plan = planned()
    clock.run(Saver(plan, tmp_path, every), 3600, 0.25, State.begin(plan))
    assert clock.written[0] == 1000.0  # at once, so that a folder without write access fails early
    gaps = np.diff(clock.written)
    wanted = max(every, takes * 50)
    assert (gaps >= wanted).all() and (gaps <= wanted + takes + 0.5).all()
    assert takes * len(gaps) <= 0.02 * 3600


def test_saver_with_every_0_writes_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, takes=3.0)
    plan = planned()
    clock.run(Saver(plan, tmp_path, 0), 100, 0.25, State.begin(plan))
    assert np.diff(clock.written).tolist() == [3.25] * (len(clock.written) - 1) and len(clock.written) == 31
