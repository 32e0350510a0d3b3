"""Reports for tests: results of minivgg on scenes, and a reader for the pages."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import deconvviz as dv
from deconvviz.projection import Projection
from deconvviz.scenes import scene
from deconvviz.trust_measures.drawn_likeness import likeness_of


def write_scene(path: Path, number: int) -> Path:
    Image.fromarray(scene(number).image).save(path)
    return path


def projections(net: dv.Network, image: Any, layers: tuple[str, ...], k: int = 3) -> list[Projection]:
    """Return a projection with its likeness for each layer."""
    recording = net.record(image, layers, scores=True)
    found = [recording.project(layer, recording.strongest(layer, k)) for layer in layers]
    return [replace(one, likeness=likeness_of(recording, one)) for one in found]


@dataclass
class Element:
    """One element of a page, in the order of their start tags."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class PageReader(HTMLParser):
    """Elements and text of a page."""

    html: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self.feed(self.html)

    @classmethod
    def of(cls, path: Path) -> PageReader:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in ("meta", "link", "br", "img", "input", "col", "hr"):
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, cls: str = "") -> list[Element]:
        """Return the elements with a tag, and with a class if one is given."""
        return [
            one
            for one in self.elements
            if one.tag == tag and (not cls or cls in (one.attributes.get("class") or "").split())
        ]

    @property
    def text(self) -> str:
        """All text of the body, with single spaces."""
        (body,) = self.all("body")
        return " ".join(body.text.split())

    @property
    def manifests(self) -> list[dict[str, Any]]:
        (found,) = [one for one in self.all("script") if one.attributes.get("id") == "manifests"]
        read: list[dict[str, Any]] = json.loads(found.text)
        return read

    def symbol(self, id: str) -> np.ndarray[Any, Any]:
        """Return the pixels of an image of the page."""
        place = next(i for i, one in enumerate(self.elements) if one.attributes.get("id") == id)
        uri = self.elements[place + 1].attributes["href"] or ""
        return pixels_of(uri)


def pixels_of(uri: str) -> np.ndarray[Any, Any]:
    """Return the pixels of an image in a data URI."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))
