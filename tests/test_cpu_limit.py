"""Plugin that fails unmarked tests which take too much processor time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cpu_limit

pytest_plugins = ["pytester"]

CONFTEST = """
import helpers.cpu_limit as plugin
plugin.NOMINAL, plugin.LIMIT = 0.1, 0.3
pytest_plugins = ["helpers.cpu_limit"]
"""
TESTS = """
import subprocess, sys, time
import pytest

CHILD = "import time\\nwhile time.process_time() < 0.5: pass"

def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def test_quick(): pass
def test_sleeping(): time.sleep(0.5)
def test_longer(): work(0.15)
def test_too_long(): work(0.5)
def test_child_too_long(): subprocess.run([sys.executable, "-c", CHILD], check=True)
@pytest.mark.slow
def test_slow(): work(0.5)
@pytest.mark.nightly
def test_nightly(): work(0.5)
def test_failing(): assert False, "its own reason"
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_unmarked_tests_over_the_limit_fail_and_long_ones_are_listed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\nmarkers =\n    slow\n    nightly\n")
    done = pytester.runpytest_subprocess("-n", str(workers), "-p", "no:cacheprovider")
    done.assert_outcomes(passed=5, failed=3)
    text = done.stdout.str()
    summary = text.partition("short test summary info")[2]
    failed = {line.partition("::")[2].split(" ")[0] for line in summary.splitlines() if "FAILED" in line}
    assert failed == {"test_too_long", "test_child_too_long", "test_failing"}
    assert text.count("mark it as slow, or make it quicker") >= 2 and "its own reason" in text
    listed = text.partition("unmarked tests of more than 0.1 s")[2].partition("short test summary")[0]
    names = [line.rpartition("::")[2] for line in listed.splitlines() if "::" in line]
    assert set(names) == {"test_longer", "test_too_long", "test_child_too_long"}
    assert names[-1] == "test_longer"


def test_processor_time_includes_finished_child_processes() -> None:
    before = cpu_limit.seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert cpu_limit.seconds() - before >= 0.25  # resolution: 0.01 s
