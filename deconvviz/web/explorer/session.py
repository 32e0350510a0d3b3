"""Answers to the requests of the front end. It knows nothing of browsers or notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from deconvviz.dataset_search.result import Search
from deconvviz.engine.units import Unit
from deconvviz.errors import RequestError, SearchError, UnitError
from deconvviz.figures.spec.top_nine import TopNineFigure
from deconvviz.layers import Layer
from deconvviz.likeness import ALIKE
from deconvviz.methods.compare import compare_units
from deconvviz.methods.method import DEFAULT_METHODS, METHODS, Subject, method
from deconvviz.network import Network
from deconvviz.printable_names import printable
from deconvviz.projection import Box, Projection, as_numpy
from deconvviz.recording import Recording
from deconvviz.trust_measures.drawn_likeness import likeness_of
from deconvviz.web.explorer import looks
from deconvviz.web.explorer.atlas_pages import AtlasPages, networks_of
from deconvviz.web.explorer.collected import Collected, python_code, report_of, saved, shell_command
from deconvviz.web.explorer.descriptions import (
    described_atlas,
    described_network,
    described_search,
    scores_of,
)
from deconvviz.web.explorer.messages import Message, Quantised
from deconvviz.web.explorer.pictures import Shelf
from deconvviz.web.explorer.recordings import BUDGET, Recordings, shown_layers
from deconvviz.web.explorer.requests import Request
from deconvviz.web.images import fitted, lossless

MOST_CARDS = 32
THUMBNAIL = 96

Answer: TypeAlias = Iterator[Message]
Check: TypeAlias = Callable[[], None]
"""Raises `Cancelled` if a newer request has replaced this one."""


class Cancelled(Exception):
    """A newer request has replaced this one."""


class Session:
    """Networks, pictures and an optional search, and the answers to requests about them.

    Only one thread may call `answer` at a time.

    Args:
        networks: One network, or several to be compared.
        shelf: The pictures.
        search: A search of the first network, for the strongest pictures of a channel.
        atlas: An atlas of one of the networks, whose pages are linked.
        budget: Bytes of activations that are kept for later requests.

    Raises:
        NetworkError: The atlas is of another network.
        UnitError: No layer of a network can be projected.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        shelf: Shelf,
        *,
        search: Search | None = None,
        atlas: AtlasPages | None = None,
        budget: int = BUDGET,
    ) -> None:
        self.networks = list(networks)
        self.shelf = shelf
        self._search = search
        for net in self.networks:
            net.preprocessing.check_reads_images(net.name)
            if not shown_layers(net):
                raise UnitError(f"no layer of {net.name} can be projected (see: net.coverage())")
        self.atlas, self._of_atlas = atlas, networks_of(atlas, self.networks)
        self._recordings = Recordings(self.networks, shelf, budget)
        self._first_layer = "" if search is None else next(iter(search.layers), "")
        self._answers: dict[str, Callable[[Request, Check], Answer]] = {
            "state": self._state,
            "show": self._show,
            "look": self._look,
            "same": self._look,
            "aside": self._show,
            "heat": self._heat,
            "compare": self._compare,
            "topnine": self._topnine,
            "code": self._code,
            "save": self._save,
            "report": self._report,
            "scene": self._scene,
            "upload": self._upload,
        }

    def begin_with(self, layer: str) -> None:
        """Set the layer that is shown first. Raises LayerError."""
        self._first_layer = self.networks[0].layers.find(layer).name

    def answer(self, request: Request, check: Check = lambda: None) -> Answer:
        """Yield the messages that answer a request.

        Raises:
            DeconvvizError: The request cannot be answered; the text says why.
            Cancelled: `check` raised it.
        """
        if request.kind not in self._answers:
            raise RequestError(f"unknown request {request.kind[:40]!r}")
        return self._answers[request.kind](request, check)

    @property
    def bytes_kept(self) -> int:
        """Bytes of the activations in memory."""
        return self._recordings.bytes

    def project(self, picture: int, layer: str, units: Sequence[Unit], network: int = 0) -> Projection:
        """Return the projection of units of a picture."""
        found = self.networks[network].layers.find(layer)
        self.shelf[picture]
        return self._recordings.get(network, picture, found).project(found, units)

    # --- what there is

    def _state(self, request: Request, check: Check) -> Answer:
        yield Message(
            {
                "kind": "state",
                "networks": [described_network(net) for net in self.networks],
                "pictures": self.shelf.names,
                "layer": self._first_layer,
                "methods": [{"name": name, "default": name in DEFAULT_METHODS} for name in METHODS],
                "search": None if self._search is None else described_search(self._search),
                "alike": ALIKE,
                "atlas": None if self.atlas is None else described_atlas(self.atlas, self._of_atlas),
            }
        )

    def _show(self, request: Request, check: Check) -> Answer:
        network, picture, layer = self._asked(request)
        if not self._recordings.is_kept(network, picture, layer):
            yield Message({"kind": "progress", "text": f"recording {self.shelf.names[picture]}"})
        recording = self._recordings.get(network, picture, layer)
        image = self.networks[network].preprocessing.view(recording.inputs[0])
        encoded = lossless(image)
        yield Message(
            {
                "kind": "picture",
                "name": self.shelf.names[picture],
                "type": f"image/{encoded.kind}",
                "width": encoded.width,
                "height": encoded.height,
                "scores": scores_of(recording.top_class()),
            },
            [encoded.data],
        )

    # --- looking

    def _look(self, request: Request, check: Check) -> Answer:
        network, picture, layer = self._asked(request)
        recording = self._recordings.get(network, picture, layer)
        units = self._units(request, recording, layer)
        yield looks.cards(recording, layer, units)
        for message in looks.projections(recording, layer, units):
            check()
            yield message

    def _units(self, request: Request, recording: Recording, layer: Layer) -> list[Unit]:
        count = request.whole("count", low=1, high=MOST_CARDS)
        if "units" in request.values:
            return looks.units_with_activations(recording, layer, request.units(most=MOST_CARDS))
        if "channels" in request.values:
            return looks.strongest_of_channels(recording, layer, request.wholes("channels", most=MOST_CARDS))
        y, x, channel = (request.whole_or_none(name) for name in ("y", "x", "channel"))
        if y is not None and x is not None:
            return looks.strongest_at(recording, layer, y, x, count)
        return looks.strongest_of(recording, layer, count, channel)

    def _heat(self, request: Request, check: Check) -> Answer:
        network, picture, layer = self._asked(request)
        channel = request.whole("channel")
        values = self._recordings.get(network, picture, layer).activations(layer)[0]
        if channel >= len(values):
            raise UnitError(f"no channel {channel} in {layer.name}: there are 0 to {len(values) - 1}")
        if values.dim() != 3:
            raise UnitError(f"the units of {layer.name} have no position, so there is no map")
        found = as_numpy(values[channel])
        quantised = Quantised.of(found)
        body = {
            "kind": "heat",
            "channel": channel,
            "highest": float(found.max()),
            "lowest": float(found.min()),
        }
        yield Message({**body, **quantised.to_json()}, [quantised.data])

    def _compare(self, request: Request, check: Check) -> Answer:
        network, picture, layer = self._asked(request)
        names = [name for name in request.texts("methods") if name]
        net, methods = self.networks[network], [method(name) for name in names]
        yield Message({"kind": "progress", "text": f"recording for {', '.join(names)}"})
        subject = Subject.record(net, self.shelf[picture].open(), layer, names)

        def report(name: str, done: int, total: int) -> None:
            check()

        (unit,) = request.units(most=1)
        for one in methods:
            check()
            if reason := one.unsupported(subject):
                yield Message({"kind": "map", "name": one.name, "title": one.title, "reason": reason})
                continue
            yield Message({"kind": "progress", "text": one.title})
            found = compare_units(subject, [unit], [one], report=report)
            x0, y0, x1, y1 = _area(request, found.projection)
            pixels = as_numpy(found.maps[one.name][0, :, y0:y1, x0:x1]).transpose(1, 2, 0)
            if found.methods[0].summed or pixels.shape[-1] == 1:
                pixels = pixels.sum(-1, keepdims=True).repeat(3, axis=-1)
            quantised = Quantised.of(pixels)
            body = {"kind": "map", "name": one.name, "title": one.title, "meaning": one.meaning}
            yield Message({**body, "box": [x0, y0, x1, y1], **quantised.to_json()}, [quantised.data])

    def _topnine(self, request: Request, check: Check) -> Answer:
        if self._search is None:
            raise SearchError("no search was opened, so the strongest pictures of a channel are not known")
        channel, layer = request.whole("channel"), request.text("layer")
        yield Message({"kind": "progress", "text": f"projecting the strongest pictures of channel {channel}"})
        found = self._search.topnine(
            layer, [channel], k=min(9, self._search.kept), network=self.networks[0],
            report=lambda done, total: check(),
        )  # fmt: skip
        spec = found.spec()
        assert isinstance(spec, TopNineFigure)  # the explorer opens networks that read images
        (blocks,) = spec.panels
        peaks = next(iter(found.shown[blocks.title[0]].values()))
        for number, (crop, peak) in enumerate(zip(blocks.blocks[0].crops, peaks, strict=True)):
            patch, pixels = lossless(fitted(crop.patch, THUMBNAIL)), Quantised.of(crop.projection)
            yield Message(
                {
                    "kind": "peak",
                    "number": number,
                    "image": printable(peak.peak.image_id),
                    "activation": peak.peak.activation,
                    "type": f"image/{patch.kind}",
                    **pixels.to_json(),
                },
                [pixels.data, patch.data],
            )

    # --- taking along

    def _code(self, request: Request, check: Check) -> Answer:
        network, picture, layer = self._asked(request)
        net, shown, units = self.networks[network], self.shelf[picture], request.units()
        yield Message(
            {
                "kind": "code",
                "python": python_code(net, shown, layer, units),
                "shell": shell_command(net, shown, layer, units),
            }
        )

    def _save(self, request: Request, check: Check) -> Answer:
        name, kind, data = saved(self._collect(request), request.text("format"))
        yield Message({"kind": "file", "name": name, "type": kind}, [data])

    def _report(self, request: Request, check: Check) -> Answer:
        yield Message({"kind": "progress", "text": "writing the report"})
        parts = request.parts("items", most=100)
        found = []
        for part in parts:
            check()
            found.append(self._collect(part))
        data = report_of(found, request.text("title", longest=200) or "What the explorer showed")
        yield Message({"kind": "file", "name": "report.html", "type": "text/html"}, [data])

    def _collect(self, request: Request) -> Collected:
        network, picture, layer = self._asked(request)
        recording = self._recordings.get(network, picture, layer)
        projection = recording.project(layer, request.units())
        projection = replace(projection, likeness=likeness_of(recording, projection, budget=2))
        return Collected(self.networks[network], self.shelf[picture], projection)

    # --- pictures

    def _scene(self, request: Request, check: Check) -> Answer:
        yield self._added(self.shelf.add_scene(request.whole("seed", high=2**63 - 1)))

    def _upload(self, request: Request, check: Check) -> Answer:
        if len(request.buffers) != 1:
            raise RequestError("an upload is one file")
        yield self._added(self.shelf.add_upload(request.buffers[0], request.text("name", longest=2000)))

    def _added(self, number: int) -> Message:
        return Message({"kind": "pictures", "pictures": self.shelf.names, "chosen": number})

    def _asked(self, request: Request) -> tuple[int, int, Layer]:
        """Return the numbers of the network and the picture, and the layer."""
        network = request.whole("network")
        if network >= len(self.networks):
            raise RequestError(f"no network {network}: there are {len(self.networks)}")
        picture = request.whole("picture")
        self.shelf[picture]
        return network, picture, self.networks[network].layers.find(request.text("layer"))


def _area(request: Request, projection: Projection) -> Box:
    """Return the box that the front end shows of a unit, cut at the border of the image."""
    if "area" not in request.values:
        return projection.effective_boxes()[0]
    x0, y0, x1, y1 = (request.wholes("area", most=4) + [0] * 4)[:4]
    rows, columns = projection.inputs.shape[-2:]
    if not (x0 < x1 <= columns and y0 < y1 <= rows):
        raise RequestError("`area` must be a box inside the picture")
    return x0, y0, x1, y1
