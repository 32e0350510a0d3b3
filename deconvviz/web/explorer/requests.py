"""Requests of the front end: values from outside, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deconvviz.engine.units import Unit
from deconvviz.errors import RequestError


@dataclass(frozen=True)
class Request:
    """One request: its kind, its values as JSON, and binary buffers."""

    kind: str
    values: Mapping[str, Any]
    buffers: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, body: object, buffers: tuple[bytes, ...] = ()) -> Request:
        """Read the body of a message. Raises RequestError."""
        if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
            raise RequestError("a request is an object with the text `kind`")
        return cls(body["kind"], body, buffers)

    def whole(self, name: str, *, low: int = 0, high: int = 10**9) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise RequestError(f"`{name}` must be a whole number from {low} to {high}")
        return value

    def whole_or_none(self, name: str) -> int | None:
        """Return a whole number from 0, or None if it is missing or null."""
        return None if self.values.get(name) is None else self.whole(name)

    def text(self, name: str, *, longest: int = 500) -> str:
        """Return a text."""
        value = self.values.get(name)
        if not isinstance(value, str) or len(value) > longest:
            raise RequestError(f"`{name}` must be text of at most {longest} characters")
        return value

    def wholes(self, name: str, *, most: int = 64) -> list[int]:
        """Return a list of whole numbers from 0."""
        return [Request(self.kind, {name: one}).whole(name) for one in self._list(name, most)]

    def texts(self, name: str, *, most: int = 32) -> list[str]:
        """Return a list of texts."""
        return [Request(self.kind, {name: one}).text(name) for one in self._list(name, most)]

    def units(self, name: str = "units", *, most: int = 64) -> list[Unit]:
        """Return a list of units of the first image of a recording, each as channel, y and x."""
        return [
            Unit(0, one.whole("channel"), one.whole_or_none("y"), one.whole_or_none("x"))
            for one in self.parts(name, most=most)
        ]

    def parts(self, name: str, *, most: int = 64) -> list[Request]:
        """Return a list of objects, each as a request of its own."""
        found = self._list(name, most)
        if not all(isinstance(one, dict) for one in found):
            raise RequestError(f"`{name}` must be a list of objects")
        return [Request(self.kind, one) for one in found]

    def _list(self, name: str, most: int) -> list[Any]:
        value = self.values.get(name)
        if not isinstance(value, list) or not 0 < len(value) <= most:
            raise RequestError(f"`{name}` must be a list with 1 to {most} entries")
        return value
