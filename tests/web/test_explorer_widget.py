"""The explorer in notebooks: the widget in Python, in JupyterLab and in marimo."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import browser

import deconvviz as dv
from deconvviz.errors import ImageError, LayerError, MissingExtra, NetworkError, SourceError, UnitError
from deconvviz.scenes import scene

pytest.importorskip("anywidget")

pytestmark = pytest.mark.slow
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


def test_widget_gives_the_current_choice_back(net: dv.Network) -> None:
    widget = net.explore(scene(3).image, layer="features.12")
    assert widget.layer == net.layers.find("features.12").name
    with pytest.raises(UnitError, match="no unit is shown yet"):
        widget.projection  # noqa: B018
    widget.layer, widget.units = "conv3_2", [[5, 3, 4], [2, 9, 9]]
    direct = net.record(scene(3).image, "conv3_2").project(
        "conv3_2", [dv.Unit(0, 5, 3, 4), dv.Unit(0, 2, 9, 9)]
    )
    assert widget.projection.pixels.allclose(direct.pixels, atol=1e-6)
    widget.close()


def test_recordings_and_searches_open_their_own_pictures(net: dv.Network, tmp_path: Path) -> None:
    rec = net.record([scene(3).image, scene(8).image], ["conv2_1", "conv3_2"])
    widget = rec.explore("conv3_2")
    assert widget.layer == "conv3_2" and widget.pictures == ["image 0", "image 1"]
    widget.close()
    found = dv.search(net, "scenes:4", ["conv2_1"], workers=0)
    widget = found.explore()
    assert widget.layer == "conv2_1" and len(widget.pictures) == 4
    widget.close()


def test_wrong_requests_are_errors(net: dv.Network) -> None:
    with pytest.raises(LayerError, match="conv9_9"):
        net.explore(layer="conv9_9")
    with pytest.raises(SourceError, match=r"missing\.png"):
        net.explore("missing.png")
    with pytest.raises(ImageError, match="prepared tensor"):
        net.record(net.preprocessing.apply(scene(3).image)[None], "conv1_1").explore()
    rec = dv.load("minivgg").record(scene(3).image, "conv1_1")
    with pytest.raises(NetworkError, match="no longer exists"):
        rec.explore()


def test_without_anywidget_the_call_says_what_to_install(
    net: dv.Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "deconvviz.web.explorer.widget", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingExtra, match=r"pip install 'deconvviz\[notebook\]'"):
        net.explore()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, folder: Path) -> Iterator[str]:
    """Start a notebook server, and wait until it answers."""
    log = (folder / "server.log").open("w")
    settings = {"JUPYTER_CONFIG_DIR": str(folder / "config"), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **settings})
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/?token=secret", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def notebook(cells: list[str]) -> str:
    made = [
        {
            "cell_type": "code",
            "id": f"c{n}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for n, source in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def shown(page: Any) -> None:
    """Wait until every card of the widget has its projection."""
    page.locator(".explorer[aria-busy=false] .card").first.wait_for(timeout=PATIENCE)


@pytest.mark.skipif(find_spec("jupyterlab") is None, reason="JupyterLab is not installed")
def test_widget_works_in_jupyterlab(tmp_path: Path) -> None:
    first = "import deconvviz as dv\nw = dv.load('minivgg').explore('scenes:2', layer='conv3_2')\nw"
    cells = [first, "print(w.layer, len(w.units), w.projection)", "w.layer = 'conv4_2'"]
    cells += ["w.units = [[5, 3, 4], [2, 9, 9]]", "w.picture = 1"]
    (tmp_path / "first.ipynb").write_text(notebook(cells))
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--IdentityProvider.token=secret", f"--ServerApp.root_dir={tmp_path}",
    ]  # fmt: skip
    with browser() as chromium, serving(command, port, tmp_path) as address:
        page = chromium.new_page(viewport={"width": 1300, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/lab/tree/first.ipynb?token=secret")
        cell = page.locator(".jp-Notebook .jp-CodeCell")
        cell.first.wait_for(timeout=PATIENCE)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=PATIENCE)

        def run(number: int) -> None:
            cell.nth(number).locator(".cm-content").click()
            page.keyboard.press("Shift+Enter")

        run(0)
        shown(page)
        page.locator(".explorer .frame").first.click()
        page.get_by_text("What answered at").wait_for(timeout=PATIENCE)
        shown(page)
        count = page.locator(".explorer .card").count()
        run(1)
        output = cell.nth(1).locator(".jp-OutputArea-output")
        output.wait_for(timeout=PATIENCE)
        assert output.inner_text().startswith(f"conv3_2 {count} <Projection of {count} units of conv3_2")
        run(2)
        page.get_by_text("of conv4_2").first.wait_for(timeout=PATIENCE)
        shown(page)
        run(3)
        page.get_by_text("The chosen units of conv4_2").wait_for(timeout=PATIENCE)
        shown(page)
        assert page.locator(".card h3").all_inner_texts() == ["channel 5", "channel 2"]
        assert page.locator(".card .facts").first.inner_text().startswith("(3, 4)")
        run(4)
        page.locator(".hint", has_text="scene-000001").wait_for(timeout=PATIENCE)
        assert errors == []


@pytest.mark.skipif(find_spec("marimo") is None, reason="marimo is not installed")
def test_widget_works_in_marimo(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import marimo\napp = marimo.App()\n\n@app.cell\ndef _():\n"
        "    import deconvviz as dv\n    import marimo as mo\n"
        "    w = mo.ui.anywidget(dv.load('minivgg').explore('scenes:2', layer='conv3_2'))\n"
        "    w\n    return (w,)\n\n"
        "if __name__ == '__main__':\n    app.run()\n"
    )
    port = free_port()
    command = [
        sys.executable, "-m", "marimo", "-q", "run", "app.py", "--headless", "--no-token", f"--port={port}",
    ]  # fmt: skip
    with browser() as chromium, serving(command, port, tmp_path) as address:
        page = chromium.new_page(viewport={"width": 1300, "height": 900})
        page.goto(address)
        shown(page)
        page.locator(".explorer .frame").first.click()
        page.get_by_text("What answered at").wait_for(timeout=PATIENCE)
        shown(page)
        assert page.locator(".explorer .card canvas").count() >= 2
