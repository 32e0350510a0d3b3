"""Pages: nothing in a value can end an element or a script, and only the embedded scripts run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import ChoiceLoader, DictLoader
from PIL import Image

from deconvviz.web import page as pages
from deconvviz.web.images import as_image, fitted, lossless, lossy
from deconvviz.web.page import json_for_script, render

HOSTILE = ("</script><script>alert(1)</script>", "<!--", "\u2028", "a\ud800b", "\"&'", "\u202eabc")


class Blocks(HTMLParser):
    """Texts of all script elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "script":
            self._inside = True
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_json_in_a_script_is_read_back_unchanged(number: int) -> None:
    value = {HOSTILE[number]: [HOSTILE[number], 1.5, None]}
    (inside,) = Blocks(f'<script type="application/json">{json_for_script(value)}</script>').found
    assert json.loads(inside) == value


def test_json_refuses_numbers_that_json_does_not_have() -> None:
    with pytest.raises(ValueError):
        json_for_script({"value": float("nan")})


TEMPLATE = """{% extends "page.html" %}
{% block title %}{{ name }}{% endblock %}
{% block body %}<p title="{{ name }}">{{ name }}</p>{% endblock %}"""


@pytest.fixture
def one_template(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = pages._environment()
    templates = ChoiceLoader([DictLoader({"one.html": TEMPLATE}), environment.loader])  # type: ignore[list-item]
    own = environment.overlay(loader=templates)
    monkeypatch.setattr(pages, "_environment", lambda: own)


@pytest.mark.usefixtures("one_template")
def test_values_are_escaped_in_text_and_attributes() -> None:
    text = render("one.html", name='<img src=x onerror="alert(1)">\u202e\n')
    assert "<img" not in text and "\u202e" not in text
    assert r"&lt;img src=x onerror=&#34;alert(1)&#34;&gt;\xe2\x80\xae\x0a" in text


@pytest.mark.usefixtures("one_template")
def test_policy_allows_the_embedded_style_by_its_hash_and_no_script() -> None:
    text = render("one.html", name="n", styles=["base.css"])
    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.split(" ", 1) for rule in policy.replace("&#39;", "'").split("; "))
    assert rules["style-src"] == f"'sha256-{digest}'"
    assert rules["script-src"] == rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"


def test_lossless_images_keep_every_pixel() -> None:
    random = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    for colours in (random, np.full((40, 40, 3), 128, np.uint8)):
        found = lossless(colours)
        with Image.open(io.BytesIO(found.data)) as image:
            assert image.format == found.kind.upper() and (found.width, found.height) == image.size
            assert np.array_equal(np.asarray(image.convert("RGB")), colours)


def test_colours_between_0_and_1_are_rounded_to_8_bits() -> None:
    assert np.asarray(as_image(np.array([[[0.0, 0.5, 1.2]]]))).tolist() == [[[0, 128, 255]]]


def test_fitted_images_become_smaller_but_never_larger() -> None:
    colours = np.zeros((60, 30, 3))
    assert fitted(colours, 20).shape == (20, 10, 3)
    assert fitted(colours, 100).shape == (60, 30, 3)


def test_lossy_images_are_small() -> None:
    smooth = np.linspace(0, 1, 96 * 96 * 3).reshape(96, 96, 3)
    assert len(lossy(smooth, 80).data) < len(lossless(smooth).data)
