"""Let one writer at a time into a folder; a writer that died does not block the next one.

The lock is a file in the folder, with the writer's process, machine and command in it. It comes into being
whole, by a hard link that fails if there is one already. A lock whose writer is dead is taken away by one
process only: by the one that creates the claim on it, a second file that is named after it.
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
_CLOCKS = 2.0  # seconds by which two readings of the start of one process may differ
_CLAIM_LASTS = 60.0  # seconds; a claim takes milliseconds, so one that is older is of a process that died
_WAIT = 3.0  # seconds for a lock that is being written or taken over

_ours: set[str] = set()  # the locks that threads of this process have now


@dataclass(frozen=True)
class Writer:
    """Who writes into a folder, as its lock says."""

    id: str  # of the lock, different for each
    pid: int
    started: float  # when the process began, in seconds since 1970
    host: str
    command: str
    since: float  # when it took the lock, in seconds since 1970
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
        """Whether the process is known to be gone. Nothing is known of a process on another machine."""
        if self.host != socket.gethostname():
            return False
        if self.pid == os.getpid():
            return self.id not in _ours
        import psutil

        try:
            started = _start_of(self.pid)
        except psutil.AccessDenied:
            return False
        return started is None or abs(started - self.started) > _CLOCKS

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
    """Be the only writer in a folder, or with `target` of one file in it, until the end of the block.

    The folder is made if it is missing, and taken away again if the block fails and has left it empty.
    Raises OutputError, at once, that names the other writer.
    """
    path, writer = lock_path(folder, target), Writer.current()
    with ExitStack() as undo:
        try:
            undo.enter_context(made_folder(folder))
            undo.callback(_release, path, writer)
            _take(path, writer, folder / target)
        except OSError as error:
            raise OutputError(cannot_write(folder / target, error)) from error
        except ValueError as error:  # what Python says of a zero byte in a path
            raise OutputError(f"cannot write {quoted(folder)}: a file name has no zero byte in it") from error
        yield


def check_unlocked(folder: Path, target: str = "") -> None:
    """Raise OutputError if somebody writes there now. Nothing is written: it is for a look ahead."""
    path = lock_path(folder, target)
    with suppress(_Unreadable):
        writer = _read(path)
        if writer is not None and not writer.is_dead:
            raise _refusal(folder / target, path, writer)


def lock_path(folder: Path, target: str = "") -> Path:
    """Return where the lock of a folder is, or of one file in it."""
    if not target:
        return folder / ".deconvviz.lock"
    import hashlib

    # the name of the file itself may be as long as the file system allows
    return folder / f".deconvviz-{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}.lock"


class _Unreadable(Exception):
    """There is a lock that says nothing, for example because it is being written."""


def _take(path: Path, writer: Writer, place: Path) -> None:
    _ours.add(writer.id)  # first: another thread may read the lock as soon as it is there
    try:
        until = time.monotonic() + _WAIT
        while not _created(path, writer):
            try:
                other = _read(path)
            except _Unreadable:
                if time.monotonic() > until:
                    raise OutputError(
                        f"{printable_path(place)} may be in use: its lock {printable_path(path)} cannot be "
                        "read. Delete that file if nothing writes there now, or choose another place"
                    ) from None
                time.sleep(0.01)
                continue
            if other is None:
                continue  # it was released in the meantime
            if not other.is_dead or time.monotonic() > until:
                raise _refusal(place, path, other)
            if not _removed(path, other):
                time.sleep(0.01)
    except BaseException:
        _ours.discard(writer.id)
        raise
    _remove_leftovers(path.parent)


def _release(path: Path, writer: Writer) -> None:
    if os.getpid() != writer.pid:
        return  # a process that was forked in the block
    with suppress(OSError, _Unreadable):
        if _read(path) == writer:
            path.unlink()
    _ours.discard(writer.id)


def _created(path: Path, writer: Writer) -> bool:
    """Create the lock, whole and at once; False if there is one."""
    text = json.dumps(asdict(writer))
    new = path.with_name(f".deconvviz-{writer.id}.lock-new")
    path.parent.mkdir(parents=True, exist_ok=True)  # whoever made it may have taken it away again
    try:
        _write_new(new, text)
        try:
            os.link(new, path)
        except FileNotFoundError:
            return False  # taken for a leftover by the one who has the lock now
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _write_new(path, text)  # no hard links here: readers wait until it is whole
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
    """Return who has the lock; None if nobody has."""
    try:
        stored: Any = json.loads(path.read_bytes())
        return Writer(**stored)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise _Unreadable from error


def _removed(path: Path, dead: Writer) -> bool:
    """Take away the lock of a dead writer; False if another process is doing so.

    Whoever has the claim may remove the lock if it is still that of the dead writer. Nobody else does.
    """
    claim = path.with_name(f".deconvviz-{dead.id}.lock-claim")
    try:
        _write_new(claim, "")
    except FileExistsError:
        with suppress(OSError):
            if time.time() - claim.stat().st_mtime > _CLAIM_LASTS:
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
    """Remove what processes left that were killed in these few lines; a process that lives tries again."""
    for path in folder.glob(".deconvviz-*.lock-new"):
        with suppress(OSError):
            path.unlink()
    for path in folder.glob(".deconvviz-*.lock-claim"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _CLAIM_LASTS:
                path.unlink()


def _refusal(place: Path, path: Path, writer: Writer) -> OutputError:
    message = f"{printable_path(place)} is being written by {writer}. "
    message += "Wait until it is done, or choose another place"
    if writer.host != socket.gethostname():
        message += f"; if that process is not running any more, delete {printable_path(path)}"
    return OutputError(message)


def _start_of(pid: int) -> float | None:
    """Return when a process began, in seconds since 1970; None if there is no such process."""
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
