"""The local server: what it refuses, and that it lives on. Requests are made without a browser."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest

import deconvviz as dv
from deconvviz.errors import OutputError, RequestError
from deconvviz.web.explorer.listening import Place
from deconvviz.web.explorer.messages import Message
from deconvviz.web.explorer.pictures import Shelf
from deconvviz.web.explorer.session import Session
from deconvviz.web.explorer.worker import Worker

pytest.importorskip("uvicorn")
client = pytest.importorskip("websockets.sync.client")
exceptions = pytest.importorskip("websockets.exceptions")

from deconvviz.web.explorer.server import SOCKETS, Server, packed, unpacked  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    shelf = Shelf()
    shelf.add_scene(3)
    worker = Worker(Session([dv.load("minivgg")], shelf))
    found = Server(worker, port=0)
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found
    found.stop()
    thread.join(timeout=20)
    assert not thread.is_alive()
    worker.close()


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def connected(
    server: Server, *, token: str | None = None, origin: str | None = "own", **settings: Any
) -> Any:
    own = f"http://127.0.0.1:{server.port}"
    return client.connect(
        f"ws://127.0.0.1:{server.port}/socket?token={server.token if token is None else token}",
        origin=own if origin == "own" else origin,
        max_size=None,
        proxy=None,
        **settings,
    )


def asked(connection: Any, *buffers: bytes, **body: Any) -> dict[str, Any]:
    """Send a request and return the body of the last message of its answer."""
    connection.send(packed(Message({"id": 1, **body}, list(buffers))))
    while True:
        answer, _ = unpacked(connection.recv(timeout=60))
        assert isinstance(answer, dict)
        if answer["kind"] in ("end", "error", "busy", "cancelled"):
            return answer


def is_alive(server: Server) -> bool:
    with connected(server) as connection:
        return bool(asked(connection, kind="state")["kind"] == "end")


def test_page_has_a_policy_and_headers_and_loads_nothing_from_outside(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", f"/?token={server.token}")
        answer = connection.getresponse()
        text = answer.read().decode()
    assert answer.status == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY" and answer.headers["Cache-Control"] == "no-store"
    assert "default-src &#39;none&#39;" in text and "https://" not in text
    assert server.token not in text


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=wrong", "/?Token={token}", "/?x={token}"])
def test_page_needs_the_token(server: Server, path: str) -> None:
    status, text = get(server, path.format(token=server.token))
    assert status == 403 and "token" in text


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_page_needs_the_right_host(server: Server, host: str) -> None:
    status, text = get(server, f"/?token={server.token}", Host=host.format(port=server.port))
    assert status in (400, 403)
    assert "explorer" not in text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", None])
def test_socket_needs_the_right_origin(server: Server, origin: str | None) -> None:
    given = None if origin is None else origin.format(port=server.port)
    with pytest.raises(exceptions.InvalidStatus), connected(server, origin=given):
        pass


def test_socket_needs_the_token(server: Server) -> None:
    for token in ("", "wrong", server.token[:-1]):
        with pytest.raises(exceptions.InvalidStatus), connected(server, token=token):
            pass


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/explorer.js", "/etc/passwd", "//etc/passwd"],
)
def test_no_path_leads_to_a_file(server: Server, path: str) -> None:
    status, text = get(server, f"{path}?token={server.token}")
    assert status == 404 and "root:" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    status, _ = get(server, f"/?token={server.token}", method)
    assert status == 405


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff",
        struct.pack("<I", 2**31) + b"{}",
        struct.pack("<I", 2) + b"{}",
        struct.pack("<I", 12) + b'{"sizes":[9]',
        struct.pack("<I", 14) + b'{"sizes":[-1]}',
        struct.pack("<I", 13) + b'{"sizes":[8]}' + b"1234567",
        struct.pack("<I", 4) + b"\xff\xff\xff\xff",
        struct.pack("<I", 200_000) + b"[" * 200_000,
    ],
    ids=range(9),
)
def test_malformed_frames_end_their_own_connection_only(server: Server, frame: bytes) -> None:
    with pytest.raises(RequestError):
        unpacked(frame)
    with connected(server) as connection:
        connection.send(frame)
        body, _ = unpacked(connection.recv(timeout=20))
        assert isinstance(body, dict) and body["kind"] == "error"
        with pytest.raises(exceptions.ConnectionClosed):
            connection.recv(timeout=20)
    assert is_alive(server)


def test_frames_are_read_back_unchanged() -> None:
    body, buffers = unpacked(packed(Message({"kind": "x", "text": "\u202e"}, [b"", b"abc"])))
    assert body == {"kind": "x", "text": "\u202e", "sizes": [0, 3]} and buffers == (b"", b"abc")


def test_errors_leave_the_connection_open(server: Server) -> None:
    with connected(server) as connection:
        assert asked(connection, kind="show", network=0, picture=7, layer="conv1_1")["text"] == (
            "no picture 7: there are 1"
        )
        assert asked(connection, kind="state")["kind"] == "end"


def test_gigabyte_is_refused_and_the_server_lives(server: Server) -> None:
    """Only the head of the frame and some megabytes are sent."""
    with connected(server) as connection:
        head = bytes([0x82, 0x80 | 127]) + struct.pack(">Q", 2**30) + b"\0\0\0\0"
        raw = connection.socket
        with pytest.raises((OSError, exceptions.ConnectionClosed)):
            raw.sendall(head)
            for _ in range(64):
                raw.sendall(b"\0" * 2**20)
            connection.recv(timeout=20)
    assert is_alive(server)


def test_slow_sender_does_not_keep_others_waiting(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /?token=")
        begun = time.monotonic()
        assert is_alive(server)
        assert time.monotonic() - begun < 10


def test_many_requests_at_once_are_answered_or_busy(server: Server) -> None:
    def one(_: int) -> int:
        try:
            return get(server, f"/?token={server.token}")[0]
        except OSError:  # refused before it was read
            return 503

    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(one, range(200)))
    assert set(found) <= {200, 503} and 200 in found
    assert is_alive(server)


def test_many_requests_of_one_connection_are_answered_or_busy(server: Server) -> None:
    with connected(server) as connection:
        for number in range(200):
            frame = Message({"id": number, "kind": "scene", "seed": number % 5})
            connection.send(packed(frame))
        ended: dict[int, str] = {}
        while len(ended) < 200:
            body, _ = unpacked(connection.recv(timeout=60))
            assert isinstance(body, dict)
            if body["kind"] in ("end", "busy"):
                ended[body["id"]] = body["kind"]
    assert set(ended.values()) <= {"end", "busy"} and "end" in ended.values()
    assert is_alive(server)


def test_windows_are_limited(server: Server) -> None:
    with ExitStack() as windows:
        for _ in range(SOCKETS):
            connection = windows.enter_context(connected(server))
            assert asked(connection, kind="state")["kind"] == "end"
        with pytest.raises(exceptions.WebSocketException), connected(server) as one_more:
            one_more.recv(timeout=20)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            assert is_alive(server)
            return
        except exceptions.WebSocketException:
            time.sleep(0.1)
    pytest.fail("closed windows still count")


def test_port_in_use_is_an_error(server: Server) -> None:
    with pytest.raises(
        OutputError, match=f"cannot listen on 127.0.0.1:{server.port}: address already in use"
    ):
        Server(None, port=server.port)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_address_of_another_machine_is_an_error_that_names_the_option(host: str) -> None:
    with pytest.raises(OutputError, match=f"cannot listen on {host}:0: .*Choose an address of this machine"):
        Server(None, host, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "accepted", "refused"),
    [
        (
            "127.0.0.1",
            ["127.0.0.1:80", "localhost:80", "LocalHost:80"],
            ["192.0.2.1:80", "{name}:80", "[::1]:80"],
        ),
        ("0.0.0.0", ["127.0.0.1:80", "192.0.2.1:80", "{name}:80", "localhost:80", "[2001:db8::1]:80"], []),
        ("192.0.2.1", ["192.0.2.1:80", "{name}:80"], ["192.0.2.2:80", "127.0.0.1:80"]),
        ("::1", ["[::1]:80", "localhost:80"], ["::1:81", "[::2]:80"]),
    ],
)
def test_only_names_of_the_server_are_accepted_as_host(
    host: str, accepted: list[str], refused: list[str]
) -> None:
    place, name = Place(host, 80), socket.gethostname()
    assert all(place.accepts(one.format(name=name)) for one in accepted)
    wrong = [
        "evil.example:80",
        "127.0.0.1.evil.example:80",
        "127.0.0.1",
        "127.0.0.1:81",
        "",
        ":80",
        "0x7f.1.evil:80",
    ]
    assert not any(place.accepts(one.format(name=name)) for one in [*refused, *wrong])


def test_server_on_all_addresses_is_reached_by_number_and_by_name() -> None:
    made = Server(None, "0.0.0.0", 0)  # type: ignore[arg-type]  # pages need no worker
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        assert made.address.startswith(f"http://127.0.0.1:{made.port}/?token=")
        assert made.address_of_others.startswith(f"http://{socket.gethostname()}:{made.port}/?token=")
        assert get(made, f"/?token={made.token}")[0] == 200
        assert get(made, f"/?token={made.token}", Host=f"192.0.2.7:{made.port}")[0] == 200
        assert get(made, f"/?token={made.token}", Host=f"evil.example:{made.port}")[0] == 403
        assert get(made, "/")[0] == 403
    finally:
        made.stop()
        thread.join(timeout=20)


def test_json_with_extreme_numbers_is_refused(server: Server) -> None:
    with connected(server) as connection:
        text = json.dumps({"kind": "scene", "seed": 10**40, "id": 1, "sizes": []}).encode()
        connection.send(struct.pack("<I", len(text)) + text)
        body, _ = unpacked(connection.recv(timeout=20))
        assert isinstance(body, dict) and body["kind"] == "error"
