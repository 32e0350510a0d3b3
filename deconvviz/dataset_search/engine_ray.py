"""The same pass on Ray Data: reading and looking as streaming stages, on this machine or on a cluster.

A row is a batch: a task reads, decodes and prepares it; one of a pool of actors, each with a copy of the
network, finds its strongest peaks; they are merged here as they come. A task or actor that dies is run again
by Ray, and a batch counts once.
"""

from __future__ import annotations

import copy
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from deconvviz.dataset_search.checkpoint import State
from deconvviz.dataset_search.peak_finder import finding, look
from deconvviz.dataset_search.plan import Plan
from deconvviz.dataset_search.progress import Progress, Report
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import SearchError
from deconvviz.image_sources.batches import Batch, Batches
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.layers import Layer
from deconvviz.network import Network

_ROWS = 4  # batches in a block
_BLOCKS = 4096  # at most, whatever the size of a source


@dataclass(frozen=True, eq=False)
class Sight:
    """What an actor needs to look: pickled once, whatever the number of batches."""

    module: nn.Module
    name: str
    preprocessing: Preprocessing
    layers: tuple[Layer, ...]
    size: int
    empty: Top


@dataclass(frozen=True, eq=False)
class Found:
    """What one batch gave."""

    index: int
    top: Top
    skipped: dict[int, str]
    pictures: int
    reading: float  # seconds
    looking: float


def run(
    plan: Plan,
    state: State,
    *,
    address: str | None,
    workers: int | None,
    save: Callable[[State], None],
    report: Report,
) -> None:
    """Look at every batch that is left: on the cluster at `address`, on the one that is connected, or here.

    `workers`: so many tasks read at the same time at most (None: as Ray sees fit). Raises SearchError,
    ImageError.
    """
    if not state.pending:
        return
    ray = _ray()
    with _connected(ray, address):
        networks, cpus, gpus = _share_out(ray, plan)
        seen = ray.put(_sight(plan, ray))
        batches = ray.put(plan.batches)
        rows = [{"index": index} for index in state.pending]
        blocks = max(1, min(len(rows), _BLOCKS, -(-len(rows) // _ROWS)))
        room = 4 * plan.batch_size * torch.Size(plan.network.preprocessing.shape).numel() * 4  # bytes
        stream = (
            ray.data.from_items(rows, override_num_blocks=blocks)
            .map(
                partial(_read, [batches]),
                compute=ray.data.TaskPoolStrategy(workers),
                num_cpus=cpus,
                memory=room,  # for that reason, too, Ray keeps the two stages apart
            )
            .map(
                _Looker,
                fn_constructor_args=([seen],),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=networks),
                num_cpus=cpus,
                num_gpus=gpus,
            )
        )
        readers = workers or max(1, int(_cpus(ray)) - networks)
        progress = Progress(
            len(plan.source), state.seen, len(state.skipped), readers=readers, networks=networks
        )
        try:
            for row in stream.iter_rows():
                found: Found = row["found"]
                plan.check_strict(found.skipped)
                state.take([found.index], found.top, found.skipped)
                progress.step(state, found.pictures, found.reading, found.looking)
                report(progress)
                save(state)
        except ray.exceptions.RayError as reason:
            raise SearchError(
                f"the search on Ray has ended: {_last_line(reason)} ({{option}} goes on)",
                option="resume=True",
            ) from reason
    if state.pending:
        raise SearchError(
            f"Ray has given back {int(state.done.sum())} of {len(state.done)} batches: go on with {{option}}",
            option="resume=True",
        )


def _read(batches: list[Any], row: dict[str, Any]) -> dict[str, Any]:
    """One batch, as columns that Arrow knows."""
    batch: Batch = _kept(batches[0])[int(row["index"])]
    return {
        "index": batch.index,
        "numbers": batch.numbers,
        "inputs": batch.inputs.numpy(),
        "failed": np.array([number for number, _ in batch.failures], np.int64),
        "reasons": [reason for _, reason in batch.failures],
        "seconds": batch.seconds,
    }


@lru_cache(maxsize=1)
def _kept(reference: Any) -> Batches:
    """One copy of a source for each process, not for each batch."""
    return _ray().get(reference)  # type: ignore[no-any-return]


class _Looker:
    """An actor with the network."""

    def __init__(self, seen: list[Any]) -> None:
        self.sight: Sight = _ray().get(seen[0])
        place = "cuda" if torch.cuda.is_available() else "cpu"
        network = Network(
            self.sight.module.to(place), name=self.sight.name, preprocessing=self.sight.preprocessing
        )
        self._hooks = ExitStack()  # they go with the actor
        self._find = self._hooks.enter_context(finding(network, self.sight.layers))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        begun = time.perf_counter()
        failures = tuple(zip(row["failed"].tolist(), row["reasons"], strict=True))
        inputs = torch.from_numpy(
            np.array(row["inputs"])
        )  # a copy: what lies in the store is not to be written
        batch = Batch(int(row["index"]), row["numbers"], inputs, failures, float(row["seconds"]))
        peaks = look(self._find, self.sight.layers, batch, self.sight.size)
        top = copy.deepcopy(self.sight.empty)
        top.add(peaks)
        pictures = len(batch.numbers) + len(failures)
        seconds = time.perf_counter() - begun
        return {"found": Found(batch.index, top, dict(peaks.skipped), pictures, batch.seconds, seconds)}


def _sight(plan: Plan, ray: Any) -> Sight:
    module = plan.network.module
    if plan.network.device.type != "cpu":
        module = copy.deepcopy(module).cpu()
    for part in {type(part).__module__ for part in module.modules()}:
        if isinstance(found := sys.modules.get(part), ModuleType) and part.startswith("deconvviz:"):
            ray.cloudpickle.register_pickle_by_value(found)  # a user's file, that the workers cannot import
    network = plan.network
    return Sight(module, network.name, network.preprocessing, plan.layers, plan.batch_size, plan.empty())


def _share_out(ray: Any, plan: Plan) -> tuple[int, float, float]:
    """How many actors at most, and the share of a CPU and of a GPU that each of them takes."""
    cpus, gpus = _cpus(ray), int(ray.cluster_resources().get("GPU", 0))
    share = 1.0 if cpus >= 2 else 0.5  # on a single core reading and looking take turns
    if plan.network.device.type == "cuda" and gpus:
        return gpus, share, 1.0
    return max(1, int(cpus // 2)), share, 0.0


def _cpus(ray: Any) -> float:
    return float(ray.cluster_resources().get("CPU", 1))


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """A connection that ends with us, unless it was there before."""
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    elif address is not None and address != (there := ray.get_runtime_context().gcs_address):
        raise SearchError(f"this program is connected to Ray at {there} already, not to {address}")
    quiet, settings = logging.getLogger("ray.data"), ray.data.DataContext.get_current()
    level, bars = quiet.level, settings.enable_progress_bars
    try:
        quiet.setLevel(logging.ERROR)
        settings.enable_progress_bars = False  # there is our own
        yield
    finally:
        settings.enable_progress_bars = bars
        quiet.setLevel(level)
        if ours:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    try:
        _check_answers(address)
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as reason:
        raise SearchError(
            f"no Ray cluster answers at {address or 'this machine'}: {_last_line(reason)} "
            "(start one with: ray start --head)"
        ) from reason


def _check_answers(address: str | None) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray itself tries for minutes, then ends the process."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS")  # Ray looks there first
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as reason:
        raise SearchError("the engine ray needs Ray: pip install 'deconvviz[ray]'") from reason
    return ray


def _last_line(reason: BaseException) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[-1] if lines else type(reason).__name__
