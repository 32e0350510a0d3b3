"""The textbook case: a convolution is a matrix, its mirror the transposed matrix, and that one a convolution.

data    3 3 2 1    mask    0 1 2    valid correlation    12 12
        0 0 1 3            2 2 0                         10 17
        3 1 2 2            0 1 2
        2 0 0 2
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import passes
from torch import Tensor, nn

DATA = [[3.0, 3, 2, 1], [0, 0, 1, 3], [3, 1, 2, 2], [2, 0, 0, 2]]
MASK = [[0.0, 1, 2], [2, 2, 0], [0, 1, 2]]

# each row: what one position of the data (row by row) gives to the four results
C = [
    [0, 0, 0, 0],
    [1, 0, 0, 0],
    [2, 1, 0, 0],
    [0, 2, 0, 0],
    [2, 0, 0, 0],
    [2, 2, 1, 0],
    [0, 2, 2, 1],
    [0, 0, 0, 2],
    [0, 0, 2, 0],
    [1, 0, 2, 2],
    [2, 1, 0, 2],
    [0, 2, 0, 0],
    [0, 0, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 2, 1],
    [0, 0, 0, 2],
]


def _tensor(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _convolution(stride: int = 1, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, 3, stride=stride, padding=padding, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(_tensor(MASK))
    return layer


def _transposed(stride: int = 1, padding: int = 0, output_padding: int = 0) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(1, 1, 3, stride, padding, output_padding, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(_tensor(MASK))
    return layer


def _up(layer: nn.Module, picture: Tensor) -> Tensor:
    return passes.run(nn.Sequential(layer), picture[None, None]).said["0"][0, 0]


def _down(layer: nn.Module, picture: Tensor, signal: Tensor) -> Tensor:
    return passes.run(nn.Sequential(layer), picture[None, None]).signals("0", signal[None, None], [0])[0, 0]


def test_the_valid_correlation() -> None:
    assert _up(_convolution(), _tensor(DATA)).tolist() == [[12, 12], [10, 17]]
    assert (np.array(DATA).ravel() @ np.array(C)).tolist() == [12, 12, 10, 17]


def test_every_column_of_the_matrix_is_the_mirror_of_one_unit() -> None:
    for k in range(4):
        signal = torch.eye(4, dtype=torch.float64)[k].reshape(2, 2)
        assert _down(_convolution(), _tensor(DATA), signal).flatten().tolist() == [row[k] for row in C]


def test_the_mirror_is_multiplication_by_the_transposed_matrix() -> None:
    signal = _tensor([[12, 12], [10, 17]])
    want = np.array(C) @ [12, 12, 10, 17]
    below = _down(_convolution(), _tensor(DATA), signal)
    assert below.flatten().tolist() == want.tolist()
    assert below.tolist() == [[0, 12, 36, 24], [24, 58, 61, 34], [20, 66, 70, 24], [0, 10, 37, 34]]


def test_the_mirror_is_a_transposed_convolution() -> None:
    signal = _tensor([[12, 12], [10, 17]])
    below = _down(_convolution(), _tensor(DATA), signal)
    assert torch.equal(below, _up(_transposed(), signal))


def test_the_mirror_of_a_transposed_convolution_is_the_convolution() -> None:
    below = _down(_transposed(), torch.zeros(2, 2, dtype=torch.float64), _tensor(DATA))
    assert below.tolist() == [[12, 12], [10, 17]]


def test_the_mirror_is_a_full_correlation_with_the_mask_turned_around() -> None:
    signal = np.array([[12.0, 12], [10, 17]])
    wide, turned = np.pad(signal, 2), np.array(MASK)[::-1, ::-1]
    want = [[(wide[y : y + 3, x : x + 3] * turned).sum() for x in range(4)] for y in range(4)]
    assert _down(_convolution(), _tensor(DATA), torch.from_numpy(signal)).tolist() == want


@pytest.mark.parametrize("length", [5, 6])
def test_a_stride_of_two_puts_zeros_in_between(length: int) -> None:
    """Down a strided convolution is down a dense one with a signal that has a zero at every other place."""
    picture = torch.arange(length**2, dtype=torch.float64).reshape(length, length)
    signal = _tensor([[1, -2], [3, 4]])
    spread = np.zeros((length - 2, length - 2))
    spread[0:3:2, 0:3:2] = signal
    below = _down(_convolution(stride=2), picture, signal)
    assert torch.equal(below, _down(_convolution(), picture, torch.from_numpy(spread)))
    assert torch.equal(below[:5, :5], _up(_transposed(stride=2), signal))
    assert not below[5:].any() and not below[:, 5:].any()  # in 6 rows the last is not seen


def test_a_transposed_convolution_with_stride_two_is_one_over_a_map_with_zeros_in_between() -> None:
    small = _tensor([[1, 2], [3, 4]])
    spread = torch.zeros(3, 3, dtype=torch.float64)
    spread[::2, ::2] = small
    assert torch.equal(_up(_transposed(stride=2), small), _up(_transposed(), spread))
    signal = torch.arange(25, dtype=torch.float64).reshape(5, 5)
    below = _down(_transposed(stride=2), small, signal)
    assert torch.equal(below, _up(_convolution(stride=2), signal))
    assert torch.equal(below, _down(_transposed(), spread, signal)[::2, ::2])


def test_padding_and_output_padding_cut_and_extend_what_is_laid_down() -> None:
    small = _tensor([[1, 2], [3, 4]])
    full = _up(_transposed(stride=2), small)  # (5, 5)
    cut = _up(_transposed(stride=2, padding=1, output_padding=1), small)  # (4, 4)
    assert torch.equal(cut, full[1:, 1:])
    signal = torch.arange(16, dtype=torch.float64).reshape(4, 4)
    below = _down(_transposed(stride=2, padding=1, output_padding=1), small, signal)
    assert torch.equal(below, _up(_convolution(stride=2, padding=1), signal))
