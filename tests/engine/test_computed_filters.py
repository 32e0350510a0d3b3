"""Filters and positions that are computed from the image are constants; the images of a batch stay apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import passes
from helpers.gradients import PlainAutograd
from helpers.oracles import difference
from torch import Tensor, nn
from torchvision.ops import roi_align

from deconvviz.engine.rules import Support
from deconvviz.engine.units import Unit
from deconvviz.errors import RefusedOp

Call = Callable[[Tensor], Tensor]
EXACT = 1e-12
IMAGES = torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(1)).double()
WEIGHT = torch.randn(4, 54, generator=torch.Generator().manual_seed(2)).double()


def _dynamic(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps and filters of each image, (B, 6, 3, 3, 3), that are computed from it."""
    filters = torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3)), x[:, 0, 0, 0], x[:, 1, 2, 3]], 1) @ WEIGHT
    return x, filters.view(-1, 6, 1, 3, 3)


def _grouped(x: Tensor) -> Tensor:
    """Each image with its own filters, as one grouped convolution."""
    maps, filters = _dynamic(x)
    joined = F.pad(maps.reshape(1, -1, *maps.shape[2:]), (1, 0, 0, 1))
    found = F.conv2d(joined, filters.flatten(0, 1), stride=(2, 1), dilation=(1, 2), groups=3 * len(x))
    return found.view(len(x), 6, *found.shape[2:])


def _single(x: Tensor) -> Tensor:
    """The same for one image, as an ordinary convolution."""
    maps, filters = _dynamic(x)
    return F.conv2d(F.pad(maps, (1, 0, 0, 1)), filters[0], stride=(2, 1), dilation=(1, 2), groups=3)


def _by_hand(x: Tensor, signal: Tensor) -> Tensor:
    """Project a signal with the filters of each image, one image after the other."""
    maps, filters = _dynamic(x)
    found = []
    for one, own, some in zip(maps, filters, signal, strict=True):
        padded = F.pad(one, (1, 0, 0, 1)).requires_grad_()
        output = F.conv2d(padded[None], own, stride=(2, 1), dilation=(1, 2), groups=3)
        (gradient,) = torch.autograd.grad(output, padded, some[None])
        found.append(gradient[:, : one.shape[1], 1:])
    return torch.stack(found)


class Wired(nn.Module):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


@pytest.mark.parametrize(("call", "batch"), [(_grouped, 2), (_grouped, 1), (_single, 1)])
def test_filters_of_each_image_are_constants(call: Call, batch: int) -> None:
    images = IMAGES[-batch:]
    ours = passes.run(Wired(call), images, methods=("gradient",))
    output = ours.outputs[""]
    signal = torch.randn(output.shape, generator=torch.Generator().manual_seed(3)).double()
    numbers = range(batch)
    assert difference(ours.signals("", signal, numbers), _by_hand(images, signal)) <= EXACT
    want = PlainAutograd(Wired(call).eval(), images, [""]).project("", signal)
    assert difference(ours.by("gradient").signals("", signal, numbers), want) <= EXACT
    units = passes.some_units(output, torch.Generator().manual_seed(1))
    found, boxes = ours.units("", units)
    assert difference(found, ours.units_at_full_size("", units)) <= EXACT
    assert any(x1 - x0 < 6 for x0, _, x1, _ in boxes)
    verdicts = {step.verdict for step in ours.tape.path(ours.values[""])}
    note = "filters that are computed from the image are treated as constants"
    assert (Support.APPROXIMATE, note) in verdicts


def test_filters_of_one_image_for_another_are_unsupported() -> None:
    ours = passes.run(Wired(lambda x: F.conv2d(x, _dynamic(x)[1].sum(0), groups=3)), IMAGES)
    with pytest.raises(RefusedOp, match="it reduces over the images of a batch"):
        ours.units("", [Unit(0, 0, 0, 0)])


def test_positions_that_differ_between_images_are_unsupported() -> None:
    def call(x: Tensor) -> Tensor:
        return x[:, :, x.mean((1, 2, 3)).argsort()]  # one row for each image

    with pytest.raises(RefusedOp, match="its positions may differ between the images of a batch"):
        passes.run(Wired(call), IMAGES).units("", [Unit(0, 0, 0, 0)])
    (alone,) = passes.run(Wired(call), IMAGES[:1]).units("", [Unit(0, 1, 0, 2)])[0]
    want = torch.zeros_like(IMAGES[0])
    want[1, 0, 2] = IMAGES[0, 1, 0, 2]
    torch.testing.assert_close(alone, want, rtol=0, atol=0)


def test_writing_several_values_to_one_position_is_unsupported() -> None:
    def call(x: Tensor) -> Tensor:
        y = x.clone()
        y[:, [1, 1]] = x[:, :2]
        return y

    with pytest.raises(RefusedOp, match="it writes several values to one position"):
        passes.run(Wired(call), IMAGES).units("", [Unit(0, 0, 0, 0)])


def test_boxes_of_a_batch_must_be_equally_many_for_each_image() -> None:
    boxes = torch.tensor([[0, 0, 0, 3, 3], [0, 1, 1, 4, 4], [1, 0, 0, 3, 3], [0, 2, 2, 4, 4]]).double()
    ours = passes.run(Wired(lambda x: roi_align(x, boxes, 2).view(2, 6, 2, 2)), IMAGES)
    with pytest.raises(RefusedOp, match="the images of a batch have different numbers of boxes"):
        ours.units("", [Unit(0, 0, 0, 0)])
