"""Exit codes of failures."""

from __future__ import annotations

NOT_VERIFIED = 1  # --verify: a projection differs, or the network cannot be verified
MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if Python or PyTorch ran out of memory, on any device."""
    message = str(error)
    return isinstance(error, MemoryError) or "out of memory" in message or "can't allocate memory" in message
