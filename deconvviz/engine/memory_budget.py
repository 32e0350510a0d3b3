"""How much memory a batch of units may take, where nobody says so."""

from __future__ import annotations

import psutil
import torch

SHARE = 4  # a quarter of what is free: the network, its recording and other programs live there too
LEAST = 64 << 20  # bytes
MOST = {"cuda": 4 << 30, "cpu": 128 << 20}  # a CPU is a fifth slower where signals fall out of its caches


def default_budget(device: torch.device) -> int:
    """Bytes: a share of what is free where the signals will be, and no more than is quick."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return min(max(int(free) // SHARE, LEAST), MOST.get(device.type, MOST["cpu"]))
