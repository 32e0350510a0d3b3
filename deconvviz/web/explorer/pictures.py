"""Pictures that can be shown: files, images in memory, sources, scenes, uploads."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import Source
from deconvviz.images.image import InputImage, as_image, open_image, read_image
from deconvviz.printable_names import printable, printable_path
from deconvviz.scenes import scene

MOST_LISTED = 2000
"""Number of pictures of a source that can be chosen."""

UPLOAD_BYTES = 32 * 2**20
UPLOAD_PIXELS = 50_000_000
MOST_UPLOADS = 50
MOST_SCENES = 200


@dataclass(frozen=True)
class Picture:
    """One picture, read when it is needed."""

    name: str
    open: Callable[[], InputImage]
    path: Path | None = None  # for commands that make a figure again
    code: str = ""  # a Python expression that `Network.record` accepts


class Shelf:
    """Pictures by number. A request names a picture by its number, never by a path."""

    def __init__(self) -> None:
        self._pictures: list[Picture] = []
        self._uploads = 0
        self._scenes: dict[int, int] = {}  # seed -> number

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, number: int) -> Picture:
        if not 0 <= number < len(self._pictures):
            raise ImageError(f"no picture {number}: there are {len(self._pictures)}")
        return self._pictures[number]

    @property
    def names(self) -> list[str]:
        """Printable names of all pictures."""
        return [printable(picture.name) for picture in self._pictures]

    def add(self, picture: Picture) -> int:
        """Add a picture and return its number."""
        self._pictures.append(picture)
        return len(self._pictures) - 1

    def add_file(self, path: Path) -> int:
        """Add an image file."""
        return self.add(Picture(printable_path(path.name), lambda: open_image(path), path, repr(str(path))))

    def add_image(self, image: object, name: str) -> int:
        """Add an image in memory: a PIL image or a uint8 array (H, W, 3)."""
        read = as_image(image)  # type: ignore[arg-type]
        return self.add(Picture(name, lambda: read, code="image"))

    def add_source(self, source: Source) -> list[int]:
        """Add the pictures of a source, at most `MOST_LISTED`."""
        count = min(len(source), MOST_LISTED)
        if not count:
            raise SourceError(f"there is no image in {source.place}")

        def opener(number: int) -> Callable[[], InputImage]:
            return lambda: source.image(number)

        return [self.add(Picture(source.names[number], opener(number))) for number in range(count)]

    def add_scene(self, seed: int) -> int:
        """Add a drawn scene. Each seed is added once."""
        if seed < 0:
            raise ImageError(f"no scene {seed}: a seed is a whole number from 0")
        if seed not in self._scenes:
            if len(self._scenes) >= MOST_SCENES:
                raise ImageError(f"there are {MOST_SCENES} scenes already. Choose one of them")
            drawn = scene(seed)
            image = InputImage(drawn.image, name=f"scene {seed}: {drawn.name}")
            code = f"deconvviz.scenes.scene({seed}).image"
            self._scenes[seed] = self.add(Picture(image.name, lambda: image, code=code))
        return self._scenes[seed]

    def add_upload(self, data: bytes, name: str) -> int:
        """Add the content of an image file. Raises ImageError if it is too large or not an image."""
        if self._uploads >= MOST_UPLOADS:
            raise ImageError(f"{MOST_UPLOADS} pictures were dropped in already. Start again to drop more")
        if len(data) > UPLOAD_BYTES:
            raise ImageError(
                f"the file has {len(data) / 2**20:.0f} MiB: at most {UPLOAD_BYTES // 2**20} MiB are accepted"
            )
        shown = printable(name)[:120] or "dropped picture"
        _check_pixels(data)
        image = read_image(data, shown, max_pixels=UPLOAD_PIXELS)
        self._uploads += 1
        return self.add(Picture(shown, lambda: image, code="image"))


def _check_pixels(data: bytes) -> None:
    """Raise ImageError if the head of a file announces too many pixels. Nothing is decoded."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as head:
            warnings.simplefilter("ignore")
            width, height = head.size
    except (OSError, ValueError, SyntaxError, ImportError, Image.DecompressionBombError):
        return  # `read_image` says what is wrong. ImportError: ultralytics replaces Image.open by its own
    if width * height > UPLOAD_PIXELS:
        raise ImageError(
            f"the picture has {width} x {height} pixels: at most {UPLOAD_PIXELS // 10**6} million are "
            "accepted"
        )
