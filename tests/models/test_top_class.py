"""Top class of an image: when there is one, its probability, and which parts of the network run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import UnitError
from deconvviz.models.model_spec import ModelSpec
from deconvviz.models.top_class import TopClass, top_classes
from deconvviz.network import Origin
from deconvviz.scenes import scene

CLASSES = ("ant", "bee", "cow")


@pytest.fixture(scope="module")
def mini() -> dv.Network:
    return dv.load("minivgg")


def _top(scores: list[float]) -> TopClass | None:
    (found,) = top_classes(torch.tensor([scores]), CLASSES)
    return found


def test_probability_of_logits_is_their_softmax() -> None:
    found = _top([1.0, 3.0, -2.0])
    want = math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(-2))
    assert found == TopClass("bee", 1, pytest.approx(want), 3.0)


def test_probabilities_and_log_probabilities_are_not_changed() -> None:
    shares = [0.2, 0.1, 0.7]
    assert _top(shares) == TopClass("cow", 2, pytest.approx(0.7), pytest.approx(0.7))
    logarithms = _top([math.log(share) for share in shares])
    assert logarithms is not None and logarithms.probability == pytest.approx(0.7)


def test_other_classes_follow_in_the_order_of_their_scores() -> None:
    scores = torch.tensor([[0.5, 4.0, -1.0, 3.0, 0.5, 2.0, 1.0]])
    (found,) = top_classes(scores, list("abcdefg"))
    assert found is not None and found.index == 1
    assert [one.name for one in found.others] == ["d", "f", "g", "a"]
    shares = torch.softmax(scores[0].double(), 0)
    assert [one.probability for one in found.others] == pytest.approx(
        [float(shares[i]) for i in (3, 5, 6, 0)]
    )
    assert found.others[1].to_json() == {
        "name": "f", "index": 5, "probability": pytest.approx(float(shares[5])), "score": 2.0,
    }  # fmt: skip


def test_scores_of_independent_classes_have_no_probability() -> None:
    found = _top([0.9, 0.8, 0.1])
    assert found == TopClass("ant", 0, None, pytest.approx(0.9))
    assert str(found) == "ant (score 0.9)"


@pytest.mark.parametrize("scores", [[math.nan, 1, 2], [math.inf, 1, 2], [2, 2, 1], [0, 0, 0]])
def test_top_class_is_none_without_a_single_highest_score(scores: list[float]) -> None:
    assert _top(scores) is None


def test_top_class_is_none_for_a_single_class() -> None:
    assert top_classes(torch.ones(2, 1), ["cat"]) == (None, None)


def test_half_precision_probabilities_may_add_up_approximately() -> None:
    shares = torch.softmax(torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)), 1).half()
    (found,) = top_classes(shares, [str(n) for n in range(1000)])
    assert found is not None and found.probability == float(shares.max())


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.97128, "97.1 %"), (0.5, "50 %"), (0.00123, "0.123 %"), (0.99949, ">99.9 %"), (1.0, ">99.9 %")],
)
def test_str_shows_name_and_percentage(probability: float, text: str) -> None:
    assert str(TopClass("bee", 1, probability, 3.0)) == f"bee ({text})"


# --- from a recording


def test_top_class_equals_that_of_a_plain_forward_pass(mini: dv.Network) -> None:
    images = [scene(seed).image for seed in range(4)]
    rec = mini.record(images, "conv2_1", scores=True)
    with torch.no_grad():
        scores = mini.module.eval()(rec.inputs)
    shares = torch.softmax(scores.double(), dim=1)
    for image in range(4):
        found = rec.top_class(image)
        index = int(scores[image].argmax())
        assert found is not None and (found.name, found.index) == (mini.classes[index], index)
        assert found.probability == pytest.approx(float(shares[image, index]), rel=1e-9)
    with pytest.raises(UnitError, match=r"^no image 4 in this recording: it has 4$"):
        rec.top_class(4)


def test_top_class_is_known_if_scores_or_output_are_recorded(mini: dv.Network) -> None:
    image = scene(3).image
    assert mini.record(image, "conv2_1").top_class() is None
    assert mini.record(image, ["conv2_1", "output"]).top_class() is not None


def test_top_class_is_none_for_random_weights() -> None:
    assert dv.load("minivgg", "random").record(scene(3).image, "output", scores=True).top_class() is None


@pytest.mark.parametrize(
    ("origin", "trained"),
    [
        (Origin(None, None, "weights as given"), True),
        (Origin("default", None, "shipped"), True),
        (Origin("random", 3, "random, seed 3"), False),
        (
            Origin("default", 0, "timm", model=ModelSpec("timm", "test_resnet")),
            False,
        ),  # timm initialises the classifier at random
        (Origin("default", 0, "made", model=ModelSpec("file", "make", file=Path("net.py"))), True),
        (Origin("random", 0, "made", model=ModelSpec("file", "make", file=Path("net.py"))), False),
        (Origin("no-head.pth", None, "no-head.pth", missing=("fc.weight",)), False),
    ],
)
def test_origin_is_not_trained_if_weights_are_random_or_missing(origin: Origin, trained: bool) -> None:
    assert origin.trained == trained
    classes = tuple(map(str, range(12)))
    module = dv.load("minivgg").module
    assert dv.Network(module, size=96, classes=classes, origin=origin).gives_class_scores == trained


class _Counted(nn.Module):
    """Network that counts its forward passes."""

    def __init__(self, head: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True)
        self.head = head
        self.runs = 0

    def forward(self, x: Tensor) -> Any:
        x = self.relu(self.conv(x))
        object.__setattr__(self, "runs", self.runs + 1)
        return self.head(x)


def _network(
    head: Callable[[Tensor], Any], classes: tuple[str, ...] = CLASSES
) -> tuple[dv.Network, _Counted]:
    torch.manual_seed(0)
    module = _Counted(head)
    return dv.Network(module, size=8, classes=classes), module


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def test_top_class_of_a_users_network() -> None:
    net, _ = _network(_mean)
    rec = net.record(torch.randn(2, 3, 8, 8), "conv", scores=True)
    assert {type(rec.top_class(0)), type(rec.top_class(1))} == {TopClass}


@pytest.mark.parametrize(
    ("head", "classes"),
    [
        (_mean, ()),
        (_mean, ("ant", "bee")),
        (lambda x: x, CLASSES),  # a map
        (lambda x: (x, x[:, :2].mean((2, 3))), CLASSES),  # several tensors, none of which is class scores
        (lambda x: _mean(x)[0], CLASSES),  # the batch is lost
        (lambda x: _mean(x) * math.nan, CLASSES),
    ],
    ids=["no classes", "another number", "a map", "a tuple", "no batch", "NaN"],
)
def test_top_class_is_none_for_outputs_that_are_not_scores(
    head: Callable[[Tensor], Any], classes: tuple[str, ...]
) -> None:
    net, _ = _network(head, classes)
    assert net.record(torch.randn(1, 3, 8, 8), "conv", scores=True).top_class() is None


@pytest.mark.parametrize(
    "head",
    [lambda x: (_mean(x), x), lambda x: {"hidden": x[:, :1], "logits": _mean(x)}],
    ids=["a tuple", "a dictionary"],
)
def test_top_class_is_found_in_a_part_of_the_output(head: Callable[[Tensor], Any]) -> None:
    image = torch.randn(1, 3, 8, 8)
    found = _network(head)[0].record(image, "conv", scores=True).top_class()
    expected = _network(_mean)[0].record(image, "conv", scores=True).top_class()
    assert found == expected and found is not None


def test_head_runs_only_if_scores_are_requested() -> None:
    net, module = _network(_mean)
    assert net.gives_class_scores
    inputs = torch.randn(1, 3, 8, 8)
    ran: list[bool] = []
    module.head = lambda x: ran.append(True) or _mean(x)
    net.record(inputs, "conv")
    assert not ran
    net.record(inputs, "conv", scores=True)
    assert ran == [True]


def test_error_after_the_recorded_layers_affects_only_the_top_class() -> None:
    net, module = _network(_mean)
    assert net.gives_class_scores

    def broken(x: Tensor) -> Tensor:
        raise ValueError("the head is broken")

    module.head = broken
    rec = net.record(torch.randn(1, 3, 8, 8), "conv", scores=True)
    assert rec.top_class() is None and bool(rec.project("conv").pixels.any())


class _OverwritesItsFactor(nn.Module):
    """Network that overwrites the factor of its layer `product` in place, after the layer has run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.product, self.calls = nn.Conv2d(3, 3, 3), nn.Identity(), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        factor = torch.full((3, 1, 1), 2.0)
        product = self.product(self.conv(x) * factor)
        factor.zero_()
        self.calls.add_(1)
        return _mean(product) + factor.sum()


def test_scores_change_no_projection_and_no_weight() -> None:
    torch.manual_seed(0)
    module = _OverwritesItsFactor()
    net = dv.Network(module, size=8, classes=CLASSES)
    inputs = torch.randn(2, 3, 8, 8)
    plain, scored = net.record(inputs, "product"), net.record(inputs, "product", scores=True)
    assert scored.top_class() is not None and float(module.calls.detach()) == 0
    units = plain.strongest("product", 3)
    assert torch.equal(plain.activations("product"), scored.activations("product"))
    assert torch.equal(plain.project("product", units).pixels, scored.project("product", units).pixels)
    assert bool(plain.project("product", units).pixels.any())
