"""The worker of the explorer: order, replaced requests, limits, errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deconvviz.errors import UnitError
from deconvviz.web.explorer.messages import Message
from deconvviz.web.explorer.requests import Request
from deconvviz.web.explorer.session import Check
from deconvviz.web.explorer.worker import WAITING, Worker

PATIENCE = 20  # seconds; only a failing test waits that long


class Slow:
    """A session whose answers wait for a permission, and check for newer requests after it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.started = threading.Semaphore(0)
        self.permitted = threading.Semaphore(0)

    def answer(self, request: Request, check: Check) -> Iterator[Message]:
        self.begun.append(str(request.values.get("name")))
        self.started.release()
        if request.kind == "wrong":
            raise UnitError("no \u202eunit")
        if request.kind == "bug":
            raise ZeroDivisionError("by zero")
        assert self.permitted.acquire(timeout=PATIENCE)
        check()
        yield Message({"kind": "part"}, [b"12"])


class Client:
    """Receives messages, and waits for the last one of a request."""

    def __init__(self) -> None:
        self.found: dict[int, list[str]] = {}
        self.texts: dict[int, str] = {}
        self._change = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._change:
            self.found.setdefault(message.body["id"], []).append(message.body["kind"])
            self.texts[message.body["id"]] = message.body.get("text", "")
            self._change.notify_all()

    def last(self, number: int) -> str:
        def ended() -> bool:
            return self.found.get(number, [""])[-1] in ("end", "error", "busy", "cancelled")

        with self._change:
            assert self._change.wait_for(ended, PATIENCE)
        return self.found[number][-1]


@pytest.fixture
def session() -> Slow:
    return Slow()


@pytest.fixture
def worker(session: Slow) -> Iterator[Worker]:
    found = Worker(session)  # type: ignore[arg-type]
    yield found
    for _ in range(100):
        session.permitted.release()
    found.close()


def submit(worker: Worker, client: Client, number: int, kind: str = "save", **values: Any) -> None:
    worker.submit(client, {"kind": kind, "id": number, "name": str(number), **values}, (), client)


def test_requests_are_answered_in_order(worker: Worker, session: Slow) -> None:
    client = Client()
    for number in range(3):
        session.permitted.release()
        submit(worker, client, number)
    assert [client.last(number) for number in range(3)] == ["end"] * 3
    assert session.begun == ["0", "1", "2"]
    assert client.found[1] == ["part", "end"]


def test_newer_request_of_a_lane_replaces_the_running_and_the_waiting_one(
    worker: Worker, session: Slow
) -> None:
    client = Client()
    submit(worker, client, 1, "look")
    assert session.started.acquire(timeout=PATIENCE)
    submit(worker, client, 2, "look")
    submit(worker, client, 3, "look")
    assert client.last(2) == "cancelled"
    for _ in range(2):
        session.permitted.release()
    assert client.last(1) == "cancelled" and client.found[1] == ["cancelled"]
    assert client.last(3) == "end"
    assert session.begun == ["1", "3"]


@pytest.mark.parametrize(
    ("newer", "cancelled"),
    [
        ("show", {"show", "look", "same", "heat", "compare", "topnine"}),
        ("look", {"look", "same", "compare", "topnine"}),
        ("aside", {"aside", "same"}),
        ("heat", {"heat"}),
        ("compare", {"compare", "topnine"}),
        ("save", set()),
    ],
)
def test_newer_request_cancels_what_it_makes_useless(
    worker: Worker, session: Slow, newer: str, cancelled: set[str]
) -> None:
    """The first request runs, the second waits, and the third cancels both or none of them."""
    kinds = ["show", "aside", "look", "same", "heat", "compare", "topnine", "save"]
    for kind in kinds:
        client = Client()
        submit(worker, client, 1, kind)
        assert session.started.acquire(timeout=PATIENCE)
        submit(worker, client, 2, newer)
        for _ in range(2):
            session.permitted.release()
        assert client.last(2) == "end"
        assert client.last(1) == ("cancelled" if kind in cancelled else "end"), kind
        if client.last(1) == "end":
            assert client.found[1] == ["part", "end"]
        while session.started.acquire(blocking=False):
            pass


def test_lanes_of_two_clients_are_independent(worker: Worker, session: Slow) -> None:
    one, two = Client(), Client()
    submit(worker, one, 1, "look")
    submit(worker, two, 1, "look")
    for _ in range(2):
        session.permitted.release()
    assert one.last(1) == two.last(1) == "end"


def test_more_requests_than_can_wait_are_busy(worker: Worker, session: Slow) -> None:
    client = Client()
    submit(worker, client, 0)
    assert session.started.acquire(timeout=PATIENCE)
    for number in range(1, WAITING + 2):
        submit(worker, client, number)
    assert client.last(WAITING + 1) == "busy"
    for _ in range(WAITING + 1):
        session.permitted.release()
    assert {client.last(number) for number in range(WAITING + 1)} == {"end"}


@pytest.mark.parametrize(
    ("kind", "text"),
    [("wrong", r"no \xe2\x80\xaeunit"), ("bug", "unexpected ZeroDivisionError: by zero")],
)
def test_errors_are_reported_and_the_thread_lives_on(
    worker: Worker, session: Slow, kind: str, text: str
) -> None:
    client = Client()
    submit(worker, client, 1, kind)
    assert client.last(1) == "error" and client.texts[1] == text
    session.permitted.release()
    submit(worker, client, 2)
    assert client.last(2) == "end"


@pytest.mark.parametrize("body", [None, [], "text", {}, {"kind": 3}, {"id": "x", "kind": None}])
def test_malformed_requests_are_refused_at_once(worker: Worker, session: Slow, body: Any) -> None:
    client = Client()
    worker.submit(client, body, (), client)
    assert client.found[-1] == ["error"] and session.begun == []


def test_requests_of_a_client_that_left_are_dropped(worker: Worker, session: Slow) -> None:
    client = Client()
    submit(worker, client, 1, "look")
    assert session.started.acquire(timeout=PATIENCE)
    submit(worker, client, 2, "heat")
    worker.forget(client)
    session.permitted.release()
    assert client.last(1) == "cancelled"
    session.permitted.release()
    submit(worker, client, 3)
    assert client.last(3) == "end" and session.begun == ["1", "3"]


def test_functions_run_in_the_thread_and_their_errors_come_back(worker: Worker) -> None:
    assert worker.run(lambda: threading.current_thread().name) == "deconvviz-explorer"
    with pytest.raises(UnitError, match="none"):
        worker.run(lambda: (_ for _ in ()).throw(UnitError("none")))


def test_closed_worker_has_no_thread_and_refuses_requests(session: Slow) -> None:
    before = set(threading.enumerate())
    worker, client = Worker(session), Client()  # type: ignore[arg-type]
    (own,) = set(threading.enumerate()) - before
    worker.close()
    assert not own.is_alive()
    submit(worker, client, 1)
    assert client.last(1) == "busy"
