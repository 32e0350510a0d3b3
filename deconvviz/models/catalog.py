"""Model names as constants, so that shell completion does not import torch.

A test compares them with torchvision's registry.
"""

from __future__ import annotations

from collections.abc import Iterable

from deconvviz.errors import NetworkError
from deconvviz.similar_names import nearest

SHIPPED = "minivgg"  # comes with the package: no download

TORCHVISION_NAMES: tuple[str, ...] = (
    "alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121",
    "densenet161", "densenet169", "densenet201", "efficientnet_b0", "efficientnet_b1",
    "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5", "efficientnet_b6",
    "efficientnet_b7", "efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3", "mobilenet_v2",
    "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_16gf", "regnet_x_1_6gf", "regnet_x_32gf",
    "regnet_x_3_2gf", "regnet_x_400mf", "regnet_x_800mf", "regnet_x_8gf", "regnet_y_128gf",
    "regnet_y_16gf", "regnet_y_1_6gf", "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf",
    "regnet_y_800mf", "regnet_y_8gf", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50",
    "resnext101_32x8d", "resnext101_64x4d", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0", "squeezenet1_1",
    "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t", "vgg11", "vgg11_bn", "vgg13",
    "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "vit_b_16", "vit_b_32", "vit_h_14",
    "vit_l_16", "vit_l_32", "wide_resnet101_2", "wide_resnet50_2",
)  # fmt: skip

TORCHVISION_SEGMENTATION: tuple[str, ...] = (
    "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet101", "deeplabv3_resnet50", "fcn_resnet101",
    "fcn_resnet50", "lraspp_mobilenet_v3_large",
)  # fmt: skip
TORCHVISION_DETECTORS: tuple[str, ...] = (
    "fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)  # fmt: skip

_CONVOLUTIONS = (
    "conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "conv2_1", "relu2_1", "conv2_2", "relu2_2",
    "pool2", "conv3_1", "relu3_1", "conv3_2", "relu3_2", "pool3", "conv4_1", "relu4_1", "conv4_2",
    "relu4_2", "pool4",
)  # fmt: skip
SHIPPED_LAYERS: dict[str, str] = {
    **{f"features.{number}": name for number, name in enumerate(_CONVOLUTIONS)},
    "features": "features",
    "classifier.0": "fc5",
    "classifier.1": "relu5",
    "classifier.2": "classifier.2",
    "classifier.3": "fc6",
    "classifier": "classifier",
    "": "output",
}
"""Layers of minivgg: the name of each module's output."""

TIMM_IS_MISSING = "timm is not installed: networks named timm:NAME need it. Run pip install 'deconvviz[timm]'"


def no_such_network(name: str, torchvision_names: Iterable[str] = TORCHVISION_NAMES) -> NetworkError:
    """Return the error for an unknown name, with the nearest names."""
    plain = [SHIPPED, *torchvision_names]
    similar = nearest(name, plain, 4)
    hint = f"nearest: {', '.join(similar)}" if similar else f"there are {len(plain)} names, none is similar"
    return NetworkError(f"no network {name!r}; {hint} (see: deconvviz models)")
