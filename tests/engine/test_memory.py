"""How much memory a batch of units may take, where nobody says so."""

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
        ("cpu", 300 * MIB, 75 * MIB),
        ("cpu", 100 * MIB, 64 * MIB),
        ("cpu", 64 * GIB, 128 * MIB),
        ("mps", 300 * MIB, 75 * MIB),
        ("mps", 64 * GIB, 128 * MIB),
        ("cuda:1", 8 * GIB + 3, 2 * GIB),
        ("cuda:1", 100 * MIB, 64 * MIB),
        ("cuda:1", 64 * GIB, 4 * GIB),
    ],
)
def test_a_quarter_of_what_is_free_within_bounds(
    device: str, free: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def on_card(card: torch.device) -> tuple[int, int]:
        asked.append(str(card))
        return free, 80 * GIB

    elsewhere = free if device != "cuda:1" else 17
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=elsewhere))
    monkeypatch.setattr(torch.cuda, "mem_get_info", on_card)
    assert default_budget(torch.device(device)) == budget
    assert asked == (["cuda:1"] if device == "cuda:1" else [])


def test_this_machine() -> None:
    assert 64 * MIB <= default_budget(torch.device("cpu")) <= 128 * MIB
