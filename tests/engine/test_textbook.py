"""A convolution as a matrix: its projection is the transposed matrix, which is a transposed convolution.

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

# Row i: the contribution of position i of the data (row by row) to each of the four results.
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


def _forward(layer: nn.Module, image: Tensor) -> Tensor:
    return passes.run(nn.Sequential(layer), image[None, None]).outputs["0"][0, 0]


def _project(layer: nn.Module, image: Tensor, signal: Tensor) -> Tensor:
    return passes.run(nn.Sequential(layer), image[None, None]).signals("0", signal[None, None], [0])[0, 0]


def test_convolution_equals_multiplication_by_the_matrix() -> None:
    assert _forward(_convolution(), _tensor(DATA)).tolist() == [[12, 12], [10, 17]]
    assert (np.array(DATA).ravel() @ np.array(C)).tolist() == [12, 12, 10, 17]


def test_projection_of_a_unit_is_a_column_of_the_matrix() -> None:
    for k in range(4):
        signal = torch.eye(4, dtype=torch.float64)[k].reshape(2, 2)
        assert _project(_convolution(), _tensor(DATA), signal).flatten().tolist() == [row[k] for row in C]


def test_projection_of_a_map_equals_multiplication_by_the_matrix_columns() -> None:
    signal = _tensor([[12, 12], [10, 17]])
    want = np.array(C) @ [12, 12, 10, 17]
    projected = _project(_convolution(), _tensor(DATA), signal)
    assert projected.flatten().tolist() == want.tolist()
    assert projected.tolist() == [[0, 12, 36, 24], [24, 58, 61, 34], [20, 66, 70, 24], [0, 10, 37, 34]]


def test_projection_equals_a_transposed_convolution() -> None:
    signal = _tensor([[12, 12], [10, 17]])
    projected = _project(_convolution(), _tensor(DATA), signal)
    assert torch.equal(projected, _forward(_transposed(), signal))


def test_projection_of_a_transposed_convolution_equals_the_convolution() -> None:
    projected = _project(_transposed(), torch.zeros(2, 2, dtype=torch.float64), _tensor(DATA))
    assert projected.tolist() == [[12, 12], [10, 17]]


def test_projection_equals_full_correlation_with_the_flipped_mask() -> None:
    signal = np.array([[12.0, 12], [10, 17]])
    padded, flipped = np.pad(signal, 2), np.array(MASK)[::-1, ::-1]
    want = [[(padded[y : y + 3, x : x + 3] * flipped).sum() for x in range(4)] for y in range(4)]
    assert _project(_convolution(), _tensor(DATA), torch.from_numpy(signal)).tolist() == want


@pytest.mark.parametrize("length", [5, 6])
def test_projection_with_stride_two_equals_a_dense_one_of_a_signal_with_zeros(length: int) -> None:
    """The signal for the dense convolution has zeros between the values of the strided one."""
    image = torch.arange(length**2, dtype=torch.float64).reshape(length, length)
    signal = _tensor([[1, -2], [3, 4]])
    spread = np.zeros((length - 2, length - 2))
    spread[0:3:2, 0:3:2] = signal.numpy()
    projected = _project(_convolution(stride=2), image, signal)
    assert torch.equal(projected, _project(_convolution(), image, torch.from_numpy(spread)))
    assert torch.equal(projected[:5, :5], _forward(_transposed(stride=2), signal))
    assert not projected[5:].any() and not projected[:, 5:].any()  # no window contains the last of 6 rows


def test_transposed_convolution_with_stride_two_equals_a_dense_one_of_a_map_with_zeros() -> None:
    small = _tensor([[1, 2], [3, 4]])
    spread = torch.zeros(3, 3, dtype=torch.float64)
    spread[::2, ::2] = small
    assert torch.equal(_forward(_transposed(stride=2), small), _forward(_transposed(), spread))
    signal = torch.arange(25, dtype=torch.float64).reshape(5, 5)
    projected = _project(_transposed(stride=2), small, signal)
    assert torch.equal(projected, _forward(_convolution(stride=2), signal))
    assert torch.equal(projected, _project(_transposed(), spread, signal)[::2, ::2])


def test_padding_crops_and_output_padding_extends_a_transposed_convolution() -> None:
    small = _tensor([[1, 2], [3, 4]])
    full = _forward(_transposed(stride=2), small)  # (5, 5)
    cropped = _forward(_transposed(stride=2, padding=1, output_padding=1), small)  # (4, 4)
    assert torch.equal(cropped, full[1:, 1:])
    signal = torch.arange(16, dtype=torch.float64).reshape(4, 4)
    projected = _project(_transposed(stride=2, padding=1, output_padding=1), small, signal)
    assert torch.equal(projected, _forward(_convolution(stride=2, padding=1), signal))
