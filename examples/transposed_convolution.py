"""The transposed convolution, cell by cell: a matrix, zeros between pixels, padding, cropping, upsampling.

A convolution is a product with a matrix C, and the transposed convolution is the product with C transposed.
The same numbers come from inserting zeros between the pixels, convolving with the turned kernel, and
cropping. Each way is checked against PyTorch and against a projection of deconvviz. The last part is
upsampling: weights that start as bilinear interpolation, and the crop of a fully convolutional network
(Long et al. 2015).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from stories.cell_drawing import SIDE, Cells
from stories.story import as_image, options, pictures, show, write
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.figures.spec import Curves, TileGrid
from deconvviz.figures.spec.curves import Curve, CurvePanel, Reference
from deconvviz.figures.spec.style import TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile

NAME = "transposed_convolution"


class Setting(NamedTuple):
    """A transposed convolution of a square input."""

    kernel: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0

    def __str__(self) -> str:
        return f"kernel {self.kernel}, stride {self.stride}, padding {self.padding}" + (
            f", output padding {self.output_padding}" if self.output_padding else ""
        )


SETTINGS = (Setting(3), Setting(3, 2), Setting(3, 2, 1), Setting(3, 2, 1, 1), Setting(4, 2, 1))


def matrix(weight: Tensor, size: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Return C of a convolution of (size, size) pixels: y.flatten() = C @ x.flatten().

    Row k of C has the weights at the pixels that output k reads. Weights on the padding are dropped.
    """
    side = (size + 2 * padding - len(weight)) // stride + 1
    rows = []
    for top in range(0, side * stride, stride):
        for left in range(0, side * stride, stride):
            canvas = torch.zeros(size + 2 * padding, size + 2 * padding)
            canvas[top : top + len(weight), left : left + len(weight)] = weight
            rows.append(canvas[padding : padding + size, padding : padding + size].flatten())
    return torch.stack(rows)  # (outputs, pixels)


def insert_zeros(x: Tensor, stride: int) -> Tensor:
    """Return x (h, w) with stride - 1 zeros between its pixels."""
    spread = x.new_zeros([(length - 1) * stride + 1 for length in x.shape])
    spread[::stride, ::stride] = x
    return spread


def steps(x: Tensor, weight: Tensor, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
    """Return the padded input with zeros, the output before cropping, and the output after cropping."""
    kernel, stride, padding, extra = setting
    spread = F.pad(insert_zeros(x, stride), [kernel - 1, kernel - 1 + extra] * 2)
    turned = weight.flip(0, 1)  # by 180 degrees, because F.conv2d does not turn kernels
    whole = F.conv2d(spread[None, None], turned[None, None])[0, 0]
    return spread, whole, whole[padding : len(whole) - padding, padding : len(whole) - padding]


def projected(weight: Tensor, size: int, stride: int, padding: int) -> Tensor:
    """Return C transposed, (pixels, outputs): the projection of each unit, divided by its activation."""
    mask = nn.Conv2d(1, 1, len(weight), stride, padding, bias=False)
    mask.weight = nn.Parameter(weight[None, None])
    rec = dv.Network(nn.Sequential(mask), size=size, mean=[0], std=[1]).record(
        torch.rand(1, 1, size, size) + 0.5, layers="0"
    )
    side = rec.activations("0").shape[-1]
    proj = rec.project("0", [dv.Unit(0, 0, y, x) for y in range(side) for x in range(side)])
    columns = [one.flatten() / unit.activation for one, unit in zip(proj.pixels, proj.units, strict=True)]
    return torch.stack(columns, dim=1)


def bilinear_kernel(factor: int, channels: int = 1) -> Tensor:
    """Return weights (channels, channels, k, k) of bilinear interpolation by a whole factor.

    Use them in ``nn.ConvTranspose2d(channels, channels, k, stride=factor, padding=(k - factor) // 2)`` with
    ``k = 2 * factor - factor % 2``. Each channel is enlarged on its own.
    """
    kernel = 2 * factor - factor % 2
    distance = (torch.arange(kernel) - (kernel - 1) / 2).abs() / factor
    return torch.eye(channels)[:, :, None, None] * torch.outer(1 - distance, 1 - distance)


def upsampler(factor: int, channels: int = 3) -> nn.ConvTranspose2d:
    """Return a learned upsampling layer that starts as bilinear interpolation."""
    weight = bilinear_kernel(factor, channels)
    kernel = weight.shape[-1]
    layer = nn.ConvTranspose2d(channels, channels, kernel, factor, (kernel - factor) // 2, bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


def fcn32s() -> nn.Sequential:
    """Return the layout of FCN-32s up to its scores, with one channel: VGG16 with padding 100."""
    parts: list[nn.Module] = []
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            parts.append(nn.Conv2d(1, 1, 3, padding=1 if parts else 100))
        parts.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*parts, nn.Conv2d(1, 1, 7))


def fcn_crop(size: int = 224) -> dict[str, float]:
    """Return the sizes of FCN-32s and the offset of its crop, from the receptive fields of its scores."""
    with torch.random.fork_rng():
        net = dv.Network(fcn32s(), size=size, mean=[0], std=[1], name="FCN-32s")
    scores = net.layers[-1]
    left, _, right, _ = scores.field_of(3, 3)
    step = scores.field_of(3, 4)[0] - left
    centre = (left + right - 1) / 2 - 3 * step  # of score 0, in pixels
    enlarged = (scores.shape[-1] - 1) * 32 + 64  # kernel 64, stride 32
    # Score 0 is in the middle of the first 64 enlarged pixels.
    return {"size": size, "scores": scores.shape[-1], "step": step, "enlarged": enlarged,
            "offset": 31.5 - centre}  # fmt: skip


def learn(layer: nn.ConvTranspose2d, images: Tensor, count: int) -> list[float]:
    """Train a layer to enlarge images by two, and return the PSNR of the new pixels after each step."""
    small, optimiser = F.avg_pool2d(images, 2), torch.optim.Adam(layer.parameters(), lr=3e-3)
    found = []
    for _ in range(count):
        loss = F.mse_loss(layer(small)[..., 2:-2, 2:-2], images[..., 2:-2, 2:-2])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(-10 * float(loss.detach().log10()))
    return found


def cell_by_cell(x: Tensor, weight: Tensor) -> Figure:
    """Draw input, kernel, the input with zeros, and the output of each setting."""
    columns, top = (0.1, 0.8, 1.7, 3.6, 5.4), 0.62
    heights = [(len(steps(x, kernel_of(weight, one), one)[0]) + 2.2) * SIDE for one in SETTINGS]
    page = Cells(
        6.9,
        0.7 + sum(heights),
        "Transposed convolutions, cell by cell. Dark boxes: the turned kernel and its output",
    )
    heads = ("input", "kernel", "zeros inserted and padded", "output: the box is kept", "result")
    for head, left in zip(heads, columns, strict=True):
        page.text(head, left, 0.28, bold=True)
    for setting, height in zip(SETTINGS, heights, strict=True):
        kernel = kernel_of(weight, setting)
        spread, whole, result = steps(x, kernel, setting)
        given = steps(torch.ones_like(x), kernel, setting)[0]
        page.text(f"{setting}: 3x3 to {len(result)}x{len(result)}", columns[0], top - 0.15)
        maps = (x, kernel, spread, whole, result)
        for values, left in zip(maps, columns, strict=True):
            page.map(values, left, top, given if values is spread else torch.ones_like(values))
        at = (
            len(spread) // 2 - setting.kernel // 2
        )  # of one output and of the cells from which it is computed
        page.box(at, at, setting.kernel, columns[2], top, 0)
        page.box(at, at, 1, columns[3], top, 0)
        page.box(setting.padding, setting.padding, len(result), columns[3], top, 1)
        top += height
    return page.figure


def as_matrices(weight: Tensor) -> Figure:
    """Draw a 3x3 kernel on 4x4 pixels as the matrix C and C transposed."""
    page, C = (
        Cells(4.9, 3.2, "A convolution as a matrix: 3x3 kernel, 4x4 pixels, 2x2 outputs"),
        matrix(weight, 4),
    )
    page.text("kernel", 0.1, 0.3, bold=True)
    page.map(weight, 0.1, 0.45)
    page.text("C: a row for each output, a column for each pixel", 1.0, 0.3, bold=True)
    page.map(C, 1.0, 0.45)
    page.text("C transposed", 3.95, 0.3, bold=True)
    page.map(C.T, 3.95, 0.45)
    page.text("convolution: y = C x", 1.0, 1.4)
    page.text("transposed convolution, and projection: C transposed times y", 1.0, 1.55)
    return page.figure


def kernel_of(weight: Tensor, setting: Setting) -> Tensor:
    return weight[: setting.kernel, : setting.kernel]


def larger(values: Tensor, factor: int) -> Tensor:
    """Return a map (..., h, w) with each pixel as a square of `factor` pixels."""
    return values.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def main() -> None:
    chosen = options(__doc__, NAME)
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 2, 0], [3, 1, 2], [0, 2, 1]])
    weight = torch.tensor([[1.0, 2, 0, 1], [0, 1, 2, 0], [2, 0, 1, 1], [1, 1, 0, 2]])
    rows = []
    for setting in SETTINGS:
        kernel = kernel_of(weight, setting)
        ours = steps(x, kernel, setting)[2]
        torchs = F.conv_transpose2d(x[None, None], kernel[None, None], None, *setting[1:])[0, 0]
        C = matrix(kernel, len(ours), setting.stride, setting.padding)
        down = projected(kernel, len(ours), setting.stride, setting.padding)
        rows.append({"setting": str(setting), "output": len(ours), "C": "x".join(map(str, C.shape)),
                     "zeros - torch": float((ours - torchs).abs().max()),
                     "C.T @ x - torch": float((C.T @ x.flatten() - torchs.flatten()).abs().max()),
                     "projection - C.T": float((down - C.T).abs().max())})  # fmt: skip
    show(rows)

    images, _ = pictures(9000, 4 if chosen.quick else 48, 64)
    blown, wanted = {}, {}
    for factor in (2, 3, 4):
        blown[factor] = upsampler(factor)(images[:1]).detach()
        wanted[factor] = F.interpolate(images[:1], scale_factor=factor, mode="bilinear", align_corners=False)
    inside = {f: float((blown[f] - wanted[f])[..., f:-f, f:-f].abs().max()) for f in blown}
    print("largest difference from F.interpolate inside:", inside)
    count = 30 if chosen.quick else 400
    random = nn.ConvTranspose2d(3, 3, 4, 2, 1, bias=False)
    learned = {"starts as bilinear": learn(upsampler(2), images, count),
               "starts at random": learn(random, images, count)}  # fmt: skip
    for name, psnr in learned.items():
        print(f"{name}: {psnr[0]:.2f} dB at the start, {psnr[-1]:.2f} dB after {count} steps")
    crops = [fcn_crop(size) for size in (224, 300, 500)]
    show(crops)

    scene, plain, ours = images[0], wanted[4][0, :, :96, :96], blown[4][0, :, :96, :96]
    enlarged = TileGrid(
        ("Bilinear interpolation as a transposed convolution", "factor 4, kernel 8, stride 4, padding 2"),
        ((GridTile(larger(bilinear_kernel(4)[0, 0], 12).numpy(), caption=("the kernel",)),
          GridTile(as_image(larger(scene[:, :24, :24], 4)), "image", ("24x24 pixels of a scene",)),
          GridTile(as_image(ours), "image", ("enlarged by the layer",)),
          GridTile((ours - plain).permute(1, 2, 0).numpy(), caption=("minus F.interpolate",))),),
        style=TileGridStyle(scale="tile", percentile=100, limits=False), units="weights, pixel values",
        footer="Only the border differs: outside the image, the transposed convolution reads zeros.",
    )  # fmt: skip
    curves = Curves(
        ("Learned upsampling of 48 scenes by two",),
        (CurvePanel(tuple(Curve(label, np.arange(len(psnr)), np.array(psnr), markers=False)
                          for label, psnr in learned.items()),
                    "step", "PSNR", y_units="dB",
                    references=(Reference(learned["starts as bilinear"][0], "bilinear"),)),),
    )  # fmt: skip
    numbers = {"settings": rows, "bilinear": inside, "fcn32s": crops,
               "learned": {name: [psnr[0], psnr[-1]] for name, psnr in learned.items()}}  # fmt: skip
    write(chosen.out, NAME, numbers, cells=cell_by_cell(x, weight), matrix=as_matrices(weight[:3, :3]),
          bilinear=enlarged, learned=curves)  # fmt: skip


if __name__ == "__main__":
    main()
