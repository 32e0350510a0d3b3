"""Settings and fixtures of all tests: tiers, workers, threads, Hypothesis, a check after each test."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for the processes that tests start

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import _get_current_dispatch_mode

pytest_plugins = ["helpers.cpu_limit"]
WORKERS = 2

torch.set_num_threads(1)  # most tests are small, and on busy cores a second thread makes them 20 times slower

settings.register_profile(
    "normal",
    max_examples=50,
    deadline=None,
    derandomize=True,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("nightly", settings.get_profile("normal"), max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for `-n auto`: two for folders, none for single files and tests."""
    if workers := os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return int(workers)
    folders = [Path(argument.partition("::")[0]).is_dir() for argument in config.args]
    return WORKERS if any(folders) else 0


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark nightly tests as slow too, so that `-m "not slow"` leaves them out."""
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape what a test printed that is not valid UTF-8: a worker could not send it to the main process."""
    return _valid((yield))


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_valid(key): _valid(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_valid, value))
    return value


@pytest.fixture(autouse=True)
def global_state_is_unchanged() -> Iterator[None]:
    """Check that no dispatch mode, global hook or change of grad mode remains after a test."""
    yield
    assert _get_current_dispatch_mode() is None
    assert torch.is_grad_enabled()
    assert not torch_modules._global_forward_hooks
    assert not torch_modules._global_forward_pre_hooks


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let PyTorch use two threads."""
    yield from _threads(2)


@pytest.fixture
def spare_threads() -> Iterator[None]:
    """Let PyTorch use two threads if there are two processors for each worker of this run."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    yield from _threads(max(1, min(2, (os.cpu_count() or 1) // workers)))


def _threads(count: int) -> Iterator[None]:
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real photographs and weights; tests that use it are skipped without one."""
    name = os.environ.get("DECONVVIZ_REAL_DATA")
    if not name:
        pytest.skip("DECONVVIZ_REAL_DATA does not name the folder of photographs and weights")
    folder = Path(name)
    assert (folder / "squeezenet1_0.pth").is_file(), f"{folder} does not contain squeezenet1_0.pth"
    return folder
