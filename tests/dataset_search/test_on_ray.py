"""Search on Ray with two workers on this machine: equal results, also if workers are killed."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers.searches import same
from PIL import Image

import deconvviz as dv
from deconvviz.dataset_search.progress import Progress
from deconvviz.dataset_search.result import Search
from deconvviz.dataset_search.search import search
from deconvviz.errors import ImageError, OutputError, SearchError
from deconvviz.image_sources import Source, open_source
from deconvviz.images.image import InputImage
from deconvviz.scenes import scene

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]  # Ray itself emits warnings
ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
SOURCE, SIZE = "scenes:160", 8


class Slow(Source):
    """Source of scenes that is slow enough for a reading task to be killed."""

    kind = "slow"

    def __init__(self, scenes: str) -> None:
        self.scenes = open_source(scenes)
        super().__init__(scenes, self.scenes.names, labels=self.scenes.class_labels)

    def read(self, number: int) -> InputImage:
        time.sleep(0.02)
        return self.scenes.image(number)


@pytest.fixture(scope="module")
def net() -> dv.Network:
    return dv.load("minivgg")


@pytest.fixture(scope="module")
def expected(net: dv.Network) -> Search:
    """Result of the local engine with one thread, like each worker of Ray."""
    assert torch.get_num_threads() == 1
    return search(net, SOURCE, "all", batch_size=SIZE, workers=0)


@pytest.fixture(autouse=True)
def sockets_closed() -> Iterator[None]:
    """Collect the sockets that Ray leaves open; their warning would be an error in a later test."""
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


def _kill(cluster: Any, beginning: str) -> bool:
    """Kill a child process of this cluster by the start of its command; return True if there was one."""
    for node in cluster.workers:
        for raylet in node.all_processes["raylet"]:
            with suppress(psutil.NoSuchProcess):
                for process in psutil.Process(raylet.process.pid).children(recursive=True):
                    if " ".join(process.cmdline()).startswith(beginning):
                        process.kill()
                        return True
    return False


class Killer:
    """Progress callback that kills a worker each time a given number of images is done."""

    def __init__(self, *steps: tuple[int, Callable[[], bool]]) -> None:
        self.steps, self.killed = list(steps), 0

    def __call__(self, progress: Progress) -> None:
        if self.steps and progress.done >= self.steps[0][0] and self.steps[0][1]():
            self.steps.pop(0)
            self.killed += 1


@pytest.mark.nightly  # waits for Ray, 45 s to 5 min; the test below searches on Ray by day
def test_killed_task_killed_actor_and_lost_machine_do_not_change_the_result(
    net: dv.Network, expected: Search, cluster: Any
) -> None:
    def lose() -> bool:
        cluster.add_node(num_cpus=1)  # otherwise one of the two stages has no machine
        cluster.remove_node(cluster.workers[1], allow_graceful=False)
        return True

    killer = Killer(
        (16, lambda: _kill(cluster, "ray::Map(_read)")),
        (40, lambda: _kill(cluster, "ray::MapWorker(Map(_PeakActor))")),
        (72, lose),
    )
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import test modules
    slow = Slow(SOURCE)
    found = search(
        net, slow, "all", batch_size=SIZE, engine="ray", address=cluster.address, workers=1, report=killer
    )
    assert killer.killed == 3
    assert not ray.is_initialized()
    assert same(found, expected)


def test_interrupted_search_of_a_user_network_with_bad_images_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is started on this machine and shut down again, after all threads that read from it have ended.

    While it runs, its folder is locked.
    """
    shut_down, reading = ray.shutdown, []

    def shutdown() -> None:
        reading.extend(t.name for t in threading.enumerate() if t.name.startswith(("iter_", "StreamingE")))
        shut_down()

    monkeypatch.setattr(ray, "shutdown", shutdown)
    (tmp_path / "net.py").write_text(NET)
    images = tmp_path / "images"
    for seed in range(24):
        path = images / f"class {seed % 3}" / f"{seed:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(seed).image).save(path)
    for seed in range(24, 28):  # large JPEGs, which are decoded at half of their size
        Image.fromarray(scene(seed, size=150).image).save(images / "class 0" / f"{seed}.jpg")
    (images / "class 1" / "07.png").write_bytes(b"not an image")
    (images / "class 2" / "11.png").write_bytes(b"")
    net = dv.load(f"{tmp_path / 'net.py'}:make")
    local = search(net, images, "all", batch_size=4, workers=0, scaled_decoding=True)
    assert not same(local, search(net, images, "all", batch_size=4, workers=0))

    class Stopped(Exception):
        pass

    out = tmp_path / "out"

    def stop(progress: Progress) -> None:
        with pytest.raises(OutputError, match="is being written by"):
            search(net, images, "all", out=out, workers=0, force=True)
        if progress.done >= 12:
            raise Stopped

    with pytest.raises(Stopped):
        search(
            net,
            images,
            "all",
            batch_size=4,
            scaled_decoding=True,
            engine="ray",
            out=out,
            every=0,
            report=stop,
        )
    assert not ray.is_initialized()
    found = search(net, images, "all", scaled_decoding=True, engine="ray", out=out, resume=True)
    assert same(found, local)
    assert found.skipped == local.skipped
    assert [image for image, _ in found.skipped] == ["class 1/07.png", "class 2/11.png"]
    assert len(found.class_means("conv", 0)) == 3
    assert found.manifest["engine"] == "ray"
    assert not ray.is_initialized()
    assert reading == []


@pytest.mark.nightly  # the local engine checks each batch with the same plan
def test_bad_image_ends_a_strict_search(net: dv.Network, tmp_path: Path) -> None:
    Image.fromarray(scene(0).image).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        search(net, tmp_path, "conv1_1", engine="ray", strict=True)
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


def test_address_without_a_cluster_is_rejected(net: dv.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # otherwise "auto" finds any cluster on this machine
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "auto"):
        with pytest.raises(
            SearchError, match=f"^no Ray cluster answers at {address}: .*Start one with: ray start --head"
        ):
            search(net, "scenes:4", "conv1_1", engine="ray", address=address)
        assert not ray.is_initialized()


def test_address_auto_without_a_cluster_is_rejected(net: dv.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(**options: Any) -> None:
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray instance.\nSee the manual.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", find_none)  # it would find any cluster on this machine
    with pytest.raises(SearchError) as error:
        search(net, "scenes:4", "conv1_1", engine="ray", address="auto")
    assert str(error.value) == (
        "no Ray cluster answers at auto: See the manual. Start one with: ray start --head"
    )


def test_ray_engine_without_ray_is_rejected(net: dv.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SearchError) as error:
        search(net, "scenes:4", "conv1_1", engine="ray")
    assert str(error.value) == "the engine ray needs Ray: pip install 'deconvviz[ray]'"


def test_address_without_the_ray_engine_is_rejected(net: dv.Network) -> None:
    with pytest.raises(SearchError, match=r"address auto needs the engine ray \(engine=ray\)"):
        search(net, "scenes:4", "conv1_1", address="auto")
