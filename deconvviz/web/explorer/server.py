"""Local web server for the explorer: one page, one WebSocket and the files of an atlas, protected by tokens.

Every request must have the token, the right Host and, for the WebSocket, the right Origin. So another page in
the same browser can neither ask nor read anything. A request never names a path of this machine: a file of an
atlas is looked up in its list of files. Pages of an atlas have another token, as a part of their address: so
their links work, and their scripts cannot use the explorer.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from deconvviz.errors import RequestError
from deconvviz.web.explorer import SCRIPTS
from deconvviz.web.explorer.atlas_pages import AtlasPages
from deconvviz.web.explorer.listening import HOST, PORT, Place, listen
from deconvviz.web.explorer.messages import Message
from deconvviz.web.explorer.pictures import UPLOAD_BYTES
from deconvviz.web.explorer.worker import Worker
from deconvviz.web.page import render

CONNECTIONS = 64  # of all kinds; more get status 503
SOCKETS = 16
UNSENT_BYTES = 64 * 2**20  # a client that does not read is disconnected
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ATLAS_POLICY = (
    "default-src 'none'; img-src {home} data:; style-src {home} 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Limits of all pages of an atlas, whose files are at `home`; each page has a stricter policy of its own."""


@dataclass(frozen=True)
class Tokens:
    """Secrets of one server."""

    explorer: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    atlas: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def atlas_address(self) -> str:
        """Path under which the atlas is served."""
        return f"/atlas/{self.atlas}/"


class Door:
    """Middleware that refuses requests with a wrong Host or Origin, or without the token."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens, place: Place) -> None:
        self._app, self._tokens, self._place = app, tokens, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if not reason:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await PlainTextResponse(reason, 403, HEADERS)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str:
        """Return why a request is refused, or an empty string."""
        headers = Headers(scope=scope)
        if not self._place.accepts(headers.get("host", "")):
            return "wrong Host"
        origin = headers.get("origin")
        if origin is None and scope["type"] == "websocket":
            return "no Origin"
        if origin is not None and origin.lower() != f"http://{headers['host']}".lower():
            return "wrong Origin"
        if not self._has_token(scope):
            return "the token is missing or wrong. Use the address that deconvviz explore printed"
        return ""

    def _has_token(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["path"].startswith("/atlas/"):
            return _are_equal(scope["path"].split("/")[2], self._tokens.atlas)
        query = scope["query_string"].decode("latin-1")
        given = dict(part.partition("=")[::2] for part in query.split("&")).get("token", "")
        return _are_equal(given, self._tokens.explorer)


def _are_equal(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode("ascii"))


def application(worker: Worker, tokens: Tokens, place: Place, atlas: AtlasPages | None = None) -> ASGIApp:
    """Return the ASGI application of a server at `place`."""
    open_sockets: set[WebSocket] = set()

    async def page(request: HttpRequest) -> Response:
        text = render(
            "explorer.html",
            styles=["base.css", "explorer.css"],
            scripts=[f"{SCRIPTS}+explorer_page.js"],
            images="data: blob:",
            connect="'self'",
            atlas=tokens.atlas_address if atlas else "",
        )
        return HTMLResponse(text, headers=HEADERS)

    def atlas_file(
        request: HttpRequest,
    ) -> Response:  # not async: it runs in a thread, because it reads a file
        found = None if atlas is None else atlas.read(request.path_params["name"])
        if found is None:
            return PlainTextResponse("the atlas has no such file", 404, HEADERS)
        kind, data = found
        home = f"http://{request.headers['host']}{tokens.atlas_address}"  # the host was checked
        headers = {**HEADERS, "Content-Security-Policy": ATLAS_POLICY.format(home=home)}
        return Response(data, 200, headers, kind)

    async def converse(connection: WebSocket) -> None:
        if len(open_sockets) >= SOCKETS:
            await connection.close(1013, "too many windows are open")
            return
        await connection.accept()
        open_sockets.add(connection)
        try:
            await _Conversation(worker, connection).run()
        finally:
            open_sockets.discard(connection)
            worker.forget(connection)

    routes = [
        Route("/", page),
        Route("/atlas/{token}/{name:path}", atlas_file),
        WebSocketRoute("/socket", converse),
    ]
    return Door(Starlette(routes=routes), tokens=tokens, place=place)


class _Conversation:
    """One WebSocket: requests go to the worker, and its messages come back."""

    def __init__(self, worker: Worker, connection: WebSocket) -> None:
        self._worker, self._connection = worker, connection
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._unsent = 0

    async def run(self) -> None:
        sending = asyncio.create_task(self._send_all())
        try:
            with suppress(WebSocketDisconnect):
                while True:
                    self._receive(await self._connection.receive())
        except RequestError as error:
            self._queue(packed(Message({"kind": "error", "id": -1, "text": str(error)})))
            self._queue(None)
            await sending
        finally:
            sending.cancel()

    def _receive(self, event: Any) -> None:
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1000))
        body, buffers = unpacked(event.get("bytes") or (event.get("text") or "").encode("utf-8"))
        self._worker.submit(self._connection, body, buffers, self._from_worker)

    def _from_worker(self, message: Message) -> None:
        """Receive a message in the worker's thread."""
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._queue, packed(message))

    def _queue(self, frame: bytes | None) -> None:
        self._unsent += len(frame or b"")
        self._waiting.put_nowait(None if self._unsent > UNSENT_BYTES else frame)

    async def _send_all(self) -> None:
        while (frame := await self._waiting.get()) is not None:
            await self._connection.send_bytes(frame)
            self._unsent -= len(frame)
        if self._connection.application_state is WebSocketState.CONNECTED:
            await self._connection.close(1008)


def packed(message: Message) -> bytes:
    """Return a message as one frame: length of the JSON text as uint32, the text, the buffers.

    The text has the lengths of the buffers as ``sizes``.
    """
    body = {**message.body, "sizes": [len(buffer) for buffer in message.buffers]}
    text = json.dumps(body, allow_nan=False).encode("utf-8")
    return b"".join([struct.pack("<I", len(text)), text, *message.buffers])


def unpacked(frame: bytes) -> tuple[object, tuple[bytes, ...]]:
    """Read what `packed` writes. Raises RequestError."""
    try:
        (length,) = struct.unpack_from("<I", frame)
        body = json.loads(frame[4 : 4 + length].decode("utf-8"))
        sizes = body["sizes"]
        if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError
        if 4 + length + sum(sizes) != len(frame):
            raise ValueError
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError("a frame is the length of a JSON object, the object, and its buffers") from error
    buffers, start = [], 4 + length
    for size in sizes:
        buffers.append(frame[start : start + size])
        start += size
    return body, tuple(buffers)


class Server:
    """Server of the explorer, listening once it is created.

    `address` is for browsers on this machine. `address_of_others` is for other machines; it is empty if it is
    the same, or if they cannot connect.

    Args:
        worker: The worker that answers.
        host: Address to listen on.
        port: Port; 0 chooses a free one.
        atlas: An atlas, whose files are served.

    Raises:
        OutputError: The port is in use, or the address is not one of this machine.
    """

    def __init__(
        self, worker: Worker, host: str = HOST, port: int = PORT, *, atlas: AtlasPages | None = None
    ) -> None:
        self._socket = listen(host, port)
        self.port = int(self._socket.getsockname()[1])
        place = Place(host, self.port)
        self.tokens = Tokens()
        self.token = self.tokens.explorer
        self.address = f"{place.url}?token={self.token}"
        others = place.url_of_others
        self.address_of_others = f"{others}?token={self.token}" if others else ""
        config = uvicorn.Config(
            application(worker, self.tokens, place, atlas),
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            ws_max_size=UPLOAD_BYTES + 2**16,
            ws_max_queue=8,
            ws_per_message_deflate=False,  # compressing takes longer than sending to this machine
            timeout_graceful_shutdown=1,
            timeout_keep_alive=10,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)

    def run(self, on_start: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop` is called or the process is interrupted."""
        self._server.config.load()
        on_start()
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True
