"""`dv.invert`: make a picture whose features at a layer are those of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from deconvviz.errors import ImageError, MethodError, NetworkError, RefusedOp
from deconvviz.experiments.inversion.colours import InputColours, working_type
from deconvviz.experiments.inversion.descent import LOSS, Floats, descend, layer_function
from deconvviz.experiments.inversion.inversion_result import Inversion, InversionSettings
from deconvviz.experiments.inversion.measures import PictureMeasures
from deconvviz.experiments.inversion.moves import Moves
from deconvviz.experiments.inversion.names import (
    INVERT_LR,
    INVERT_STEPS,
    PRIORS,
    RANGE_EXPONENT,
    RANGE_WEIGHT,
    VARIATION_EXPONENT,
    WEIGHTS,
    check_choice,
    check_numbers,
)
from deconvviz.experiments.inversion.priors import out_of_range, prior_of
from deconvviz.experiments.named_images import Pictures, named_images
from deconvviz.images.image import InputImage
from deconvviz.layers import Layer
from deconvviz.methods.unit_function import Function
from deconvviz.network import Network
from deconvviz.notebook_bar import or_bar
from deconvviz.projection import Projection
from deconvviz.recording import Recording

Report: TypeAlias = Callable[[int, int], None]

DIVERGED = 1000.0
"""A loss above this multiple of the first one is an error (ours)."""
GREY, NOISE = 0.5, 0.05
"""Mean and standard deviation of the colours at the start (ours)."""


def invert(
    net: Network,
    image: Pictures,
    layer: str | Layer,
    prior: str = "tv",
    *,
    steps: int = INVERT_STEPS,
    lr: float = INVERT_LR,
    prior_weight: float | None = None,
    exponent: float = VARIATION_EXPONENT,
    range_weight: float = RANGE_WEIGHT,
    jitter: int = 0,
    k: int = 3,
    seed: int = 0,
    report: Report | None = None,
) -> Inversion:
    """Make a picture whose features at a layer are those of an image (Mahendran & Vedaldi 2015).

    The picture starts as noise, and gradient descent changes its pixels. The loss is the squared distance of
    the features from those of the image, divided by the squared length of the image's features, plus the
    weight times the prior, plus a penalty for colours outside 0 to 1. Many pictures have nearly the same
    features; the prior decides which of them is found.

    - ``tv``: total variation, the sum over pixels of the length of the gradient to a power (the paper's).
    - ``sparse``: the sum of the absolute coefficients of a Haar wavelet transform, on a grid that starts at
      another pixel in each step (ours; the paper does not use wavelets).
    - ``none``: the distance of the features alone, without prior and without penalty.

    The penalty is the paper's: colours to the power of 6. The paper descends with momentum and chooses its
    weights for each layer. Ours is Adam, with one weight for all layers. The projections of the strongest
    units are computed for comparison: the inverse shows what all units of the layer keep together, and a
    projection shows what reached one unit.

    On a CPU, the same seed gives the same picture bit for bit.

    Args:
        net: The network. It is left as it was.
        image: One image as for `Network.record`, or a scene.
        layer: A layer name or a `Layer`.
        prior: ``tv``, ``sparse`` or ``none``.
        steps: Number of steps.
        lr: Learning rate of the first step, in colours from 0 to 1. It falls to zero.
        prior_weight: Weight of the prior. Default: 0.05 for ``tv``, 0.2 for ``sparse``.
        exponent: Exponent of the total variation: 2 blurs edges, and 1 keeps them.
        range_weight: Weight of the penalty for colours outside the range.
        jitter: In each step, move the picture by at most this number of pixels in each direction, as in the
            longer version of the paper (2016). The features of the image stay those of the image in its
            place.
        k: Number of units whose projections are shown for comparison; they have different places.
        seed: Seed of the noise.
        report: Called with the number of finished and of all steps.

    Returns:
        The picture, its distance from the image in features and in pixels, and the curve of the loss.

    Raises:
        ImageError: If several images are given, or the input of the network is not an image.
        LayerError: If the layer does not exist.
        MethodError: If there is no such prior, a number is impossible, or the loss is not finite.
        NetworkError: If the features of the image are not finite, or all of them are zero.
    """
    check_choice(prior, PRIORS, "prior")
    strength = WEIGHTS[prior] if prior_weight is None else prior_weight
    check_numbers(steps, lr, prior_weight=strength, range_weight=range_weight)
    if not 0 < exponent <= 10:
        raise MethodError(f"an exponent of {exponent:g} was requested: give a number above 0, at most 10")
    if k < 0:
        raise MethodError(f"projections of {k} units were requested: request 0 or more")
    net.preprocessing.check_reads_images(net.name)
    pictures = named_images(image)
    if len(pictures) != 1:
        raise ImageError(f"one image is inverted at a time, but {len(pictures)} were given")
    found = net.layers.find(layer)
    recording = net.record(pictures[0].open(), found)
    size = (recording.inputs.shape[-2], recording.inputs.shape[-1])
    moves = Moves(jitter)
    moves.check(size)
    settings = InversionSettings(
        prior=prior,
        prior_weight=0.0 if prior == "none" else strength,
        exponent=exponent if prior == "tv" else None,
        range_weight=0.0 if prior == "none" else range_weight,
        steps=steps,
        lr=lr,
        jitter=jitter,
        seed=seed,
    )
    curve, colours, errors = _descended(net, found, recording.inputs, settings, moves, report)
    original = net.preprocessing.view(recording.inputs[0]).astype(np.float64)
    inverse = np.broadcast_to(np.moveaxis(colours.double().numpy()[0], 0, -1), original.shape).copy()
    projection, refused = _projected(recording, found, k)
    return Inversion(
        network=net.info(),
        layer=found,
        name=pictures[0].name,
        image=next((one for one in recording.input_images if isinstance(one, InputImage)), None),
        original=original,
        picture=inverse,
        curve=curve,
        relative_error=errors[0],
        shown_error=errors[1],
        measures=PictureMeasures.of(original, inverse.clip(0, 1)),
        settings=settings,
        projection=projection,
        refused=refused,
    )


def _descended(
    net: Network,
    layer: Layer,
    inputs: Tensor,
    settings: InversionSettings,
    moves: Moves,
    report: Report | None,
) -> tuple[dict[str, Floats], Tensor, tuple[float, float]]:
    """Return the curve, the colours (1, C, H, W), and the relative errors before and after clipping."""
    shown = or_bar(report, f"inverting {layer.name}")
    dtype = working_type(net)
    generator = torch.Generator().manual_seed(settings.seed)
    with layer_function(net, layer) as features:
        to = InputColours(net, dtype)
        with torch.no_grad():
            target = features(inputs.clone()).to(dtype)
            scale = _checked_scale(target, net, layer)
        loss = _loss(features, target, scale, to, settings, moves, generator)
        start = GREY + NOISE * torch.randn(inputs.shape, generator=generator, dtype=dtype)
        colours = start.to(net.device)

        def on_step(done: int) -> None:
            if shown is not None:
                shown(done, settings.steps)

        curve = descend(colours, loss, steps=settings.steps, lr=settings.lr, most=DIVERGED, on_step=on_step)
        with torch.no_grad():
            errors = [
                float(((features(to.to_input(one)).to(dtype) - target).square().sum() / scale).sqrt())
                for one in (colours, colours.clamp(0, 1))
            ]
    return curve, colours.detach().cpu(), (errors[0], errors[1])


def _checked_scale(target: Tensor, net: Network, layer: Layer) -> Tensor:
    """Return the squared length of the features. Raises NetworkError if it is not finite, or zero."""
    scale = target.square().sum()
    if not bool(scale.isfinite()):
        raise NetworkError(
            f"the features of this image at {layer.name} are NaN or infinite, so they cannot be inverted. "
            f"Check the weights of {net.name}"
        )
    if not float(scale) > 0:
        raise NetworkError(
            f"all features of this image at {layer.name} are zero, so every silent picture would be an "
            "inverse. Choose an earlier layer, or another image"
        )
    return scale


def _loss(
    features: Function,
    target: Tensor,
    scale: Tensor,
    to: InputColours,
    settings: InversionSettings,
    moves: Moves,
    generator: torch.Generator,
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the function of the colours that is lowered, with its parts."""
    prior = prior_of(settings.prior, settings.exponent or VARIATION_EXPONENT)

    def terms(colours: Tensor) -> dict[str, Tensor]:
        seen = features(to.to_input(moves.apply(colours, generator))).to(target.dtype)
        distance = (seen - target).square().sum() / scale
        if settings.prior == "none":
            zero = torch.zeros_like(distance)
            return {LOSS: distance, "distance": distance, "prior": zero, "range": zero}
        likely = settings.prior_weight * prior(colours - GREY, generator)
        inside = settings.range_weight * out_of_range(colours - GREY, RANGE_EXPONENT)
        return {LOSS: distance + likely + inside, "distance": distance, "prior": likely, "range": inside}

    return terms


def _projected(recording: Recording, layer: Layer, k: int) -> tuple[Projection | None, str]:
    """Return projections of the strongest units at different places, or why there are none."""
    if not k:
        return None, ""
    if not layer.has_channels:
        return None, f"{layer.name} has no units: its output is not a map (C, H, W) or a vector (F)"
    try:
        units = recording.choose(layer, min(k, layer.shape[0]))
        return recording.project(layer, units), ""
    except RefusedOp as reason:
        return None, str(reason)
