"""Access to the texts and images of a matplotlib figure, for tests of its content."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from deconvviz.figures.page.style import sheet_style


def texts(figure: Figure, start: str = "") -> list[Text]:
    """Return all text artists that are not empty and whose gid begins with `start`."""
    found = figure.findobj(
        lambda artist: isinstance(artist, Text) and (artist.get_gid() or "").startswith(start)
    )
    return [text for text in found if text.get_text()]


def text_of(figure: Figure, start: str) -> str:
    """Return the text of these artists, joined by spaces."""
    return " ".join(text.get_text() for text in texts(figure, start))


def images(figure: Figure, start: str) -> dict[str, AxesImage]:
    """Return the images whose gid begins with `start`, by gid."""
    found = figure.findobj(
        lambda artist: isinstance(artist, AxesImage) and artist.get_gid().startswith(start)
    )
    return {image.get_gid(): image for image in found}


def extent(figure: Figure, gid: str) -> tuple[float, float, float, float]:
    return images(figure, gid)[gid].get_extent()


def gids(figure: Figure, start: str) -> list[str]:
    return sorted(
        {artist.get_gid() for artist in figure.findobj() if (artist.get_gid() or "").startswith(start)}
    )


def check_texts(figure: Figure, dpi: float = 100) -> None:
    """Check that texts are inside the figure and overlap neither each other nor images.

    Numbers and notes may be on images.
    """
    figure.set_dpi(dpi)
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox
    with sheet_style():
        boxes = [(text.get_gid(), text.get_window_extent(renderer)) for text in texts(figure)]
    for gid, box in boxes:
        assert box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0 and box.y1 <= page.y1, gid
    names = [gid for gid, _ in boxes]
    # Lines of one paragraph may share the row of pixels between them.
    overlaps = overlapping([box for _, box in boxes], [box for _, box in boxes], 0.02 * dpi)
    assert [(names[i], names[j]) for i, j in np.argwhere(overlaps) if i < j] == []
    outside = [(gid, box) for gid, box in boxes if gid.split("-")[0] not in ("label", "note")]
    image_boxes = [image.get_window_extent(renderer) for image in images(figure, "").values()]
    overlaps = overlapping([box for _, box in outside], image_boxes, 1)
    assert [outside[i][0] for i, _ in np.argwhere(overlaps)] == []


def overlapping(ones: list[Bbox], others: list[Bbox], tolerance: float) -> np.ndarray:
    """Return for each pair whether the boxes share more than `tolerance` rows of pixels."""
    a = np.array([box.extents for box in ones]).reshape(-1, 1, 4)
    b = np.array([box.extents for box in others]).reshape(1, -1, 4)
    wide = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    high = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return (wide > 0) & (high > tolerance)
