"""Deconvolution as signal restoration: a picture from its blurred and noisy version.

This inverse problem is ill-posed: frequencies that the blur removes come back as amplified noise. Each method
adds a regulariser, stops early, or learns what pictures look like. The deconvnet does not solve an inverse
problem. It applies transposed convolutions, as the last part shows with numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch
from scipy.ndimage import convolve
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from stories.restoration_methods import METHODS, Floats
from stories.story import options, pictures, show, write
from torch import Tensor, nn
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.figures.spec import Curves, TileGrid
from deconvviz.figures.spec.curves import Curve, CurvePanel, Reference
from deconvviz.figures.spec.style import CurvesStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile

NAME, NOISE, EDGE, WEIGHTS = "restoration", 0.01, 16, (0.2990, 0.5870, 0.1140)


def gaussian(sigma: float, size: int = 13) -> Floats:
    one = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    kernel = np.outer(one, one)
    return kernel / kernel.sum()


BLUR, OTHER = gaussian(1.6), gaussian(2.4)
KERNELS = {"Gaussian, sigma 1.6": BLUR, "Gaussian, sigma 2.4": OTHER, "box, 7x7": np.full((7, 7), 1 / 49)}


def degraded(image: Floats, kernel: Floats, seed: int) -> Floats:
    """Return an image (h, w), mirrored at its borders, after blur and noise."""
    noise = np.random.default_rng(seed).normal(0, NOISE, image.shape)
    return convolve(image, kernel, mode="reflect") + noise


def transfer(kernel: Floats, side: int) -> Floats:
    """Return the size of the transfer function of a blur, (side, side): what is left of each frequency."""
    return np.abs(np.fft.fft2(kernel, (side, side)))


class Multiscale(nn.Module):
    """Iterative network: one small step, twice at a quarter, a half and the whole of the size."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for a, b in ((2, width), (width, width), (width, 1)):
            parts += [nn.Conv2d(a, b, 5, padding=2, padding_mode="reflect"), nn.LeakyReLU(0.2)]
        self.step = nn.Sequential(*parts[:-1])
        nn.init.normal_(self.step[-1].weight, std=0.002)  # the untrained network changes nearly nothing
        nn.init.zeros_(self.step[-1].bias)

    def forward(self, blurred: Tensor) -> Tensor:  # (B, 1, h, w) -> (B, 1, h, w)
        change = torch.zeros_like(F.avg_pool2d(blurred, 4))
        for scale in (4, 2, 1):
            seen = F.avg_pool2d(blurred, scale)
            change = F.interpolate(change, seen.shape[-2:], mode="bilinear", align_corners=False)
            for _ in range(2):
                change = change + self.step(self.detail(torch.cat([seen, seen + change], 1)))
        return blurred + change

    @staticmethod
    def detail(x: Tensor) -> Tensor:
        """Return the difference from the local mean. Without it, learning is slow: brightness dominates."""
        return 5 * (x - F.avg_pool2d(F.pad(x, [2] * 4, mode="reflect"), 5, 1))


def train(images: list[Floats], steps: int) -> Multiscale:
    """Train the network on images and their blurred versions, for one blur."""
    torch.manual_seed(0)
    net = Multiscale()
    sharp = torch.tensor(np.stack(images), dtype=torch.float32)[:, None]
    blurred = torch.tensor(
        np.stack([degraded(one, BLUR, n) for n, one in enumerate(images)]), dtype=torch.float32
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        top, left = torch.randint(0, sharp.shape[-1] - 31, (2,)).tolist()
        chosen = (torch.randint(len(images), (16,)), slice(top, top + 32), slice(left, left + 32))
        loss = F.mse_loss(net(blurred[chosen][:, None]), sharp[:, 0][chosen][:, None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def restored(blurred: Floats, kernel: Floats, method: Callable[..., Floats], setting: float) -> Floats:
    """Apply a method to a picture that is mirrored at its borders, because most methods wrap around."""
    padded = np.pad(blurred, EDGE, mode="symmetric")
    return np.clip(method(padded, kernel, setting)[EDGE:-EDGE, EDGE:-EDGE], 0, 1)


@torch.no_grad()
def by_network(net: Multiscale, blurred: Floats) -> Floats:
    return net(torch.tensor(blurred, dtype=torch.float32)[None, None])[0, 0].clamp(0, 1).numpy().astype(float)


def quality(found: Floats, sharp: Floats) -> tuple[float, float]:
    """Return PSNR in dB and SSIM."""
    return (
        peak_signal_noise_ratio(sharp, found, data_range=1),
        structural_similarity(sharp, found, data_range=1),
    )


def tuned(images: list[Floats]) -> dict[str, float]:
    """Return the setting of each method with the highest PSNR on images that are used for nothing else."""
    found = {}
    for name, (method, settings) in METHODS.items():
        score = {one: np.mean([quality(restored(degraded(image, BLUR, n), BLUR, method, one), image)[0]
                               for n, image in enumerate(images)]) for one in settings}  # fmt: skip
        found[name] = max(score, key=score.__getitem__)
    return found


def adjoint_is_no_inverse(sharp: Floats) -> tuple[list[dict[str, Any]], list[Floats]]:
    """Compare the projection C.T C x with x, for a blur and the first convolution of minivgg."""
    blur = nn.Conv2d(1, 1, 13, padding=6, bias=False)
    blur.weight = nn.Parameter(torch.tensor(BLUR, dtype=torch.float32)[None, None])
    first = dv.load("minivgg").module.features[0]
    colour = torch.tensor(sharp, dtype=torch.float32)[None, None]
    rows, shown = [], []
    for name, layer, x in (
        ("blur, sigma 1.6", blur, colour),
        ("minivgg conv1_1", first, colour.expand(1, 3, -1, -1)),
    ):
        net = dv.Network(nn.Sequential(layer), size=len(sharp), mean=[0] * x.shape[1], std=[1] * x.shape[1])
        y = F.conv2d(x, layer.weight, padding=layer.padding)
        z = net.record(x, "0").project("0", y.detach()).pixels  # C.T C x
        along = float((z * x).sum() / (z * z).sum())  # the best factor
        symbol = torch.fft.fft2(layer.weight.detach(), s=(64, 64)).permute(2, 3, 0, 1)
        values = torch.linalg.svdvals(symbol)
        rows.append({"convolution": name, "error of C.T C x": float((along * z - x).norm() / x.norm()),
                     "largest / smallest singular value": float(values.max() / values.min()),
                     "largest": float(values.max()), "smallest": float(values.min())})  # fmt: skip
        shown += [y[0].mean(0).detach().numpy(), z[0].mean(0).numpy()]
    return rows, shown


def grey_scenes(first: int, count: int) -> list[Floats]:
    images = pictures(first, count, 64)[0]
    return [image.permute(1, 2, 0).double().numpy() @ np.array(WEIGHTS) for image in images]


def photograph() -> Floats:
    """Return a part of a photograph of scikit-image, (128, 128) grey levels from 0 to 1."""
    return rgb2gray(skimage.data.chelsea())[60:188, 120:248]


def compare(settings: dict[str, float], net: Multiscale, scenes: list[Floats]) -> list[dict[str, Any]]:
    """Return mean PSNR and SSIM of each method: on scenes, with another blur, and on a photograph."""
    cases = {"scenes": (scenes, BLUR), "other blur": (scenes, OTHER), "photograph": ([photograph()], BLUR)}
    rows = []
    for name in ("blurred", *METHODS, "network"):
        row: dict[str, Any] = {"method": name, "setting": settings.get(name, "")}
        for case, (images, kernel) in cases.items():
            found = [quality(attempt(name, degraded(one, kernel, 500 + n), kernel, settings, net), one)
                     for n, one in enumerate(images)]  # fmt: skip
            row[f"{case} dB"], row[f"{case} SSIM"] = (float(value) for value in np.mean(found, 0))
        rows.append(row)
    return rows


def attempt(
    name: str, blurred: Floats, kernel: Floats, settings: dict[str, float], net: Multiscale
) -> Floats:
    """Return a picture restored by a method that knows the kernel, or by the network, which does not."""
    if name == "blurred":
        return np.clip(blurred, 0, 1)
    if name == "network":
        return by_network(net, blurred)
    return restored(blurred, kernel, METHODS[name][0], settings[name])


def lost_frequencies() -> tuple[list[dict[str, Any]], Curves]:
    """Return the condition of each blur, and a figure of what is left of each frequency."""
    rows, curves = [], []
    for name, kernel in KERNELS.items():
        left = transfer(kernel, 64)
        rows.append(
            {
                "blur": name,
                "least that is left": float(left.min()),
                "condition": float(1 / left.min()),
                "frequencies below 1 %": float((left < NOISE).mean()),
            }
        )
        curves.append(
            Curve(name, np.arange(33) / 64, np.log10(np.maximum(left[0, :33], 1e-5)), markers=False)
        )
    panel = CurvePanel(
        tuple(curves),
        "horizontal frequency",
        "log10 of what is left",
        x_units="cycles per pixel",
        references=(Reference(np.log10(NOISE), "1 %: the noise"),),
    )
    return rows, Curves(("What a blur leaves of each frequency",), (panel,), CurvesStyle())


def gallery(settings: dict[str, float], net: Multiscale, scene: Floats) -> TileGrid:
    """Return a figure of a scene and a photograph, restored by all methods."""
    tiles = []
    for sharp in (scene, photograph()):
        blurred = degraded(sharp, BLUR, 500)
        tiles.append(
            GridTile(sharp.repeat(128 // len(sharp), 0).repeat(128 // len(sharp), 1), "image", ("sharp",))
        )
        for name in ("blurred", *METHODS, "network"):
            found = attempt(name, blurred, BLUR, settings, net)
            shown = found.repeat(128 // len(sharp), 0).repeat(128 // len(sharp), 1)
            tiles.append(GridTile(shown, "image", (name, f"{quality(found, sharp)[0]:.1f} dB")))
    return TileGrid(
        ("Blurred pictures, restored", "a scene that was not used for training, and a photograph"),
        tuple(tuple(tiles[start : start + 5]) for start in range(0, len(tiles), 5)),
    )


def main() -> None:
    chosen = options(__doc__, NAME)
    torch.set_num_threads(1)
    conditions, spectra = lost_frequencies()
    show(conditions)
    quick = chosen.quick
    settings = tuned(grey_scenes(70_000, 1 if quick else 6))
    net = train(grey_scenes(71_000, 24 if quick else 300), 20 if quick else 1200)
    fresh = grey_scenes(900_000, 2 if quick else 30)
    methods = compare(settings, net, fresh)
    show(methods)
    adjoint, shown = adjoint_is_no_inverse(photograph())
    show(adjoint)
    signed = TileGrid(
        ("A projection is not a restoration: C.T C x", "top: a blur; bottom: the mean of minivgg's conv1_1"),
        tuple((GridTile(photograph(), "image"), GridTile(y - y.mean()), GridTile(z - z.mean()))
              for y, z in zip(shown[::2], shown[1::2], strict=True)),
        ("blur", "minivgg conv1_1"), ("x", "C x", "C.T C x, the projection"),
        style=TileGridStyle(scale="tile", limits=False),
    )  # fmt: skip
    numbers = {"conditions": conditions, "methods": methods, "adjoint": adjoint}
    shown_all = gallery(settings, net, fresh[0])
    write(chosen.out, NAME, numbers, dpi=105, spectra=spectra, restored=shown_all, adjoint=signed)


if __name__ == "__main__":
    main()
