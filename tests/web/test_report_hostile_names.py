"""Hostile names of files, classes, layers, methods, titles and notes: nothing runs, everything shows."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.browser import browser, watched
from helpers.hostile_names import HOSTILE, any_bytes, write_all
from helpers.reports import PageReader, projections, write_scene
from torch import nn

import deconvviz as dv
from deconvviz.network_info import Origin
from deconvviz.printable_names import path_to_text, printable

pytestmark = [pytest.mark.slow, any_bytes]  # together 30 seconds

TEXTS = (
    '<img src=x onerror="alert(1)">',
    "</script><script>alert(1)</script>",
    "</svg></symbol><iframe src='javascript:alert(1)'>",
    "\"' onfocus=alert(1) autofocus tabindex=1 x='",
    "a\u202eb\u2066c",
    "line\nbreak\r\ttab",
    "half \ud800 surrogate \udcff byte",
    "{{ 7 * 7 }}{% raw %} &amp; &lt;",
    "l" * 300,
    "]]>--><!--",
)


ALLOWED = """
html head meta title style body script header main section nav h1 h2 h3 h4 p a ul ol li dl dt dd pre code
strong br table caption colgroup col thead tbody tr th td figure figcaption div span details summary dialog
label input button svg defs symbol image use g rect line text path polyline polygon circle
"""


def network(names: tuple[str, ...]) -> dv.Network:
    """Return a network whose layers, classes and own name are hostile."""
    torch.manual_seed(0)
    module = nn.Sequential()
    for number, name in enumerate(names):
        own = name.replace(".", "·").replace("\ud800", "").replace("\udcff", "")  # names are hashed as UTF-8
        module.add_module(own, nn.Conv2d(3 if number == 0 else 4, 4, 3))
    module.add_module("pool", nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", nn.Flatten())
    module.add_module("fc", nn.Linear(4, len(names)))
    origin = Origin("weights", None, names[0])
    return dv.Network(module, size=64, classes=names, name=names[0], origin=origin)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Return a report full of hostile names, and its results."""
    home = tmp_path_factory.mktemp("hostile")
    contents = write_scene(home / "scene.png", 1).read_bytes()
    images = write_all(home / "images", contents)
    net = network(TEXTS)
    layers = net.layers.names[: len(TEXTS)]
    found: list[Any] = []
    for number, image in enumerate(images):
        found += projections(net, image, (layers[number % len(layers)],), 2)
    found.append(dv.compare(net, images[3], layers[1], 2, methods=["deconvnet", "gradient"]))
    path = dv.report(
        found, home / "report.html", title=TEXTS[0] + TEXTS[1], notes="\n".join(TEXTS), network=net
    )
    return path, found


@pytest.fixture(scope="module")
def page(made: tuple[Path, list[Any]]) -> PageReader:
    return PageReader.of(made[0])


def test_all_names_are_in_the_text(page: PageReader) -> None:
    flat = " ".join(page.text.split())
    for text in TEXTS:
        for line in text.splitlines():
            assert " ".join(printable(line).split()) in flat, text
    for name in HOSTILE:
        shown = printable(path_to_text(os.fsdecode(name)))
        assert " ".join(shown.split()) in flat, name


def test_names_make_no_elements_and_no_handlers(page: PageReader) -> None:
    allowed = set(ALLOWED.split())
    assert {one.tag for one in page.elements} <= allowed
    assert [a for one in page.elements for a in one.attributes if a.startswith("on")] == []
    assert len(page.all("script")) == 2  # the script of the page, and the manifests


def test_page_has_no_control_characters_or_invisible_marks(made: tuple[Path, list[Any]]) -> None:
    text = made[0].read_text(encoding="utf-8")
    text = re.sub('<script type="application/json".*?</script>', "", text)  # is not shown
    assert not {c for c in text if (ord(c) < 32 and c != "\n") or c in "\u202e\u2066\u2028\xad"}


def test_manifests_keep_the_names(page: PageReader, made: tuple[Path, list[Any]]) -> None:
    for manifest, result in zip(page.manifests, made[1], strict=True):
        assert manifest["layer"]["name"] == result.layer.name
        assert manifest["file"].isascii() and "/" not in manifest["file"]
        json.dumps(manifest)


def test_nothing_runs_in_the_browser(made: tuple[Path, list[Any]]) -> None:
    path, found = made
    with browser() as chromium:
        seen = watched(chromium, path)
        dialogs: list[str] = []
        seen.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        for pair in seen.page.locator(".pair").all()[:4]:
            pair.click()
            seen.page.keyboard.press("Escape")
        seen.page.wait_for_timeout(300)
        assert dialogs == []
        assert seen.page.locator("iframe, img, object, embed").count() == 0
        assert seen.page.locator(".card[id]").count() == sum(
            len(one) for one in found if hasattr(one, "pixels")
        )
        assert seen.page.evaluate("document.title").startswith('<img src=x onerror="alert(1)">')
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 1280
        read = seen.page.evaluate("JSON.parse(document.querySelector('#manifests').textContent).length")
        assert read == len(found)
        seen.check_quiet()


def test_hostile_command_is_shown_and_quoted(tmp_path: Path) -> None:
    net = dv.load("minivgg")
    image = write_scene(tmp_path / "$(touch owned) `id`; 'a' \"b\".png", 1)
    (projection,) = projections(net, image, ("conv1_1",), 1)
    page = PageReader.of(dv.report(projection, tmp_path / "a.html", command="<b>deconvviz</b> 'report'"))
    commands = [one.text for one in page.all("pre")]
    assert "<b>deconvviz</b> 'report'" in commands
    (own,) = [one for one in commands if one.startswith("deconvviz project")]
    assert shlex.split(own)[2] == str(image)
