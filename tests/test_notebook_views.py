"""What notebooks show: tables and figures as HTML, layer names by the Tab key, progress bars."""

from __future__ import annotations

import base64
import copy
import pickle
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import deconvviz as dv
from deconvviz import html_views, notebook_bar
from deconvviz.scenes import scene


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def projection(net: dv.Network) -> dv.Projection:
    rec = net.record(scene(3).image, "conv3_2")
    return rec.project("conv3_2", rec.strongest("conv3_2", 2))


def test_tables_have_a_limit_of_rows_and_a_head_that_stays() -> None:
    html = html_views.table(
        ["<name>", "value"], [[f"<{n}>", str(n)] for n in range(html_views.ROWS + 7)], "a & b"
    )
    assert html.count("<tr>") == html_views.ROWS + 1
    assert "7 more rows are not shown" in html and "position: sticky" in html
    assert "<th>&lt;name&gt;</th>" in html and "&lt;5&gt;" in html and "a &amp; b" in html


def test_short_tables_show_every_row(net: dv.Network) -> None:
    html = net.layers._repr_html_()
    assert html.count("<tr>") == len(net.layers) + 1 and "more rows" not in html


def test_figures_are_images_with_a_description(projection: dv.Projection) -> None:
    html = projection._repr_html_()
    assert html is not None
    (png,) = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    assert base64.b64decode(png).startswith(b"\x89PNG")
    assert 'alt="Projection of 2 units of conv3_2 in minivgg' in html


def test_results_without_a_figure_have_no_html(
    projection: dv.Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dv.Projection, "_repr_png_", lambda self: None)
    assert projection._repr_html_() is None


def test_layers_are_attributes_for_the_tab_key(net: dv.Network) -> None:
    assert net.layers.conv4_2 is net.layers.find("conv4_2")
    assert {"conv4_2", "fc6", "find"} <= set(dir(net.layers))
    with pytest.raises(AttributeError, match=r"conv4_9.*conv4_1, conv4_2"):
        net.layers.conv4_9  # noqa: B018
    for again in (copy.copy(net.layers), copy.deepcopy(net.layers), pickle.loads(pickle.dumps(net.layers))):
        assert again.names == net.layers.names


class Displays:
    """Stands for IPython, and keeps what was displayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, kernel: bool = True) -> None:
        self.shown: list[str] = []
        shell = SimpleNamespace(kernel=object()) if kernel else SimpleNamespace()
        module: Any = SimpleNamespace(
            get_ipython=lambda: shell, display=SimpleNamespace(display=self.display)
        )
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", module.display)

    def display(self, content: dict[str, str], **settings: Any) -> Any:
        self.update(content)
        return self

    def update(self, content: dict[str, str], **settings: Any) -> None:
        self.shown.append(content["text/html"])


def test_bar_appears_after_a_moment_and_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    displays = Displays(monkeypatch)
    clock = [0.0]
    monkeypatch.setattr(notebook_bar.time, "monotonic", lambda: clock[0])
    bar = notebook_bar.or_bar(None, "searching <images>")
    assert bar is not None
    for done, at in ((1, 0.1), (2, 1.0), (3, 1.01), (4, 4.0)):
        clock[0] = at
        bar(done, 4)
    assert len(displays.shown) == 2
    assert '<progress value="2" max="4">' in displays.shown[0] and "about 1 s left" in displays.shown[0]
    assert (
        "searching &lt;images&gt;: 4 of 4 in 4 s" in displays.shown[-1] and "left" not in displays.shown[-1]
    )


def test_there_is_no_bar_outside_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook_bar.or_bar(None, "x") is None
    Displays(monkeypatch, kernel=False)
    assert notebook_bar.or_bar(None, "x") is None
    own = lambda done, total: None  # noqa: E731
    Displays(monkeypatch)
    assert notebook_bar.or_bar(own, "x") is own


def test_search_in_a_notebook_shows_a_bar(net: dv.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    displays = Displays(monkeypatch)
    monkeypatch.setattr(notebook_bar, "_PATIENCE", 0)
    dv.search(net, "scenes:6", ["conv1_1"], workers=0)
    assert "searching images: 6 of 6" in displays.shown[-1]
