"""The networks of test_zoo.py: their names, how to build them, and which layers are tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import models
from torchvision.models import segmentation

from helpers.passes import Pass

TRANSFORMERS = ("vit_", "swin_")  # networks that are not based on convolutions

TORCHVISION = [name for name in models.list_models(module=models) if not name.startswith(TRANSFORMERS)]
SEGMENTATION = [*models.list_models(module=segmentation)]

_split = str.split

TIMM_FAMILIES = _split("""
    byoanet byobnet convmixer convnext cpubone csatv2 cspnet cspnext densenet dla dpn edgenext efficientformer
    efficientformer_v2 efficientnet efficientvit_mit efficientvit_msra fasternet fastvit focalnet ghostnet
    hardcorenas hgnet hrnet iformer inception_next inception_resnet_v2 inception_v3 inception_v4 lcnetv2
    lowformer mambaout maxxvit metaformer mobilenetv3 mobilenetv5 mobilevit nasnet nextvit nfnet pnasnet
    pvt_v2 rdnet regnet repghost repvit res2net resnest resnet resnetv2 rexnet selecsls senet shvit sknet
    starnet swiftformer tresnet vgg visformer vovnet xception xception_aligned
""")
"""Modules of timm with networks that are based on convolutions."""

TIMM = _split("""
    bat_resnext26ts eca_resnext26ts gcresnet33ts gernet_s mobileone_s0 mobileone_s4 regnetz_b16
    regnetz_b16_evos repvgg_a0 repvgg_d2se resnet51q resnet50_clip resnet50_mlp seresnext26ts
    botnet26t_256 halonet26t lambda_resnet26t lamhalobotnet50ts_256 sebotnet33ts_256
    convmixer_768_32 convnext_atto convnext_atto_rms convnext_nano_ols convnext_tiny_hnf convnextv2_atto
    cpubone_nano cs3darknet_focus_s cs3edgenet_x cs3sedarknet_xdw cspdarknet53 cspresnet50 cspresnext50
    darknet53 cspnext_tiny densenet121 densenetblur121d dla34 dla46x_c dla60_res2net dpn48b dpn68b
    edgenext_xx_small efficientformer_l1 efficientformerv2_s0
    efficientnet_b0 efficientnet_b0_gn efficientnet_b0_g8_gn efficientnet_b0_g16_evos efficientnet_blur_b0
    efficientnet_es efficientnet_lite0 efficientnetv2_rw_t fbnetc_100 gc_efficientnetv2_rw_t mixnet_s
    mnasnet_small mobilenet_edgetpu_v2_xs mobilenetv1_100h mobilenetv2_050 spnasnet_100
    test_efficientnet_ln tf_efficientnet_b0 tf_efficientnet_cc_b0_4e tf_efficientnetv2_b0 tf_mixnet_s
    tinynet_e
    efficientvit_b0 efficientvit_l1 efficientvit_m0 fasternet_t0 fastvit_t8 fastvit_mci0
    focalnet_tiny_srf focalnet_tiny_lrf ghostnet_050 ghostnetv2_100 ghostnetv3_050 hardcorenas_a
    hgnet_tiny hgnetv2_b0 hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3
    inception_v4 lcnetv2_small lowformer_b0 mambaout_femto
    test_coatnet test_maxvit coatnet_nano_rw_224 coatnext_nano_rw_224 maxvit_pico_rw_256
    maxxvit_rmlp_nano_rw_256 maxxvitv2_nano_rw_256
    caformer_s18 convformer_s18 poolformer_s12 poolformerv2_s12
    fbnetv3_b lcnet_035 mobilenetv3_small_050 mobilenetv4_conv_small_035 mobilenetv4_conv_aa_medium
    mobilenetv4_conv_blur_medium mobilenetv4_hybrid_medium tf_mobilenetv3_small_minimal_100
    mobilenetv5_base mobilevit_xxs mobilevitv2_050 nasnetalarge nextvit_small
    dm_nfnet_f0 eca_nfnet_l0 nf_ecaresnet26 nf_regnet_b0 nf_resnet26 nf_seresnet26 test_nfnet
    pnasnet5large pvt_v2_b0 pvt_v2_b2_li rdnet_tiny regnetx_002 regnety_002 regnety_040_sgn regnetv_040
    regnetz_005 repghostnet_050 repvit_m0_9 repvit_m1 res2net50_14w_8s res2next50
    resnest14d resnest50d_1s4x24d resnest50d_4s2x40d
    resnet18 resnet26t resnet50_gn resnet50d resnetaa50 resnetblur18 resnetrs50 resnext50_32x4d
    ecaresnet26t ecaresnetlight seresnet18 seresnextaa101d_32x8d
    resnetv2_18 resnetv2_50d_evos resnetv2_50d_frn resnetv2_50d_gn resnetv2_50t resnetv2_50x1_bit
    rexnet_100 rexnetr_100 selecsls42 legacy_seresnet18 legacy_seresnext26_32x4d shvit_s1 skresnet18
    skresnext50_32x4d starnet_s050 swiftformer_xs tresnet_m tresnet_v2_l vgg11 vgg11_bn visformer_tiny
    ese_vovnet19b_slim_dw eca_vovnet39b ese_vovnet39b_evos legacy_xception xception41 xception41p csatv2
""")

ONE_OF_EACH_FAMILY = (
    *_split("""
        alexnet vgg11_bn squeezenet1_1 resnet18 resnext50_32x4d densenet121 googlenet inception_v3
        shufflenet_v2_x0_5 mobilenet_v2 mobilenet_v3_small mnasnet0_5 efficientnet_b0 efficientnet_v2_s
        regnet_x_400mf regnet_y_400mf convnext_tiny deeplabv3_mobilenet_v3_large fcn_resnet50
        lraspp_mobilenet_v3_large
    """),
    *(
        f"timm:{name}"
        for name in _split("""
            lambda_resnet26t mobileone_s0 convmixer_768_32 convnext_atto_rms cpubone_nano csatv2
            cs3darknet_focus_s cspnext_tiny densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1
            efficientformerv2_s0 test_efficientnet_ln efficientvit_b0 efficientvit_m0 fasternet_t0 fastvit_t8
            focalnet_tiny_srf ghostnet_050 hardcorenas_a hgnetv2_b0 hrnet_w18_small iformer_t
            inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small lowformer_b0
            mambaout_femto test_coatnet poolformerv2_s12 mobilenetv3_small_050 mobilenetv5_base mobilevit_xxs
            nasnetalarge nextvit_small test_nfnet pnasnet5large pvt_v2_b0 rdnet_tiny regnetx_002
            repghostnet_050 repvit_m1 res2next50 resnest14d resnet18 resnetv2_18 rexnet_100 selecsls42
            legacy_seresnet18 shvit_s1 skresnet18 starnet_s050 swiftformer_xs tresnet_m vgg11 visformer_tiny
            ese_vovnet19b_slim_dw legacy_xception xception41p
        """)
    ),
)
"""The smallest tested network of each family."""

BY_DAY = (
    *_split("""
        alexnet googlenet inception_v3 maxvit_t mnasnet0_5 mobilenet_v2 mobilenet_v3_small resnet18
        shufflenet_v2_x0_5 squeezenet1_1 vgg11_bn
    """),
    *(
        f"timm:{name}"
        for name in _split("""
            bat_resnext26ts caformer_s18 coatnext_nano_rw_224 convformer_s18 convnext_atto_rms
            convnextv2_atto cpubone_nano csatv2 cspresnet50 cspresnext50 densenetblur121d
            dm_nfnet_f0 dpn48b edgenext_xx_small efficientformerv2_s0 efficientnet_lite0
            efficientvit_b0 efficientvit_m0 ese_vovnet39b_evos fasternet_t0 fastvit_t8 ghostnet_050
            hrnet_w18_small lambda_resnet26t lamhalobotnet50ts_256 lcnet_035 lowformer_b0
            mobilenetv1_100h mobilenetv2_050 mobilenetv3_small_050 mobilevit_xxs
            mobilevitv2_050 nextvit_small poolformer_s12 poolformerv2_s12 regnetz_b16_evos
            repvit_m0_9 repvit_m1 resnest14d resnet50_clip resnetblur18 resnetv2_50d_evos
            resnetv2_50d_frn rexnet_100 rexnetr_100 skresnet18 skresnext50_32x4d starnet_s050
            swiftformer_xs test_coatnet test_efficientnet_ln test_maxvit test_nfnet
            tf_efficientnet_cc_b0_4e tresnet_m tresnet_v2_l visformer_tiny
        """)
    ),
)
"""Networks whose projections are tested in every run. Each operation is in one of them (tested at night)."""

GRADIENTS_BY_DAY = (
    *_split("""
        alexnet googlenet mnasnet0_5 mobilenet_v2 mobilenet_v3_small resnet18 shufflenet_v2_x0_5
        squeezenet1_1
    """),
    *(
        f"timm:{name}"
        for name in _split("""
            convnext_atto_rms cpubone_nano csatv2 efficientformerv2_s0 efficientvit_b0
            efficientvit_m0 hrnet_w18_small lambda_resnet26t lowformer_b0 mobilenetv3_small_050
            mobilenetv5_base mobilevit_xxs nextvit_small poolformerv2_s12 rexnet_100 skresnet18
            starnet_s050 swiftformer_xs test_coatnet test_efficientnet_ln test_nfnet tresnet_m
        """)
    ),
)
"""Networks whose gradients are tested in every run.

Each operation of `ONE_OF_EACH_FAMILY` is in two of them (tested).
"""

SIZES = {
    **dict.fromkeys(
        ("inception_v3", "timm:inception_v3", "timm:inception_v4", "timm:inception_resnet_v2"), 75
    ),
    **dict.fromkeys(("maxvit_t", "timm:efficientformer_l1"), 224),  # their windows do not fit smaller images
    **dict.fromkeys(("timm:bat_resnext26ts", "timm:halonet26t"), 256),
    "timm:lamhalobotnet50ts_256": 128,
}
FIXED = _split("""
    botnet26t_256 sebotnet33ts_256 lamhalobotnet50ts_256 test_coatnet test_maxvit coatnet_nano_rw_224
    coatnext_nano_rw_224 maxvit_pico_rw_256 maxxvit_rmlp_nano_rw_256 maxxvitv2_nano_rw_256 visformer_tiny
    efficientformerv2_s0
""")
"""Networks of timm that are built for one image size."""


class _NoRandomWeights(TorchFunctionMode):
    """Mode that skips random initialisation, which takes longer than all tests for large networks."""

    SKIPPED = (Tensor.uniform_, Tensor.erfinv_, Tensor.bernoulli_)

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call in self.SKIPPED or getattr(call, "__module__", "") == "torch.nn.init":
            return args[0]
        if call is Tensor.normal_:  # zeros, because some code draws again until values are within bounds
            return args[0].zero_()
        return call(*args, **(kwargs or {}))


@contextmanager
def _initialisation_skipped() -> Iterator[None]:
    kept = {name: getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and name[0] != "_"}
    try:
        for name in kept:
            setattr(nn.init, name, lambda tensor, *rest, **options: tensor)
        with _NoRandomWeights():
            yield
    finally:
        for name, function in kept.items():
            setattr(nn.init, name, function)


@contextmanager
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


class RandomNumbers:
    """About 65,000 random numbers, reused from different offsets to fill large tensors quickly."""

    COUNT = 65_537  # fits into the processor cache; prime, so that no two filters are the same

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.numbers = torch.rand(self.COUNT, generator=generator, dtype=torch.float64)
        self.offset = 0

    def fill(self, tensor: Tensor, low: float, high: float) -> None:
        self.offset = (self.offset + 7919) % self.COUNT
        numbers = self.numbers.roll(self.offset)[: tensor.numel()] * (high - low) + low
        flat = tensor.view(-1)
        for first in range(0, len(flat), self.COUNT):
            part = flat[first : first + self.COUNT]
            part.copy_(numbers[: len(part)])


def randomise(network: nn.Module, gain: float = 4.0) -> nn.Module:
    """Fill weights and running statistics so that deep feature maps neither vanish nor overflow.

    With a smaller gain, maps stay so small that a softmax does not saturate; its gradient is then accurate.
    """
    numbers = RandomNumbers()
    with torch.no_grad():
        for part in network.modules():
            for name, number in part.named_parameters(recurse=False):
                if number.dim() > 1 and number[0].numel() > 1:
                    bound = (gain / number[0].numel()) ** 0.5
                    numbers.fill(number, -bound, bound)
                elif "bias" in name:
                    numbers.fill(number, -0.2, 0.2)
                else:  # scale of a norm, a layer or a branch
                    numbers.fill(number, 0.5, 1.5)
            for name, number in part.named_buffers(recurse=False):
                if name == "running_mean":
                    numbers.fill(number, -0.3, 0.3)
                elif name == "running_var":
                    numbers.fill(number, 0.5, 1.5)
    return network.requires_grad_(False).eval()


@contextmanager
def double_without_initialisation() -> Iterator[None]:
    """Build networks in double precision, and skip their random initialisation."""
    with _double(), _initialisation_skipped():
        yield


def build(name: str, gain: float = 4.0) -> nn.Module:
    with double_without_initialisation():
        network = _builder(name)()
    return randomise(network, gain)


def _builder(name: str) -> Callable[[], nn.Module]:
    if name.startswith("timm:"):
        import timm

        own = name.removeprefix("timm:")
        size = {"img_size": SIZES.get(name, 64)} if own in FIXED else {}
        return lambda: timm.create_model(own, **size)
    if name in SEGMENTATION:
        return lambda: models.get_model(name, weights=None, weights_backbone=None)
    given = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return lambda: models.get_model(name, weights=None, **given)


def images(name: str) -> Tensor:
    """Return two small images for a network."""
    size = SIZES.get(name, 64)
    generator = torch.Generator().manual_seed(len(name))
    return torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)


def depths(ours: Pass) -> list[str]:
    """Return a shallow, a middle and a deep layer with a feature map, and the output."""
    maps = [name for name in ours.maps if name and ours.outputs[name][0, 0].numel() > 1]
    chosen = [maps[len(maps) // 8], maps[len(maps) // 2], maps[-1]]
    return [*dict.fromkeys(chosen), *([""] if "" in ours.outputs else [])]
