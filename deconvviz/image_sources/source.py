"""What a source of pictures is: ids in a fixed order, and a picture for each."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources.image_ids import Names
from deconvviz.images.image import Picture
from deconvviz.paths import spoken

Skipped = tuple[tuple[str, str], ...]  # (id, reason)
Sizes = npt.NDArray[np.int64]


class Source(ABC):
    """Pictures by number, in the order of their ids.

    A source of your own names its `kind`, hands its ids to `super().__init__`, and reads:

        class Slides(Source):
            kind = "slides"

            def __init__(self, file):
                self.file = file
                super().__init__(place=file, names=Names(f"slide-{n:03d}" for n in range(250)))

            def read(self, number):
                return as_picture(slide_of(self.file, int(self.names[number].removeprefix("slide-"))))

    It goes to worker processes by pickle, so it keeps paths, not open files, and opens what it needs when it
    reads. `read` raises PictureError (or OSError) for a picture that cannot be had: it is counted, and the
    search goes on.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        place: str,
        names: Names,
        *,
        sizes: Sizes | None = None,
        skipped: Skipped = (),
        lasting_place: str | None = None,
    ) -> None:
        """`place`: where it is, as typed; `lasting_place`: so that it is found from another folder, too.

        `sizes`: bytes of each picture; -1, or no `sizes`, is not known. `skipped`: what is not among `names`,
        and why (a listed file that is not there).
        """
        if sizes is not None and len(sizes) != len(names):
            raise ValueError(f"{len(names)} names and {len(sizes)} sizes: each picture has one of both")
        self.place = place
        self.names = names
        self.sizes = sizes
        self.skipped = skipped
        self._lasting_place = place if lasting_place is None else lasting_place
        self._limit: int | None = None

    @abstractmethod
    def read(self, number: int) -> Picture:
        """The picture of a number within the length. Raises PictureError."""

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, number: int) -> Picture:
        """The picture of `names[number]`. Raises PictureError, which names the id, and IndexError."""
        name = self.names[number]
        try:
            return self.read(number % len(self))
        except OSError as reason:
            raise PictureError(f"cannot read {name}: {spoken(reason)}") from reason

    def limited(self, count: int) -> Source:
        """The first `count` pictures by id. Raises SourceError."""
        if count < 1:
            raise SourceError(f"a limit of {count} leaves no picture of {self.place}: give a number above 0")
        if count >= len(self):
            return self
        fewer = copy.copy(self)
        fewer._keep(count)
        return fewer

    def _keep(self, count: int) -> None:
        """Cut what there is for each picture; only ever called on a copy."""
        vars(self).pop("digest", None)
        self.names = self.names[:count]
        self.sizes = None if self.sizes is None else self.sizes[:count].copy()
        self.skipped = tuple(one for one in self.skipped if one[0] <= self.names[-1])
        self._limit = count

    @cached_property
    def digest(self) -> str:
        """'sha256:...' of ids and sizes, not of the place: the same on every machine."""
        whole = hashlib.sha256(self.names.digest.encode())
        sizes = np.full(len(self), -1) if self.sizes is None else self.sizes
        whole.update(sizes.astype("<i8").tobytes())
        return f"sha256:{whole.hexdigest()}"

    def describe(self) -> dict[str, Any]:
        """For a manifest: enough to open it again and to see that it is the same."""
        return {
            "kind": self.kind,
            "place": self._lasting_place,
            "pictures": len(self),
            "limit": self._limit,
            "digest": self.digest,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place}, {of_pictures(len(self))})"


def of_pictures(count: int) -> str:
    return f"{count} picture{'s' * (count != 1)}"
