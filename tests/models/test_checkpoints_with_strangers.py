"""Checkpoints with other tensors than a network's weights: which are loaded, noted or rejected."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import checkpoints
from helpers.named import load_network
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import deconvviz as dv
from deconvviz.errors import WeightsError
from deconvviz.models.checkpoints import read_stored
from deconvviz.models.fit import fit
from deconvviz.models.torchvision_models import build
from deconvviz.models.weights import weights_of_file

State = Mapping[str, Tensor]


class Small(nn.Module):
    """A convolution, a normalisation with buffers, a classifier, and a part without tensors."""

    def __init__(self, classes: int = 3, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)
        self.bn = nn.BatchNorm2d(channels)
        self.head: nn.Module = nn.Linear(channels, classes)
        self.drop = nn.Identity()
        self.extra: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.head(self.bn(self.conv(x)).relu().mean((2, 3))))
        return out


def drawn(seed: int, make: Callable[[], nn.Module] = Small) -> nn.Module:
    return checkpoints.drawn(seed, make)


def state(seed: int = 1, prefix: str = "", make: Callable[[], nn.Module] = Small) -> dict[str, Tensor]:
    return checkpoints.state(seed, prefix, make)


SOURCE_SEED = 1  # seed of the weights that must be loaded
LOSS_WEIGHT = {"criterion.pos_weight": torch.full((3,), 7.0)}


def save(stored: Any, tmp_path: Path) -> Path:
    torch.save(stored, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def loaded(
    path: Path | str, make: Callable[[], nn.Module] = Small, seed: int = SOURCE_SEED
) -> tuple[str, ...]:
    """Load a file into a network with other weights, compare it with the source, and return the notes."""
    module, source = drawn(99, make), drawn(seed, make)
    given = weights_of_file(path, module, "others")
    fit(module, given.state, network="small", source=given.place)
    expected = source.state_dict()
    assert module.state_dict().keys() == expected.keys()
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(x), source(x))
        assert not torch.equal(module(x), drawn(99, make)(x))
    return given.notes


def rejection(path: Path | str, make: Callable[[], nn.Module] = Small) -> str:
    module = drawn(99, make)
    with pytest.raises(WeightsError) as caught:
        given = weights_of_file(path, module, "others")
        fit(module, given.state, network="small", source=given.place)
    before = drawn(99, make).state_dict()
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- one network and other tensors


def one_unused(name: str = "criterion.pos_weight") -> tuple[str, ...]:
    return (f"not used: 1 other tensor in the file ({name})",)


def removed(prefix: str) -> tuple[str, ...]:
    return (f"removed the prefix {prefix} from the names of the tensors",) if prefix else ()


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "_orig_mod.module.", "model._orig_mod."])
def test_loss_weight_is_ignored_next_to_usual_prefixes(tmp_path: Path, prefix: str) -> None:
    assert loaded(save({**state(prefix=prefix), **LOSS_WEIGHT}, tmp_path)) == removed(prefix) + one_unused()
    path = save({"state_dict": {**LOSS_WEIGHT, **state(prefix=prefix)}}, tmp_path)
    assert loaded(path) == removed(prefix) + one_unused("state_dict.criterion.pos_weight")


@pytest.mark.parametrize("prefix", ["backbone.", "net.encoder.", "model.student.net.", "conv.", "0."])
def test_loss_weight_is_ignored_next_to_any_prefix(tmp_path: Path, prefix: str) -> None:
    assert loaded(save({**state(prefix=prefix), **LOSS_WEIGHT}, tmp_path)) == removed(prefix) + one_unused()
    assert loaded(save(state(prefix=prefix), tmp_path)) == removed(prefix)
    assert loaded(save({"state_dict": state(prefix=prefix), "epoch": 3}, tmp_path)) == removed(prefix)


def test_unrelated_tensors_in_safetensors_are_ignored(tmp_path: Path) -> None:
    save_file({**state(prefix="model."), **LOSS_WEIGHT}, tmp_path / "a.safetensors")
    assert loaded(tmp_path / "a.safetensors") == removed("model.") + one_unused()


def test_averaged_model_of_pytorch_is_loaded(tmp_path: Path) -> None:
    averaged = AveragedModel(drawn(SOURCE_SEED))
    notes = loaded(save(averaged.state_dict(), tmp_path))
    assert notes == (*removed("module."), "not used: 1 other tensor in the file (n_averaged)")


def test_counters_of_a_profiler_are_ignored(tmp_path: Path) -> None:
    profiled = drawn(SOURCE_SEED)
    for module in profiled.modules():  # like thop.profile
        module.register_buffer("total_ops", torch.zeros(1, dtype=torch.float64))
        module.register_buffer("total_params", torch.zeros(1, dtype=torch.float64))
    stored = profiled.state_dict()
    assert {"total_ops", "conv.total_ops", "drop.total_params"} <= stored.keys()
    expected = "not used: 10 other tensors in the file (total_ops, total_params, conv.total_ops, ...)"
    assert loaded(save(stored, tmp_path)) == (expected,)
    assert loaded(save({f"module.{key}": value for key, value in stored.items()}, tmp_path)) == (
        *removed("module."),
        "not used: 10 other tensors in the file (module.total_ops, module.total_params, "
        "module.conv.total_ops, ...)",
    )


def test_lightning_checkpoint_is_loaded(tmp_path: Path) -> None:
    """Metrics with state, callbacks, loops, hyperparameters, and optimizers in a list."""
    source = drawn(SOURCE_SEED)
    optimizer = torch.optim.Adam(source.parameters())
    stored = {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict({**state(prefix="net."), "accuracy.tp": torch.ones(3), **LOSS_WEIGHT}),
        "optimizer_states": [stepped(optimizer, source)],
        "lr_schedulers": [{"last": torch.ones(1)}],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.7)}},
        "hyper_parameters": {"lr": 0.1, "sizes": [1, 2], "name": "a"},
    }
    assert loaded(save(stored, tmp_path), seed=SOURCE_SEED) == (
        *removed("net."),
        "not used: 3 other tensors in the file (state_dict.accuracy.tp, state_dict.criterion.pos_weight, "
        "callbacks.ModelCheckpoint{'monitor': None}.best_model_score)",
    )


def test_momentum_encoder_requires_a_choice(tmp_path: Path) -> None:
    """MoCo has buffers at the root, and a momentum copy of the encoder with the same names and shapes."""
    queue = {"module.queue": torch.rand(3, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    stored = {**state(prefix="module.encoder_q."), **state(2, "module.encoder_k."), **queue}
    path = save({"state_dict": stored, "epoch": 2, "arch": "small"}, tmp_path)
    q, k = "state_dict.module.encoder_q", "state_dict.module.encoder_k"
    assert rejection(path) == (
        f"{path} has 2 sets of weights that fit the network: {q}, {k}. Choose one with weights={path}#{q}"
    )
    assert loaded(f"{path}#{q}") == ()
    assert loaded(f"{path}#{k}", seed=2) == ()


def test_parts_in_separate_mappings_are_loaded(tmp_path: Path) -> None:
    """Each part of one network is in its own mapping, and so is a decoder."""
    parts = {
        name: {key.partition(".")[2]: value for key, value in state().items() if key.startswith(f"{name}.")}
        for name in ("conv", "bn", "head")
    }
    notes = loaded(save({**parts, "decoder": {"weight": torch.ones(2)}, "epoch": 3}, tmp_path))
    assert notes == one_unused("decoder.weight")


def test_random_states_and_plain_values_are_ignored(tmp_path: Path) -> None:
    stored = {
        **state(), "epoch": 3, "name": "run", "best": 0.5, "flag": True, "none": None,
        "history": [0.3, 0.2], "rng": {"cpu": torch.get_rng_state(), "cuda": [torch.zeros(4)]},
    }  # fmt: skip
    assert loaded(save(stored, tmp_path)) == ("not used: 2 other tensors in the file (rng.cpu, rng.cuda.0)",)


@pytest.mark.slow
def test_old_names_with_a_prefix_are_accepted(tmp_path: Path) -> None:
    module = build("densenet121", seed=4)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.", r"\1.\2.", key): value
        for key, value in module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = save({**{f"encoder.{key}": value for key, value in old.items()}, **LOSS_WEIGHT}, tmp_path)
    found, info = load_network("densenet121", path)
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in found.state_dict().items())
    assert info.notes == (*removed("encoder."), *one_unused())


def test_layout_versions_are_loaded(tmp_path: Path) -> None:
    """MNASNet reads the version of its layout, which PyTorch stores next to the tensors."""
    plain = build("mnasnet0_5", seed=1).state_dict()
    wrapped = nn.DataParallel(build("mnasnet0_5", seed=1)).state_dict()
    wrapped["criterion.weight"] = torch.ones(1)
    module, info = load_network("mnasnet0_5", save({"state_dict": wrapped}, tmp_path))
    assert all(torch.equal(value, plain[key]) for key, value in module.state_dict().items())
    assert info.notes == (*removed("module."), *one_unused("state_dict.criterion.weight"))
    wrapped._metadata["module"]["version"] = 1  # type: ignore[attr-defined]
    given = weights_of_file(save({"state_dict": wrapped}, tmp_path), module, "others")
    versions: Mapping[str, Any] = given.state._metadata  # type: ignore[attr-defined]
    assert versions[""]["version"] == 1 and module._version == 2
    assert versions["layers.0"]["version"] == 1 and not any(key.startswith("module") for key in versions)


# --- a larger network is not taken for a smaller one


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "model.", "backbone."])
def test_weights_of_resnet34_are_rejected_for_resnet18(tmp_path: Path, prefix: str) -> None:
    larger = build("resnet34", seed=1).state_dict()
    own = build("resnet18", device="meta").state_dict()
    assert all(larger[key].shape == value.shape for key, value in own.items())
    path = save({**{f"{prefix}{key}": value for key, value in larger.items()}, **LOSS_WEIGHT}, tmp_path)
    place = f"{path}#backbone" if prefix == "backbone." else path
    with pytest.raises(WeightsError) as caught:
        load_network("resnet18", path)
    assert re.fullmatch(
        rf"{place} does not fit resnet18: 96 unexpected tensors \(layer1\.2\.conv1\.weight, .*\)"
        r"\. It fits resnet34",
        str(caught.value),
    )
    module, _ = load_network("resnet34", path)
    assert all(torch.equal(value, larger[key]) for key, value in module.state_dict().items())


def sequence(depth: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Conv2d(3, 3, 1), nn.ReLU())))


class Numbered(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        for index in range(1, depth + 1):
            self.add_module(f"conv{index}", nn.Conv2d(3, 3, 1))


LARGER: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor], str]] = {
    "inside a part": (Small, {"conv.0.weight": torch.ones(1)}, "conv.0.weight"),
    "in a part without tensors": (Small, {"drop.weight": torch.ones(1)}, "drop.weight"),
    "in a part that is None": (Small, {"extra.weight": torch.ones(1)}, "extra.weight"),
    "a parameter that is None": (
        lambda: nn.Conv2d(3, 3, 1, bias=False), {"bias": torch.ones(3)}, "bias"
    ),
    "more layers in a sequence": (sequence(2), {"4.weight": torch.ones(1)}, "4.weight"),
    "more layers with numbered names": (
        lambda: Numbered(2), {"conv3.weight": torch.ones(1)}, "conv3.weight"
    ),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "module.", "trunk."])
@pytest.mark.parametrize("kind", LARGER)
def test_tensor_of_a_larger_network_is_rejected(tmp_path: Path, kind: str, prefix: str) -> None:
    make, more, name = LARGER[kind]
    stored = {**state(make=make), **more}
    path = save({**{f"{prefix}{key}": value for key, value in stored.items()}, **LOSS_WEIGHT}, tmp_path)
    place = f"{path}#trunk" if prefix == "trunk." else path
    assert rejection(path, make) == f"{place} does not fit small: 1 unexpected tensor ({name})"


def test_network_without_tensors_rejects_weights(tmp_path: Path) -> None:
    assert f"{len(state())} unexpected tensors" in rejection(save(state(), tmp_path), nn.ReLU)


def test_incomplete_weights_next_to_unrelated_tensors_are_rejected(tmp_path: Path) -> None:
    stored = {**state(prefix="model."), **LOSS_WEIGHT}
    del stored["model.bn.running_var"]
    assert rejection(save(stored, tmp_path)).endswith("does not fit small: 1 tensor missing (bn.running_var)")


# --- one of several


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"run": {"weights": x}, "epoch": 2}])
@pytest.mark.parametrize("name", ["generator", "student", "params", "my weights"])
def test_weights_are_found_under_any_key(tmp_path: Path, name: str, wrap: Callable[[Any], Any]) -> None:
    assert loaded(save(wrap({name: state(), "step": 4}), tmp_path)) == ()
    assert loaded(save(wrap({name: {"module": {"inner": state()}}}), tmp_path)) == ()


def test_weights_with_fitting_shapes_are_chosen(tmp_path: Path) -> None:
    other = state(2, make=lambda: Small(channels=5))
    assert other.keys() == state().keys()
    for stored in (
        {"generator": other, "discriminator": state()},
        {"discriminator": state(), "generator": other},
    ):
        assert loaded(save(stored, tmp_path)) == (
            "weights from discriminator in the file",
            f"not used: {len(other)} other tensors in the file (generator.conv.weight, generator.conv.bias, "
            "generator.bn.weight, ...)",
        )


def test_weights_with_fitting_names_are_chosen(tmp_path: Path) -> None:
    stored = {"generator": {"up.weight": torch.ones(2)}, "discriminator": state()}
    assert loaded(save(stored, tmp_path)) == (
        "weights from discriminator in the file",
        *one_unused("generator.up.weight"),
    )


def test_part_of_a_file_is_loaded_on_request(tmp_path: Path) -> None:
    path = save({"student": state(), "teacher": state(2), "epoch": 3}, tmp_path)
    assert rejection(path) == (
        f"{path} has 2 sets of weights that fit the network: student, teacher. "
        f"Choose one with weights={path}#student"
    )
    assert loaded(f"{path}#student") == loaded(f"{path}#teacher", seed=2) == ()
    assert rejection(f"{path}#techer") == f"{path} has no tensors under 'techer': it has student, teacher"
    assert rejection(f"{path}#epoch") == f"{path} has no tensors under 'epoch': it has student, teacher"
    assert rejection(f"{path}#student", lambda: Small(channels=5)).startswith(
        f"{path}#student does not fit small: 7 tensors with a different shape"
    )


def test_networks_in_a_list_are_chosen_by_number(tmp_path: Path) -> None:
    path = save({"models": [state(), state(2)]}, tmp_path)
    assert "2 sets of weights that fit the network: models.0, models.1. Choose" in rejection(path)
    assert loaded(f"{path}#models.1", seed=2) == ()
    assert loaded(save([state(), {"lr": 0.1}], tmp_path)) == ()


def test_equal_copies_need_no_choice(tmp_path: Path) -> None:
    assert loaded(save({"best": state(), "last": state()}, tmp_path)) == ("weights from best in the file",)


@pytest.mark.parametrize("other", [Tensor.double, Tensor.to_sparse])
def test_copies_of_another_type_need_a_choice(tmp_path: Path, other: Callable[[Tensor], Tensor]) -> None:
    path = save({"best": state(), "last": {key: other(value) for key, value in state().items()}}, tmp_path)
    assert "2 sets of weights that fit the network: best, last" in rejection(path)
    assert loaded(f"{path}#best") == ()


def test_weights_with_matching_number_of_classes_are_preferred(tmp_path: Path) -> None:
    """One of the two networks in the file has another number of classes."""
    path = save({"model": state(2, make=lambda: Small(classes=7)), "student": state()}, tmp_path)
    assert loaded(path) == (
        "weights from student in the file",
        "model in the file fits the network too, with another number of classes; "
        f"to use it, load {path}#model",
    )
    assert rejection(f"{path}#model").endswith("Only the number of classes differs: the weights have 7")


def test_usual_key_is_preferred(tmp_path: Path) -> None:
    path = save({"teacher": state(2), "model": state()}, tmp_path)
    assert loaded(path) == (f"teacher in the file fits the network too; to use it, load {path}#teacher",)
    path = save({"net": state(2), "model": state()}, tmp_path)
    assert "2 sets of weights that fit the network: net, model" in rejection(path)


def test_hash_in_a_file_name_is_not_a_part(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "run#3")
    torch.save({"3": state(2)}, tmp_path / "run")
    assert loaded(tmp_path / "run#3") == ()
    assert loaded(f"{tmp_path}/run#3", seed=SOURCE_SEED) == ()
    (tmp_path / "run#3").unlink()
    assert loaded(f"{tmp_path}/run#3", seed=2) == ()
    assert rejection(f"{tmp_path}/walk#3").startswith(f"no weights file '{tmp_path}/walk#3'")


# --- averaged copies


@pytest.mark.parametrize(
    "name", ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "shadow", "averaged_model", "swa_model"]
)
@pytest.mark.parametrize("plain", ["state_dict", "model", "weights"])
@pytest.mark.parametrize("first", [True, False])
def test_averaged_copy_is_noted(tmp_path: Path, name: str, plain: str, first: bool) -> None:
    stored: dict[str, Any] = {name: state(2), plain: state()} if first else {plain: state(), name: state(2)}
    path = save(stored, tmp_path)
    notes = loaded(path)
    assert notes[-1] == f"the file also has averaged weights (EMA); to use them, load {path}#{name}"
    assert notes[:-1] == (("weights from weights in the file",) if plain == "weights" else ())
    assert loaded(f"{path}#{name}", seed=2) == ()


def test_averaged_copy_of_pytorch_is_noted(tmp_path: Path) -> None:
    """PyTorch's average has a counter and a prefix."""
    model = drawn(SOURCE_SEED)
    averaged = AveragedModel(drawn(2), multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]
    path = save({"model": model.state_dict(), "ema": averaged.state_dict()}, tmp_path)
    note = f"the file also has averaged weights (EMA); to use them, load {path}#ema.module"
    assert loaded(path) == (note,)
    assert loaded(f"{path}#ema.module", seed=2) == ()
    assert loaded(f"{path}#ema", seed=2) == (*removed("module."), *one_unused("ema.n_averaged"))


def test_average_without_plain_weights_is_loaded_with_a_note(tmp_path: Path) -> None:
    assert loaded(save({"state_dict_ema": state(), "epoch": 3}, tmp_path)) == (
        "these are averaged weights (EMA), from state_dict_ema in the file",
    )


def test_average_without_statistics_is_noted_as_unusable(tmp_path: Path) -> None:
    """An average without the statistics of batch normalisation cannot be used alone."""
    shadow = {key: value for key, value in state(2).items() if "running" not in key and "num" not in key}
    path = save({"model": state(), "ema": {"decay": 0.99, "shadow": shadow}}, tmp_path)
    assert loaded(path) == (
        "the file also has averaged weights (EMA) in ema.shadow, which cannot be used alone: "
        "2 tensors missing there (bn.running_mean, bn.running_var)",
    )
    assert "2 tensors missing (bn.running_mean, bn.running_var)" in rejection(f"{path}#ema")


# --- tensors that are never weights


def stepped(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Any]:
    """Return the state of an optimizer after one step; the module does not change."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    module.load_state_dict(before)
    return optimizer.state_dict()


def test_optimizer_state_is_never_loaded(tmp_path: Path) -> None:
    source = drawn(SOURCE_SEED)
    optimizer = stepped(torch.optim.AdamW(source.parameters()), source)
    assert isinstance(optimizer["state"][0]["exp_avg"], Tensor)
    for key in ("optimizer", "optim", "opt", "optimizers"):
        assert loaded(save({"weights": state(), key: optimizer}, tmp_path)) == ()
    assert loaded(save({"weights": state(), "all": [optimizer, optimizer]}, tmp_path)) == ()
    for stored in (optimizer, {"optimizer": optimizer}, {"adam": optimizer}):
        assert "contains" in rejection(save(stored, tmp_path))
    path = save(optimizer, tmp_path)
    assert f"{path} contains the state of an optimizer, not the weights of a network" in rejection(path)


@pytest.mark.parametrize("key", ["optimizer", "state"])
def test_optimizer_state_by_parameter_name_is_never_loaded(tmp_path: Path, key: str) -> None:
    """Each mapping of the optimizer has all names and shapes of the network."""
    moments = {"exp_avg": state(2), "exp_avg_sq": state(3)}
    assert loaded(save({key: moments, "weights": state()}, tmp_path)) == ()
    assert "no tensors" in rejection(save({key: moments}, tmp_path))


def test_unusable_tensors_that_are_not_loaded_are_accepted(tmp_path: Path) -> None:
    unrelated = {
        "loss.table": torch.zeros(2).to_sparse(), "loss.nan": torch.tensor(float("nan")),
        "loss.complex": torch.zeros(1, dtype=torch.complex64),
    }  # fmt: skip
    assert loaded(save({**state(), **unrelated}, tmp_path)) == (
        "not used: 3 other tensors in the file (loss.table, loss.nan, loss.complex)",
    )
    spoiled = {**state(), "head.bias": torch.full((3,), float("nan"))}
    path = save({"student": spoiled, **LOSS_WEIGHT}, tmp_path)
    assert rejection(path).startswith(f"{path}#student contains NaN or infinity in head.bias:")


class Malice:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = save({"model": state(), "extra": Malice(tmp_path / "it ran")}, tmp_path)
    notes = loaded(path)
    assert loaded(f"{path}#model") == notes and notes[0].startswith("ignored 1 object that is not a tensor: ")
    assert not (tmp_path / "it ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "it ran").exists()  # the file does something if it is run


def test_recursive_mappings_are_rejected(tmp_path: Path) -> None:
    own: dict[str, Any] = {"model": state()}
    own["self"] = own
    assert "one of its mappings contains itself" in rejection(save(own, tmp_path))
    many: Any = {"a": torch.ones(1)}
    for _ in range(40):
        many = {"b": many, "c": many, "d": many}
    assert "is nested too deeply" in rejection(save(many, tmp_path))


def test_two_tensors_with_one_name_are_rejected(tmp_path: Path) -> None:
    path = save({"conv": {"weight": torch.ones(1)}, "conv.weight": torch.ones(1)}, tmp_path)
    assert f"{path} contains two tensors named conv.weight. Save only the tensors" in rejection(path)


# --- torchvision's, timm's and a user's networks


def test_torchvision_network_loads_from_checkpoint(tmp_path: Path) -> None:
    source = build("resnet18", seed=5, classes=7)
    averaged = {key: value + 1 for key, value in source.state_dict().items()}
    model = {f"model.{key}": value for key, value in source.state_dict().items()}
    path = save({"state_dict": {**model, **LOSS_WEIGHT}, "ema": averaged}, tmp_path)
    module, info = load_network("resnet18", path)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(x), source(x)) and module(x).shape == (1, 7)
    notes = (
        *removed("model."),
        f"the file also has averaged weights (EMA); to use them, load {path}#ema",
        "not used: 1 other tensor in the file (state_dict.criterion.pos_weight)",
        "7 classes, as in the weights",
    )
    assert (info.notes, info.spec, info.source) == (notes, str(path), str(path))
    part, again = load_network("resnet18", f"{path}#ema")
    assert torch.equal(part.state_dict()["fc.bias"], source.state_dict()["fc.bias"] + 1)
    assert (again.notes, again.spec) == ((notes[-1],), f"{path}#ema")


def test_user_network_loads_from_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\nimport deconvviz as dv\n"
        "def make():\n    return dv.Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), size=8)\n"
    )
    name = f"{tmp_path}/own.py:make"
    source = dv.load(name, seed=1)
    weights = {f"model.{key}": value for key, value in source.module.state_dict().items()}
    averaged = dict(dv.load(name, seed=2).module.state_dict())
    path = save({"state_dict": {**weights, **LOSS_WEIGHT}, "ema": averaged}, tmp_path)
    net = dv.load(name, path)
    assert net.digest == source.digest != dv.load(name).digest
    assert net.origin.notes == (
        *removed("model."),
        f"the file also has averaged weights (EMA); to use them, load {path}#ema",
        *one_unused("state_dict.criterion.pos_weight"),
    )
    part = dv.load(name, f"{path}#ema")
    assert part.digest == dv.load(name, seed=2).digest
    assert (part.origin.spec, part.origin.short, part.origin.notes) == (f"{path}#ema", "a.pth#ema", ())
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net.module(x), source.module(x))


def test_timm_network_loads_from_checkpoint(tmp_path: Path) -> None:
    timm: Any = pytest.importorskip("timm")
    source = timm.create_model("test_resnet", num_classes=5).eval()
    averaged = {key: value + 1 for key, value in source.state_dict().items()}
    model = {f"module.{key}": value for key, value in source.state_dict().items()}
    path = save({"arch": "a", "state_dict": {**model, **LOSS_WEIGHT}, "state_dict_ema": averaged}, tmp_path)
    net = dv.load("timm:test_resnet", path)
    assert net.origin.notes == (
        *removed("module."),
        f"the file also has averaged weights (EMA); to use them, load {path}#state_dict_ema",
        *one_unused("state_dict.criterion.pos_weight"),
        "5 classes, as in the weights",
    )
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net.module(x), source(x))


def test_main_prefix_is_that_of_the_weights(tmp_path: Path) -> None:
    """`main` is the prefix of the most likely weights if the network is not known."""
    for stored in (
        {"state_dict": state(prefix="module."), "ema": {**state(2), **LOSS_WEIGHT}, "n": torch.ones(1)},
        {"extra": {"a": torch.ones(1)}, "params": state()},
        {"ema": {**state(2), **LOSS_WEIGHT}, "weights": state(), "n": torch.ones(1)},
        {"teacher": {**state(2), **LOSS_WEIGHT}, "model": state()},
        state(prefix="model._orig_mod."),
    ):
        kept = read_stored(save(stored, tmp_path))
        found = kept.below(kept.main)
        assert found.keys() == state().keys()
        assert all(torch.equal(value, found[key]) for key, value in state().items())
