"""Lock that allows one writer at a time in a folder, also if writers are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from deconvviz import folder_lock
from deconvviz.errors import OutputError
from deconvviz.folder_lock import Writer, check_unlocked, lock_path, locked


def write_lock(folder: Path, writer: Writer) -> Path:
    path = lock_path(folder)
    path.write_text(json.dumps(asdict(writer)))
    return path


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def other_process(folder: Path, script: str) -> subprocess.Popen[str]:
    """Start a Python process that runs a script with `locked`, `OutputError` and `folder` defined."""
    code = f"import sys, os, time\nfrom pathlib import Path\nfolder = Path({str(folder)!r})\n"
    code += "from deconvviz.folder_lock import locked\nfrom deconvviz.errors import OutputError\n" + script
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


HOLD_THE_LOCK = "with locked(folder):\n    print('in', flush=True)\n    time.sleep(60)\n"


def test_second_writer_raises_and_the_error_names_the_first(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(OutputError) as raised, locked(tmp_path):
            raise AssertionError
        with pytest.raises(OutputError, match="another thread of this process"):
            check_unlocked(tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path} is being written by another thread of this process, since 20")
    assert message.endswith("ago). Wait until it is done, or choose another place")
    assert left_in(tmp_path) == []


def test_error_names_the_other_process(tmp_path: Path) -> None:
    with other_process(tmp_path, HOLD_THE_LOCK) as process:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        try:
            for check in (check_unlocked, enter):
                with pytest.raises(OutputError) as raised:
                    check(tmp_path)
                assert f"process {process.pid} on this machine (" in str(raised.value)
        finally:
            process.kill()
    with locked(tmp_path):  # the killed process does not block
        pass
    assert left_in(tmp_path) == []


def enter(folder: Path) -> None:
    with locked(folder):
        pass


def test_interrupted_process_leaves_no_lock(tmp_path: Path) -> None:
    with other_process(tmp_path, HOLD_THE_LOCK) as process:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_lock_is_removed_after_any_error_and_the_error_is_raised(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error, match="mine"), locked(tmp_path / "new" / "one"):
        assert left_in(tmp_path / "new" / "one") == [".deconvviz.lock"]
        raise error("mine")
    assert left_in(tmp_path) == []


def test_folder_with_written_files_is_kept_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="late"), locked(tmp_path / "new"):
        (tmp_path / "new" / "part").touch()
        raise ValueError("late")
    assert left_in(tmp_path / "new") == ["part"]


def ended() -> Writer:
    """Return a writer whose process has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return replace(Writer.current(), pid=process.pid)


def reused_pid() -> Writer:
    """Return a writer whose process id now belongs to a process that started later."""
    parent = psutil.Process(os.getppid())
    return replace(Writer.current(), pid=parent.pid, started=parent.create_time() - 1000)


def own_pid() -> Writer:
    """Return a writer with the id of this process, as happens in containers, where ids repeat."""
    return Writer.current()


@pytest.mark.parametrize("dead", [ended, reused_pid, own_pid])
def test_lock_of_a_dead_process_does_not_block(tmp_path: Path, dead: Callable[[], Writer]) -> None:
    path = write_lock(tmp_path, dead())
    check_unlocked(tmp_path)
    with locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert left_in(tmp_path) == []


def test_lock_of_a_zombie_process_does_not_block(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    writer = replace(Writer.current(), pid=process.pid, started=psutil.Process(process.pid).create_time())
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    write_lock(tmp_path, writer)
    enter(tmp_path)
    process.wait()


def test_live_process_blocks_if_its_start_time_differs_slightly(tmp_path: Path) -> None:
    parent = psutil.Process(os.getppid())
    write_lock(tmp_path, replace(Writer.current(), pid=parent.pid, started=parent.create_time() + 0.5))
    with pytest.raises(OutputError, match=f"process {parent.pid} on this machine"):
        enter(tmp_path)


def test_process_on_another_machine_blocks_and_the_error_says_how_to_remove_the_lock(tmp_path: Path) -> None:
    writer = replace(ended(), host="node-17", since=time.time() - 3 * 3600 - 5, command="deconvviz search x")
    path = write_lock(tmp_path, writer)
    with pytest.raises(OutputError) as raised:
        enter(tmp_path)
    message = str(raised.value)
    assert f"process {writer.pid} on the machine node-17 (deconvviz search x), since " in message
    assert "(3 hours ago)" in message
    assert message.endswith(f"if that process is no longer running, delete {path}")
    path.unlink()
    enter(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"pid": 1}'])
def test_unreadable_lock_raises_after_a_wait(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "_WAIT", 0.1)
    lock_path(tmp_path).write_bytes(content)
    check_unlocked(tmp_path)  # does not raise, because the lock may be being written
    with pytest.raises(
        OutputError, match=r"cannot be read\. Delete that file if no process is writing there"
    ):
        enter(tmp_path)


def test_folder_in_place_of_the_lock_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "_WAIT", 0.1)
    lock_path(tmp_path).mkdir()
    with pytest.raises(OutputError, match="cannot be read"):
        enter(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_write_permission_raises(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="choose a folder you may write to"):
        enter(tmp_path)


def test_check_unlocked_writes_nothing_and_needs_no_folder(tmp_path: Path) -> None:
    check_unlocked(tmp_path / "none")
    (tmp_path / "file").touch()
    check_unlocked(tmp_path / "file")
    assert left_in(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["file", "file/below", "zero\0byte"])
def test_file_or_zero_byte_in_place_of_the_folder_raises(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^cannot write "):
        enter(tmp_path / name)
    assert left_in(tmp_path) == ["file"]


def test_lock_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with locked(tmp_path):
        assert left_in(tmp_path) == [".deconvviz.lock"]
        with pytest.raises(OutputError, match="another thread"):
            enter(tmp_path)
    assert left_in(tmp_path) == []


def test_claim_of_a_dead_process_blocks_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "_WAIT", 0.1)
    writer = ended()
    write_lock(tmp_path, writer)
    claim = tmp_path / f".deconvviz-{writer.id}.lock-claim"
    claim.touch()
    with pytest.raises(OutputError, match="is being written by"):
        enter(tmp_path)
    os.utime(claim, (time.time() - 61,) * 2)
    enter(tmp_path)
    assert left_in(tmp_path) == []


def test_lock_of_another_writer_is_not_released(tmp_path: Path) -> None:
    other = ended()
    with locked(tmp_path):
        write_lock(tmp_path, other)  # as if a user had deleted our lock and another process had taken it
    assert json.loads(lock_path(tmp_path).read_text())["id"] == other.id


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_process_does_not_release_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path):
        block = locked(tmp_path, "file")
        block.__enter__()
        if (child := os.fork()) == 0:
            block.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert lock_path(tmp_path, "file").exists()
        block.__exit__(None, None, None)
    assert left_in(tmp_path) == []


def test_files_of_one_folder_have_separate_locks(tmp_path: Path) -> None:
    long = "x" * 255
    raised = pytest.raises(OutputError, match=r"one\.png is being written by another thread")
    with (
        locked(tmp_path, "one.png"),
        locked(tmp_path, "two.png"),
        locked(tmp_path, long),
        locked(tmp_path),
        raised,
        locked(tmp_path, "one.png"),
    ):
        raise AssertionError
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("stale", [False, True])
def test_only_one_of_many_threads_holds_the_lock_at_a_time(tmp_path: Path, stale: bool) -> None:
    inside, most, entered = 0, 0, 0
    count = threading.Lock()
    barrier = threading.Barrier(16)

    def work() -> None:
        nonlocal inside, most, entered
        barrier.wait()
        for _ in range(20):
            try:
                with locked(tmp_path):
                    with count:
                        inside, entered = inside + 1, entered + 1
                        most = max(most, inside)
                    time.sleep(0.001)
                    with count:
                        inside -= 1
            except OutputError as raised:
                assert "is being written by another thread" in str(raised)

    if stale:
        write_lock(tmp_path, ended())
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and entered >= 1
    assert left_in(tmp_path) == []


COMPETE = """
inside = folder / 'inside'
wins = 0
while not (folder.parent / 'go').exists():
    time.sleep(0.001)
for _ in range(30):
    try:
        with locked(folder):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if another process has the lock
            time.sleep(0.002)
            inside.unlink()
            wins += 1
    except OutputError:
        time.sleep(0.001)
print(wins)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stale", [False, True])
def test_only_one_of_many_processes_holds_the_lock_at_a_time(tmp_path: Path, stale: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if stale:
        write_lock(folder, ended())
    processes = [other_process(folder, COMPETE) for _ in range(6)]
    time.sleep(0.3)
    (tmp_path / "go").touch()
    wins = [int(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6
    assert sum(wins) >= 6
    assert left_in(folder) == []


def test_repeatedly_killed_processes_never_block(tmp_path: Path) -> None:
    """Processes are killed at different moments, also while they take over the lock of the previous one."""
    for number in range(8):
        script = "while True:\n    with locked(folder):\n        print('in', flush=True)\n"
        with other_process(tmp_path, script) as process:
            assert process.stdout is not None and process.stdout.readline() == "in\n"
            time.sleep(0.003 * number)
            process.kill()
    enter(tmp_path)
    assert not [name for name in left_in(tmp_path) if not name.endswith("-claim")]


def test_command_with_control_characters_is_printable_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/deconvviz", "search", "caf\udce9 \x1b[31m", "x" * 1000])
    writer = replace(Writer.current(), host="elsewhere\x1b[0m")
    write_lock(tmp_path, writer)
    with pytest.raises(OutputError) as raised:
        enter(tmp_path)
    message = str(raised.value)
    assert message.isprintable() and "search" in message and len(message) < 800
    message.encode()


def test_folder_lock_imports_neither_torch_nor_numpy_nor_psutil() -> None:
    code = "import deconvviz.folder_lock, sys; assert not {'torch', 'numpy', 'psutil'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hosts_are_compared_by_name(tmp_path: Path) -> None:
    write_lock(tmp_path, replace(ended(), host=socket.gethostname().upper() + "x"))
    with pytest.raises(OutputError, match="on the machine"):
        enter(tmp_path)
