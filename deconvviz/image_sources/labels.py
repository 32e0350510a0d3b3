"""Class labels of the images of a source."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Labels(Sequence["str | None"]):
    """Label of each image of a source, in the order of the ids; None if it is unknown.

    A label is stored as a number, so that the labels of a million images are one small array that forked
    workers share.
    """

    names: tuple[str, ...]  # sorted; each is the label of at least one image
    codes: npt.NDArray[np.int32]  # (N), index in `names`, or `UNKNOWN`

    @classmethod
    def of(cls, labels: Iterable[str | None]) -> Labels | None:
        """Return the labels of all images; None if no label is known.

        Raises TypeError for a label that is not a text, and ValueError for one that UTF-8 cannot encode.
        """
        numbers: dict[str, int] = {}
        codes = np.array(
            [UNKNOWN if label is None else numbers.setdefault(label, len(numbers)) for label in labels],
            np.int32,
        )
        for name in numbers:
            if not isinstance(name, str):
                raise TypeError(f"a label must be a text, or None if it is unknown, but one is {name!r}")
            name.encode()
        return _sorted(list(numbers), codes)

    def first(self, count: int) -> Labels | None:
        """Return the labels of the first images; None if none of them is known."""
        return _sorted(self.names, self.codes[:count])

    @property
    def known(self) -> int:
        """Number of images with a label."""
        return int((self.codes != UNKNOWN).sum())

    @property
    def digest(self) -> str:
        """SHA-256 of all labels as 'sha256:...', equal on every machine."""
        hashed = hashlib.sha256(json.dumps(self.names).encode())
        hashed.update(self.codes.astype("<i4").tobytes())
        return f"sha256:{hashed.hexdigest()}"

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str | None]:
        return (None if code == UNKNOWN else self.names[code] for code in self.codes.tolist())

    @overload
    def __getitem__(self, number: int) -> str | None: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str | None]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str | None] | None:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        code = int(self.codes[number])
        return None if code == UNKNOWN else self.names[code]


def folder_of_image(path: str) -> str | None:
    """Return the name of the folder that directly contains an image; None if it is the source itself.

    The path is relative to the source, with '/' as separator.
    """
    return posixpath.basename(posixpath.dirname(path)) or None


def folder_labels(folders: Iterable[str | None]) -> Labels | None:
    """Return the labels of images in class folders, given the name of the folder of each image.

    Without class folders, that is, if all folders have the same name, no label is known (None).
    """
    found = Labels.of(folders)
    return found if found is not None and len(found.names) > 1 else None


def _sorted(names: Sequence[str], codes: npt.NDArray[np.int32]) -> Labels | None:
    """Return labels with sorted names, without names that no image has."""
    used = np.unique(codes[codes != UNKNOWN]).tolist()
    if not used:
        return None
    used.sort(key=names.__getitem__)
    new = np.full(len(names) + 1, UNKNOWN, np.int32)  # the last entry is that of UNKNOWN
    new[used] = np.arange(len(used))
    return Labels(tuple(names[one] for one in used), new[codes])
