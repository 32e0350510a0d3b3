"""Content of a report as plain values. The templates show these and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Fact = tuple[str, str]
"""A label and its value."""


@dataclass(frozen=True)
class Symbol:
    """An image that the page contains once."""

    id: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class View:
    """A part of an image of the page, in pixels of this image."""

    symbol: Symbol
    x: int
    y: int
    width: int
    height: int

    @property
    def box(self) -> str:
        """The part as the ``viewBox`` of an SVG element."""
        return f"{self.x} {self.y} {self.width} {self.height}"


@dataclass(frozen=True)
class Strongest:
    """Patches and projections of the strongest images of one channel."""

    name: str
    activations: str
    count: int
    patches: View
    projections: View


@dataclass(frozen=True)
class ClassBar:
    """One of the top classes of an image; `share` is from 0 to 1."""

    name: str
    value: str
    share: float


@dataclass(frozen=True)
class Manifest:
    """Manifest of a result as a file to download."""

    file: str
    uri: str


@dataclass(frozen=True)
class Block:
    """Content of one result and the template that shows it."""

    id: str
    heading: str
    short: str  # for the table of contents
    lines: tuple[str, ...]
    template: str
    content: Any
    said: tuple[str, ...]  # results in words, where the template does not show them
    facts: tuple[tuple[str, tuple[str, ...]], ...]  # what the maps of methods are, where the result says so
    manifest: Manifest


@dataclass(frozen=True)
class PictureSection:
    """One image: what the network takes it for, and its units at each layer."""

    id: str
    name: str
    notes: tuple[str, ...]
    takes_for: str
    classes: tuple[ClassBar, ...]
    asked: str
    trust: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """All content of a report."""

    title: str
    date: str
    version: str
    notes: tuple[str, ...]
    networks: tuple[Any, ...]  # NetworkCard
    pictures: tuple[PictureSection, ...]
    others: tuple[Block, ...]
    symbols: tuple[Symbol, ...]
    methods: str
    approximations: tuple[str, ...]
    command: str
    commands: tuple[str, ...]
    not_by_command: int  # results that only the program that made them can make again
    on_cards: tuple[Manifest, ...]  # of results that only cards show
    manifests: tuple[dict[str, Any], ...]
    has_search: bool
