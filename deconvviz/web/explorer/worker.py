"""One thread that answers requests one after another. A newer request replaces older ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch

from deconvviz.errors import DeconvvizError
from deconvviz.printable_names import printable
from deconvviz.web.explorer.messages import Message
from deconvviz.web.explorer.requests import Request
from deconvviz.web.explorer.session import Cancelled, Session

LANES = {
    "show": "show",
    "aside": "aside",
    "look": "look",
    "same": "same",
    "heat": "heat",
    "compare": "card",
    "topnine": "card",
}
"""Lane of each kind of request. Requests of a lane replace older ones. All others are answered in turn."""

REPLACED = {
    "show": {"show", "look", "same", "heat", "card"},
    "aside": {"aside", "same"},
    "look": {"look", "same", "card"},
    "same": {"same"},
    "heat": {"heat"},
    "card": {"card"},
}
"""Lanes whose older requests a new request of a lane replaces: another picture makes all of them useless."""

WAITING = 32
"""Number of requests that may wait; more are refused."""

T = TypeVar("T")
Send: TypeAlias = Callable[[Message], None]
"""Receives the messages, in the worker's thread."""


@dataclass(eq=False)
class _Job:
    request: Request
    number: int
    lane: tuple[object, str] | None  # the client, and the name of the lane
    send: Send
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Call:
    """A function to run between two requests."""

    function: Callable[[], Any]
    result: Future[Any]
    lane: None = None

    def run(self) -> None:
        try:
            self.result.set_result(self.function())
        except Exception as error:  # raised again where the function was submitted
            self.result.set_exception(error)


class Worker:
    """Thread that runs a session. `close` ends it.

    The network runs in this thread alone, with as many threads of PyTorch as the process had.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._jobs: deque[_Job | _Call] = deque()
        self._running: _Job | None = None
        self._change = threading.Condition()
        self._closed = False
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="deconvviz-explorer", daemon=True)
        self._thread.start()

    def submit(self, client: object, body: object, buffers: tuple[bytes, ...], send: Send) -> None:
        """Queue a request. Its answer ends with a message of the kind ``end``, ``error`` or ``busy``.

        Args:
            client: Whoever asks; lanes of different clients are independent.
            body: The request as JSON values, with a number ``id``.
            buffers: Binary parts of the request.
            send: Receives the messages of the answer. Each has the ``id`` of the request.
        """
        number = body.get("id") if isinstance(body, dict) else None
        number = number if isinstance(number, int) else -1
        try:
            request = Request.of(body, buffers)
        except DeconvvizError as error:
            send(_ending("error", number, text=str(error)))
            return
        lane = LANES.get(request.kind)
        job = _Job(request, number, None if lane is None else (client, lane), send)
        with self._change:
            replaced = self._replace(job)
            full = len(self._jobs) >= WAITING or self._closed
            if not full:
                self._jobs.append(job)
                self._change.notify()
        for old in replaced:
            old.send(_ending("cancelled", old.number))
        if full:
            send(_ending("busy", number, text="the explorer is busy. Try again"))

    def run(self, function: Callable[[], T]) -> T:
        """Run a function in the worker's thread, after the requests that wait, and return its result."""
        found: Future[T] = Future()
        with self._change:
            if self._closed:
                raise RuntimeError("the explorer was closed")
            self._jobs.append(_Call(function, found))
            self._change.notify()
        return found.result()

    def forget(self, client: object) -> None:
        """Drop all requests of a client."""
        with self._change:
            kept = [job for job in self._jobs if job.lane is None or job.lane[0] is not client]
            self._jobs = deque(kept)
            if self._running and self._running.lane and self._running.lane[0] is client:
                self._running.cancelled.set()

    def close(self) -> None:
        """End the thread after the request that is running now."""
        with self._change:
            self._closed = True
            self._jobs.clear()
            if self._running:
                self._running.cancelled.set()
            self._change.notify()
        self._thread.join(timeout=30)

    def _replace(self, job: _Job) -> list[_Job]:
        """Cancel the requests that a new one replaces, and return those that had not begun."""
        if job.lane is None:
            return []
        lanes = {(job.lane[0], lane) for lane in REPLACED[job.lane[1]]}
        waiting = [old for old in self._jobs if isinstance(old, _Job) and old.lane in lanes]
        for old in waiting:
            self._jobs.remove(old)
        if self._running and self._running.lane in lanes:
            self._running.cancelled.set()
        return waiting

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while True:
            with self._change:
                self._change.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                job = self._jobs.popleft()
                self._running = job if isinstance(job, _Job) else None
            if isinstance(job, _Call):
                job.run()
            else:
                self._answer(job)
            with self._change:
                self._running = None

    def _answer(self, job: _Job) -> None:
        def check() -> None:
            if job.cancelled.is_set():
                raise Cancelled

        try:
            for message in self._session.answer(job.request, check):
                check()
                job.send(_numbered(message, job.number))
            job.send(_ending("end", job.number))
        except Cancelled:
            job.send(_ending("cancelled", job.number))
        except DeconvvizError as error:
            job.send(_ending("error", job.number, text=printable(str(error))))
        except (MemoryError, torch.OutOfMemoryError):
            job.send(
                _ending(
                    "error", job.number, text="there is not enough memory for this. Use a shallower layer"
                )
            )
        except Exception as error:  # the thread must live on; the text goes to the page
            text = f"unexpected {type(error).__name__}: {printable(str(error))[:500]}"
            job.send(_ending("error", job.number, text=text))


def _numbered(message: Message, number: int) -> Message:
    return Message({**message.body, "id": number}, message.buffers)


def _ending(kind: str, number: int, **values: Any) -> Message:
    return Message({"kind": kind, "id": number, **values})
