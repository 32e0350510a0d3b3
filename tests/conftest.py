"""What every test shares: few threads, reproducible examples, and a look at what a test left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import _get_current_dispatch_mode

torch.set_num_threads(1)  # most tests are small: on busy cores a second thread makes them 20 times slower

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


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No mode, no global hook, and no change of grad mode outlives a test."""
    yield
    assert _get_current_dispatch_mode() is None
    assert torch.is_grad_enabled()
    assert not torch_modules._global_forward_hooks
    assert not torch_modules._global_forward_pre_hooks


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For the few tests with large networks."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs and weights."""
    told = os.environ.get("DECONVVIZ_REAL_DATA")
    if not told:
        pytest.skip("DECONVVIZ_REAL_DATA does not name the folder of photographs and weights")
    folder = Path(told)
    assert (folder / "squeezenet1_0.pth").is_file(), f"{folder} holds no squeezenet1_0.pth"
    return folder
