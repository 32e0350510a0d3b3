"""How the program ends when it does not end well."""

from __future__ import annotations

MISTAKE = 2
INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, or PyTorch on any device, had no memory left."""
    told = str(error)
    return isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told
