"""Pages of an atlas in Chromium, opened from files: quiet, accessible, and usable by keyboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.atlases import FIRST, HOSTILE, LAYERS, HostileNoise, hostile_network, numbers
from helpers.browser import browser, serious_violations, watched

import deconvviz as dv
from deconvviz.dataset_search.result import Search
from deconvviz.web.atlas.addresses import folder_of

pytestmark = pytest.mark.slow
PAGES = (
    "index.html",
    "relu/index.html",
    "relu/0.html",
    "relu/3.html",
    "fc/3.html",
    f"{folder_of(FIRST)}/index.html",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def found() -> Search:
    net = hostile_network()
    search = dv.search(net, HostileNoise(40), LAYERS, workers=0)
    vars(search)["net"] = net  # a search does not keep its network alive
    return search


@pytest.fixture(scope="module")
def site(chromium: Any, found: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas") / "site"
    dv.atlas(found, folder)
    return folder


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_quiet_and_accessible(chromium: Any, site: Path, page: str, scheme: str) -> None:
    seen = watched(chromium, site / page, color_scheme=scheme)
    seen.page.wait_for_load_state("networkidle")
    seen.check_quiet()
    assert serious_violations(seen.page) == []
    assert seen.page.evaluate("document.title.length") > 3
    broken = "[...document.images].filter(one => !one.naturalWidth).length"
    assert seen.page.evaluate(broken) == 0
    seen.page.close()


@pytest.mark.parametrize("page", PAGES)
def test_pages_fit_a_phone_without_sideways_scrolling(chromium: Any, site: Path, page: str) -> None:
    seen = watched(chromium, site / page, viewport={"width": 360, "height": 740})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
    seen.page.close()


def test_pages_load_in_under_a_second(chromium: Any, site: Path) -> None:
    times = []
    for page in PAGES:
        seen = watched(chromium, site / page)
        times.append(seen.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        seen.page.close()
    assert sorted(times)[len(times) // 2] < 1000


def shown(page: Any) -> list[int]:
    """Return the numbers of the visible channels in their order."""
    texts: list[str] = page.locator(".tiles li:not([hidden]) b").all_text_contents()
    return [int(text) for text in texts]


def test_tiles_are_sorted_and_filtered_and_the_address_keeps_the_state(chromium: Any, site: Path) -> None:
    units = [numbers(site, "relu", channel) for channel in range(5)]
    seen = watched(chromium, site / "relu" / "index.html")
    page = seen.page
    assert shown(page) == [0, 1, 2, 3, 4]
    page.select_option("[name=sort]", "strength")
    assert shown(page) == sorted(range(5), key=lambda channel: -units[channel]["maximum"])
    page.select_option("[name=sort]", "density")
    assert shown(page) == sorted(range(5), key=lambda channel: (-units[channel]["density"], channel))
    page.select_option("[name=sort]", "likeness")
    known = [channel for channel in range(5) if units[channel]["likeness"]]
    order = sorted(known, key=lambda channel: units[channel]["likeness"]["value"])
    assert shown(page) == order + [channel for channel in range(5) if channel not in known]
    page.select_option("[name=sort]", "purity")
    assert shown(page)[-1] == 0  # dead, so without purity
    page.select_option("[name=dead]", "hide")
    assert sorted(shown(page)) == [1, 2, 3, 4]
    page.fill("[name=q]", "2-3")
    assert sorted(shown(page)) == [2, 3]
    assert "2 of 5 shown" in page.inner_text("output")
    assert page.evaluate("location.hash") == "#sort=purity&q=2-3&dead=hide"
    page.reload()
    assert sorted(shown(page)) == [2, 3] and page.input_value("[name=sort]") == "purity"
    page.fill("[name=q]", "ONERROR")
    expected = [c for c in range(1, 5) if any("onerror" in label for label, _ in units[c]["classes"])]
    assert sorted(shown(page)) == expected
    page.fill("[name=q]", "")
    page.select_option("[name=class]", HOSTILE[1])
    expected = [c for c in range(1, 5) if HOSTILE[1] in dict(map(tuple, units[c]["classes"]))]
    assert sorted(shown(page)) == expected
    page.select_option("[name=class]", "")
    page.select_option("[name=dead]", "only")
    assert shown(page) == [0]
    seen.check_quiet()
    page.close()


def test_arrow_keys_move_between_tiles_and_enter_opens_a_channel(chromium: Any, site: Path) -> None:
    seen = watched(chromium, site / folder_of(FIRST) / "index.html", viewport={"width": 400, "height": 700})
    page = seen.page
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.tiles')).gridTemplateColumns.split(' ').length"
    )
    assert columns == 3
    page.focus(".tiles a")
    focused = "document.activeElement.getAttribute('href')"
    for key, expected in (
        ("ArrowRight", 1),
        ("ArrowDown", 4),
        ("ArrowLeft", 3),
        ("ArrowUp", 0),
        ("End", 5),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert page.evaluate(focused) == f"{expected}.html"
    page.keyboard.press("ArrowUp")  # there is nothing above
    assert page.evaluate(focused) == "0.html"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/3.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/4.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/3.html")
    seen.check_quiet()
    page.close()


def test_pair_is_enlarged_with_the_whole_image_and_its_box(chromium: Any, site: Path) -> None:
    peak = numbers(site, "relu", 3)["peaks"][1]
    seen = watched(chromium, site / "relu" / "3.html")
    page = seen.page
    page.locator(".nine a").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog").evaluate("dialog => dialog.open")
    box = page.locator("dialog rect")
    x0, y0, x1, y1 = peak["crop"]
    assert [float(box.get_attribute(name)) for name in ("x", "y", "width", "height")] == [
        x0,
        y0,
        x1 - x0,
        y1 - y0,
    ]
    assert page.locator("dialog image").last.get_attribute("href") == f"../{peak['file']}"
    assert page.locator("dialog svg").count() == 3
    page.keyboard.press("ArrowRight")  # does not leave the page
    page.keyboard.press("Escape")
    assert not page.locator("dialog").evaluate("dialog => dialog.open")
    assert page.url.endswith("relu/3.html")
    page.locator(".nine a").first.click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("dialog").evaluate("dialog => dialog.open")
    seen.check_quiet()
    page.locator(".nine a").first.click()
    assert serious_violations(page) == []  # last, because axe reads the style sheet itself
    page.close()


def test_pages_are_complete_without_scripts(chromium: Any, site: Path) -> None:
    seen = watched(chromium, site / "relu" / "index.html", java_script_enabled=False)
    page = seen.page
    assert not page.locator(".controls").is_visible()
    assert page.locator(".tiles a").count() == 5
    page.locator(".tiles a").nth(3).click()
    page.wait_for_url("**/3.html")
    assert page.locator(".nine li").count() == 9
    page.locator(".nine a").first.click()
    page.wait_for_url("**/images/*.webp")
    page.close()


def test_layer_of_4096_channels_is_filtered_at_once(chromium: Any, site: Path, tmp_path: Path) -> None:
    from deconvviz.web.atlas.layer_page import LayerPlace, layer_page

    layer = hostile_network().layers.find("relu")
    unit = numbers(site, "relu", 3)
    units = [{**unit, "channel": channel, "maximum": float(channel * 7 % 4096)} for channel in range(4096)]
    (tmp_path / "site" / "relu").mkdir(parents=True)
    (tmp_path / "site" / "style.css").touch()
    path = tmp_path / "site" / "relu" / "index.html"
    path.write_text(layer_page(units, LayerPlace(layer, 4096, "", None, None, ())), encoding="utf-8")
    begun = time.perf_counter()
    seen = watched(chromium, path)
    loaded = time.perf_counter() - begun
    took = seen.page.evaluate(
        """() => {
          const start = performance.now();
          const sort = document.querySelector("[name=sort]");
          sort.value = "strength";
          sort.dispatchEvent(new Event("input", { bubbles: true }));
          document.body.getBoundingClientRect();
          return performance.now() - start;
        }"""
    )
    assert shown(seen.page)[:2] == [585, 1170]  # 7 * 585 = 4095
    assert loaded < 10 and took < 2000  # much less on a machine that is not busy
    seen.page.close()
