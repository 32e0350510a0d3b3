"""Digests of a network's weights, for manifests, and fast checksums of single tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def digest(state: Mapping[str, Tensor]) -> str:
    """Return ``sha256:...`` of the names, dtypes, shapes and bytes of all tensors.

    The order of the tensors, their device and their memory format do not change it.
    """
    whole = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach()
        whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode("utf-8", "surrogatepass"))
        whole.update(hashlib.sha256(_bytes(tensor)).digest())
    return f"sha256:{whole.hexdigest()}"


def checksum(tensor: Tensor) -> bytes:
    """Return 16 bytes that change with any value of a tensor; much faster to compute than a digest."""
    row = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if row.storage_offset() % 8:
        row = row.clone()
    whole = len(row) // _BLOCK * _BLOCK
    words = row[:whole].view(torch.int64).view(-1, _BLOCK // 8)
    # sums over both axes, so that the order of the values matters
    parts = [words.sum(0), words.sum(1), row[whole:]]
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part.cpu().numpy().tobytes())
    return found.digest()


_BLOCK = 4096  # bytes


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data  # as bytes, because NumPy has no bfloat16
