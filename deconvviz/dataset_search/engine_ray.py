"""Search on Ray Data, on this machine or on a cluster, in two streaming stages.

Each row is a batch. A task reads, decodes and preprocesses its images. One of a pool of actors, each with a
copy of the network, finds the peaks. The driver merges them as they arrive. Ray runs a task or an actor again
if it dies; each batch is counted once.
"""

from __future__ import annotations

import copy
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from deconvviz.dataset_search.checkpoint import State
from deconvviz.dataset_search.peak_finder import Peaks, find_peaks, open_finder
from deconvviz.dataset_search.plan import Plan
from deconvviz.dataset_search.progress import Progress, Report
from deconvviz.dataset_search.top_k import Top
from deconvviz.errors import SearchError
from deconvviz.image_sources.batches import Batch, Batches
from deconvviz.images.preprocessing import Preprocessing
from deconvviz.layers import Layer
from deconvviz.network import Network

_ROWS = 4  # batches in a block
_BLOCKS = 4096  # maximum number of blocks


@dataclass(frozen=True, eq=False)
class ActorInput:
    """Network and parameters that an actor needs. Pickled once for all batches."""

    module: nn.Module
    name: str
    preprocessing: Preprocessing
    layers: tuple[Layer, ...]
    size: int
    empty: Top


@dataclass(frozen=True, eq=False)
class BatchResult:
    """Peaks of one batch and the time that it took."""

    index: int
    top: Top
    peaks: Peaks  # without places
    images: int
    reading: float  # seconds
    looking: float  # seconds in the network


def run(
    plan: Plan,
    state: State,
    *,
    address: str | None,
    workers: int | None,
    save: Callable[[State], None],
    report: Report,
) -> None:
    """Process all remaining batches on the cluster at `address`.

    Without an address, use the cluster that this program is connected to, or start Ray on this machine. At
    most `workers` tasks read at the same time (None: Ray decides). Raises SearchError and ImageError.
    """
    if not state.pending:
        return
    ray = _ray()
    with _connected(ray, address):
        networks, cpus, gpus = _resources(ray, plan)
        actor_input = ray.put(_actor_input(plan, ray))
        batches = ray.put(plan.batches)
        rows = [{"index": index} for index in state.pending]
        blocks = max(1, min(len(rows), _BLOCKS, -(-len(rows) // _ROWS)))
        memory = 4 * plan.batch_size * torch.Size(plan.network.preprocessing.input_shape).numel() * 4  # bytes
        stream = (
            ray.data.from_items(rows, override_num_blocks=blocks)
            .map(
                partial(_read, [batches]),
                compute=ray.data.TaskPoolStrategy(workers),
                num_cpus=cpus,
                memory=memory,  # also prevents Ray from fusing the two stages
            )
            .map(
                _PeakActor,
                fn_constructor_args=([actor_input],),
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
            with _threads_ended(), closing(iter(stream.iter_rows())) as found_rows:
                for row in found_rows:
                    found: BatchResult = row["found"]
                    plan.check_strict(found.peaks.skipped)
                    state.add([found.index], found.top, found.peaks)
                    progress.step(state, found.images, found.reading, found.looking)
                    report(progress)
                    save(state)
        except ray.exceptions.RayError as reason:
            raise SearchError(
                f"the search on Ray failed: {_last_line(reason)}. Continue with {{option}}",
                option="resume=True",
            ) from reason
    if state.pending:
        raise SearchError(
            f"Ray returned {int(state.done.sum())} of {len(state.done)} batches. Continue with {{option}}",
            option="resume=True",
        )


def _read(batches: list[Any], row: dict[str, Any]) -> dict[str, Any]:
    """Read one batch; return it as columns of types that Arrow supports."""
    batch: Batch = _batches(batches[0])[int(row["index"])]
    return {
        "index": batch.index,
        "numbers": batch.numbers,
        "inputs": batch.inputs.numpy(),
        "failed": np.array([number for number, _ in batch.failures], np.int64),
        "reasons": [reason for _, reason in batch.failures],
        "seconds": batch.seconds,
    }


@lru_cache(maxsize=1)
def _batches(reference: Any) -> Batches:
    """Return the batches from Ray's object store. The cache keeps one copy for each process."""
    return _ray().get(reference)  # type: ignore[no-any-return]


class _PeakActor:
    """Ray actor that finds the peaks of batches with its own copy of the network."""

    def __init__(self, references: list[Any]) -> None:
        self._input: ActorInput = _ray().get(references[0])
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = Network(
            self._input.module.to(device), name=self._input.name, preprocessing=self._input.preprocessing
        )
        self._hooks = ExitStack()  # never closed: the hooks are needed as long as the actor exists
        self._find = self._hooks.enter_context(open_finder(network, self._input.layers))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        begun = time.perf_counter()
        failures = tuple(zip(row["failed"].tolist(), row["reasons"], strict=True))
        inputs = torch.from_numpy(np.array(row["inputs"]))  # a copy, as Ray's object store is read-only
        batch = Batch(int(row["index"]), row["numbers"], inputs, failures, float(row["seconds"]))
        peaks = find_peaks(self._find, self._input.layers, batch, self._input.size)
        top = copy.deepcopy(self._input.empty)
        top.add(peaks)
        images = len(batch.numbers) + len(failures)
        seconds = time.perf_counter() - begun
        peaks = replace(peaks, places=peaks.places[:0])  # the driver needs those of the strongest only
        return {"found": BatchResult(batch.index, top, peaks, images, batch.seconds, seconds)}


def _actor_input(plan: Plan, ray: Any) -> ActorInput:
    module = plan.network.module
    if plan.network.device.type != "cpu":
        module = copy.deepcopy(module).cpu()
    for part in {type(part).__module__ for part in module.modules()}:
        if isinstance(found := sys.modules.get(part), ModuleType) and part.startswith("deconvviz:"):
            ray.cloudpickle.register_pickle_by_value(found)  # a user's file, which workers cannot import
    network = plan.network
    return ActorInput(module, network.name, network.preprocessing, plan.layers, plan.batch_size, plan.empty())


def _resources(ray: Any, plan: Plan) -> tuple[int, float, float]:
    """Return the maximum number of actors and the CPUs and GPUs that each of them reserves."""
    cpus, gpus = _cpus(ray), int(ray.cluster_resources().get("GPU", 0))
    share = 1.0 if cpus >= 2 else 0.5  # on a single core, reading and the network take turns
    if plan.network.device.type == "cuda" and gpus:
        return gpus, share, 1.0
    return max(1, int(cpus // 2)), share, 0.0


def _cpus(ray: Any) -> float:
    return float(ray.cluster_resources().get("CPU", 1))


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to Ray; disconnect at the end unless the program was connected before."""
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    elif address is not None and address != (current := ray.get_runtime_context().gcs_address):
        raise SearchError(f"this program is already connected to Ray at {current}, not at {address}")
    quiet, settings = logging.getLogger("ray.data"), ray.data.DataContext.get_current()
    level, bars = quiet.level, settings.enable_progress_bars
    try:
        quiet.setLevel(logging.ERROR)
        settings.enable_progress_bars = False  # deconvviz reports its own progress
        yield
    finally:
        settings.enable_progress_bars = bars
        quiet.setLevel(level)
        if ours:
            ray.shutdown()


@contextmanager
def _threads_ended(timeout: float = 10.0) -> Iterator[None]:
    """At exit, wait up to `timeout` seconds for the threads by which Ray Data reads ahead.

    A thread that calls Ray during `ray.shutdown` can crash the process. Ray Data's prefetcher never ends
    after an interrupted iteration; it makes no calls, so it is not waited for.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        until = time.monotonic() + timeout
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith(("iter_threaded", "StreamingExecutor")):
                thread.join(max(0.0, until - time.monotonic()))


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
            f"no Ray cluster answers at {address or 'this machine'}: {_last_line(reason)}. "
            "Start one with: ray start --head"
        ) from reason


def _check_answers(address: str | None) -> None:
    """Raise OSError if nothing listens at HOST:PORT. Ray itself would try for minutes and end the process."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS")  # Ray reads this variable first
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
    return lines[-1].rstrip(".") if lines else type(reason).__name__
