"""The explorer as a notebook widget. It needs anywidget (``pip install 'deconvviz[notebook]'``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deconvviz.dataset_search.result import Search
from deconvviz.engine.units import Unit
from deconvviz.errors import ImageError, MissingExtra, NetworkError, UnitError
from deconvviz.network import Network
from deconvviz.printable_names import printable_path
from deconvviz.projection import Projection
from deconvviz.recording import Recording
from deconvviz.web.explorer import SCRIPTS
from deconvviz.web.explorer.atlas_pages import open_atlas
from deconvviz.web.explorer.messages import Message
from deconvviz.web.explorer.opening import add_pictures
from deconvviz.web.explorer.pictures import Picture, Shelf
from deconvviz.web.explorer.session import Session
from deconvviz.web.explorer.worker import Worker
from deconvviz.web.page import asset, joined

try:
    import anywidget
    import traitlets
except ImportError as reason:
    raise MissingExtra("the explorer in a notebook", "notebook") from reason


def explorer(
    what: Network | Recording | Search,
    images: Any = None,
    *,
    layer: str | None = None,
    other: Network | None = None,
    network: Network | None = None,
    atlas: Any = None,
) -> Explorer:
    """Return the widget for a network and images, a recording, or a search. See `Network.explore`."""
    shelf, search = Shelf(), None
    pages = None if atlas is None else open_atlas(atlas)
    if isinstance(what, Search):
        search, net = what, network or what.open_network()
        shelf.add_source(what.source)
    elif isinstance(what, Recording):
        if network is None:
            raise NetworkError(
                "the network of this recording no longer exists. Pass it again with {option}",
                option="network=NETWORK",
            )
        if not what.input_images:
            raise ImageError("a recording of a prepared tensor has no picture to show. Record an image")
        net = network
        for number, image in enumerate(what.input_images):
            name = image.path.name if image.path else image.name or f"image {number}"
            shelf.add(Picture(name, lambda image=image: image, image.path))  # type: ignore[misc]
    else:
        net = what
        add_pictures(shelf, images)
    networks = [net] if other is None else [net, other]
    first = "" if layer is None else net.layers.find(layer).name
    return Explorer(Session(networks, shelf, search=search, atlas=pages), first)


class Explorer(anywidget.AnyWidget):
    """Interactive view of pictures in a network.

    `layer`, `units` and `picture` are the current choice. Setting them moves the view.

    Attributes:
        layer: Name of the layer.
        units: The units that are shown, as [channel, row, column]; row and column are None for a unit without
            position.
        picture: Number of the picture.
    """

    _esm = joined(SCRIPTS)
    stylesheet = traitlets.Unicode(asset("base.css") + asset("explorer.css")).tag(sync=True)
    atlas_folder = traitlets.Unicode("").tag(sync=True)  # a notebook cannot link files of this machine
    layer = traitlets.Unicode("").tag(sync=True)
    units: Any = traitlets.List().tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)

    def __init__(self, session: Session, layer: str = "") -> None:
        folder = "" if session.atlas is None else printable_path(session.atlas.folder)
        super().__init__(layer=layer, atlas_folder=folder)
        self._session, self._worker = session, Worker(session)
        self.on_msg(self._receive)

    @property
    def projection(self) -> Projection:
        """Projection of the units that are shown.

        Raises:
            UnitError: No unit is shown yet.
        """
        if not self.units:
            raise UnitError("no unit is shown yet: click on the picture, or set `units`")
        units = [Unit(0, channel, y, x) for channel, y, x in self.units]
        return self._worker.run(lambda: self._session.project(self.picture, self.layer, units))

    @property
    def pictures(self) -> list[str]:
        """Names of the pictures that can be chosen; `picture` is the number of one of them."""
        return self._session.shelf.names

    def close(self) -> None:
        """Remove the widget and end its thread."""
        self._worker.close()
        super().close()

    def _receive(self, widget: object, body: Any, buffers: Sequence[Any]) -> None:
        self._worker.submit(self, body, tuple(bytes(buffer) for buffer in buffers), self._answer)

    def _answer(self, message: Message) -> None:
        self.send(message.body, message.buffers)
