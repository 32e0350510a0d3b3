"""A report in Chromium: quiet, pointing, keyboard, dialog, blend, themes, phone width, print, axe-core."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import browser, executable, serious_violations, watched
from helpers.reports import projections, write_scene

import deconvviz as dv

pytestmark = pytest.mark.slow  # together 30 seconds

LAYERS = ("conv2_2", "conv4_2")
UNITS = 3


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("report")
    net = dv.load("minivgg")
    found: list[Any] = []
    for number in (1, 2):
        found += projections(net, write_scene(home / f"{number}.png", number), LAYERS, UNITS)
    found.append(dv.compare(net, home / "1.png", "conv4_2", 2, methods=["deconvnet", "guided", "gradient"]))
    found.append(dv.trust(net, [home / "1.png"], "conv4_2", 2, ["deconvnet", "guided"]))
    channels = [unit.channel for unit in found[0].units]
    found.append(dv.search(net, "scenes:12", ["conv2_2"], workers=0).topnine("conv2_2", channels))
    return dv.report(found, home / "report.html", network=net, notes="Notes")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def page(chromium: Any, path: Path) -> Iterator[Any]:
    """The report in a window; the test fails if the page logs or requests something."""
    found = watched(chromium, path, viewport={"width": 1280, "height": 900})
    yield found.page
    found.check_quiet()
    found.page.close()


def lit(page: Any) -> tuple[list[str], list[str]]:
    """Return the ids of the cards that are lit, and the cards of the boxes that are lit."""
    read = "all => all.map(one => one.id || one.dataset.card)"
    return (
        page.locator(".card.lit").evaluate_all(read),
        page.locator(".outline.lit").evaluate_all(read),
    )


def test_pointing_at_a_card_lights_its_box_and_at_a_box_its_card(page: Any) -> None:
    card = page.locator(".card[id]").nth(1)
    name = card.get_attribute("id")
    card.hover()
    assert lit(page) == ([name], [name])
    page.locator("h1").hover()
    assert lit(page) == ([], [])
    page.locator(f".outline[data-card='{name}'] .badge").hover(force=True)
    assert lit(page) == ([name], [name])


def test_focus_lights_cards_and_boxes(page: Any) -> None:
    card = page.locator(".card[id]").nth(2)
    name = card.get_attribute("id")
    card.locator(".pair").focus()
    assert lit(page) == ([name], [name])
    page.locator(f".outline[data-card='{name}']").focus()
    assert lit(page) == ([name], [name])


def test_all_boxes_and_cards_are_reached_with_the_tab_key(page: Any) -> None:
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.dataset.card ?? document.activeElement.dataset.name")
        )
    names = page.locator(".pair").evaluate_all("all => all.map(one => one.dataset.name)")
    boxes = page.locator(".outline").evaluate_all("all => all.map(one => one.dataset.card)")
    assert {*names, *boxes} <= reached


@pytest.mark.parametrize("key", ["Enter", " "])
def test_keyboard_enlarges_a_card_and_arrow_keys_show_the_next(page: Any, key: str) -> None:
    pairs, dialog = page.locator(".pair"), page.locator("dialog")
    assert not dialog.is_visible()
    pairs.nth(0).focus()
    page.keyboard.press(key)
    assert dialog.is_visible()
    title = page.locator("#enlarged-title")
    names = pairs.evaluate_all("all => all.map(one => one.dataset.name)")
    assert title.text_content() == names[0]
    page.keyboard.press("ArrowLeft")
    assert title.text_content() == names[0]
    assert page.locator("dialog .previous").is_disabled()
    for _ in range(UNITS):  # from the cards of the first layer to those of the second
        page.keyboard.press("ArrowRight")
    assert title.text_content() == names[UNITS]
    page.locator("dialog .previous").focus()
    for _ in range(UNITS):
        page.keyboard.press("Enter")
    assert title.text_content() == names[0]  # the button is now disabled, and keys still work
    page.keyboard.press("ArrowRight")
    assert title.text_content() == names[1]
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    # the browser tells the page of the closing a moment later, and only then does the focus move
    page.wait_for_function("name => document.activeElement.dataset.name === name", arg=names[1])


def test_click_enlarges_and_the_slider_blends_the_projection_over_the_patch(page: Any) -> None:
    page.locator(".pair").nth(1).click()
    layers = page.locator(".stage svg")
    assert layers.count() == 2
    assert layers.nth(0).get_attribute("class") == "patch"
    assert layers.nth(0).bounding_box() == layers.nth(1).bounding_box()
    assert layers.nth(0).bounding_box()["width"] > 400
    slider = page.locator("dialog input")
    for value in (0, 100, 25):
        slider.fill(str(value))
        opacity = layers.nth(1).evaluate("one => getComputedStyle(one).opacity")
        assert float(opacity) == value / 100
    slider.focus()
    title = page.locator("#enlarged-title").text_content()
    page.keyboard.press("ArrowRight")
    assert float(layers.nth(1).evaluate("one => getComputedStyle(one).opacity")) == 0.26
    assert page.locator("#enlarged-title").text_content() == title  # the key moved the slider
    page.locator("dialog .next").click()
    assert page.locator("#enlarged-title").text_content() != title
    page.locator("dialog .close").click()
    assert not page.locator("dialog").is_visible()


def test_enlarged_pixels_are_crisp(page: Any) -> None:
    rendering = page.locator("symbol image").evaluate_all(
        "all => all.map(one => getComputedStyle(one).imageRendering)"
    )
    assert set(rendering) == {"pixelated"}


def test_click_on_a_box_enlarges_its_unit(page: Any) -> None:
    outline = page.locator(".outline").last
    name = outline.get_attribute("data-card")
    outline.locator(".badge").click(force=True)
    number = page.locator(f"#{name} .pair").get_attribute("data-name")
    assert page.locator("#enlarged-title").text_content() == number


def test_strongest_images_of_a_channel_open_and_are_loaded(page: Any) -> None:
    details = page.locator(".card details").first
    details.locator("summary").click()
    sprite = details.locator("svg.sprite").first
    assert sprite.is_visible()
    assert sprite.bounding_box()["width"] > 80


def test_page_is_no_wider_than_a_phone(chromium: Any, path: Path) -> None:
    found = watched(chromium, path, viewport={"width": 360, "height": 740})
    assert found.page.evaluate("document.documentElement.scrollWidth") == 360
    found.page.locator(".pair").first.click()
    assert found.page.locator("dialog").bounding_box()["width"] <= 360
    for details in found.page.locator("details").all():
        details.evaluate("one => { one.open = true }")
    assert found.page.evaluate("document.documentElement.scrollWidth") == 360
    found.check_quiet()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(chromium: Any, path: Path, scheme: str) -> None:
    found = watched(chromium, path, color_scheme=scheme)
    background = found.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", background)[:3])) > 600
    assert light == (scheme == "light")
    for details in found.page.locator("details").all():
        details.evaluate("one => { one.open = true }")
    assert serious_violations(found.page) == []
    found.page.locator(".pair").first.click()
    assert serious_violations(found.page) == []


def test_page_is_complete_with_scripts_off(chromium: Any, path: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator(".card[id]").count() == 2 * len(LAYERS) * UNITS
    assert page.locator(".card svg.projection").last.is_visible()
    assert not page.locator("dialog").is_visible()
    assert page.get_by_role("button").count() == 0
    context.close()


def test_manifest_is_downloaded_from_the_file(page: Any) -> None:
    link = page.locator("a[download]").first
    with page.expect_download() as waiting:
        link.click()
    assert waiting.value.suggested_filename == link.get_attribute("download")
    assert '"format": "deconvviz manifest 1"' in Path(waiting.value.path()).read_text(encoding="utf-8")


def texts(pdf: bytes) -> list[tuple[str, tuple[float, float]]]:
    """Return the text and the size in points of each page."""
    reader = pytest.importorskip("pypdfium2")
    document = reader.PdfDocument(io.BytesIO(pdf))
    return [(page.get_textpage().get_text_range(), page.get_size()) for page in document]


@pytest.mark.parametrize(("format", "size"), [("A4", (595, 842)), ("Letter", (612, 792))])
def test_printed_pages_have_numbers_and_no_controls(
    page: Any, format: str, size: tuple[float, float]
) -> None:
    pages = texts(page.pdf(format=format))
    assert len(pages) >= 4
    for number, (text, found) in enumerate(pages, 1):
        assert f"{number} / {len(pages)}" in text
        assert found == pytest.approx(size, abs=2)
    whole = "".join(text for text, _ in pages)
    for control in ("Copy", "Previous", "Manifest:", "Strongest images\n"):
        assert control not in whole
    assert "Zeiler" in whole and "rank 3 of 3" in whole


def test_no_card_is_cut_by_the_end_of_a_page(page: Any) -> None:
    """The caption and the rank of a card are on the same page."""
    pages = [text for text, _ in texts(page.pdf(format="A4"))]
    captions = sum(len(re.findall(r"channel \d+\s+at \(\d+, \d+\)", text)) for text in pages)
    assert captions >= 2 * len(LAYERS) * UNITS
    for text in pages:
        cards = len(re.findall(r"channel \d+\s+at \(\d+, \d+\) · activation", text))
        assert cards == len(re.findall(r"rank \d of 3", text))


def test_chromium_prints_the_report_from_the_command_line(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [executable(), "--headless", "--no-sandbox", "--disable-gpu", profile,
               "--no-pdf-header-footer", f"--print-to-pdf={target}", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert target.exists(), done.stderr
    pages = texts(target.read_bytes())
    assert f"1 / {len(pages)}" in pages[0][0] and len(pages) >= 4
