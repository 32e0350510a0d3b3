"""Run of ``deconvviz explore``: networks, pictures, server, browser."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deconvviz.dataset_search.result import open_search
from deconvviz.loading import ModelRequest, pick_device
from deconvviz.web.explorer.atlas_pages import open_atlas
from deconvviz.web.explorer.opening import add_pictures
from deconvviz.web.explorer.pictures import Shelf
from deconvviz.web.explorer.server import Server
from deconvviz.web.explorer.session import Session
from deconvviz.web.explorer.worker import Worker


@dataclass(frozen=True)
class Networks:
    """The networks to load: the first one, and an optional second one."""

    first: ModelRequest
    second: ModelRequest | None
    device: str
    allow_code: bool


def open_session(
    images: Sequence[str], folder: Path | None, networks: Networks, site: Path | None
) -> Session:
    """Load the networks and list the pictures. `folder` is that of a search, and `site` that of an atlas."""
    shelf, search = Shelf(), None
    atlas = None if site is None else open_atlas(site)
    if folder is None:
        first = networks.first.load()
        add_pictures(shelf, list(images) or None)
    else:
        search = open_search(folder, device=str(pick_device(networks.device)), allow_code=networks.allow_code)
        first = search.open_network()
        add_pictures(shelf, list(images))
        shelf.add_source(search.source)
    second = [] if networks.second is None else [networks.second.load()]
    return Session([first, *second], shelf, search=search, atlas=atlas)


def serve(
    session: Session,
    host: str,
    port: int,
    layer: str | None,
    *,
    browser: bool,
    announce: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C."""
    if layer is not None:
        session.begin_with(layer)
    worker = Worker(session)
    try:
        server = Server(worker, host, port, atlas=session.atlas)

        def start() -> None:
            others = f"\non other machines: {server.address_of_others}" if server.address_of_others else ""
            announce(f"the explorer is at {server.address}{others}\nCtrl-C ends it")
            if browser:
                threading.Timer(0.5, webbrowser.open, [server.address]).start()

        with suppress(KeyboardInterrupt):  # the usual end, and not an interruption
            server.run(start)
    finally:
        worker.close()
