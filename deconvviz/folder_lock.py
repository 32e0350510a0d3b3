"""Lock that allows one writer at a time in a folder. The lock of a dead writer does not block the next one.

The lock is a file in the folder that names the writer's process, machine and command. It is written under a
temporary name and then hard-linked to its own name, which fails if a lock exists already. To remove the lock
of a dead writer, a process first creates a claim, a second file named after that lock. Only the process that
created the claim removes the lock.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from deconvviz.errors import OutputError
from deconvviz.files import NO_LINKS, cannot_write, made_folder
from deconvviz.printable_names import printable_path, quoted
from deconvviz.wording import counted

FORMAT = "deconvviz lock 1"
_START_TOLERANCE = 2.0  # seconds by which two readings of a process's start time may differ
_CLAIM_TIMEOUT = 60.0  # seconds; a claim takes milliseconds, so an older one was left by a dead process
_WAIT = 3.0  # seconds to wait for a lock that is being written or taken over

_own_locks: set[str] = set()  # ids of the locks that threads of this process have now


@dataclass(frozen=True)
class Writer:
    """Process that writes into a folder, as its lock describes it."""

    id: str  # of the lock, random
    pid: int
    started: float  # start time of the process, in seconds since 1970
    host: str
    command: str
    since: float  # time at which it took the lock, in seconds since 1970
    format: str = FORMAT

    @classmethod
    def current(cls) -> Writer:
        """Return this process, with a new id."""
        command = shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])
        return cls(
            secrets.token_hex(8), os.getpid(), _start_of(os.getpid()) or 0.0, socket.gethostname(),
            _printable(command[:200]), time.time(),
        )  # fmt: skip

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to have ended. False for a process on another machine."""
        if self.host != socket.gethostname():
            return False
        if self.pid == os.getpid():
            return self.id not in _own_locks
        import psutil

        try:
            started = _start_of(self.pid)
        except psutil.AccessDenied:
            return False
        return started is None or abs(started - self.started) > _START_TOLERANCE

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.since).strftime("%Y-%m-%d %H:%M:%S")
        if self.pid == os.getpid() and self.host == socket.gethostname():
            who = "another thread of this process"
        else:
            where = "this machine" if self.host == socket.gethostname() else f"the machine {self.host}"
            who = f"process {self.pid} on {where} ({self.command})"
        return f"{who}, since {when} ({_ago(time.time() - self.since)})"


@contextmanager
def locked(folder: Path, target: str = "") -> Iterator[None]:
    """Hold the lock of a folder until the end of the block, or that of the file `target` in the folder.

    A missing folder is created; it is removed again if the block fails and leaves it empty. Raises
    OutputError with the name of the other writer if the lock is taken.
    """
    path, writer = lock_path(folder, target), Writer.current()
    with ExitStack() as undo:
        try:
            undo.enter_context(made_folder(folder))
            undo.callback(_release, path, writer)
            _take(path, writer, folder / target)
        except OSError as error:
            raise OutputError(cannot_write(folder / target, error)) from error
        except ValueError as error:  # Python raises this for a zero byte in a path
            raise OutputError(
                f"cannot write {quoted(folder)}: a file name cannot contain a zero byte"
            ) from error
        yield


def check_unlocked(folder: Path, target: str = "") -> None:
    """Raise OutputError if another writer has the lock now. Nothing is written."""
    path = lock_path(folder, target)
    with suppress(_Unreadable):
        writer = _read(path)
        if writer is not None and not writer.is_dead:
            raise _in_use(folder / target, path, writer)


def lock_path(folder: Path, target: str = "") -> Path:
    """Return the path of the lock of a folder, or of the file `target` in it."""
    if not target:
        return folder / ".deconvviz.lock"
    import hashlib

    # a digest, because the name of the file may have the maximum length already
    return folder / f".deconvviz-{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}.lock"


class _Unreadable(Exception):
    """A lock exists but cannot be read, for example because it is being written."""


def _take(path: Path, writer: Writer, place: Path) -> None:
    _own_locks.add(writer.id)  # before the lock exists, because another thread may read it at once
    try:
        until = time.monotonic() + _WAIT
        while not _created(path, writer):
            try:
                other = _read(path)
            except _Unreadable:
                if time.monotonic() > until:
                    raise OutputError(
                        f"{printable_path(place)} may be in use: its lock {printable_path(path)} cannot be "
                        "read. Delete that file if no process is writing there, or choose another place"
                    ) from None
                time.sleep(0.01)
                continue
            if other is None:
                continue  # released in the meantime
            if not other.is_dead or time.monotonic() > until:
                raise _in_use(place, path, other)
            if not _removed(path, other):
                time.sleep(0.01)
    except BaseException:
        _own_locks.discard(writer.id)
        raise
    _remove_leftovers(path.parent)


def _release(path: Path, writer: Writer) -> None:
    if os.getpid() != writer.pid:
        return  # this process was forked inside the block
    with suppress(OSError, _Unreadable):
        if _read(path) == writer:
            path.unlink()
    _own_locks.discard(writer.id)


def _created(path: Path, writer: Writer) -> bool:
    """Create the complete lock in one step. Return False if a lock exists."""
    text = json.dumps(asdict(writer))
    new = path.with_name(f".deconvviz-{writer.id}.lock-new")
    path.parent.mkdir(parents=True, exist_ok=True)  # another writer may have created and removed it
    try:
        _write_new(new, text)
        try:
            os.link(new, path)
        except FileNotFoundError:
            return False  # the current writer removed it as a leftover
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _write_new(path, text)  # no hard links here: readers wait until the lock is complete
    except FileExistsError:
        return False
    finally:
        with suppress(OSError):
            new.unlink()
    return True


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    with open(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)


def _read(path: Path) -> Writer | None:
    """Return the writer that has the lock, or None."""
    try:
        stored: Any = json.loads(path.read_bytes())
        return Writer(**stored)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise _Unreadable from error


def _removed(path: Path, dead: Writer) -> bool:
    """Remove the lock of a dead writer. Return False if another process is removing it.

    Only the process that created the claim removes the lock, and only if it is still that of the dead writer.
    """
    claim = path.with_name(f".deconvviz-{dead.id}.lock-claim")
    try:
        _write_new(claim, "")
    except FileExistsError:
        with suppress(OSError):
            if time.time() - claim.stat().st_mtime > _CLAIM_TIMEOUT:
                claim.unlink()
        return False
    try:
        with suppress(_Unreadable):
            if _read(path) == dead:
                path.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            claim.unlink()
    return True


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes. A live process whose file is removed tries again."""
    for path in folder.glob(".deconvviz-*.lock-new"):
        with suppress(OSError):
            path.unlink()
    for path in folder.glob(".deconvviz-*.lock-claim"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _CLAIM_TIMEOUT:
                path.unlink()


def _in_use(place: Path, path: Path, writer: Writer) -> OutputError:
    message = f"{printable_path(place)} is being written by {writer}. "
    message += "Wait until it is done, or choose another place"
    if writer.host != socket.gethostname():
        message += f"; if that process is no longer running, delete {printable_path(path)}"
    return OutputError(message)


def _start_of(pid: int) -> float | None:
    """Return the start time of a process in seconds since 1970; None if the process does not exist."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _ago(seconds: float) -> str:
    if seconds < 60:
        return f"{counted(max(int(seconds), 0), 'second')} ago"
    if seconds < 3600:
        return f"{counted(int(seconds / 60), 'minute')} ago"
    hours, days = int(seconds / 3600), int(seconds / 86400)
    return f"{counted(days, 'day')} ago" if days > 1 else f"{counted(hours, 'hour')} ago"
