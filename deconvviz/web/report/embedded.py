"""Images of a page: each is embedded once, and views show parts of it without further bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.web.images import EncodedImage, as_image, lossless, lossy
from deconvviz.web.report.document import Symbol, View

Box = tuple[int, int, int, int]

QUALITY = 90
"""Quality of lossy images. Below it, the colours of projections change visibly."""
_SMALL = (
    64 * 64
)  # up to this number of pixels, images are lossless: lossy ones halve the resolution of colours


class Embedded:
    """Images that a page contains, by their pixels."""

    def __init__(self) -> None:
        self._found: dict[str, Symbol] = {}
        self._pixels: dict[str, npt.NDArray[Any]] = {}

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """All images, in the order in which they were added."""
        return tuple(self._found.values())

    def whole(self, colours: npt.NDArray[Any]) -> View:
        """Embed an image without loss, unless the page has it, and return a view of all of it."""
        return self._added(colours, "exact", lossless)

    def light(self, colours: npt.NDArray[Any], quality: int = QUALITY) -> View:
        """Embed an image that is not enlarged: with loss, unless it is small."""
        if colours.shape[0] * colours.shape[1] <= _SMALL:
            return self.whole(colours)
        return self._added(colours, f"lossy-{quality}", lambda pixels: lossy(pixels, quality))

    def part(self, colours: npt.NDArray[Any], of: View | None, box: Box | None) -> View:
        """Return a view of a box in an embedded image if it has these pixels; otherwise embed them."""
        pixels = np.asarray(as_image(colours))
        if of is not None and box is not None:
            x0, y0, x1, y1 = box
            if np.array_equal(self._pixels[of.symbol.id][y0:y1, x0:x1], pixels):
                return View(of.symbol, x0, y0, x1 - x0, y1 - y0)
        return self.whole(pixels)

    def _added(self, colours: npt.NDArray[Any], kind: str, encode: Any) -> View:
        pixels = np.asarray(as_image(colours))
        digest = hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes())
        key = f"{kind} {digest.hexdigest()}"
        if key not in self._found:
            file: EncodedImage = encode(pixels)
            symbol = Symbol(f"image-{len(self._found) + 1}", file.uri, file.width, file.height)
            self._found[key] = symbol
            self._pixels[symbol.id] = pixels
        symbol = self._found[key]
        return View(symbol, 0, 0, symbol.width, symbol.height)
