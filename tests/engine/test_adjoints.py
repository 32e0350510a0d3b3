"""Rules of linear operations equal the transposed matrix of the operation.

The matrix is measured by calling the operation with each unit vector. No gradient is computed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from torch import Tensor, nn
from torchvision.ops import deform_conv2d, ps_roi_align, ps_roi_pool, roi_align

from deconvviz.engine.rules import Support

Call = Callable[[Tensor], Tensor]

SHAPE = (4, 5, 6)
GENERATOR = torch.Generator().manual_seed(3)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


GRID = 0.7 * _random(2, 4, 3, 2)
CUBE = 0.7 * _random(2, 3, 2, 4, 3)
OFFSETS, MASK, WEIGHT = _random(2, 36, 5, 6), _random(2, 18, 5, 6), _random(6, 2, 3, 3)
BOXES = torch.tensor([[0, 0, 0, 4.5, 4], [0, 1, 1, 3, 3], [1, 0.3, 1, 5, 4], [1, 2, 0, 3, 4]]).double()
FREQUENCIES = torch.complex(_random(4, 5, 4), _random(4, 5, 4))
MODES = torch.complex(_random(4, 3, 4, 3), _random(4, 3, 4, 3))
MATRIX = torch.complex(_random(6, 6), _random(6, 6))
ORDER = torch.stack([torch.randperm(4, generator=GENERATOR) for _ in range(2 * 30)]).reshape(2, 5, 6, 4)


def _fourier_operator(x: Tensor) -> Tensor:
    """The Fourier layer of FNO: the low frequencies are mixed by complex weights, the others are removed."""
    found = torch.zeros(len(x), 3, 5, 4, dtype=torch.complex128)
    found[:, :, :4, :3] = torch.einsum("bixy,ioxy->boxy", torch.fft.rfft2(x)[:, :, :4, :3], MODES)
    return torch.fft.irfft2(found, s=(5, 6))


def _parts(x: Tensor) -> Tensor:
    """The Fourier unit of FFC: real and imaginary parts as channels."""
    spectrum = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
    parts = torch.stack((spectrum.real, spectrum.imag), -1).permute(0, 1, 4, 2, 3).contiguous()
    parts = F.conv2d(parts.view(len(x), 8, 5, 4), WEIGHT.flatten()[:64].reshape(8, 8, 1, 1))
    parts = parts.view(len(x), 4, 2, 5, 4).permute(0, 1, 3, 4, 2).contiguous()
    return torch.fft.irfftn(torch.complex(parts[..., 0], parts[..., 1]), s=(5, 6), dim=(-2, -1), norm="ortho")


LINEAR: dict[str, Call] = {
    **{
        f"grid_sample {mode}, {padding}": lambda x, mode=mode, padding=padding: F.grid_sample(
            x, GRID, mode, padding, align_corners=False
        )
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
    },
    "grid_sample in 3-D": lambda x: F.grid_sample(
        x.unflatten(1, (2, 2)), CUBE, align_corners=True
    ).flatten(1, 2),
    "deformable convolution": lambda x: deform_conv2d(x, OFFSETS, WEIGHT, padding=1, mask=MASK),
    "deformable convolution without a mask": lambda x: deform_conv2d(
        x, OFFSETS[:, :18, :2, :1], WEIGHT, stride=2, dilation=(1, 2)
    ),
    "roi_align": lambda x: roi_align(x, BOXES, 3, sampling_ratio=2).view(2, 8, 3, 3),
    "ps_roi_align": lambda x: ps_roi_align(x, BOXES, 2, sampling_ratio=2).view(2, 2, 2, 2),
    "ps_roi_pool": lambda x: ps_roi_pool(x, BOXES, 2).view(2, 2, 2, 2),
    "unfold": lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)).unsqueeze(1),
    "fold": lambda x: F.fold(x.reshape(2, 12, 10), (3, 6), (2, 2), padding=(0, 0)),
    "added to repeated positions": lambda x: torch.ops.aten.index_put(
        2 * x, [None, torch.tensor([2, 2])], x[:, :2], True
    ),
    "gathered rows": lambda x: x.gather(2, ORDER[:, :3, :, :].permute(0, 3, 1, 2).contiguous()),
    "scattered from a part of the source": lambda x: torch.zeros(2, 4, 5, 6, dtype=x.dtype).scatter(
        1, ORDER[:, :3, :4].permute(0, 3, 1, 2)[:, :3].contiguous(), x
    ),
    "indices of three dimensions": lambda x: x[
        :, [0, 3, 1], [[1, 2, 2]], [[0, 5, 5], [1, 1, 1]]
    ].unsqueeze(1),
    "a global filter, as in GFNet": lambda x: torch.fft.irfft2(
        torch.fft.rfft2(x, norm="ortho") * FREQUENCIES, s=(5, 6), norm="ortho"
    ),
    "an odd number of columns": lambda x: torch.fft.irfft2(
        torch.fft.rfft2(x[..., :5]) * FREQUENCIES[..., :3], s=(5, 5), norm="forward"
    ),
    "the Fourier layer of FNO": _fourier_operator,
    "the Fourier unit of FFC": _parts,
    "real and imaginary parts": lambda x: torch.cat([torch.fft.fft2(x).real, torch.fft.fft2(x).imag], 1),
    "there and back, shifted": lambda x: torch.fft.ifft2(
        torch.fft.fftshift(torch.fft.fft2(x, norm="forward"), dim=(-2, -1))
    ).real,
    "transformed channels": lambda x: torch.fft.fft(torch.fft.fft(x, dim=1), dim=3).imag,
    "complex numbers": lambda x: ((torch.fft.fft2(x) * (1 + 2j) - x) / (2 - 1j)).conj().real,
    "complex matrix": lambda x: torch.view_as_real(torch.complex(x, 3 * x) @ MATRIX).flatten(3),
    "quotient of complex maps": lambda x: (torch.fft.rfft2(x) / FREQUENCIES).real,
}  # fmt: skip


class Wired(nn.Module):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def _matrix(call: Call) -> Tensor:
    """Return the matrix of a linear call for each image, (B, outputs, inputs)."""
    zero = call(torch.zeros(2, *SHAPE, dtype=torch.float64)).flatten(1)
    count = torch.Size(SHAPE).numel()
    single = torch.eye(count, dtype=torch.float64).reshape(count, *SHAPE)
    return torch.stack([call(torch.stack([one, one])).flatten(1) - zero for one in single], 2)


@pytest.mark.parametrize("name", LINEAR)
def test_projection_through_a_linear_operation_is_its_transposed_matrix(name: str) -> None:
    call = LINEAR[name]
    ours = passes.run(Wired(call).eval(), _random(2, *SHAPE))
    output = ours.outputs[""]
    signal = _random(*output.shape)
    want = torch.einsum("boi,bo->bi", _matrix(call), signal.flatten(1)).reshape(2, *SHAPE)
    torch.testing.assert_close(ours.signals("", signal, [0, 1]), want, rtol=0, atol=1e-11)
    assert all(step.verdict[0] is Support.EXACT for step in ours.tape.path(ours.values[""]))
    if "" not in ours.maps:
        return
    units = passes.some_units(output, torch.Generator().manual_seed(1))
    in_windows, boxes = ours.units("", units)
    torch.testing.assert_close(in_windows, ours.units_at_full_size("", units), rtol=0, atol=1e-11)
    for one, (x0, y0, x1, y1) in zip(in_windows, boxes, strict=True):
        outside = one.clone()
        outside[:, y0:y1, x0:x1] = 0
        assert not outside.any()
