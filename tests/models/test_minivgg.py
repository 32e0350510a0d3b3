"""The shipped network minivgg, and the script that trained it."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.vgg import make_layers
from typer.testing import CliRunner

from deconvviz.errors import WeightsError
from deconvviz.models.minivgg import BLOCKS, CLASSES, MEAN, SIZE, STD, WEIGHTS, load_minivgg, minivgg

SCRIPT = Path(__file__).parents[2] / "examples" / "train_minivgg.py"
TINY = ["--scenes-per-epoch", "32", "--sets", "1", "--batch", "16", "--threads", "1", "--count", "12"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_minivgg", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _restored_threads_and_random_state() -> Iterator[None]:
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


def run(script: ModuleType, *options: str) -> tuple[int, str]:
    app = script.typer.Typer()
    app.command()(script.main)
    result = CliRunner().invoke(app, list(options), catch_exceptions=False)
    return result.exit_code, result.output


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "minivgg.safetensors")


def all_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# the shipped network


def test_weights_file_is_small() -> None:
    assert WEIGHTS.stat().st_size <= 2_000_000


def test_weights_file_states_its_origin() -> None:
    with safe_open(WEIGHTS, "pt") as file:
        about = file.metadata()
    assert about["network"] == "minivgg"
    assert about["classes"].split(",") == list(CLASSES)
    assert int(about["size"]) == SIZE
    assert (tuple(json.loads(about["mean"])), tuple(json.loads(about["std"]))) == (MEAN, STD)
    assert about["trained_by"] == "examples/train_minivgg.py"
    assert {"seed", "epochs", "scenes_per_epoch"} <= about.keys()
    assert float(about["accuracy"]) >= 0.95 and int(about["accuracy_scenes"]) >= 2000


def test_layers_match_torchvisions_vgg() -> None:
    plan: list[str | int] = [entry for block in BLOCKS for entry in (*block, "M")]
    theirs = make_layers(plan)  # type: ignore[arg-type]
    assert [repr(layer) for layer in minivgg().features] == [repr(layer) for layer in theirs]
    kinds = [type(layer) for layer in minivgg().classifier]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


def test_loaded_network_is_in_evaluation_mode_with_stored_weights() -> None:
    network = load_minivgg()
    assert not any(module.training for module in network.modules())
    assert all_equal(network.state_dict(), load_file(WEIGHTS))
    assert network(torch.zeros(2, 3, SIZE, SIZE)).shape == (2, len(CLASSES))


@pytest.mark.slow
def test_accuracy_is_high_and_few_channels_are_dead_on_new_scenes(script: ModuleType) -> None:
    result = script.checked(load_minivgg(), script.Artist(threads=1), 240)
    assert result.accuracy >= 0.92
    assert list(result.dead) == [
        *("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu4_1", "relu4_2"),
        "fc5",
    ]
    assert [count for _, count in result.dead.values()] == [16, 16, 32, 32, 64, 64, 96, 96, 64]
    assert all(dead <= count / 4 for dead, count in result.dead.values())


def test_missing_weights_file_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"minivgg's weights are missing: no file .*gone\.safetensors\. Reinstall"
    ):
        load_minivgg(tmp_path / "gone.safetensors")


def test_weights_of_another_network_are_rejected(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors does not contain minivgg's weights: "):
        load_minivgg(tmp_path / "other.safetensors")


def test_truncated_weights_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"broken\.safetensors does not contain minivgg's weights: "):
        load_minivgg(tmp_path / "broken.safetensors")


# how it was trained


def test_folding_batch_norms_preserves_outputs(script: ModuleType) -> None:
    torch.manual_seed(3)
    trained = script.normed(minivgg())
    for module in trained:
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.randn(4, 3, SIZE, SIZE)
    with torch.no_grad():
        expected, found = trained.eval()(images.clone()), script.folded(trained)(images)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_learning_rate_rises_then_falls(script: ModuleType) -> None:
    plan = script.Plan(
        seed=0, epochs=4, scenes_per_epoch=480, sets=1, batch=16, rate=0.01, decay=0.0, threads=1
    )
    rates = [plan.rate_at(step) for step in range(plan.steps)]
    top = rates.index(max(rates))
    assert (plan.steps, top) == (120, 9)
    assert max(rates) == pytest.approx(0.01)
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-4


def test_dead_channels_are_counted_per_layer(script: ModuleType) -> None:
    network = load_minivgg()
    with torch.no_grad():
        network.features[2].bias[:5] = -1e6
        network.classifier[0].bias[:7] = -1e6
    unchanged, damaged = (script.checked(one, script.Artist(1), 12).dead for one in (load_minivgg(), network))
    assert damaged["relu1_2"][0] >= 5 and damaged["fc5"][0] >= 7
    assert damaged["relu1_1"] == unchanged["relu1_1"]


@pytest.mark.slow
def test_training_script_runs_from_a_shell_and_prints_progress(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--epochs", "1", *TINY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "epoch 1/1  loss" in done.stderr
    assert "fresh scenes (seeds 1000000 to 1000011)" in done.stdout
    assert "relu4_2" in done.stdout and "butterfly" in done.stdout
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"epoch_000.safetensors", "epoch_001.safetensors", "minivgg.safetensors", "state.pt"}
    assert load_minivgg(tmp_path / "epoch_001.safetensors")


@pytest.mark.slow
def test_trained_weights_depend_only_on_the_seed(script: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        assert run(script, "--out", str(tmp_path / name), "--epochs", "1", "--seed", seed, *TINY)[0] == 0
    assert all_equal(weights_of(tmp_path / "one"), weights_of(tmp_path / "two"))
    assert not all_equal(weights_of(tmp_path / "one"), weights_of(tmp_path / "three"))


@pytest.mark.slow
def test_resumed_training_ends_with_the_same_weights(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = ["--out", str(tmp_path / "whole"), *TINY], ["--out", str(tmp_path / "cut"), *TINY]
    assert run(script, *whole, "--epochs", "2")[0] == 0
    real = script._one_epoch

    def interrupted_in_second_epoch(network, optimizer, images, plan, epoch):  # type: ignore[no-untyped-def]
        if epoch == 2:
            raise KeyboardInterrupt
        return real(network, optimizer, images, plan, epoch)

    monkeypatch.setattr(script, "_one_epoch", interrupted_in_second_epoch)
    assert run(script, *cut, "--epochs", "2")[0] == 130
    assert not (tmp_path / "cut" / "minivgg.safetensors").exists()
    monkeypatch.setattr(script, "_one_epoch", real)
    assert run(script, *cut, "--epochs", "2", "--resume")[0] == 0
    assert all_equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))

    code, output = run(script, *cut, "--epochs", "2")
    assert (code, "holds a run already: give --resume, or another --out" in output) == (2, True)
    code, output = run(script, *cut, "--epochs", "3", "--resume")
    assert (code, "was started with epochs 2: resume it with the same settings" in output) == (2, True)


def test_resume_without_a_run_is_rejected(script: ModuleType, tmp_path: Path) -> None:
    code, output = run(script, "--out", str(tmp_path), "--resume", *TINY)
    assert (code, "nothing to resume" in output) == (2, True)


def test_check_fails_for_untrained_weights(script: ModuleType, tmp_path: Path) -> None:
    save_file(minivgg().state_dict(), tmp_path / "fresh.safetensors")
    options = ["--check", "--weights", str(tmp_path / "fresh.safetensors"), "--threads", "1", "--count", "24"]
    code, output = run(script, *options)
    assert (code, "24 fresh scenes" in output) == (1, True)
    code, output = run(script, "--check", "--threads", "1", "--count", "24")
    assert code == 0
