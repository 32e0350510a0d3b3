"""Two searches or figures in one folder: the second writer is rejected, a dead one does not block."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.searches import Noise, junk, same, small
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.dataset_search.progress import Progress
from deconvviz.dataset_search.result import Search, open_search
from deconvviz.dataset_search.search import search
from deconvviz.errors import OutputError
from deconvviz.folder_lock import Writer, lock_path, locked

OPTIONS: dict[str, Any] = {"batch_size": 2, "workers": 0}


def begin(out: Path | None, **more: Any) -> Search:
    return search(small(), Noise(8), ["0", "3"], out=out, **{**OPTIONS, **more})


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"force": True}])
def test_second_search_is_rejected_and_the_first_continues(tmp_path: Path, more: dict[str, Any]) -> None:
    rejected: list[OutputError] = []

    def report(progress: Progress) -> None:
        with pytest.raises(OutputError) as error:
            begin(tmp_path / "found", **more)
        rejected.append(error.value)

    found = begin(tmp_path / "found", report=report)
    assert len(rejected) == 4
    assert str(rejected[0]).startswith(
        f"{tmp_path / 'found'} is being written by another thread of this process"
    )
    assert same(found, begin(None)) and same(open_search(tmp_path / "found"), found)
    assert junk(tmp_path / "found") == set()


def test_one_of_many_simultaneous_searches_writes(tmp_path: Path) -> None:
    done: list[Search] = []
    rejected: list[str] = []
    barrier = threading.Barrier(6)

    def work() -> None:
        barrier.wait()
        try:
            done.append(begin(tmp_path / "found"))
        except OutputError as error:
            rejected.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1 and len(rejected) == 5
    assert all("is being written by" in error or "already contains a search" in error for error in rejected)
    assert same(open_search(tmp_path / "found"), done[0])
    assert junk(tmp_path / "found") == set()


PROGRAM = """
import sys, time
sys.path.insert(0, {tests!r})
from helpers.searches import Noise, small
from deconvviz.dataset_search.search import search
def report(progress):
    if progress.done == 4:  # the first batch is in the checkpoint
        print("waits", flush=True)
        time.sleep(600)
search(small(), Noise(8), ["0", "3"], out=sys.argv[1], batch_size=2, workers=0, every=0, report=report)
"""


def started(out: Path) -> subprocess.Popen[str]:
    """Start a search in another process and return the process once it waits in its second batch."""
    code = PROGRAM.format(tests=str(Path(__file__).parents[1]))
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    return process


@pytest.mark.slow
def test_search_in_another_process_blocks_until_it_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "found"
    process = started(out)
    try:
        for more in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(OutputError, match=rf"process {process.pid} on this machine \(-c .*since 2"):
                begin(out, **more)
        command = ["search", "scenes:2", "--model", "minivgg", "-l", "conv1_1", "--out", str(out), "--force"]
        rejected = CliRunner().invoke(app, command)
        assert rejected.exit_code == 2 and f"process {process.pid} on this machine" in rejected.stderr
        assert "Traceback" not in rejected.output
    finally:
        process.kill()
        process.communicate()
    with pytest.raises(OutputError, match=r"contains an interrupted search: \d of 4 batches are done"):
        begin(out)
    assert same(begin(out, resume=True), begin(None))
    assert junk(out) == set()


def test_interrupted_search_leaves_no_lock(tmp_path: Path) -> None:
    def report(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path, every=0, report=report)
    assert not lock_path(tmp_path).exists()
    assert same(begin(tmp_path, resume=True), begin(None))


def test_failed_search_leaves_no_lock_and_no_folder(tmp_path: Path) -> None:
    def report(progress: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin(tmp_path / "found", report=report)
    assert not lock_path(tmp_path / "found").exists()
    with pytest.raises(dv.DeconvvizError, match="no images in"):
        search(small(), Noise(0), "0", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_resume_returns_a_finished_search_from_a_read_only_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = begin(tmp_path)

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("open", "link", "mkdir", "unlink", "replace"):
        monkeypatch.setattr(f"os.{name}", denied)
    again = begin(tmp_path, resume=True)
    assert same(again, found)


def test_error_for_a_lock_of_another_machine_names_the_file_to_delete(tmp_path: Path) -> None:
    writer = replace(Writer.current(), host="node-3", pid=7, since=time.time() - 7200)
    lock_path(tmp_path).write_text(json.dumps(asdict(writer)))
    with pytest.raises(
        OutputError, match=r"process 7 on the machine node-3 .*\(2 hours ago\).*delete .*lock"
    ):
        begin(tmp_path)
    lock_path(tmp_path).unlink()
    begin(tmp_path)


def test_save_into_a_locked_folder_is_rejected(tmp_path: Path) -> None:
    found = begin(None)
    with locked(tmp_path), pytest.raises(OutputError, match="is being written by another thread"):
        found.save(tmp_path)
    found.save(tmp_path)
    assert same(open_search(tmp_path), found) and junk(tmp_path) == set()


def test_figure_is_saved_while_other_names_are_locked(tmp_path: Path) -> None:
    net = small()
    shown = search(net, Noise(8), "3", workers=0).topnine("3", count=2, k=2)
    with locked(tmp_path, "other"), locked(tmp_path):
        files = shown.save(tmp_path / "mine.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files)


def test_figure_with_a_locked_name_is_rejected(tmp_path: Path) -> None:
    net = small()
    shown = search(net, Noise(8), "3", workers=0).topnine("3", count=2, k=2)
    with locked(tmp_path, "mine"):
        for more in ({}, {"force": True}):
            with pytest.raises(OutputError, match=r"mine is being written by another thread"):
                shown.save(tmp_path / "mine.png", **more)
    assert list(tmp_path.iterdir()) == []


def test_one_of_many_figures_saved_at_once_is_written_completely(tmp_path: Path) -> None:
    """Without `force` the others are rejected; figure, manifest and arrays belong to the same figure."""
    net = small()
    found = search(net, Noise(8), "3", workers=0)
    results = [found.topnine("3", channels=[channel], k=2) for channel in (0, 1, 2)]
    barrier = threading.Barrier(len(results))
    written: list[int] = []

    def save(number: int) -> None:
        barrier.wait()
        try:
            results[number].save(tmp_path / "one.png", arrays=True)
            written.append(number)
        except OutputError as rejected:
            assert "already exists" in str(rejected) or "is being written by" in str(rejected)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert json.loads((tmp_path / "one.json").read_text())["layers"][0]["channels"] == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "one.npz", "one.png"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_search_killed_by_any_signal_can_be_resumed(tmp_path: Path, sent: signal.Signals) -> None:
    process = started(tmp_path)
    process.send_signal(sent)
    process.communicate()
    assert same(begin(tmp_path, resume=True), begin(None))
    assert junk(tmp_path) == set()
