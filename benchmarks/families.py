"""Families of networks of several libraries, for `coverage.py`. Libraries that are missing are skipped."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torchvision import models

import deconvviz as dv
from deconvviz.loading import sketch

Make = Callable[[], dv.Network]
Family = tuple[str, dict[str, Make]]
"""Name of a family, and its networks by name."""

_split = str.split


def families(only: str, each: int) -> Iterator[Family]:
    """Yield the families whose name contains a text; of each family of timm, some networks."""
    for found in (torchvision(), timm(each), transformers(), smp(), monai(), ultralytics()):
        yield from ((name, members) for name, members in found if only in name)


def torchvision() -> Iterator[Family]:
    """Yield the networks of torchvision by module: classification, segmentation, detection, video, flow."""
    kinds = {
        "": (models, lambda name: partial(sketch, name)),
        "segmentation": (models.segmentation, lambda name: partial(_segmentation, name)),
        "detection": (models.detection, lambda name: partial(_detection, name)),
        "video": (models.video, lambda name: partial(_video, name)),
        "optical_flow": (models.optical_flow, lambda name: partial(_flow, name)),
    }
    for kind, (module, maker) in kinds.items():
        names: dict[str, dict[str, Make]] = {}
        for name in models.list_models(module=module):
            family = str(models.get_model_builder(name).__module__).rpartition(".")[2]
            names.setdefault(f"{kind}.{family}".lstrip("."), {})[name] = maker(name)
        yield from names.items()


def _segmentation(name: str) -> dv.Network:
    module = models.get_model(name, weights=None, weights_backbone=None)
    return dv.Network(module, size=224, name=name)


def _detection(name: str) -> dv.Network:
    thresholds = {"box_score_thresh" if "rcnn" in name else "score_thresh": 0.0}  # weights are random
    module = models.get_model(name, weights=None, weights_backbone=None, **thresholds)
    if not name.startswith("ssd"):  # a usual size takes minutes
        module.transform.min_size, module.transform.max_size = (160,), 200
    return dv.Network(module, size=160, name=name)


def _video(name: str) -> dv.Network:
    size = 224 if name.startswith(("mvit", "swin", "s3d")) else 112
    return dv.Network(models.get_model(name, weights=None), shape=(3, 16, size, size), name=name)


def _flow(name: str) -> dv.Network:
    return dv.Network(models.get_model(name, weights=None), size=128, name=name)


def timm(each: int) -> Iterator[Family]:
    """Yield the families of timm that are based on convolutions."""
    if not _installed("timm"):
        return
    import timm

    for module in timm.list_modules():
        members = timm.list_models(module=module)
        if members and _convolutional(sketch(f"timm:{members[0]}").module):
            chosen = dict.fromkeys(members[len(members) * n // each] for n in range(each))
            yield f"timm {module}", {name: partial(sketch, f"timm:{name}") for name in chosen}


def _convolutional(module: nn.Module) -> bool:
    """Return whether at least a quarter of the layers with a weight matrix are convolutions."""
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    return 3 * convolutions >= sum(isinstance(part, nn.Linear) for part in module.modules())


TRANSFORMERS = _split("""
    ResNet RegNet ConvNext ConvNextV2 MobileNetV1 MobileNetV2 EfficientNet Bit FocalNet MobileViT MobileViTV2
    PoolFormer SwiftFormer Cvt PvtV2 HGNetV2 TextNet Segformer
""")


def transformers() -> Iterator[Family]:
    """Yield the vision networks of Hugging Face's transformers that are based on convolutions."""
    if not _installed("transformers"):
        return
    library = _imported("transformers")
    tasks = {
        "ImageClassification": TRANSFORMERS,
        "SemanticSegmentation": ("UperNet", "MobileViT", "Segformer"),
    }
    for task, names in tasks.items():
        for name in names:
            make = _of_module(name, lambda name=name, task=task: _configured(library, name, task))
            yield (
                f"transformers {name}{'' if task == 'ImageClassification' else ' (segmentation)'}",
                {name: make},
            )


def _configured(library: Any, name: str, task: str) -> nn.Module:
    module: nn.Module = getattr(library, f"{name}For{task}")(getattr(library, f"{name}Config")())
    return module


def smp() -> Iterator[Family]:
    """Yield the decoders of segmentation_models_pytorch on a ResNet."""
    if not _installed("segmentation_models_pytorch"):
        return
    library = _imported("segmentation_models_pytorch")
    for name in _split(
        "Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet Segformer"
    ):
        make = _of_module(
            name, lambda name=name: getattr(library, name)(encoder_name="resnet18", encoder_weights=None)
        )
        yield f"smp {name}", {name: make}


MONAI: dict[str, tuple[Any, ...]] = {  # arguments after the number of dimensions and the input channels
    "UNet": (2, (16, 32, 64), (2, 2), 3, 3, 2),
    "BasicUNet": (2, (8, 8, 16, 32, 64, 8)),
    "BasicUNetPlusPlus": (2, (8, 8, 16, 32, 64, 8)),
    "AttentionUnet": (2, (8, 16, 32), (2, 2)),
    "DynUNet": (2, (3, 3, 3), (1, 2, 2), (2, 2)),
    "HighResNet": (2,),
}


MONAI_TRANSFORMERS: dict[str, dict[str, Any]] = {  # keywords for images of 64 x 64
    "UNETR": {"img_size": (64, 64), "feature_size": 8, "hidden_size": 24, "mlp_dim": 48, "num_heads": 4},
    "SwinUNETR": {"feature_size": 12},
}


def monai() -> Iterator[Family]:
    """Yield the U-Nets of MONAI, for images and for volumes."""
    if not _installed("monai"):
        return
    nets = _imported("monai.networks.nets")
    for name, arguments in MONAI.items():
        members = {
            f"{name} ({axes}-D)": partial(_monai, getattr(nets, name), name, axes, arguments)
            for axes in (2, 3)
        }
        yield f"monai {name}", members
    segresnet = {
        f"SegResNet ({axes}-D)": partial(_monai, nets.SegResNet, "SegResNet", axes, ()) for axes in (2, 3)
    }
    yield "monai SegResNet", segresnet
    if _installed("einops"):
        for name, options in MONAI_TRANSFORMERS.items():
            yield f"monai {name}", {name: partial(_monai_transformer, getattr(nets, name), name, options)}


def _monai(kind: Any, name: str, axes: int, arguments: tuple[Any, ...]) -> dv.Network:
    with _quiet():
        module = kind(axes, 3, *arguments) if arguments else kind(axes, 8, 3, 2)
    return (
        dv.Network(module, size=64, name=name)
        if axes == 2
        else dv.Network(module, shape=(3, 32, 32, 32), name=name)
    )


def _monai_transformer(kind: Any, name: str, options: dict[str, Any]) -> dv.Network:
    with _quiet():
        module = kind(in_channels=3, out_channels=2, spatial_dims=2, **options)
    return dv.Network(module, size=64, name=name)


def ultralytics() -> Iterator[Family]:
    """Yield the detectors that Ultralytics defines, in their smallest size."""
    if not _installed("ultralytics"):
        return
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())  # it writes settings when it is imported
    tasks = _imported("ultralytics.nn.tasks")
    for name in _split("yolov3-tiny yolov5n yolov6n yolov8n yolov9t yolov10n yolo11n yolo12n yolo26n"):
        make = _of_module(name, lambda name=name: tasks.DetectionModel(f"{name}.yaml", verbose=False))
        yield f"ultralytics {name}", {name: make}


def _of_module(name: str, make: Callable[[], nn.Module]) -> Make:
    def network() -> dv.Network:
        with _quiet():
            module = make()
        return dv.Network(module, size=128 if name == "PAN" else 64, name=name)

    return network


def _installed(name: str) -> bool:
    found = importlib.util.find_spec(name) is not None
    if not found:
        print(f"{name} is not installed: its families are skipped", file=sys.stderr)
    return found


def _imported(name: str) -> Any:
    with _quiet():
        return importlib.import_module(name)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
