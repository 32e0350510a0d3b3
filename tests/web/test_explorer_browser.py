"""The explorer in Chromium: click, keys, methods, blending, files, report, errors, themes, widths."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.browser import browser, serious_violations
from PIL import Image

import deconvviz as dv
from deconvviz.scenes import scene
from deconvviz.web.explorer import looks
from deconvviz.web.explorer.pictures import Shelf
from deconvviz.web.explorer.session import Session
from deconvviz.web.explorer.worker import Worker

pytest.importorskip("uvicorn")
from deconvviz.web.explorer.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def server(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    net = dv.load("minivgg")
    found = dv.search(net, "scenes:12", ["conv3_2"], out=tmp_path_factory.mktemp("found") / "s", workers=0)
    shelf = Shelf()
    for seed in (3, 8):
        shelf.add_scene(seed)
    worker = Worker(Session([net, dv.load("minivgg", weights="random")], shelf, search=found))
    made = Server(worker, port=0)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join(timeout=20)
    worker.close()


class Window:
    """A page with the explorer, and everything that it logged and requested."""

    def __init__(self, chromium: Any, server: Server, **settings: Any) -> None:
        self.page = chromium.new_page(**settings)
        self.page.set_default_timeout(15_000)
        self.logged: list[str] = []
        self.urls: list[str] = []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.goto(server.address)
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is pending: every card has its projection."""
        self.page.wait_for_function(
            """() => {
              const root = document.querySelector('#explorer').shadowRoot;
              return root.querySelector('.card') && !root.querySelector('.pending')
                && root.querySelector('.explorer').ariaBusy === 'false';
            }"""
        )

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def choose(self, label: str, value: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(label=value)
        self.wait()


@pytest.fixture
def window(chromium: Any, server: Server) -> Iterator[Window]:
    found = Window(chromium, server, viewport={"width": 1200, "height": 800})
    yield found
    assert found.logged == []
    local = ("data:", "blob:", f"http://127.0.0.1:{server.port}/", f"ws://127.0.0.1:{server.port}/")
    assert [url for url in found.urls if not url.startswith(local)] == []
    found.page.close()


def click_at(window: Window, x: float, y: float) -> None:
    """Click at pixel (x, y) of the picture, which has 96 x 96."""
    box = window.page.locator(".frame").first.bounding_box()
    window.page.mouse.click(box["x"] + box["width"] * x / 96, box["y"] + box["height"] * y / 96)
    window.wait()


def channels(window: Window) -> list[int]:
    titles = window.page.locator(".card h3").all_inner_texts()
    return [int(title.removeprefix("channel ")) for title in titles]


def test_click_asks_for_the_unit_under_the_pointer(window: Window) -> None:
    window.choose("layer", "conv3_2")
    net = dv.load("minivgg")
    layer = net.layers.find("conv3_2")
    assert layer.field and layer.stride and layer.offset
    centre = layer.offset[0] + 10 * layer.stride[0] + layer.field[0] / 2
    click_at(window, centre, centre - layer.stride[0])
    assert window.text(".answers h2") == "What answered at row 9, column 10 of conv3_2"
    values = net.record(scene(3).image, "conv3_2").activations("conv3_2")[0, :, 9, 10]
    alive = int((values > 0).sum())
    assert channels(window) == values.topk(8).indices[:alive].tolist()


def test_cards_show_signed_projections_around_grey(window: Window) -> None:
    """The colours of the first card are those of the figure code for the same values and limit."""
    window.choose("layer", "conv3_2")
    click_at(window, 48, 48)
    pixels = (
        window.page.locator(".card canvas")
        .nth(1)
        .evaluate(
            "one => ({ w: one.width, h: one.height,"
            " data: [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data] })"
        )
    )
    shown = np.array(pixels["data"]).reshape(pixels["h"], pixels["w"], 4)[..., :3]
    numbers = re.findall(r"\d+", window.text(".answers h2"))
    row, column = int(numbers[0]), int(numbers[1])
    rec = dv.load("minivgg").record(scene(3).image, "conv3_2")
    units = [dv.Unit(0, channel, row, column) for channel in channels(window)]
    proj = rec.project("conv3_2", units)
    from deconvviz.figures.spec.colour import limit_of, to_rgb

    limit = limit_of([proj.crop_at(n, box) for n, box in enumerate(proj.boxes)], percentile=99.5).value
    own = 255 * to_rgb(proj.crop_at(0, proj.effective_boxes()[0]), limit)
    assert shown.shape == own.shape
    assert np.abs(shown - own).max() <= 1.01


def test_keys_move_the_cell_and_walk_the_layers(window: Window) -> None:
    window.choose("layer", "conv4_2")
    frame = window.page.locator(".frame").first
    click_at(window, 48, 48)
    row, column = map(int, re.findall(r"\d+", window.text(".answers h2"))[:2])
    frame.focus()
    for key in ("ArrowUp", "ArrowRight", "Enter"):
        window.page.keyboard.press(key)
    window.wait()
    assert f"row {row - 1}, column {column + 1} of conv4_2" in window.text(".answers h2")
    window.page.locator(".strip button[aria-pressed=true]").focus()
    window.page.keyboard.press("ArrowLeft")
    window.wait()
    assert "of relu4_1" in window.text(".answers h2")


def test_opened_card_blends_compares_and_shows_what_else_activates_it(window: Window) -> None:
    window.choose("layer", "conv3_2")
    window.page.locator(".card .open").first.click()
    dialog = window.page.locator("dialog")
    assert dialog.is_visible()
    title = window.text("dialog h2")
    slider = window.page.get_by_label("projection over patch")
    slider.fill("25")
    assert window.page.locator(".overlay .over").evaluate("one => one.style.opacity") == "0.25"
    assert "Trust: " in window.text("dialog")
    area = window.page.locator(".overlay")
    widths = []
    for zoom in ("0", "100"):
        window.page.get_by_label("zoom").fill(zoom)
        widths.append(area.evaluate("one => one.scrollWidth / one.clientWidth"))
    assert widths[0] == pytest.approx(1, abs=0.01) and widths[1] > 3
    assert window.page.locator(".sheet canvas").first.evaluate("one => [one.width, one.height]") == [96, 96]
    dialog.get_by_text("Close").focus()
    window.page.keyboard.press("ArrowRight")
    assert window.text("dialog h2") != title
    dialog.get_by_text("Other methods").click()
    window.page.locator("dialog .maps").first.locator("figure").nth(4).wait_for()
    captions = window.page.locator("dialog .maps").first.locator("figcaption").all_inner_texts()
    assert captions == ["deconvnet", "guided backprop", "gradient", "contribution", "contrast"]
    dialog.get_by_text("What else activates it").click()
    window.page.locator("dialog .maps").nth(1).locator("figure").nth(0).wait_for()
    dialog.get_by_text("Python and command").click()
    window.page.locator("dialog pre").nth(1).wait_for()
    python, command = window.page.locator("dialog pre").all_inner_texts()
    assert python.startswith("import deconvviz as dv") and "rec.project('conv3_2'" in python
    assert command.startswith("deconvviz project IMAGE --model minivgg --layer conv3_2 --unit")
    window.page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_dropped_picture_is_shown(window: Window) -> None:
    stream = io.BytesIO()
    Image.fromarray(scene(21).image).save(stream, "PNG")
    files = [{"name": "my <b>scene</b>.png", "mimeType": "image/png", "buffer": stream.getvalue()}]
    window.page.get_by_label("open a picture").set_input_files(files)
    window.page.locator(".hint", has_text="my <b>scene</b>.png").wait_for()
    window.wait()
    assert window.page.locator(".explorer b").count() == 0


def test_picture_dropped_on_the_page_is_shown(window: Window) -> None:
    stream = io.BytesIO()
    Image.fromarray(scene(22).image).save(stream, "PNG")
    transfer = window.page.evaluate_handle(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
          return transfer;
        }""",
        list(stream.getvalue()),
    )
    window.page.locator(".explorer").dispatch_event("drop", {"dataTransfer": transfer})
    window.page.locator(".hint", has_text="dropped.png").wait_for()
    window.wait()


def test_broken_picture_is_an_error_in_the_page(window: Window) -> None:
    files = [{"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG no"}]
    window.page.get_by_label("open a picture").set_input_files(files)
    window.page.locator(".status.wrong").wait_for()
    assert "broken.png" in window.text(".status")
    click_at(window, 30, 30)
    assert window.page.locator(".card").count()


def test_collected_units_become_a_report(window: Window, tmp_path: Path) -> None:
    window.choose("layer", "conv3_2")
    for number in (0, 1):
        window.page.locator(".card .open").nth(number).click()
        window.page.get_by_text("Add to the report").click()
        window.page.get_by_text("Close").click()
    assert window.text(".basket span") == "For the report: 2 units"
    with window.page.expect_download() as download:
        window.page.get_by_text("Make the report").click()
    download.value.save_as(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "conv3_2" in text and f"channel {channels(window)[1]}" in text


def test_saved_figure_is_a_png(window: Window, tmp_path: Path) -> None:
    window.page.locator(".card .open").first.click()
    with window.page.expect_download() as download:
        window.page.get_by_text("PNG", exact=True).click()
    download.value.save_as(tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as image:
        assert image.width > 300


def test_second_network_shows_the_same_channels(window: Window) -> None:
    window.choose("layer", "conv3_2")
    window.page.get_by_role("button", name="Side by side").click()
    window.page.locator(".card .other canvas").nth(3).wait_for()
    window.wait()
    chooser = window.page.get_by_label("network of the second picture")
    assert chooser.locator("option:checked").inner_text() == "minivgg (random, seed 0)"
    shown = window.page.locator(".card .facts.other").all_inner_texts()
    net = dv.load("minivgg", weights="random")
    maps = net.record(scene(3).image, "conv3_2").activations("conv3_2")[0]
    for text, channel in zip(shown, channels(window), strict=True):
        assert float(text.split()[-1]) == pytest.approx(float(maps[channel].max()), rel=0.01)


def test_channel_is_drawn_as_a_heat_map(window: Window) -> None:
    window.choose("layer", "conv3_2")
    window.page.get_by_label("channel", exact=True).fill("5")
    window.page.keyboard.press("Enter")
    window.page.locator(".heat:not([hidden])").wait_for()
    window.page.get_by_text("Where channel 5 of conv3_2 answers").wait_for()


def test_slow_recording_shows_progress_and_only_the_last_click_is_answered(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another picture is chosen whose recording waits; three places are clicked meanwhile."""
    permitted, asked = threading.Event(), []
    record, strongest = dv.Network.record, looks.strongest_at

    def slow(*given: Any, **settings: Any) -> Any:
        assert permitted.wait(20)
        return record(*given, **settings)

    def counted(recording: Any, layer: Any, y: int, x: int, k: int) -> Any:
        asked.append((y, x))
        return strongest(recording, layer, y, x, k)

    monkeypatch.setattr(dv.Network, "record", slow)
    monkeypatch.setattr(looks, "strongest_at", counted)
    window.choose("layer", "conv3_2")
    bar = window.page.get_by_role("progressbar")
    assert not bar.is_visible()
    window.page.get_by_label("drawn scene", exact=True).fill("77")
    window.page.keyboard.press("Enter")
    window.page.get_by_text("recording scene 77").wait_for()
    box = window.page.locator(".frame").first.bounding_box()
    for share in (0.2, 0.5, 0.8):
        window.page.mouse.click(box["x"] + box["width"] * share, box["y"] + box["height"] * share)
    bar.wait_for()
    assert asked == []
    permitted.set()
    window.page.locator(".hint", has_text="scene 77").wait_for()
    window.wait()
    assert not bar.is_visible()
    row, column = map(int, re.findall(r"\d+", window.text(".answers h2"))[:2])
    assert row == column > 12
    assert set(asked) == {(row, column)}  # the two older clicks were cancelled before they began


def test_progress_is_shown_however_often_requests_are_replaced(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clicks come faster than the delay of the progress bar."""
    permitted = threading.Event()
    monkeypatch.setattr(looks, "strongest_at", lambda *given: permitted.wait(20) and [])
    box = window.page.locator(".frame").first.bounding_box()
    bar = window.page.get_by_role("progressbar")
    try:
        for number in range(10):
            place = 0.1 + 0.08 * number
            window.page.mouse.click(box["x"] + box["width"] * place, box["y"] + box["height"] * place)
            window.page.wait_for_timeout(100)
        assert bar.is_visible()
    finally:
        permitted.set()
    window.page.get_by_text("No channel is above zero here.").wait_for()
    bar.wait_for(state="hidden")


class Transformed(torch.nn.Module):
    """A network with an operation that has no projection rule, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3)
        self.second = torch.nn.Conv2d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.second(self.first(x).exp())
        return found


def test_layer_behind_an_unsupported_operation_says_which_operation(chromium: Any) -> None:
    shelf = Shelf()
    shelf.add_scene(3)
    worker = Worker(Session([dv.Network(Transformed(), size=32, mean=(0.5,) * 3, std=(0.5,) * 3)], shelf))
    made = Server(worker, port=0)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        window = Window(chromium, made)
        window.page.locator(".strip button", has_text="second").click(
            force=True
        )  # it is announced as disabled
        assert "cannot be projected: aten.exp" in window.text(".status.wrong")
        assert "of first in this picture" in window.text(".answers h2")
        window.page.close()
    finally:
        made.stop()
        thread.join(timeout=20)
        worker.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_no_serious_accessibility_violation(chromium: Any, server: Server, scheme: str) -> None:
    window = Window(chromium, server, color_scheme=scheme)
    assert serious_violations(window.page) == []
    window.page.locator(".card .open").first.click()
    assert serious_violations(window.page) == []
    background = window.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", background)[:3])) > 380
    assert light == (scheme == "light")
    window.page.close()


def test_phone_needs_no_sideways_scrolling(chromium: Any, server: Server) -> None:
    window = Window(chromium, server, viewport={"width": 360, "height": 740}, has_touch=True)
    assert window.page.evaluate("document.documentElement.scrollWidth") <= 360
    window.page.locator(".frame").first.tap()
    window.wait()
    window.page.close()
