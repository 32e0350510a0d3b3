"""The preprocessing that the publisher of a network evaluated it with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deconvviz.errors import NetworkError
from deconvviz.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def preprocessing_of_entry(entry: Any) -> Preprocessing:
    """Return the preprocessing of an entry of torchvision's weights, from its `transforms()`."""
    preset = entry.transforms()
    return Preprocessing(
        resize=int(preset.resize_size[0]),
        crop=int(preset.crop_size[0]),
        mean=tuple(map(float, preset.mean)),
        std=tuple(map(float, preset.std)),
        interpolation=preset.interpolation.value,
        antialias=bool(preset.antialias),
    )


def preprocessing_of_config(config: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that timm evaluates a model with, from its `pretrained_cfg`.

    The test size is used if there is one. Missing entries have timm's default values. Raises NetworkError.
    """
    try:
        channels, rows, columns = map(
            int, config.get("test_input_size") or config.get("input_size") or (3, 224, 224)
        )
        share = float(config.get("test_crop_pct") or config.get("crop_pct") or 0.875)
        interpolation = config.get("interpolation") or "bicubic"
        mean, std = config.get("mean") or IMAGENET_MEAN, config.get("std") or IMAGENET_STD
        resize = math.floor(rows / share), math.floor(columns / share)
        return Preprocessing(
            resize=resize[0] if resize[0] == resize[1] and rows == columns else resize,
            crop=rows if rows == columns else (rows, columns),
            mean=_of_channels(tuple(map(float, mean)), channels, 0.0),
            std=_of_channels(tuple(map(float, std)), channels, 1.0),
            interpolation="bilinear" if interpolation == "random" else interpolation,
            crop_mode=config.get("crop_mode") or "center",
        )
    except (TypeError, ValueError, ArithmeticError) as reason:
        raise NetworkError(f"no preprocessing can be read from {dict(config)!r}: {reason}") from reason


def _of_channels(values: tuple[float, ...], channels: int, otherwise: float) -> tuple[float, ...]:
    """Return one value per channel: their average for grey, or `otherwise` if the input is not an image."""
    if len(values) == channels:
        return values
    if len(values) == 1:
        return values * channels
    return (sum(values) / len(values),) if channels == 1 else (otherwise,) * channels
