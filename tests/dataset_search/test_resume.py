"""Interrupted searches: resuming gives the same results as an uninterrupted search."""

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
def uninterrupted() -> Search:
    return search(dv.load("minivgg"), SOURCE, LAYERS, batch_size=SIZE, workers=0)


def killed(folder: Path, workers: int, when: Callable[[int], bool], wait: float) -> None:
    """Run a search in a process; kill it `wait` seconds after `when(number of finished images)` is true."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            assert line.strip() != "done", "the search finished before it was killed"
            done = 0 if line.startswith("begins") else int(line)
            if when(done):
                break
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_search_killed_three_times_equals_an_uninterrupted_one(uninterrupted: Search, tmp_path: Path) -> None:
    dice = np.random.default_rng()
    out, begun = tmp_path / "out", [0]
    for workers in (1, 0, 2):
        further = int(dice.integers(2, 10)) * SIZE
        killed(out, workers, lambda done, to=begun[-1] + further: done >= to, dice.uniform(0, 0.03))
        progress = state.progress_of(out)
        assert progress is not None and progress[1] == 40
        begun.append(progress[0] * SIZE)
        assert begun[-2] < begun[-1] < 320  # it was resumed, not started again
    (out / ".deconvviz-0123456789ab.part").touch()  # left by a process that is killed while writing
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
    assert same(found, uninterrupted)
    assert same(open_search(out), uninterrupted)
    assert junk(out) == set()
    for one, other in ((found, uninterrupted), (open_search(out), uninterrupted)):
        for key in set(one.manifest) - {"network"}:
            assert one.manifest[key] == other.manifest[key]


def interrupted(folder: Path, after: int, **more: Any) -> None:
    """Interrupt a search of 20 noise images in the first report with more than `after` images."""

    def stop(progress: Progress) -> None:
        if progress.done > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(folder, report=stop, **more)


def begin(folder: Path | None, net: dv.Network | None = None, **more: Any) -> Search:
    options: dict[str, Any] = {
        "source": Noise(20),
        "layers": ["0", "3"],
        "top": 3,
        "batch_size": 2,
        "workers": 0,
        "every": 0.0,
        "out": folder,
        **more,
    }
    return search(net or small(), options.pop("source"), options.pop("layers"), **options)


@pytest.mark.parametrize("after", [0, 2, 18])
def test_search_interrupted_anywhere_is_resumed(after: int, tmp_path: Path) -> None:
    interrupted(tmp_path, after)
    assert state.progress_of(tmp_path) == (after // 2, 10)
    found = begin(tmp_path, resume=True)
    assert same(found, begin(None)) and junk(tmp_path) == set()


STEPS = (
    "top.parquet",
    "channels.parquet",
    "statistics.parquet",
    "images.parquet",
    "skipped.csv",
    "manifest.json",
    "checkpoint",
)


@pytest.mark.parametrize("step", STEPS)
def test_search_interrupted_while_writing_its_result_is_resumed(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupt it after all images, before each file and before the checkpoint is deleted."""
    from deconvviz.dataset_search import search_files as files

    real = files.write_whole

    def write_whole(path: Path, *args: Any, **more: Any) -> Path:
        if Path(path).name == step:
            raise KeyboardInterrupt
        return real(path, *args, **more)

    def remove(folder: Path) -> None:
        if step == "checkpoint":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_whole", write_whole)
    monkeypatch.setattr("deconvviz.files.write_whole", write_whole)  # used for text files
    monkeypatch.setattr(state, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path)
    monkeypatch.undo()
    if step != "checkpoint":
        with pytest.raises(SearchError, match="is not finished: 10 of 10 batches are done"):
            open_search(tmp_path)
    reports: list[Progress] = []
    found = begin(tmp_path, resume=True, report=reports.append)
    assert reports == []
    assert same(found, begin(None)) and same(open_search(tmp_path), found) and junk(tmp_path) == set()


def other_weights() -> dv.Network:
    net = small()
    with torch.no_grad():
        net.module[6].bias[0] += 1  # after the searched layers, but it is still another network
    return net


def other_preprocessing() -> dv.Network:
    return dv.Network(small().module, preprocessing=Preprocessing.simple(16, (0.4,) * 3, (0.25,) * 3))


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"net": lambda: small(name="another")}, "network Sequential before, another now"),
    "weights": ({"net": other_weights}, "weights sha256:"),
    "preprocessing": ({"net": other_preprocessing}, "preprocessing {"),
    "layers": ({"layers": "0"}, "layers 0, 3 before, 0 now"),
    "top": ({"top": 4}, "top 3 before, 4 now"),
    "batch size": ({"batch_size": 3}, "batch size 2 before, 3 now"),
    "source": ({"source": Noise(21)}, "source sha256:"),
    "limit": ({"limit": 10}, "source sha256:"),
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_resuming_another_search_is_rejected_with_the_differences(
    change: str, finished: bool, tmp_path: Path
) -> None:
    if finished:
        begin(tmp_path)
    else:
        interrupted(tmp_path, 6)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    altered, message = CHANGES[change]
    altered = {name: value() if callable(value) else value for name, value in altered.items()}
    reports: list[Progress] = []
    with pytest.raises(SearchError, match=message):
        begin(tmp_path, resume=True, report=reports.append, **altered)
    assert reports == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    begin(tmp_path, force=True, **altered)
    assert junk(tmp_path) == set()


def test_search_is_resumed_with_layers_in_another_order_or_by_other_names(tmp_path: Path) -> None:
    net = dv.load("minivgg")
    options: dict[str, Any] = {"out": tmp_path, "workers": 0, "batch_size": 4}

    def stop(progress: Progress) -> None:
        if progress.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(net, "scenes:12", ["conv4_2", "relu1_1"], report=stop, every=0, **options)
    found = search(net, "scenes:12@0", ["features.1", "features.17"], resume=True, **options)
    assert same(found, search(net, "scenes:12", ["conv4_2", "relu1_1"], workers=0, batch_size=4))


def test_resume_returns_a_finished_search_unchanged(tmp_path: Path) -> None:
    first = begin(tmp_path)
    times = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    reports: list[Progress] = []
    again = begin(tmp_path, resume=True, report=reports.append)
    assert reports == [] and same(again, first) and again.manifest == first.manifest
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == times
    assert again.source.names == first.source.names
    with pytest.raises(SearchError, match=r"the network of this search no longer exists.*network=NETWORK"):
        again.open_network()


def test_resume_uses_the_batch_size_of_the_first_run(tmp_path: Path) -> None:
    interrupted(tmp_path, 6)
    assert begin(tmp_path, resume=True, batch_size=None).manifest["batch_size"] == 2
    assert begin(tmp_path, resume=True, batch_size=None).manifest["batch_size"] == 2


def test_resume_in_a_new_folder_starts_a_search(tmp_path: Path) -> None:
    assert same(begin(tmp_path / "new", resume=True), begin(None))


def test_search_is_resumed_in_a_moved_folder(tmp_path: Path) -> None:
    interrupted(tmp_path / "here", 6)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert same(begin(tmp_path / "there", resume=True), begin(None))


def test_truncated_checkpoint_is_rejected_with_advice(tmp_path: Path) -> None:
    interrupted(tmp_path, 6)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for more in ({"resume": True}, {}):
        with pytest.raises(SearchError, match=r"cannot read the checkpoint .*Start again with force=True"):
            begin(tmp_path, **more)
    assert same(begin(tmp_path, force=True), begin(None)) and junk(tmp_path) == set()


def test_damaged_result_is_rejected_with_advice(tmp_path: Path) -> None:
    begin(tmp_path)
    path = tmp_path / "top.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    for attempt in (lambda: open_search(tmp_path), lambda: begin(tmp_path, resume=True)):
        with pytest.raises(SearchError, match=r"is incomplete or damaged.*Search again with force=True"):
            attempt()
    begin(tmp_path, force=True)
    assert same(open_search(tmp_path), begin(None))
