"""Switches of max-pooling: one byte per unit, whatever dtype they are computed in."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from deconvviz.engine.recorder import record_tape
from deconvviz.engine.rules.pooling import MaxPool

# Widths of maps around the limits where the index arithmetic no longer fits into one byte.
WIDTHS = [1, 2, 3, 4, 5, 27, 63, 64, 84, 85, 86, 125, 126, 127, 128, 129, 252, 253, 254, 255, 256, 257, 700]


def _recorded(pool: nn.Module, image: Tensor) -> MaxPool:
    tape = record_tape(pool, image, lambda out, tensor: True)
    (step,) = tape.steps
    assert isinstance(step.rule, MaxPool)
    return step.rule


def _expected(pool: nn.MaxPool2d, image: Tensor) -> Tensor:
    """Compute the switches by division from the indices that PyTorch returns."""
    indices = nn.functional.max_pool2d(
        image, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )[1]
    sizes = [n if isinstance(n, tuple) else (n, n) for n in (pool.stride, pool.padding, pool.dilation)]
    (row_stride, column_stride), (row_pad, column_pad), (row_step, column_step) = sizes
    columns = pool.kernel_size[1] if isinstance(pool.kernel_size, tuple) else pool.kernel_size
    rows_of, columns_of = indices // image.shape[-1], indices % image.shape[-1]
    first_rows = torch.arange(indices.shape[-2])[:, None] * row_stride - row_pad
    first_columns = torch.arange(indices.shape[-1]) * column_stride - column_pad
    tap_rows, tap_columns = (rows_of - first_rows) // row_step, (columns_of - first_columns) // column_step
    assert int(tap_columns.min()) >= 0
    assert int(tap_columns.max()) < columns
    return tap_rows * columns + tap_columns


def _image(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@pytest.mark.parametrize("width", WIDTHS)
def test_switches_are_correct_for_map_width(width: int) -> None:
    kernels = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (1, 3), (3, 1), (4, 2), (2, 5)]
    for kernel in (one for one in kernels if one[1] <= width):
        _check(nn.MaxPool2d(kernel, stride=(2, 1)), _image(11, width))


def _check(pool: nn.MaxPool2d, image: Tensor) -> None:
    switches = _recorded(pool, image).switches
    assert switches.dtype == torch.uint8
    assert torch.equal(switches.long(), _expected(pool, image))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(4, 3, 2),
        nn.MaxPool2d((3, 2), (1, 2), (1, 1), (5, 1)),
        nn.MaxPool2d(2, 2, 1, (40, 1)),
        nn.MaxPool2d(2, 1, 0, (1, 3)),
    ],
    ids=str,
)
def test_switches_are_correct_with_padding_and_dilation(pool: nn.MaxPool2d) -> None:
    for width in (43, 88, 131):
        image = _image(45, width)
        _check(pool, image)


@pytest.mark.parametrize(
    ("kernel", "width"), [(2, 8191), (2, 8192), (3, 3640), (3, 3641), (4, 2047), (4, 2048)]
)
def test_switches_are_correct_for_very_wide_maps(kernel: int, width: int) -> None:
    """The index arithmetic of these maps is just within and just beyond the limit of two bytes."""
    pool, image = nn.MaxPool2d(kernel, 1), _image(19, width)[:1, :1]
    _check(pool, image)


def test_switches_do_not_depend_on_earlier_recordings() -> None:
    """The starts of the windows are cached for each size of a map."""
    pool = nn.MaxPool2d(3, 2)
    for height, width in ((13, 29), (29, 13), (13, 29), (13, 30), (29, 13)):
        image = _image(height, width)
        _check(pool, image)
    with torch.inference_mode():
        image = _image(17, 31)
        _check(pool, image)


@pytest.mark.slow
def test_recording_does_not_import_the_compiler() -> None:
    """PyTorch would import its compiler, which takes seconds, if the dispatch mode did not prevent it."""
    code = (
        "import sys, torch; from deconvviz.engine.recorder import record_tape; "
        "record_tape(torch.nn.MaxPool2d(2), torch.zeros(1, 3, 4, 4), lambda out, tensor: True); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
