"""A network that does not run on the input that is made for it: what is advised fits the cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.snapshots import left_as_it_was, pictures, wrapped
from torch import Tensor, nn

from deconvviz.errors import NetworkError

SIZE = "size="


def told_by(module: nn.Module, *, size: int = 8) -> str:
    """The message of the refusal, the same whatever is asked; it names the network and is one line."""
    net = wrapped(module, size=size)
    with left_as_it_was(module):
        with pytest.raises(NetworkError) as wrong:
            _ = net.layers
        with pytest.raises(NetworkError) as again:
            net.record(pictures(size=size), "output")
        with pytest.raises(NetworkError):
            net.coverage()
    told = str(wrong.value)
    assert told == str(again.value)
    assert "\n" not in told and type(module).__name__ in told
    return told


class Taking(nn.Module):
    """A network that wants more than a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)


class Second(Taking):
    """The smallest input of fault 17."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        result: Tensor = self.conv(x) * mask
        return result


class ByName(Taking):
    def forward(self, x: Tensor, *, timestep: int) -> Tensor:
        result: Tensor = self.conv(x) * timestep
        return result


class Three(Taking):
    def forward(self, x: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
        result: Tensor = self.conv(x + left + right) * scale
        return result


class Twins(Taking):
    """In other words than `x`."""

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        result: Tensor = self.conv(template) + self.conv(search)
        return result


@pytest.mark.parametrize("make", [Second, ByName, Three, Twins])
def test_network_of_several_inputs_is_not_told_about_the_size(make: Callable[[], nn.Module]) -> None:
    told = told_by(make())
    assert "takes more than one input" in told and SIZE not in told
    assert "TypeError" in told


def test_optional_inputs_are_no_obstacle() -> None:
    class Optional(Taking):
        def forward(self, x: Tensor, mask: Tensor | None = None, **more: Any) -> Tensor:
            result: Tensor = self.conv(x) if mask is None else self.conv(x * mask)
            return result

    assert wrapped(Optional()).layers.names == ["conv", "output"]


class Clips(nn.Module):
    """Takes the shape of its input apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, times, channels, height, width = x.shape
        result: Tensor = self.conv(x.reshape(batch * times, channels, height, width))
        return result


class Permuting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 1, 3, 4)


def of_volumes() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU())


@pytest.mark.parametrize(
    "make",
    [
        of_volumes,
        lambda: nn.Sequential(nn.Conv3d(2, 4, 1)),
        lambda: nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 4, 3)),
        lambda: nn.Sequential(nn.Identity(), nn.InstanceNorm3d(3, affine=True), nn.Conv3d(3, 2, 1)),
        Clips,
    ],
    ids=["convolution", "convolution of others", "batch norm", "instance norm", "taken apart"],
)
def test_network_of_volumes_is_told_to_read_five_dimensions(make: Callable[[], nn.Module]) -> None:
    told = told_by(make())
    assert "reads 5-D input" in told and SIZE not in told


def test_network_that_permutes_five_dimensions_is_not_told_about_the_size() -> None:
    assert SIZE not in told_by(nn.Sequential(Permuting(), nn.Conv3d(3, 4, 1)))


class Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        batch, channels, length = x.shape
        return x.reshape(batch, channels * length)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU()),
        lambda: nn.Sequential(nn.Identity(), nn.Conv1d(8, 2, 1)),
        lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Conv1d(3, 4, 3)),
        lambda: nn.Sequential(nn.Conv1d(3, 4, 1, bias=False), nn.MaxPool1d(2)),
        lambda: nn.Sequential(nn.LSTM(3, 4)),
        lambda: nn.Sequential(Rows(), nn.Linear(24, 2)),
    ],
    ids=["convolution", "convolution of others", "batch norm", "pool", "recurrent", "taken apart"],
)
def test_network_of_sequences_is_told_to_read_three_dimensions(make: Callable[[], nn.Module]) -> None:
    told = told_by(make())
    assert "reads 3-D input" in told and SIZE not in told


class Merged(nn.Module):
    """Does not look at the flag, but at what its `eval` would have done."""

    def __init__(self, message: str, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.conv, self.ready = nn.Conv2d(3, 4, 3), False
        self.message, self.error = message, error

    def train(self, mode: bool = True) -> Merged:
        self.ready = not mode
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            raise self.error(self.message)
        result: Tensor = self.conv(x)
        return result


EVAL_MESSAGES = [
    "call eval() first",
    "the adapters are not merged: call model.eval() before inference",
    "Please call `.eval()` before you run this model.",
    "not ready; did you forget eval()?",
]


@pytest.mark.parametrize("message", EVAL_MESSAGES)
@pytest.mark.parametrize("error", [RuntimeError, ValueError, AssertionError])
def test_network_that_asks_for_eval_is_told_to_be_switched_by_its_owner(
    message: str, error: type[Exception]
) -> None:
    told = told_by(nn.Sequential(Merged(message, error)).train())
    assert "module.eval()" in told and "yourself first" in told and SIZE not in told


def test_network_that_asks_for_eval_runs_once_its_owner_has_switched_it() -> None:
    module = nn.Sequential(Merged("call eval() first"), nn.ReLU()).train()
    net = wrapped(module)
    with pytest.raises(NetworkError, match=r"module\.eval\(\)"):
        _ = net.layers
    module.eval()
    with left_as_it_was(module):
        assert net.layers.names == ["0.conv", "0", "1", "output"]
        assert len(net.record(pictures(), "1")) == 1


class Casting(nn.Module):
    def __init__(self, to: Any) -> None:
        super().__init__()
        self.to_what = to

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.to_what)


def half_in_the_middle() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1).half())


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(Casting(torch.float64), nn.Conv2d(3, 4, 1)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Casting(torch.long), nn.Conv2d(4, 4, 1)),
        half_in_the_middle,
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 2).double()),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 2).bfloat16()),
        lambda: nn.Sequential(Casting(torch.float32), nn.Embedding(4, 4)),
    ],
    ids=["cast to double", "cast to integers", "half", "double", "bfloat16", "indices wanted"],
)
def test_types_that_do_not_fit_are_no_matter_of_size(make: Callable[[], nn.Module]) -> None:
    told = told_by(make())
    assert SIZE not in told and "RuntimeError" in told


def test_devices_that_do_not_fit_are_no_matter_of_size() -> None:
    """In the words of PyTorch on a machine with a graphics card."""

    class Elsewhere(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(
                "Expected all tensors to be on the same device, "
                "but found at least two devices, cuda:0 and cpu!"
            )

    assert SIZE not in told_by(nn.Sequential(nn.Conv2d(3, 4, 1), Elsewhere()))


def test_weights_and_input_on_unlike_devices_are_no_matter_of_size() -> None:
    class Elsewhere(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(
                "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same "
                "or input should be a MKLDNN tensor and weight is a dense tensor"
            )

    assert SIZE not in told_by(nn.Sequential(Elsewhere(), nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(5, 2)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 11), nn.ReLU()),
        lambda: nn.Sequential(nn.MaxPool2d(16), nn.Conv2d(3, 4, 1)),
        lambda: nn.Sequential(nn.Conv2d(5, 4, 1)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unflatten(2, (3, 3))),
    ],
    ids=["linear", "large kernel", "large pool", "channels", "unflatten"],
)
def test_all_else_is_told_about_the_size(make: Callable[[], nn.Module]) -> None:
    told = told_by(make())
    assert "does not run on an input of 3 x 8 x 8" in told
    assert "deconvviz.Network(module, size=..., mean=..., std=...)" in told
    assert "more than one input" not in told and "-D input" not in told and "eval()" not in told


def test_message_that_only_mentions_an_evaluation_is_told_about_the_size() -> None:
    """A word is no cause."""

    class Evaluating(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] != 32:
                raise ValueError("evaluation needs pictures of 32 x 32")
            return x

    told = told_by(nn.Sequential(Evaluating(), nn.Conv2d(3, 4, 1)))
    assert SIZE in told and "module.eval()" not in told
