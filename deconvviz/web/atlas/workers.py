"""Chunks of an atlas, made in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path
from typing import Any, TypeAlias

import torch

from deconvviz.dataset_search.result import Search
from deconvviz.errors import DeconvvizError, OutputError
from deconvviz.network import Network
from deconvviz.web.atlas.chunk import Clock, Context, make_chunk
from deconvviz.web.atlas.plan import LayerPlan, Plan
from deconvviz.web.atlas.progress import AtlasProgress, Report
from deconvviz.web.atlas.relatives import Relatives

Task: TypeAlias = tuple[LayerPlan, int]
_POLL = 0.5  # seconds between two looks at the progress of other processes


def make_here(context: Context, tasks: Sequence[Task], progress: AtlasProgress, report: Report) -> None:
    """Make chunks one after another in this process."""
    for layer, number in tasks:
        done, made, units = progress.done, progress.made, len(layer.chunks[number])

        def reach(share: float, done: float = done, made: float = made, units: int = units) -> None:
            progress.done, progress.made = done + share * units, made + share * units
            report(progress)

        _add(progress, make_chunk(context, layer, number, reach))
        reach(1.0)


def make_in_processes(
    context: Context, plan: Plan, tasks: Sequence[Task], jobs: int, progress: AtlasProgress, report: Report
) -> None:
    """Make chunks in `jobs` processes. Raises OutputError if a process ends or cannot be started."""
    spawn = multiprocessing.get_context("spawn")
    queue, stop = spawn.SimpleQueue(), spawn.Event()
    shares: dict[int, float] = {}
    done = progress.done
    settings = _settings(context, plan)

    def drain() -> None:
        while not queue.empty():
            task, units = queue.get()
            shares[task] = units
        progress.made = sum(shares.values())
        progress.done = done + progress.made
        report(progress)

    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_start, initargs=(settings, queue, stop))
    try:
        waiting: set[Future[Clock]] = {
            pool.submit(_make, number, layer.name, chunk) for number, (layer, chunk) in enumerate(tasks)
        }
        while waiting:
            finished, waiting = wait(waiting, timeout=_POLL, return_when=FIRST_COMPLETED)
            for one in finished:
                _add(progress, one.result())
            drain()
    except BrokenProcessPool as error:
        raise OutputError(
            "a process that made the atlas has ended, perhaps because the memory was full. Continue with "
            "{option} and fewer processes ({option})",
            option=("resume=True", "jobs=N"),
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread, so that results do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _add(progress: AtlasProgress, clock: Clock) -> None:
    progress.projecting += clock.projecting
    progress.other += clock.other


def _settings(context: Context, plan: Plan) -> bytes:
    """Return what the other processes need. Raises OutputError if it cannot be sent to them."""
    named = context.found.manifest["network"]["model"] is not None
    how = replace(context.found.reopening, network=None if named else context.network, searched=None)
    found = replace(context.found, reopening=how)
    try:
        return pickle.dumps((found, str(context.site), context.k, context.memory, plan))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise OutputError(
            f"the network or the source cannot be sent to other processes: {error}. Use one process "
            "({option})",
            option="jobs=1",
        ) from error


class _Stopped(DeconvvizError):
    """The main process has stopped."""


_state: dict[str, Any] = {}  # of a process of the pool


def _start(settings: bytes, queue: Any, stop: Any) -> None:
    """Open the search and the network in a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    found: Search
    found, site, k, memory, plan = pickle.loads(settings)
    network: Network = found.open_network()
    relatives = Relatives(network, list(found.layers))
    _state["context"] = Context(found, network, Path(site), k, memory, relatives)
    _state["layers"] = {layer.name: layer for layer in plan.layers}
    _state["queue"], _state["stop"] = queue, stop


def _end_with_parent() -> None:
    """End this process when the main process ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)


def _make(task: int, name: str, chunk: int) -> Clock:
    layer: LayerPlan = _state["layers"][name]

    def report(share: float) -> None:
        if _state["stop"].is_set():
            raise _Stopped
        _state["queue"].put((task, share * len(layer.chunks[chunk])))

    clock = make_chunk(_state["context"], layer, chunk, report)
    _state["queue"].put((task, len(layer.chunks[chunk])))
    return clock
