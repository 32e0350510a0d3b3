"""Fingerprints of several tensors at once equal single ones, and show a change in each tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deconvviz.engine.preservation import fingerprint, fingerprints

TYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.float8_e4m3fn,
    torch.int64, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


class _Subclass(Tensor):
    pass


def _many() -> list[Tensor]:
    """Return tensors of many dtypes, sizes and strides, mixed."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(), (0,), (1,), (3, 5), (64,), (65,), (16, 8, 3, 3), (1000,)]
    found = [torch.randn(shape, generator=draw).mul(3).to(kind) for shape in shapes for kind in TYPES]
    wide = torch.randn(40, 50, generator=draw)
    more = [wide.t(), wide[::2, 1::3], wide[3], wide.expand(2, 40, 50), wide.as_subclass(_Subclass)]
    weight = nn.Parameter(torch.randn(7, 9, generator=draw))
    return [*found, *more, weight, torch.zeros(3, device="meta"), weight.detach()[1:]]


def test_fingerprints_of_several_tensors_equal_single_ones() -> None:
    tensors = _many()
    assert fingerprints(tensors) == [fingerprint(tensor) for tensor in tensors]
    assert fingerprints([]) == []


def test_fingerprint_contains_bytes_of_the_tensor() -> None:
    row = torch.arange(130, dtype=torch.int32)
    short, long = fingerprints([row[:5], row])
    assert short[-1] == row[:5].numpy().tobytes()
    assert long[-1] == row[::2].numpy().tobytes()


@pytest.mark.parametrize("number", [0, 3, 5, 7])
def test_change_through_data_changes_one_fingerprint(number: int) -> None:
    tensors = [torch.zeros(size) for size in (3, 1, 64, 500, 2, 63, 9, 1)]
    before = fingerprints(tensors)
    tensors[number].data[0] = 1  # does not change the version counter
    after = fingerprints(tensors)
    assert [one != other for one, other in zip(before, after, strict=True)] == [
        which == number for which in range(len(tensors))
    ]


def test_fingerprints_do_not_build_a_graph() -> None:
    weight = nn.Parameter(torch.randn(200))
    fingerprints([weight, weight * 2])
    assert weight.grad is None
    assert torch.is_grad_enabled()
