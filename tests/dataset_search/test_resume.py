"""Killed at any moment and gone on with: the same index as of a search that nobody disturbed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.searches import Noise, junk, same, small

import deconvviz as dv
from deconvviz.dataset_search import checkpoint as state
from deconvviz.dataset_search.checkpoint import CHECKPOINT
from deconvviz.dataset_search.progress import Progress
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.dataset_search.search import search
from deconvviz.errors import SearchError
from deconvviz.images.preprocessing import Preprocessing

SOURCE, LAYERS, SIZE = "scenes:320@1000", ["conv1_2", "conv4_2", "fc6"], 8
PROGRAM = f"""
import sys, time
import torch
torch.set_num_threads(1)
import deconvviz as dv
from deconvviz.dataset_search.search import search
net = dv.load("minivgg")
print("begins", flush=True)
def report(progress):
    print(progress.done, flush=True)
    time.sleep(0.01)
search(net, {SOURCE!r}, {LAYERS!r}, batch_size={SIZE}, out=sys.argv[1], workers=int(sys.argv[2]),
       resume=True, every=0, report=report)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def undisturbed() -> Search:
    return search(dv.load("minivgg"), SOURCE, LAYERS, batch_size=SIZE, workers=0)


def killed(folder: Path, workers: int, when: Callable[[int], bool], wait: float) -> None:
    """A search in a process of its own, killed `wait` seconds after `when` is true of the pictures done."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            assert line.strip() != "done", "it was quicker than we"
            done = 0 if line.startswith("begins") else int(line)
            if when(done):
                break
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_three_times_it_equals_an_undisturbed_one(undisturbed: Search, tmp_path: Path) -> None:
    dice = np.random.default_rng()
    out, begun = tmp_path / "out", [0]
    for workers in (1, 0, 2):
        further = int(dice.integers(2, 10)) * SIZE
        killed(out, workers, lambda done, to=begun[-1] + further: done >= to, dice.uniform(0, 0.03))
        progress = state.progress_of(out)
        assert progress is not None and progress[1] == 40
        begun.append(progress[0] * SIZE)
        assert begun[-2] < begun[-1] < 320  # it went on from there, not from the start
    (out / ".deconvviz-0123456789ab.part").touch()  # as a process leaves it that is killed while it writes
    done: list[int] = []
    found = search(
        dv.load("minivgg"),
        SOURCE,
        LAYERS,
        batch_size=SIZE,
        workers=1,
        out=out,
        resume=True,
        report=lambda progress: done.append(progress.done),
    )
    assert done[0] == begun[-1] + SIZE and done[-1] == 320
    assert same(found, undisturbed)
    assert same(open_search(out), undisturbed)
    assert junk(out) == set()
    for one, other in ((found, undisturbed), (open_search(out), undisturbed)):
        for key in set(one.manifest) - {"network"}:
            assert one.manifest[key] == other.manifest[key]


def interrupted(folder: Path, after: int, **more: Any) -> None:
    """A search of 20 pictures of noise that is broken off after so many."""

    def stop(progress: Progress) -> None:
        if progress.done > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(folder, report=stop, **more)


def begin(folder: Path | None, net: dv.Network | None = None, **more: Any) -> Search:
    asked: dict[str, Any] = {
        "source": Noise(20),
        "layers": ["0", "3"],
        "top": 3,
        "batch_size": 2,
        "workers": 0,
        "every": 0.0,
        "out": folder,
        **more,
    }
    return search(net or small(), asked.pop("source"), asked.pop("layers"), **asked)


@pytest.mark.parametrize("after", [0, 2, 18])
def test_broken_off_anywhere(after: int, tmp_path: Path) -> None:
    interrupted(tmp_path, after)
    assert state.progress_of(tmp_path) == (after // 2, 10)
    found = begin(tmp_path, resume=True)
    assert same(found, begin(None)) and junk(tmp_path) == set()


STEPS = ("top.parquet", "channels.parquet", "skipped.csv", "manifest.json", "checkpoint")


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_the_result_is_written(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all pictures, before each of the files, and before the checkpoint is taken away."""
    from deconvviz.dataset_search import result as files

    real = files.write_whole

    def write_whole(path: Path, *args: Any, **more: Any) -> Path:
        if Path(path).name == step:
            raise KeyboardInterrupt
        return real(path, *args, **more)

    def remove(folder: Path) -> None:
        if step == "checkpoint":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_whole", write_whole)
    monkeypatch.setattr("deconvviz.files.write_whole", write_whole)  # of what is text
    monkeypatch.setattr(state, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path)
    monkeypatch.undo()
    if step != "checkpoint":
        with pytest.raises(SearchError, match="is not done: 10 of 10 batches"):
            open_search(tmp_path)
    looked: list[Progress] = []
    found = begin(tmp_path, resume=True, report=looked.append)
    assert looked == []
    assert same(found, begin(None)) and same(open_search(tmp_path), found) and junk(tmp_path) == set()


def other_weights() -> dv.Network:
    net = small()
    with torch.no_grad():
        net.module[6].bias[0] += 1  # above the layers that are searched: it is another network all the same
    return net


def other_preprocessing() -> dv.Network:
    return dv.Network(small().module, preprocessing=Preprocessing.simple(16, (0.4,) * 3, (0.25,) * 3))


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"net": lambda: small(name="another")}, "network was Sequential and is another"),
    "weights": ({"net": other_weights}, "weights"),
    "preprocessing": ({"net": other_preprocessing}, "preprocessing was"),
    "layers": ({"layers": "0"}, "layers was 0, 3 and is 0"),
    "top": ({"top": 4}, "top was 3 and is 4"),
    "batch size": ({"batch_size": 3}, "batch size was 2 and is 3"),
    "source": ({"source": Noise(21)}, "source was sha256:"),
    "limit": ({"limit": 10}, "source was sha256:"),
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_resuming_another_search_is_refused_with_what_differs(
    change: str, finished: bool, tmp_path: Path
) -> None:
    if finished:
        begin(tmp_path)
    else:
        interrupted(tmp_path, 6)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    altered, message = CHANGES[change]
    altered = {name: value() if callable(value) else value for name, value in altered.items()}
    looked: list[Progress] = []
    with pytest.raises(SearchError, match=message):
        begin(tmp_path, resume=True, report=looked.append, **altered)
    assert looked == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    begin(tmp_path, force=True, **altered)
    assert junk(tmp_path) == set()


def test_layers_in_another_order_and_by_other_names_are_the_same_search(tmp_path: Path) -> None:
    net = dv.load("minivgg")
    asked: dict[str, Any] = {"out": tmp_path, "workers": 0, "batch_size": 4}

    def stop(progress: Progress) -> None:
        if progress.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(net, "scenes:12", ["conv4_2", "relu1_1"], report=stop, every=0, **asked)
    found = search(net, "scenes:12@0", ["features.1", "features.17"], resume=True, **asked)
    assert same(found, search(net, "scenes:12", ["conv4_2", "relu1_1"], workers=0, batch_size=4))


def test_a_finished_search_is_given_back_unchanged(tmp_path: Path) -> None:
    first = begin(tmp_path)
    times = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    looked: list[Progress] = []
    again = begin(tmp_path, resume=True, report=looked.append)
    assert looked == [] and same(again, first) and again.manifest == first.manifest
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == times
    assert again.source.names == first.source.names
    with pytest.raises(SearchError, match=r"the network of this search is gone.*network=NETWORK"):
        again.open_network()


def test_without_a_batch_size_the_one_it_was_begun_with_is_taken(tmp_path: Path) -> None:
    interrupted(tmp_path, 6)
    assert begin(tmp_path, resume=True, batch_size=None).manifest["batch_size"] == 2
    assert begin(tmp_path, resume=True, batch_size=None).manifest["batch_size"] == 2


def test_resume_where_there_is_nothing_begins(tmp_path: Path) -> None:
    assert same(begin(tmp_path / "new", resume=True), begin(None))


def test_a_folder_that_was_moved_is_gone_on_with(tmp_path: Path) -> None:
    interrupted(tmp_path / "here", 6)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert same(begin(tmp_path / "there", resume=True), begin(None))


def test_half_a_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    interrupted(tmp_path, 6)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for more in ({"resume": True}, {}):
        with pytest.raises(SearchError, match=r"cannot be read as a checkpoint.*start anew with force=True"):
            begin(tmp_path, **more)
    assert same(begin(tmp_path, force=True), begin(None)) and junk(tmp_path) == set()


def test_a_damaged_result_is_refused_with_what_to_do(tmp_path: Path) -> None:
    begin(tmp_path)
    path = tmp_path / "top.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    for look in (lambda: open_search(tmp_path), lambda: begin(tmp_path, resume=True)):
        with pytest.raises(SearchError, match=r"holds no whole search.*search again with force=True"):
            look()
    begin(tmp_path, force=True)
    assert same(open_search(tmp_path), begin(None))
