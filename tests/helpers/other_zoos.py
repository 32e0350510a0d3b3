"""Networks of other libraries, built from their definitions with random weights. Nothing is downloaded.

Each library is optional: `why_missing` says whether one can be imported.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from helpers.zoo import double_without_initialisation, randomise

_split = str.split

LIBRARIES = {
    "transformers": "transformers",
    "smp": "segmentation_models_pytorch",
    "monai": "monai",
    "ultralytics": "ultralytics",
}
"""By the prefix of a network's name, the module to import."""

TRANSFORMERS = _split("""
    ResNet RegNet ConvNext ConvNextV2 MobileNetV1 MobileNetV2 EfficientNet Bit FocalNet MobileViT MobileViTV2
    PoolFormer SwiftFormer Cvt PvtV2 HGNetV2 TextNet Segformer
""")
SEGMENTERS = ("UperNet", "MobileViT", "MobileNetV2", "Segformer")  # of transformers
SMP = _split("Unet UnetPlusPlus MAnet Linknet FPN PSPNet DeepLabV3 DeepLabV3Plus UPerNet Segformer")
MONAI: dict[str, tuple[Any, ...]] = {
    "UNet": (2, 3, 2, (8, 16, 32, 64), (2, 2, 2), 3, 3, 2),
    "BasicUNet": (2, 3, 2, (8, 8, 16, 32, 64, 8)),
    "AttentionUnet": (2, 3, 2, (8, 16, 32), (2, 2)),
    "SegResNet": (2, 8, 3, 2),
    "DynUNet": (2, 3, 2, (3, 3, 3), (1, 2, 2), (2, 2)),
    "BasicUNetPlusPlus": (2, 3, 2, (8, 8, 16, 32, 64, 8)),
    "HighResNet": (2, 3, 2),
}
MONAI_TRANSFORMERS: dict[str, dict[str, Any]] = {  # they need einops
    "UNETR": {"img_size": (64, 64), "feature_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_heads": 4},
    "SwinUNETR": {"feature_size": 12},
}
ULTRALYTICS = _split("""
    yolov3-tiny yolov5n yolov6n yolov8n yolov8n-seg yolov9t yolov10n yolo11n yolo12n yolo26n
""")

NETWORKS = [
    *(f"transformers:{name}" for name in TRANSFORMERS),
    *(f"transformers:{name}-segmentation" for name in SEGMENTERS),
    *(f"smp:{name}" for name in SMP),
    *(f"monai:{name}" for name in (*MONAI, *MONAI_TRANSFORMERS)),
    *(f"ultralytics:{name}" for name in ULTRALYTICS),
]

BY_DAY = (
    "transformers:MobileNetV2", "transformers:FocalNet", "smp:Linknet", "smp:PSPNet", "monai:UNet",
    "monai:DynUNet", "ultralytics:yolov8n", "ultralytics:yolo11n",
)  # fmt: skip
"""Networks that are tested in every run."""


def why_missing(name: str) -> str:
    """Return why the library of a network cannot be imported; empty if it can."""
    library = LIBRARIES[name.partition(":")[0]]
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed"
    if name.partition(":")[2] in MONAI_TRANSFORMERS and importlib.util.find_spec("einops") is None:
        return "einops is not installed"
    if library == "ultralytics":
        try:
            importlib.import_module("cv2")
        except ImportError as reason:
            if ".so" not in str(reason):
                raise
            return f"a library of the system is missing for OpenCV: {reason}"
    return ""


def build(name: str) -> nn.Module:
    with _quiet(), double_without_initialisation():
        network = builder(name)()
    return randomise(network)


def builder(name: str) -> Callable[[], nn.Module]:
    library, _, own = name.partition(":")
    with _quiet():
        module = importlib.import_module(LIBRARIES[library])
    if library == "transformers":
        return _transformers(module, own)
    if library == "smp":
        return lambda: getattr(module, own)(encoder_name="resnet18", encoder_weights=None)
    if library == "monai":
        nets = importlib.import_module("monai.networks.nets")
        if own in MONAI_TRANSFORMERS:
            shape = {"in_channels": 3, "out_channels": 2, "spatial_dims": 2}
            return lambda: getattr(nets, own)(**shape, **MONAI_TRANSFORMERS[own])
        return lambda: getattr(nets, own)(*MONAI[own])
    tasks = importlib.import_module("ultralytics.nn.tasks")
    kind = tasks.SegmentationModel if own.endswith("-seg") else tasks.DetectionModel
    return lambda: kind(f"{own}.yaml", verbose=False)


def _transformers(module: Any, own: str) -> Callable[[], nn.Module]:
    own, _, task = own.partition("-")
    kind = getattr(module, f"{own}For{'SemanticSegmentation' if task else 'ImageClassification'}")
    configuration = getattr(module, f"{own}Config")
    return lambda: kind(configuration())


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore what the libraries print and warn about, and let Ultralytics write its settings elsewhere."""
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def images() -> Tensor:
    """Return two small images."""
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
