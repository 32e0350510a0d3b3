"""Small searches for atlases, and what a folder contains."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from torch import nn

import deconvviz as dv
from deconvviz.image_sources.image_ids import Names
from helpers.searches import Noise, small

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"'><b>",
    "\u202egnp",
    "line\nbreak",
    "half a pair \ud800",
    "x" * 300,
)
"""Names of classes and images that must be shown and must not run."""

FIRST = "a/b <img onerror=alert(1)>"
LAYERS = (FIRST, "site", "relu", "fc")


class HostileNoise(Noise):
    """Noise images with hostile ids and labels. Some labels are unknown."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        encodable = [name.replace("\ud800", "?") for name in HOSTILE]
        names = Names(f"{encodable[number % 7]} {number:04d}" for number in range(count))
        labels = [None if number % 8 == 7 else encodable[number % 7] for number in range(count)]
        dv.Source.__init__(self, "noise", names, labels=labels)


def hostile_network() -> dv.Network:
    """Return a network with hostile layer names, a dead channel, and channels that few images activate."""
    module = nn.Sequential()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module.add_module(FIRST, nn.Conv2d(3, 6, 3, padding=1))
        module.add_module("act", nn.ReLU())
        module.add_module("site", nn.MaxPool2d(2))
        module.add_module("second", nn.Conv2d(6, 5, 3))
        module.add_module("relu", nn.ReLU())
        module.add_module("flat", nn.Flatten())
        module.add_module("fc", nn.Linear(5 * 6 * 6, 4))
    with torch.no_grad():
        module.second.bias[0] = -100  # dead
        module.second.bias[1] -= 0.3  # active on few images
    return small(module, classes=HOSTILE[2:6], name="<i>net</i>")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder, hidden ones too, by their relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def numbers(site: Path, folder: str, channel: int) -> dict[str, Any]:
    """Return the JSON file of a channel."""
    found: dict[str, Any] = json.loads((site / folder / f"{channel}.json").read_text())
    return found


class Page(HTMLParser):
    """Text, links and attributes of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.labels: list[str] = []
        self._quiet = False
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._quiet = tag in ("script", "style")
        found = dict(attrs)
        if tag == "a" and (link := found.get("href")):
            self.links.append(link)
        if label := found.get("aria-label"):
            self.labels.append(label)

    def handle_endtag(self, tag: str) -> None:
        self._quiet = False

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.text += data
