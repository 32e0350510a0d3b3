"""`draw` accepts every spec, uses one style, and imports matplotlib only when it is called."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import matplotlib
import numpy as np
import pytest
from conftest import build
from helpers.artists import check_texts, texts
from helpers.tile_grids import random_curves, random_grid
from helpers.top_nine_figures import random_top_nine

from deconvviz.errors import FigureError
from deconvviz.figures import draw
from deconvviz.figures.spec.arrays import as_rgb, check_pair, check_signed, check_true_colours

SPECS = [
    lambda: build(3),
    lambda: random_top_nine(2),
    lambda: random_grid(2, 3),
    lambda: random_curves(2, 3),
]


@pytest.mark.parametrize("make", SPECS)
def test_draw_ignores_and_restores_the_users_settings(make):
    spec = make()
    plain = draw(spec)
    user_settings = {
        "text.usetex": True, "font.family": "serif", "font.weight": "bold", "figure.facecolor": "black",
        "text.color": "red", "image.origin": "lower", "lines.linewidth": 9, "lines.marker": "x",
        "axes.prop_cycle": matplotlib.cycler(color=["red"]), "path.sketch": (5, 5, 5),
    }  # fmt: skip
    with matplotlib.rc_context(user_settings):
        before = dict(matplotlib.rcParams)
        figure = draw(spec)
        assert dict(matplotlib.rcParams) == before
    assert [text.get_position() for text in texts(figure)] == [text.get_position() for text in texts(plain)]
    assert {tuple(text.get_fontfamily()) for text in texts(figure)} == {("DejaVu Sans", "sans-serif")}
    assert {text.get_fontsize() for text in texts(figure)} <= {8.5, 7.6, 6.8, 6.2, 6.0}
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert texts(figure, "title-0")[0].get_fontsize() == 8.5
    lines = [(line.get_color(), line.get_linewidth(), line.get_marker()) for line in figure.axes[0].lines]
    assert lines == [
        (line.get_color(), line.get_linewidth(), line.get_marker()) for line in plain.axes[0].lines
    ]
    check_texts(figure)


@pytest.mark.parametrize("make", SPECS)
@pytest.mark.parametrize("width", [0, float("nan"), 1000])
def test_width_out_of_range_raises(make, width):
    with pytest.raises(FigureError, match="from 1 to 300 inches"):
        draw(make(), width=width)


def test_draw_rejects_other_types():
    with pytest.raises(TypeError, match="list is not a figure spec"):
        draw([])


@pytest.mark.slow
def test_figures_and_specs_do_not_import_matplotlib():
    code = (
        "import sys, deconvviz.figures, deconvviz.figures.spec as spec;"
        "print(spec.Spec and [m for m in ('torch', 'matplotlib', 'PIL') if m in sys.modules]);"
        "deconvviz.figures.draw;"
        "from deconvviz.figures.spec.tile_grid import GridTile, TileGrid;"
        "import numpy; grid = TileGrid(('net',), [[GridTile(numpy.ones((2, 2)))]]); grid.colours((0, 0));"
        "print('matplotlib' in sys.modules); deconvviz.figures.draw(grid);"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:3] == ["[]", "False", "True False"]


def test_checks_do_not_copy_arrays():
    array = np.full((400, 400, 3), 0.5, np.float32)
    tracemalloc.start()
    check_signed(array, "tile")
    check_true_colours(array, "tile")
    check_pair(array, array, "tile")
    _, checked = tracemalloc.get_traced_memory()
    as_rgb(array, "tile")
    _, converted = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert checked < array.nbytes / 40 and converted > array.nbytes
