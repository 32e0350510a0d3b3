"""Parametrisations: how the numbers that the optimiser changes become the colours of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvviz.experiments.inversion.colours import correlated

MID_GREY = 0.5
PIXEL_START = 0.01
"""Standard deviation of the start in pixels, before the sigmoid (lucid's value)."""
FOURIER_START = 0.01
"""Standard deviation of the start of a spectrum (lucid's value)."""
LUCID_DIVISOR = 4.0
"""Lucid divides pictures of a spectrum by this number, so that one learning rate suits both
parametrisations."""


@dataclass(frozen=True)
class Parametrisation:
    """A start and the picture that belongs to it.

    Attributes:
        start: Return random parameters on the CPU for a generator.
        colours: Return the colours (1, C, H, W) of parameters.
    """

    start: Callable[[torch.Generator], Tensor]
    colours: Callable[[Tensor], Tensor]


def parametrisation_of(
    name: str, shape: tuple[int, int, int], dtype: torch.dtype, *, contrast: float
) -> Parametrisation:
    """Return the parametrisation ``fourier``, ``pixels`` or ``norm`` for pictures of shape (C, H, W)."""
    if name == "fourier":
        return _fourier(shape, dtype)
    if name == "norm":
        return _fixed_norm(shape, dtype, contrast)
    return _pixels(shape, dtype)


def _pixels(shape: tuple[int, int, int], dtype: torch.dtype) -> Parametrisation:
    """Return pixels as parameters; a sigmoid keeps the colours between 0 and 1."""

    def start(generator: torch.Generator) -> Tensor:
        return PIXEL_START * torch.randn((1, *shape), generator=generator, dtype=dtype)

    return Parametrisation(start, torch.sigmoid)


def _fixed_norm(shape: tuple[int, int, int], dtype: torch.dtype, contrast: float) -> Parametrisation:
    """Return pixels with a fixed Euclidean distance from a grey picture (Erhan et al. 2009).

    The root mean square of the distance of a colour from mid-grey is `contrast`. Colours may leave the range
    from 0 to 1.
    """

    def start(generator: torch.Generator) -> Tensor:
        return torch.randn((1, *shape), generator=generator, dtype=dtype)

    def colours(parameters: Tensor) -> Tensor:
        rms = parameters.square().mean().sqrt()
        return MID_GREY + contrast * parameters / rms

    return Parametrisation(start, colours)


def _fourier(shape: tuple[int, int, int], dtype: torch.dtype) -> Parametrisation:
    """Return a spectrum as parameters, as in lucid.

    The parameters (1, C, H, W // 2 + 1, 2) are the real and imaginary parts of a spectrum. Each frequency is
    divided by its size, so that a step changes all frequencies of a natural image alike. Three colours are
    decorrelated. A sigmoid keeps the colours between 0 and 1.
    """
    channels, rows, columns = shape
    scale = frequency_scale(rows, columns, dtype)

    def start(generator: torch.Generator) -> Tensor:
        spectrum = (1, channels, *scale.shape, 2)
        return FOURIER_START * torch.randn(spectrum, generator=generator, dtype=dtype)

    def colours(parameters: Tensor) -> Tensor:
        spectrum = torch.view_as_complex(parameters) * scale.to(parameters.device)
        values = torch.fft.irfft2(spectrum, s=(rows, columns)) / LUCID_DIVISOR
        return torch.sigmoid(correlated(values) if channels == 3 else values)

    return Parametrisation(start, colours)


def frequency_scale(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Return the factor of each frequency, (rows, columns // 2 + 1): one over its size, as in lucid.

    Frequency 0 has the factor of the lowest frequency. All are multiplied by the root of the number of
    pixels.
    """
    vertical = torch.fft.fftfreq(rows, dtype=torch.float64)[:, None]
    horizontal = torch.fft.rfftfreq(columns, dtype=torch.float64)[None]
    size = (vertical.square() + horizontal.square()).sqrt()
    found: Tensor = (rows * columns) ** 0.5 / size.clamp(min=1 / max(rows, columns))
    return found.to(dtype)
