"""Prefixes of tensor names that only the file or only the network has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import Backbone, Classifier, drawn, state
from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.models.fit import fit
from deconvviz.models.weights import weights_of_file

SHAPE = 3, 16, 16


def loaded(
    stored: Any, tmp_path: Path, make: Callable[[], nn.Module] = Classifier, part: str = "", seed: int = 1
) -> tuple[str, ...]:
    """Load a file into a network, compare all tensors with those of the seed, and return the notes."""
    path = tmp_path / "a.pth"
    torch.save(stored, path)
    module = drawn(99, make)
    given = weights_of_file(f"{path}#{part}" if part else path, module, "others", SHAPE)
    assert fit(module, given.state, network="small", source=given.place, shape=SHAPE) is None
    expected = drawn(seed, make).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in module.state_dict().items())
    return given.notes


def rejection(stored: Any, tmp_path: Path, make: Callable[[], nn.Module] = Classifier) -> str:
    torch.save(stored, tmp_path / "a.pth")
    with pytest.raises(WeightsError) as caught:
        given = weights_of_file(tmp_path / "a.pth", module := drawn(99, make), "others", SHAPE)
        fit(module, given.state, network="small", source=given.place, shape=SHAPE)
    return str(caught.value)


def removed(prefix: str) -> tuple[str, ...]:
    return (f"removed the prefix {prefix} from the names of the tensors",)


def added(prefix: str) -> tuple[str, ...]:
    return (f"added the prefix {prefix} to the names of the tensors",)


PREFIXES = [
    "module.", "_orig_mod.", "module._orig_mod.", "model.", "backbone.", "model.encoder.", "net.encoder.",
    "0.", "a.b.c.d.e.f.", "model.model.model.", "my model.", "größe.", "conv1.", "head.",
    "backbone.backbone.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefix_in_the_file_is_removed(tmp_path: Path, prefix: str) -> None:
    assert loaded(state(prefix=prefix), tmp_path) == removed(prefix)
    assert loaded({"state_dict": state(prefix=prefix), "epoch": 3}, tmp_path) == removed(prefix)
    assert loaded({"a": {"b": state(prefix=prefix)}}, tmp_path) == removed(prefix)


class Wrapped(nn.Module):
    """A network whose names all begin with ``inner.net.``."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"net": Classifier()})

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner["net"](x)
        return out


def test_prefix_of_the_network_is_added(tmp_path: Path) -> None:
    own = {key.removeprefix("inner.net."): value for key, value in state(make=Wrapped).items()}
    assert own.keys() == state().keys()
    assert loaded(own, tmp_path, Wrapped) == added("inner.net.")
    assert loaded({f"net.{key}": value for key, value in own.items()}, tmp_path, Wrapped) == added("inner.")
    assert loaded(state(make=Wrapped), tmp_path, Wrapped) == ()


def test_prefix_is_replaced_by_another(tmp_path: Path) -> None:
    own = {f"model.encoder.{key.removeprefix('inner.net.')}": v for key, v in state(make=Wrapped).items()}
    assert loaded(own, tmp_path, Wrapped) == (*removed("model.encoder."), *added("inner.net."))
    longer = {f"ddp.{key}": value for key, value in state(make=Wrapped).items()}
    assert loaded(longer, tmp_path, Wrapped) == removed("ddp.")


def test_wrappers_of_pytorch_are_unwrapped(tmp_path: Path) -> None:
    for make in (lambda: nn.DataParallel(Classifier()), lambda: torch.compile(Classifier(), backend="eager")):
        assert loaded(state(), tmp_path, make) == ()  # type: ignore[arg-type]


def test_layout_versions_get_the_prefix_too(tmp_path: Path) -> None:
    own = drawn(1, Wrapped).get_submodule("inner.net").state_dict()
    torch.save(own, tmp_path / "a.pth")
    given = weights_of_file(tmp_path / "a.pth", drawn(9, Wrapped), "others", SHAPE).state
    assert given._metadata["inner.net.backbone.bn"] == {"version": 2}  # type: ignore[attr-defined]


@pytest.mark.parametrize("unrelated", ["projector.0.weight", "ema_decay", "other.backbone.conv1.weight"])
def test_unrelated_tensors_do_not_hide_the_prefix(tmp_path: Path, unrelated: str) -> None:
    stored = {**state(prefix="net.encoder."), unrelated: torch.ones(2)}
    unused = f"not used: 1 other tensor in the file ({unrelated})"
    assert loaded(stored, tmp_path) == (*removed("net.encoder."), unused)


def test_two_fitting_prefixes_are_rejected_with_their_names(tmp_path: Path) -> None:
    stored = {**state(prefix="student.net."), **state(2, "teacher.net.")}
    path = tmp_path / "a.pth"
    assert rejection(stored, tmp_path) == (
        f"{path} has 2 sets of weights that fit the network: student.net, teacher.net. "
        f"Choose one with weights={path}#student.net"
    )
    assert loaded(stored, tmp_path, part="teacher.net", seed=2) == ()
    assert loaded(stored, tmp_path, part="teacher", seed=2) == removed("net.")


def test_prefix_with_fitting_shapes_is_chosen(tmp_path: Path) -> None:
    other = {f"teacher.{key}": torch.ones(*value.shape, 2) for key, value in state().items()}
    notes = loaded({**other, **state(prefix="student.")}, tmp_path)
    assert notes[0] == removed("student.")[0] and notes[1].startswith(f"not used: {len(other)} other tensors")


def test_average_is_noted_next_to_prefixed_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    assert loaded({**state(prefix="net."), **state(2, "ema.")}, tmp_path) == (
        *removed("net."), f"the file also has averaged weights (EMA); to use them, load {path}#ema"
    )  # fmt: skip


def test_prefix_of_some_tensors_is_not_removed(tmp_path: Path) -> None:
    """Half of the names have one prefix and half another: no prefix can be removed."""
    stored = {f"{'a' if key < 'backbone.c' else 'b'}.{key}": value for key, value in state().items()}
    assert "does not fit small" in rejection(stored, tmp_path)


def test_prefix_without_a_dot_is_not_removed(tmp_path: Path) -> None:
    renamed = {f"my_{key}": value for key, value in state(make=Backbone).items()}
    assert "does not fit small" in rejection(renamed, tmp_path, Backbone)


def test_prefix_equal_to_a_part_of_the_network_is_removed(tmp_path: Path) -> None:
    """The network has a part with the same name as the wrapper."""
    assert loaded(state(prefix="backbone.", make=Backbone), tmp_path, Backbone) == removed("backbone.")
