"""The search on Ray, on two workers on this machine: the same index, also when they are killed."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

import deconvviz as dv
from deconvviz.dataset_search.progress import Progress
from deconvviz.dataset_search.result import Search
from deconvviz.dataset_search.search import search
from deconvviz.errors import ImageError, SearchError
from deconvviz.image_sources import Source, open_source
from deconvviz.images.image import InputImage
from deconvviz.scenes import scene

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]  # the warnings are Ray's own
ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
SOURCE, SIZE = "scenes:320", 8


class Slow(Source):
    """Scenes that are read so slowly that there is a reader to be killed."""

    kind = "slow"

    def __init__(self, scenes: str) -> None:
        self.scenes = open_source(scenes)
        super().__init__(scenes, self.scenes.names)

    def read(self, number: int) -> InputImage:
        time.sleep(0.02)
        return self.scenes.image(number)


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def here(net: dv.Network) -> Search:
    """The same search on the local engine, with one thread, as each of Ray's workers has."""
    assert torch.get_num_threads() == 1
    return search(net, SOURCE, "all", batch_size=SIZE, workers=0)


@pytest.fixture(autouse=True)
def sockets_closed() -> Iterator[None]:
    """Ray leaves sockets to the garbage collector, whose warning would be an error in any later test."""
    yield
    gc.collect()


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.workers = [made.add_node(num_cpus=1), made.add_node(num_cpus=1)]
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def _same(one: Search, other: Search) -> bool:
    return bool(one.peaks.equals(other.peaks) and one.channels.equals(other.channels))


def _kill(cluster: Any, beginning: str) -> bool:
    """Kill one process of this name with SIGKILL: a child of the raylets of this cluster, and no other."""
    for node in cluster.workers:
        for raylet in node.all_processes["raylet"]:
            with suppress(psutil.NoSuchProcess):
                for process in psutil.Process(raylet.process.pid).children(recursive=True):
                    if " ".join(process.cmdline()).startswith(beginning):
                        process.kill()
                        return True
    return False


class Killer:
    """Kills something each time that a number of pictures is done."""

    def __init__(self, *steps: tuple[int, Callable[[], bool]]) -> None:
        self.steps, self.killed = list(steps), 0

    def __call__(self, progress: Progress) -> None:
        if self.steps and progress.done >= self.steps[0][0] and self.steps[0][1]():
            self.steps.pop(0)
            self.killed += 1


def test_a_killed_actor_and_a_killed_task_change_nothing(net: dv.Network, here: Search, cluster: Any) -> None:
    killer = Killer(
        (16, lambda: _kill(cluster, "ray::Map(_read)")),
        (40, lambda: _kill(cluster, "ray::MapWorker(Map(_Looker))")),
    )
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
    slow = Slow(SOURCE)
    found = search(
        net, slow, "all", batch_size=SIZE, engine="ray", address=cluster.address, workers=1, report=killer
    )
    assert killer.killed == 2
    assert not ray.is_initialized()
    assert _same(found, here)


def test_a_lost_machine_changes_nothing(net: dv.Network, here: Search, cluster: Any) -> None:
    def lose() -> bool:
        cluster.add_node(num_cpus=1)  # else there is none left for one of the two stages
        cluster.remove_node(cluster.workers[1], allow_graceful=False)
        return True

    killer = Killer((40, lose))
    found = search(net, SOURCE, "all", batch_size=SIZE, engine="ray", address=cluster.address, report=killer)
    assert killer.killed == 1
    assert _same(found, here)


def test_bad_pictures_checkpoints_and_a_network_of_ones_own(tmp_path: Path) -> None:
    """On this machine alone: what is started is shut down again."""
    (tmp_path / "net.py").write_text(NET)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(24):
        Image.fromarray(scene(seed).image).save(pictures / f"{seed:02d}.png")
    (pictures / "07.png").write_bytes(b"no picture")
    (pictures / "11.png").write_bytes(b"")
    net = dv.load(f"{tmp_path / 'net.py'}:make")
    local = search(net, pictures, "all", batch_size=4, workers=0)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done >= 12:
            raise Stopped

    out = tmp_path / "out"
    with pytest.raises(Stopped):
        search(net, pictures, "all", batch_size=4, engine="ray", out=out, every=0, report=stop)
    assert not ray.is_initialized()
    found = search(net, pictures, "all", engine="ray", out=out, resume=True)
    assert _same(found, local)
    assert found.skipped == local.skipped
    assert [image for image, _ in found.skipped] == ["07.png", "11.png"]
    assert found.manifest["engine"] == "ray"
    with pytest.raises(ImageError, match=r"07\.png"):
        search(net, pictures, "all", batch_size=24, engine="ray", strict=True)
    assert not ray.is_initialized()


NET = """
import deconvviz as dv
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, stride=2)

    def forward(self, x):
        return torch.relu(self.conv(x))

def make():
    return dv.Network(Own(), size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
"""


def test_nothing_answers_at_an_address(net: dv.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # else "auto" finds any cluster of this machine
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "auto"):
        with pytest.raises(SearchError, match=f"^no Ray cluster answers at {address}: .*ray start --head"):
            search(net, "scenes:4", "conv1_1", engine="ray", address=address)
        assert not ray.is_initialized()


def test_there_is_no_cluster_to_be_found(net: dv.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(**options: Any) -> None:
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.\nSee the manual.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", find_none)  # it would find any cluster of this machine
    with pytest.raises(SearchError) as refusal:
        search(net, "scenes:4", "conv1_1", engine="ray", address="auto")
    assert str(refusal.value) == (
        "no Ray cluster answers at auto: See the manual. (start one with: ray start --head)"
    )


def test_without_ray(net: dv.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SearchError) as refusal:
        search(net, "scenes:4", "conv1_1", engine="ray")
    assert str(refusal.value) == "the engine ray needs Ray: pip install 'deconvviz[ray]'"


def test_an_address_needs_the_engine(net: dv.Network) -> None:
    with pytest.raises(SearchError, match="goes with the engine ray"):
        search(net, "scenes:4", "conv1_1", address="auto")
