"""Named networks with weights from files, random weights and shipped weights; digests of weights."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.named import build, load_network, preprocessing_of_network
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from deconvviz.errors import NetworkError, WeightsError
from deconvviz.images.image import open_image
from deconvviz.models import minivgg
from deconvviz.models.digests import digest
from deconvviz.models.fit import fit
from deconvviz.models.weights import WeightsInfo

NAME = "squeezenet1_1"
REAL = os.environ.get("DECONVVIZ_REAL_DATA")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return build(NAME, seed=7).state_dict()


def saved(stored: Any, path: Path, **options: Any) -> Path:
    torch.save(stored, path, **options)
    return path


def all_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def rejection(path: Path | str, name: str = NAME) -> str:
    with pytest.raises(WeightsError) as caught:
        load_network(name, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files that are read


def write_safetensors(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path)
    return path


WRITERS: dict[str, Any] = {
    "plain.pth": saved,
    "legacy.pt": lambda state, path: saved(state, path, _use_new_zipfile_serialization=False),
    "a.safetensors": write_safetensors,
    "a.bin": write_safetensors,
    "epoch.pth": lambda state, path: saved({"epoch": 3, "state_dict": state, "best": 0.3}, path),
    "model.pth": lambda state, path: saved({"model": state, "optimizer": {"lr": 0.1}}, path),
    "parallel.pth": lambda state, path: saved({f"module.{key}": value for key, value in state.items()}, path),
    "compiled.pth": lambda state, path: saved(
        {"model": {"state_dict": {f"_orig_mod.module.{key}": value for key, value in state.items()}}}, path
    ),
}
REMOVED = {"parallel.pth": "module.", "compiled.pth": "_orig_mod.module."}


@pytest.mark.parametrize("name", WRITERS)
def test_weights_are_loaded_from_every_file_format(
    tmp_path: Path, state: dict[str, Tensor], name: str
) -> None:
    path = WRITERS[name](state, tmp_path / name)
    module, info = load_network(NAME, path)
    assert all_equal(module.state_dict(), state)
    assert not module.training
    assert (info.network, info.spec, info.source) == (NAME, str(path), str(path))
    removed = REMOVED.get(name)
    assert info.notes == ((f"removed the prefix {removed} from the names of the tensors",) if removed else ())
    assert info.preprocessing == preprocessing_of_network(NAME)
    assert info.classes == tuple(models.SqueezeNet1_1_Weights.DEFAULT.meta["categories"])
    assert repr(info) == f"WeightsInfo({NAME}, {path}, 1000 classes)"


def test_weights_of_data_parallel_are_loaded(tmp_path: Path) -> None:
    network = build("resnet18", seed=1)
    path = saved(nn.DataParallel(network).state_dict(), tmp_path / "a.pth")
    module, _ = load_network("resnet18", path)
    assert all_equal(module.state_dict(), network.state_dict())


def test_half_precision_is_converted_with_a_note(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved({key: value.half() for key, value in state.items()}, tmp_path / "a.pth")
    module, info = load_network(NAME, path)
    assert all_equal(module.state_dict(), {key: value.half().float() for key, value in state.items()})
    assert info.notes == ("some weights are float16 in the file",)


def test_number_of_classes_comes_from_the_file(tmp_path: Path) -> None:
    path = saved(build(NAME, classes=7).state_dict(), tmp_path / "a.pth")
    module, info = load_network(NAME, path)
    assert module.state_dict()["classifier.1.bias"].shape == (7,)
    assert (info.classes, info.notes) == ((), ("7 classes, as in the weights",))


def test_missing_batch_norm_counters_are_accepted(tmp_path: Path) -> None:
    state = build("resnet18", seed=1).state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    module, _ = load_network("resnet18", saved(old, tmp_path / "a.pth"))
    assert all_equal(module.state_dict(), state)


def test_mnasnet_loads_from_safetensors_without_versions(tmp_path: Path) -> None:
    state = build("mnasnet0_5", seed=1).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    module, _ = load_network("mnasnet0_5", tmp_path / "a.safetensors")
    assert all_equal(module.state_dict(), state)


OLD_NAMES: dict[str, list[tuple[str, str]]] = {
    "densenet121": [(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.", r"\1.\2.")],
    "vit_b_32": [(r"mlp\.0\.", "mlp.linear_1."), (r"mlp\.3\.", "mlp.linear_2.")],
}


def zeros_like_state(module: nn.Module) -> dict[str, Tensor]:
    return {
        key: torch.zeros(()).to(value.dtype).expand(value.shape) for key, value in module.state_dict().items()
    }


@pytest.mark.parametrize("name", OLD_NAMES)
def test_old_names_in_published_weights_are_accepted(name: str) -> None:
    module = build(name, seed=None)
    old = zeros_like_state(module)
    for current, older in OLD_NAMES[name]:
        old = {re.sub(current, older, key): value for key, value in old.items()}
    assert old.keys() != module.state_dict().keys()
    fit(module, old, network=name, source="old.pth")
    assert not any(value.any() for value in module.state_dict().values())


@pytest.mark.parametrize(
    ("name", "extra"), [("googlenet", "aux1.fc1.weight"), ("inception_v3", "AuxLogits.fc.bias")]
)
def test_auxiliary_heads_are_ignored(name: str, extra: str) -> None:
    module = build(name, seed=None)
    fit(module, {**zeros_like_state(module), extra: torch.zeros(3)}, network=name, source="published.pth")
    assert not any(value.any() for value in module.state_dict().values())


# --- files that are rejected


class Malice:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_malicious_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "a.pth"
    path.write_bytes(pickle.dumps({"a": Malice(trace)}, protocol=protocol))
    message = rejection(path)
    assert "was not written by torch.save" in message and "no code in it was run" in message
    torch.save({"a": Malice(trace)}, path)
    message = rejection(path)
    assert "contains no named tensors: only code or objects (" in message and "Path.touch)" in message
    assert "were not run" in message
    assert "torch.save(net.state_dict(), FILE)" in message and ".safetensors" in message
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malice(trace)))
    assert trace.exists()  # the pickle does something if it is run


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_module_is_rejected(tmp_path: Path, zipped: bool) -> None:
    path = saved(build(NAME), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert rejection(path) == (
        f"{path} contains no named tensors: only code or objects (torchvision.models.squeezenet.SqueezeNet), "
        "which were not run. Save only the tensors, with torch.save(net.state_dict(), FILE) or as "
        ".safetensors"
    )


def test_torchscript_is_rejected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:  # the files of torch.jit.save
        for name in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"a/{name}", b"")
    assert "is a TorchScript program, not a weights file; it was not run" in rejection(tmp_path / "a.pt")


def first_half(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain.pth", "is truncated or damaged"),
        ("legacy.pt", "is truncated or damaged"),
        ("a.safetensors", "is not a complete safetensors file"),
        ("a.bin", "is not a complete safetensors file"),
    ],
)
def test_truncated_file_is_rejected(
    tmp_path: Path, state: dict[str, Tensor], name: str, message: str
) -> None:
    path: Path = WRITERS[name](state, tmp_path / name)
    path.write_bytes(first_half(path))
    assert message in rejection(path)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([torch.zeros(2)], "contains no named tensors: it contains a list"),
        (torch.zeros(2), "contains no named tensors: it contains a Tensor"),
        ({}, "contains no tensors"),
        ({"state_dict": {}}, "contains no tensors"),
        (
            {"epoch": 3, "lr": 0.1},
            "contains no tensors: it has 2 entries ('epoch', 'lr'), and no state dict under state_dict",
        ),
        ({"a": torch.zeros(2).to_sparse()}, "a is sparse"),
        ({"a": torch.zeros(2, device="meta")}, "a is without values"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a is complex"),
        (
            {"a": torch.zeros(2)},
            "52 tensors missing (features.0.weight, features.0.bias, features.3.squeeze.weight, ",
        ),
    ],
)
def test_content_without_usable_weights_is_rejected(tmp_path: Path, stored: Any, message: str) -> None:
    assert message in rejection(saved(stored, tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not weights at all", "is not a weights file: it begins with b'not weights at all'"),
        (b"<!DOCTYPE html>", "is not a weights file: it begins with"),
        (b"\x80\x02", "is truncated or damaged"),
        (bytes(1000), "is not a weights file"),
    ],
)
def test_files_that_are_not_weights_are_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    assert message in rejection(tmp_path / "a.pth")


def test_zip_archive_without_weights_is_rejected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("weights.pth", b"...")
    assert "is a zip archive, not a weights file: unpack it" in rejection(tmp_path / "a.zip")


def test_missing_weights_are_reported_with_alternatives(tmp_path: Path) -> None:
    (tmp_path / "squeeze.pth").touch()
    assert rejection(tmp_path / "squeze.pth") == (
        f"no weights file '{tmp_path}/squeze.pth': similar names in {tmp_path}: squeeze.pth "
        f"(named weights of {NAME}: default, IMAGENET1K_V1, random)"
    )
    assert "there is no folder" in rejection(tmp_path / "a" / "b.pth")
    assert "is a folder, not a weights file" in rejection(tmp_path)
    assert "IMAGENET1K_V1, IMAGENET1K_V2, random" in rejection("IMAGENET1K_V3", "mobilenet_v2")
    assert "is a web address" in rejection("https://example.org/a.pth")
    for odd in ("a\0b", "x" * 5000):
        rejection(odd)
    with pytest.raises(NetworkError, match="no network 'vgg91'"):
        load_network("vgg91", tmp_path / "squeeze.pth")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_read_permission_is_rejected(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved(state, tmp_path / "a.pth")
    path.chmod(0)
    assert "cannot read" in rejection(path) and "permission denied" in rejection(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_infinity_are_rejected(
    tmp_path: Path, state: dict[str, Tensor], value: float
) -> None:
    spoiled = {**state, "classifier.1.weight": state["classifier.1.weight"].clone()}
    spoiled["classifier.1.weight"][3, 5] = value
    assert "contains NaN or infinity in classifier.1.weight:" in rejection(saved(spoiled, tmp_path / "a.pth"))


def test_finite_weights_whose_sum_overflows_are_accepted(tmp_path: Path, state: dict[str, Tensor]) -> None:
    large = {key: torch.full_like(value, 3e4).half() for key, value in state.items()}
    load_network(NAME, saved(large, tmp_path / "a.pth"))


def test_integer_weights_are_rejected(tmp_path: Path, state: dict[str, Tensor]) -> None:
    whole = {**state, "features.0.bias": state["features.0.bias"].to(torch.int8)}
    assert "features.0.bias is int8, not floating point" in rejection(saved(whole, tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("stored", "requested", "guess"),
    [
        ("squeezenet1_1", "squeezenet1_0", "It fits squeezenet1_1"),
        ("squeezenet1_1", "alexnet", "It fits squeezenet1_1"),
        ("resnet18", "squeezenet1_0", "It fits resnet18"),
        ("minivgg", "squeezenet1_0", "It fits minivgg"),
    ],
)
def test_weights_of_another_network_are_identified(
    tmp_path: Path, stored: str, requested: str, guess: str
) -> None:
    message = rejection(saved(build(stored).state_dict(), tmp_path / "a.pth"), requested)
    assert re.search(rf"a\.pth does not fit {requested}: .*\d+ (unexpected )?tensors? ", message)
    assert message.endswith(f". {guess}")


def test_another_network_is_identified_with_its_classes(tmp_path: Path) -> None:
    path = saved(build("resnet18", classes=10).state_dict(), tmp_path / "a.pth")
    assert rejection(path).endswith(". It fits resnet18 with 10 classes")


def test_mismatches_are_counted_and_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    other = OrderedDict(state)
    del other["features.0.bias"]
    other["extra.weight"] = torch.zeros(3)
    other["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    path = saved(other, tmp_path / "a.pth")
    assert rejection(path) == (
        f"{path} does not fit {NAME}: 1 tensor missing (features.0.bias), 1 unexpected tensor "
        "(extra.weight), 1 tensor with a different shape (features.0.weight (64, 1, 3, 3) in the file, "
        "(64, 3, 3, 3) in the network)"
    )


# --- random and shipped weights


def test_random_weights_depend_on_the_seed() -> None:
    module, info = load_network(NAME, "random", seed=7)
    assert all_equal(module.state_dict(), build(NAME, seed=7).state_dict())
    assert (info.spec, info.source) == ("random", "random, seed 7")
    assert info.preprocessing == preprocessing_of_network(NAME)


def test_minivgg_loads_its_shipped_weights() -> None:
    module, info = load_network("minivgg")
    assert all_equal(module.state_dict(), minivgg.load_minivgg().state_dict())
    assert (info.spec, info.source, info.classes) == ("default", "shipped with deconvviz", minivgg.CLASSES)
    assert info.preprocessing.crop == minivgg.SIZE
    again, info_again = load_network("minivgg", minivgg.WEIGHTS)
    assert info_again.classes == info.classes
    assert all_equal(again.state_dict(), module.state_dict())


# --- digests


def test_digest_equals_documented_sha256() -> None:
    state = {"b": torch.tensor(3, dtype=torch.int64), "a": torch.arange(6.0).reshape(2, 3)}
    whole = hashlib.sha256()
    whole.update(b"a\0torch.float32\0(2, 3)\0" + hashlib.sha256(struct.pack("<6f", *range(6))).digest())
    whole.update(b"b\0torch.int64\0()\0" + hashlib.sha256(struct.pack("<q", 3)).digest())
    assert digest(state) == f"sha256:{whole.hexdigest()}"


def test_digest_depends_only_on_names_types_shapes_and_values(state: dict[str, Tensor]) -> None:
    name = "features.0.weight"
    backwards = dict(reversed(state.items()))
    strided = {**state, name: state[name].contiguous(memory_format=torch.channels_last)}
    assert digest(backwards) == digest(strided) == digest(state)
    nudged = state[name].clone()
    nudged[0, 0, 0, 0] += 1e-3
    others = [
        {**state, name: nudged},
        {**state, name: state[name].double()},
        {**state, name: state[name].reshape(64, 27)},
        {("renamed" if key == name else key): value for key, value in state.items()},
        {**state, name: state[name].bfloat16()},
        {**state, "none": torch.zeros(0)},
    ]
    assert len({digest(state), *map(digest, others)}) == 7


def test_digest_of_loaded_file_equals_that_of_its_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    module, _ = load_network(NAME, saved({"state_dict": state}, tmp_path / "a.pth"))
    assert digest(module.state_dict()) == digest(state)


# --- trained weights and photographs


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="DECONVVIZ_REAL_DATA is not set: no trained weights, no photographs")
def test_trained_weights_classify_photographs() -> None:
    data = Path(str(REAL))
    network, info = load_network("squeezenet1_0", data / "squeezenet1_0.pth")
    rows = [row.split(",") for row in (data / "imagenet-sample-labels.csv").read_text().splitlines()[1::7]][
        :40
    ]
    images = [open_image(data / "imagenet-sample" / row[0]).rgb for row in rows]
    with torch.no_grad():
        scores = network(torch.stack([info.preprocessing.apply(rgb) for rgb in images]))
    right = (scores.argmax(dim=1) == torch.tensor([int(row[1]) for row in rows])).float().mean()
    assert len(rows) == 40 and right >= 0.5
    assert isinstance(info, WeightsInfo) and info.classes[3] == "tiger shark"
