"""Separable linear maps: one matrix for each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.layout import Window, moved
from deconvviz.engine.rules.rule import Call, Spatial
from deconvviz.engine.rules.verification import linear_mismatch


class Separable(Spatial):
    """y = R x C^T, one matrix along the rows and one along the columns; projection: R^T signal C.

    Signals have one matrix, volumes three. The matrices are checked against the recorded maps: a call that
    they do not reproduce is unsupported.
    """

    matrices: tuple[Tensor, ...]  # (h, H) and (w, W), float64, on the CPU
    fault: str

    def settle(self, call: Call, *matrices: Tensor) -> None:
        """Store the matrices, and check that they reproduce the recorded output."""
        self.matrices = matrices

        def apply(x: Tensor) -> Tensor:
            for dim, matrix in enumerate(matrices):
                x = _along(x, matrix.mT, dim)
            return x

        self.fault = linear_mismatch(apply, call["self"], call.output, len(matrices))

    def unsupported(self) -> str:
        return self.fault

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x, start = signal, self.starts(window)
        first, sizes = self.starts(input_windows[0]), self.sizes(input_windows[0])
        for number, (matrix, size) in enumerate(zip(self.matrices, sizes, strict=True)):
            dim = 2 + number
            if matrix.shape[0] == matrix.shape[1] and torch.equal(matrix, torch.eye(len(matrix)).to(matrix)):
                x = moved(x, [dim], (start - first)[:, number, None], [size])
            else:
                rows = start[:, number, None] + torch.arange(x.shape[dim])  # (K, n)
                columns = first[:, number, None] + torch.arange(size)  # (K, m)
                part = matrix[rows[:, :, None], columns[:, None, :]].to(signal)  # (K, n, m)
                part = part.reshape(len(part), *[1] * (x.dim() - 3), *part.shape[1:])
                x = _along(x, part, dim)  # (K, C, n, w) -> (K, C, m, w)
        return [x]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        number = self.number_of(axis)
        if number is None:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.matrices[number] != 0


def _along(x: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """Multiply one dimension of x, of length n, by a matrix (..., n, m)."""
    before_last = dim - x.dim()
    if before_last == -1:
        return x @ matrix
    if before_last == -2:
        return matrix.mT @ x
    return (x.movedim(dim, -1) @ matrix).movedim(-1, dim)
