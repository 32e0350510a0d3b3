"""The default memory budget of a batch of units."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch

from deconvviz.engine.projection_pass import default_budget

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("device", "free", "budget"),
    [
        ("cpu", 80 * MIB, 20 * MIB),
        ("cpu", 50 * MIB, 16 * MIB),
        ("cpu", 64 * GIB, 48 * MIB),
        ("mps", 80 * MIB, 20 * MIB),
        ("mps", 64 * GIB, 48 * MIB),
        ("cuda:1", 8 * GIB + 3, 2 * GIB),
        ("cuda:1", 50 * MIB, 16 * MIB),
        ("cuda:1", 64 * GIB, 4 * GIB),
    ],
)
def test_default_budget_is_a_quarter_of_the_free_memory_within_bounds(
    device: str, free: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queried = []

    def mem_get_info(device: torch.device) -> tuple[int, int]:
        queried.append(str(device))
        return free, 80 * GIB

    host_memory = free if device != "cuda:1" else 17
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=host_memory))
    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    assert default_budget(torch.device(device)) == budget
    assert queried == (["cuda:1"] if device == "cuda:1" else [])


def test_default_budget_of_this_machine_is_within_bounds() -> None:
    assert 16 * MIB <= default_budget(torch.device("cpu")) <= 48 * MIB
