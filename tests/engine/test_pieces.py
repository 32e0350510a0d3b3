"""Pieces of one image along the batch: concatenated maps, boxes of detectors. Projections equal autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import passes, zoo
from helpers.gradients import Guided, PlainAutograd
from helpers.oracles import Autograd, difference
from torch import Tensor, nn
from torchvision import models
from torchvision.models import optical_flow

EXACT = 1e-12

JOIN: dict[str, Callable[[Tensor], Tensor]] = {
    "chunk": lambda x: x.chunk(2)[0] + 2 * x.chunk(2)[1],
    "slices": lambda x: x[:1] + 2 * x[1:],
    "split": lambda x: torch.cat(x.split(1), 1),
    "selected": lambda x: x[0][None] + 2 * x[1][None],
    "unbind": lambda x: torch.stack(x.unbind(0)).sum(0)[None],
    "view": lambda x: x.view(1, -1, *x.shape[2:]),
}


class Siamese(nn.Module):
    """One encoder for a picture and its mirror image, which are concatenated along the batch."""

    def __init__(self, join: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.InstanceNorm2d(4),
            nn.Conv2d(4, 4, 3, 2),
        )
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.encoder(torch.cat([x, x.flip(3)], 0)))


def _check(network: nn.Module, images: Tensor, signal: Tensor, exact: float) -> None:
    recorded = passes.run(network, images, methods=("gradient", "guided"))
    oracles = {
        "": Autograd(network, images, [""]),
        "gradient": PlainAutograd(network, images, [""]),
        "guided": PlainAutograd(network, images, [""], Guided()),
    }
    for method, theirs in oracles.items():
        ours = recorded.by(method) if method else recorded
        want = theirs.project("", signal)
        assert want.any()
        assert difference(ours.signals("", signal, [0]), want) <= exact, method


@pytest.mark.parametrize("name", JOIN)
def test_projection_through_pieces_equals_autograd(name: str) -> None:
    network = Siamese(JOIN[name]).double().eval().requires_grad_(False)
    images = torch.randn(1, 3, 10, 12, generator=torch.Generator().manual_seed(1)).double()
    signal = torch.randn(network(images).shape, generator=torch.Generator().manual_seed(2)).double()
    _check(network, images, signal, EXACT)


class Scores(nn.Module):
    """The class scores of all boxes of a detector, before the final selection, and its first masks."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        detector, heads = self.detector, self.detector.roi_heads
        images, _ = detector.transform(list(x))
        maps = detector.backbone(images.tensors)
        boxes, _ = detector.rpn(images, maps)
        found = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, boxes, images.image_sizes)))[0]
        scores = [found.reshape(1, -1)]
        if heads.has_mask():
            some = heads.mask_roi_pool(maps, [boxes[0][:3]], images.image_sizes)
            scores.append(heads.mask_predictor(heads.mask_head(some)).reshape(1, -1)[:, :500])
        return torch.cat(scores, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_scores_of_boxes_equal_autograd(name: str) -> None:
    with zoo.double_without_initialisation():
        detector = models.get_model(name, weights=None, weights_backbone=None)
    detector.transform.min_size, detector.transform.max_size = (96,), 128
    network = zoo.randomise(Scores(detector))
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()
    signal = torch.zeros_like(network(images))
    signal[0, [3, 100, -1]] = 1
    _check(network, images, signal, 1e-10)


class Flow(nn.Module):
    """RAFT on two pictures in one tensor, up to its motion features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        flow: Tensor = self.network(x[:, :3], x[:, 3:], num_flow_updates=1)[-1]
        return flow


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raft_small", "raft_large"])
def test_motion_features_of_raft_equal_autograd(name: str) -> None:
    """In single precision: RAFT samples with positions in single precision."""
    network = zoo.randomise(Flow(getattr(optical_flow, name)(weights=None)))
    images = torch.randn(1, 6, 128, 128, generator=torch.Generator().manual_seed(1))
    ours = passes.run(network, images)
    assert not ours.tape.unsupported_messages()
    layer = "network.update_block.motion_encoder"
    signal = torch.zeros_like(ours.outputs[layer])
    signal[:, 2] = ours.outputs[layer][:, 2]
    want = Autograd(network, images, [layer]).project(layer, signal)
    assert want.any()
    assert difference(ours.signals(layer, signal, [0]), want) <= 1e-5


class ResidualPooling(nn.Module):
    """Attention with heads, to whose result a part of the queries is added in place, as in MViT."""

    def __init__(self, write: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.mixed, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 24), nn.Linear(8, 3)
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # (B, N, 8)
        q, k, v = self.mixed(tokens).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # each (B, 2, N, 4)
        found = (q @ k.transpose(2, 3)).softmax(-1) @ v
        self.write(found, q)
        scores: Tensor = self.head(found.transpose(1, 2).flatten(2)).relu().mean(1)
        return scores


WRITES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "all but the first token": lambda x, q: x[:, :, 1:].add_(q[:, :, 1:]),
    "every second token": lambda x, q: x[:, :, ::2].copy_(q[:, :, 1::2]),
    "one head": lambda x, q: x[:, 1].mul_(q[:, 0]),
    "a token of each head": lambda x, q: x[:, :, 2].zero_(),
    "columns of all heads": lambda x, q: x[..., 1:3].add_(q[..., :2]),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", WRITES)
def test_writes_into_images_cut_into_pieces_equal_autograd(name: str, count: int) -> None:
    network = ResidualPooling(WRITES[name]).double().eval().requires_grad_(False)
    images = torch.randn(count, 3, 9, 7, generator=torch.Generator().manual_seed(1)).double()
    recorded = passes.run(network, images)
    for image in range(count):
        signal = torch.zeros(network(images).shape, dtype=torch.float64)
        signal[image] = torch.tensor([1.0, -2.0, 0.5])
        want = Autograd(network, images, [""]).project("", signal)
        assert want[image].any()
        found = recorded.signals("", signal[image : image + 1], [image])
        assert difference(found[0], want[image]) <= EXACT
