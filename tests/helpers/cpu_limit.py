"""Pytest plugin that measures the processor time of every test and limits it for unmarked tests.

Processor time includes the child processes that a test waits for, and does not depend on the load of the
machine. Tests that take more than `NOMINAL` seconds should have the marker `slow`. Unmarked tests that take
longer are listed at the end of the run, and fail above `LIMIT` seconds. `LIMIT` is ten times `NOMINAL`, so
that a slow processor or the first import of a large package does not make a test fail.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

NOMINAL = 2.0  # seconds
LIMIT = 20.0
MARKERS = ("slow", "nightly")
_PROPERTY = "processor seconds"


def seconds() -> float:
    """Return the processor time in seconds of this process and of the child processes it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    start = seconds()
    yield
    taken = seconds() - start
    item.user_properties.append((_PROPERTY, taken))
    if taken > LIMIT and not any(item.get_closest_marker(name) for name in MARKERS):
        pytest.fail(f"{taken:.1f} s of processor time: mark it as slow, or make it quicker", pytrace=False)


class LongTests:
    """Collects the unmarked tests that took more than `NOMINAL` seconds."""

    def __init__(self) -> None:
        self.found: list[tuple[float, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" or any(name in report.keywords for name in MARKERS):
            return
        taken = dict(report.user_properties).get(_PROPERTY, 0.0)
        if isinstance(taken, float) and taken > NOMINAL:
            self.found.append((taken, report.nodeid))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section(f"unmarked tests of more than {NOMINAL:g} s of processor time")
        for taken, name in sorted(self.found, reverse=True):
            terminalreporter.write_line(f"{taken:5.1f} s  {name}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LongTests())
