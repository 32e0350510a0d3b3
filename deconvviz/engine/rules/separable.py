"""Separable linear maps: one matrix for rows and one for columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.layout import Window
from deconvviz.engine.rules.rule import Call, Spatial
from deconvviz.engine.rules.verification import linear_mismatch


class Separable(Spatial):
    """y = R x C^T, one matrix along the rows and one along the columns; projection: R^T signal C.

    The matrices are checked against the recorded maps: a call that they do not reproduce is unsupported.
    """

    matrices: tuple[Tensor, Tensor]  # (h, H) and (w, W), float64, on the CPU
    fault: str

    def settle(self, call: Call, rows: Tensor, columns: Tensor) -> None:
        """Store the two matrices, and check that they reproduce the recorded output."""
        self.matrices = (rows, columns)
        self.fault = linear_mismatch(lambda x: rows @ x @ columns.T, call["self"], call.output)

    def unsupported(self) -> str:
        return self.fault

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x, here, wanted = signal, window, self.frame(input_windows[0])
        for axis, matrix in enumerate(self.matrices):
            there = here.towards(wanted, axis)
            if matrix.shape[0] == matrix.shape[1] and torch.equal(matrix, torch.eye(len(matrix)).to(matrix)):
                x = there.place(x, here.start)
            else:
                rows = here.start[:, axis, None] + torch.arange(here.size[axis])  # (K, n)
                columns = there.start[:, axis, None] + torch.arange(there.size[axis])  # (K, m)
                part = matrix[rows[:, :, None], columns[:, None, :]].to(signal)[:, None]  # (K, 1, n, m)
                x = part.mT @ x if axis == 0 else x @ part  # (K, C, n, w) -> (K, C, m, w)
            here = there
        return [x]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return (
            self.matrices[axis] != 0
            if self.supports_windows
            else super().visible_inputs(argument, axis, n_out, n_in)
        )
