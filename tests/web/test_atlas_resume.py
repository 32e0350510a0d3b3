"""An atlas that is killed and resumed, or made by several processes, equals an undisturbed one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.atlases import HostileNoise, contents, hostile_network
from helpers.searches import small
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import OutputError
from deconvviz.folder_lock import locked
from deconvviz.web.atlas.check import check_atlas

pytestmark = pytest.mark.slow
LAYERS = ("pool1", "conv2_2", "fc6")
CHUNK = 12
"""Channels of a chunk, so that there are several."""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "search"
    dv.search("minivgg", "scenes:16", LAYERS, out=folder, workers=0)
    return folder


@pytest.fixture(scope="module")
def whole(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    site = tmp_path_factory.mktemp("whole") / "site"
    run(searched, site).communicate()
    found = contents(site)
    assert len([name for name in found if name.endswith(".html")]) == 16 + 32 + 12 + len(LAYERS) + 1
    return found


def run(searched: Path, site: Path, *more: str) -> subprocess.Popen[bytes]:
    program = (
        "import sys; from deconvviz.web.atlas import plan; "
        f"plan.MOST = {CHUNK}; from deconvviz.cli import main; "
        f"sys.argv[1:] = {['atlas', str(searched), '--out', str(site), *more]!r}; main()"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], site: Path, count: int) -> list[psutil.Process]:
    """Kill a process when the atlas has this many files, and return its child processes."""
    while process.poll() is None and sum(1 for path in site.rglob("*") if path.is_file()) < count:
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return children


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.nightly), "2"])
def test_killed_and_resumed_atlas_equals_an_undisturbed_one(
    searched: Path, whole: dict[str, bytes], tmp_path: Path, jobs: str
) -> None:
    site = tmp_path / "site"
    chance = random.Random(int(jobs))
    killed = 0
    for count in sorted(chance.sample(range(5, len(whole)), 2)):
        process = run(searched, site, "--resume", "--jobs", jobs)
        children = kill_when(process, site, count)
        killed += process.returncode == -signal.SIGKILL
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, "a child process outlives the main process"
    assert killed
    last = run(searched, site, "--resume", "--jobs", jobs)
    _, messages = last.communicate()
    assert last.returncode == 0, messages
    assert contents(site) == whole
    assert check_atlas(site).faults == ()


@pytest.mark.nightly  # the test above covers two processes
def test_two_processes_make_the_same_atlas_as_one(
    searched: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process = run(searched, tmp_path / "site", "--jobs", "2")
    _, messages = process.communicate()
    assert process.returncode == 0, messages
    assert contents(tmp_path / "site") == whole


def test_second_writer_is_refused_and_writes_nothing(searched: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "site"):
        before = contents(tmp_path / "site")
        with pytest.raises(OutputError, match=r"is being written by another thread of this process"):
            dv.atlas(searched, tmp_path / "site", ["fc6"])
        assert contents(tmp_path / "site") == before


def test_network_and_source_made_in_python_are_sent_to_other_processes(tmp_path: Path) -> None:
    net = hostile_network()
    found = dv.search(net, HostileNoise(16), ["relu", "fc"], workers=0)
    dv.atlas(found, tmp_path / "one")
    dv.atlas(found, tmp_path / "two", jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_network_that_cannot_be_sent_to_other_processes_is_refused(tmp_path: Path) -> None:
    net = small(Local())
    found = dv.search(net, HostileNoise(8), ["first", "second"], workers=0)
    with pytest.raises(
        OutputError, match=r"cannot be sent to other processes: .* Use one process \(jobs=1\)"
    ):
        dv.atlas(found, tmp_path / "site", jobs=2)
    assert not (tmp_path / "site").exists()


class Local(nn.Module):
    """Network with an attribute that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 2, 3), nn.Conv2d(2, 2, 3)
        self.function = lambda x: x

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))
