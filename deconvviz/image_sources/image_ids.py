"""Sorted unique image ids of a source, in a single buffer that forked workers share."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt


class Names(Sequence[str]):
    """Immutable sequence of ids, sorted by code points (the same order as by UTF-8 bytes).

    It consists of two objects, the bytes of all ids and their bounds. A list of a million `str` would be
    copied into every forked worker, page by page, as soon as reference counts change.
    """

    __slots__ = ("_bounds", "_bytes")

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Sort `names`. Raises ValueError for a duplicate id and for text that UTF-8 cannot encode."""
        encoded = sorted(name.encode() for name in names)
        for one, next_one in pairwise(encoded):
            if one == next_one:
                raise ValueError(f"duplicate id {one.decode()!r}")
        self._bytes = b"".join(encoded)
        self._bounds: npt.NDArray[np.int64] = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(name) for name in encoded], out=self._bounds[1:])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Names: ...
    def __getitem__(self, number: int | slice) -> str | Names:
        """Return an id, or the sorted ids of a slice (sorted even if its step is negative)."""
        if isinstance(number, slice):
            chosen = range(*number.indices(len(self)))
            return self._contiguous(chosen) if chosen.step == 1 else Names(self[one] for one in chosen)
        if not -len(self) <= number < len(self):
            raise IndexError(f"id index {number} is out of range: there are {len(self)} ids")
        return self._at(number % len(self)).decode()

    def __iter__(self) -> Iterator[str]:
        return (self._at(number).decode() for number in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._place(name) is not None

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """Return the position of an id. Raises ValueError if it is not present."""
        place = self._place(value)
        if place is None or place not in range(*slice(start, stop).indices(len(self))):
            raise ValueError(f"no id {value!r} among the {len(self)} ids")
        return place

    def count(self, value: object) -> int:
        return int(value in self)

    @property
    def digest(self) -> str:
        """SHA-256 of the ids as 'sha256:...', equal on every machine."""
        hashed = hashlib.sha256(self._bounds.astype("<i8").tobytes())
        hashed.update(self._bytes)
        return f"sha256:{hashed.hexdigest()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Names):
            return NotImplemented
        return self._bytes == other._bytes and np.array_equal(self._bounds, other._bounds)

    def __hash__(self) -> int:
        return hash((len(self), self._bytes))

    def __repr__(self) -> str:
        if len(self) < 4:
            return f"Names({', '.join(self)})"
        return f"Names({len(self)}: {self[0]}, {self[1]} ... {self[-1]})"

    def __getstate__(self) -> tuple[bytes, npt.NDArray[np.int64]]:
        return self._bytes, self._bounds

    def __setstate__(self, state: tuple[bytes, npt.NDArray[np.int64]]) -> None:
        self._bytes, self._bounds = state

    def _contiguous(self, numbers: range) -> Names:
        part = Names()
        bounds = self._bounds[numbers.start : max(numbers.start, numbers.stop) + 1]
        part._bytes = self._bytes[bounds[0] : bounds[-1]]
        part._bounds = bounds - bounds[0]
        return part

    def _at(self, number: int) -> bytes:
        return self._bytes[self._bounds[number] : self._bounds[number + 1]]

    def _place(self, name: str) -> int | None:
        try:
            wanted = name.encode()
        except UnicodeEncodeError:
            return None
        place = bisect_left(range(len(self)), wanted, key=self._at)
        return place if place < len(self) and self._at(place) == wanted else None


def sorted_once(ids: Sequence[str]) -> tuple[Names, npt.NDArray[np.int64], list[str]]:
    """Sort ids and remove duplicates. Of equal ids the last one counts, as when an archive is unpacked.

    Returns the unique ids, the position of each of them in `ids`, and the duplicates that were dropped.
    """
    order = sorted(range(len(ids)), key=ids.__getitem__)
    last = [one for one, following in pairwise(order) if ids[one] != ids[following]] + order[-1:]
    dropped = [ids[one] for one, following in pairwise(order) if ids[one] == ids[following]]
    return Names(ids[one] for one in last), np.array(last, np.int64), dropped
