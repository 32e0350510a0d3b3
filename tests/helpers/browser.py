"""Chromium for tests of pages: a page from a file, its console, its requests, and axe-core."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REQUIRED = "DECONVVIZ_REQUIRE_BROWSER"
"""If this variable is set, a missing browser fails tests instead of skipping them."""


@dataclass
class Watched:
    """A page with everything that it logged and requested."""

    page: Any  # playwright.sync_api.Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check_quiet(self) -> None:
        """Fail if the page logged a message, raised an error, or requested something that is not a file."""
        assert self.messages == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def executable() -> str:
    """Return the path of Chromium. Skip the test if there is none, or fail if one is required."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found:
        pytest.importorskip("playwright")
        return found
    reason = "no Chromium: install Debian's package chromium, or name the program in CHROMIUM"
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def opened(path: Path, **settings: Any) -> Iterator[Watched]:
    """Open a file in a new browser. `settings` are those of Playwright's `new_page`."""
    with browser() as chromium:
        yield watched(chromium, path, **settings)


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium without a window."""
    program = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


def watched(chromium: Any, path: Path, **settings: Any) -> Watched:
    """Open a file in a new page and record what it logs and requests."""
    found = Watched(chromium.new_page(**settings))
    found.page.on("console", lambda message: found.messages.append(message.text))
    found.page.on("pageerror", lambda error: found.messages.append(str(error)))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.goto(path.absolute().as_uri())
    return found


def serious_violations(page: Any) -> list[str]:
    """Return the violations of accessibility rules that axe-core calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
