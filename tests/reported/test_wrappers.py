"""Wrappers of PyTorch that only run their inner module are replaced by that module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # imported here, because its import takes seconds and causes warnings
from helpers.snapshots import Noise, composed, left_as_it_was, pictures, wrapped
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from typer.testing import CliRunner

import deconvviz as dv
from deconvviz.cli.app import app
from deconvviz.errors import LayerError, NetworkError

pytestmark = pytest.mark.slow

compiled: list[int] = []


def counting_backend(graph: Any, inputs: Any) -> Any:
    """Backend for torch.compile that counts its calls."""
    compiled.append(1)
    return graph.forward


@pytest.fixture(autouse=True)
def nothing_is_compiled() -> Iterator[None]:
    compiled.clear()
    yield
    assert not compiled


def plain() -> nn.Module:
    return composed(["conv", "relu", "batch norm"])


def compiling(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend=counting_backend)  # type: ignore[return-value]


def in_place(module: nn.Module) -> nn.Module:
    module.compile(backend=counting_backend)
    return module


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch.compile": compiling,
    "DataParallel": nn.DataParallel,
    "averaged": AveragedModel,
    "compile of DataParallel": lambda module: compiling(nn.DataParallel(module)),
    "DataParallel of compile": lambda module: nn.DataParallel(compiling(module)),
    "three deep": lambda module: AveragedModel(compiling(nn.DataParallel(module))),
    "DataParallel twice": lambda module: nn.DataParallel(nn.DataParallel(module)),
    "compile in place": in_place,
    "wrapper compiled in place": lambda module: in_place(nn.DataParallel(in_place(module))),
}


class Headed(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(2, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.arange(6.0).view(3, 2))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.backbone(x))
        return result


def check_equal(given: nn.Module, bare: nn.Module) -> None:
    """Check that layers, digest, coverage, projections and searches equal those of the bare network."""
    with left_as_it_was(given):
        one, other = wrapped(given), wrapped(bare)
        assert one.layers.to_json() == other.layers.to_json()
        assert one.digest == other.digest
        assert one.name == other.name
        assert str(one.coverage()) == str(other.coverage())
        for layer in other.layers.names:
            ours, theirs = (net.record(pictures(2), layer) for net in (one, other))
            assert torch.equal(ours.activations(layer), theirs.activations(layer))
            units = theirs.strongest(layer, 2)
            assert torch.equal(ours.project(layer, units).pixels, theirs.project(layer, units).pixels)
        layers = [layer for layer in other.layers.names if other.layers[layer].has_channels]
        found, expected = (
            dv.search(net, Noise(5), layers, top=2, batch_size=2, workers=0) for net in (one, other)
        )
        assert found.peaks.equals(expected.peaks)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_network_equals_the_inner_one(name: str) -> None:
    check_equal(WRAPPERS[name](plain()), plain())


@pytest.mark.parametrize("name", WRAPPERS)
def test_network_with_a_wrapped_submodule_equals_the_bare_one(name: str) -> None:
    check_equal(Headed(WRAPPERS[name](plain())), Headed(plain()))


@pytest.mark.parametrize("name", ["torch.compile", "compile in place", "three deep"])
@pytest.mark.filterwarnings("ignore")
def test_module_compiled_earlier_is_recorded_uncompiled(name: str) -> None:
    module = Headed(WRAPPERS[name](plain())).eval()
    with torch.no_grad():
        module(pictures(2))
    assert compiled
    compiled.clear()
    check_equal(module, Headed(plain()).eval())


def test_compiled_forward_method_is_recorded_uncompiled() -> None:
    class Decorated(Headed):
        forward = torch.compile(Headed.forward, backend=counting_backend)

    with torch.no_grad():
        module = Decorated(plain()).eval()
        module(pictures(2))
    compiled.clear()
    net = wrapped(module)
    assert net.layers.names == wrapped(Headed(plain())).layers.names
    assert len(dv.search(net, Noise(3), "head", workers=0, top=1)) == 3


def test_module_of_a_network_is_the_inner_module() -> None:
    module = plain()
    assert wrapped(nn.DataParallel(compiling(module))).module is module


def test_compiled_module_still_compiles_after_recording() -> None:
    module = compiling(plain().eval())
    wrapped(module).record(pictures(), "output")
    with torch.no_grad():
        module(pictures())
    assert compiled
    compiled.clear()


def test_modules_still_compile_after_an_error_while_recording() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("in user code")

    with pytest.raises(NetworkError, match="in user code"):
        _ = wrapped(nn.Sequential(compiling(nn.Conv2d(3, 3, 1)), Failing())).layers
    compiling(nn.ReLU())(pictures())
    assert compiled
    compiled.clear()


def test_recording_in_threads_restores_the_setting_of_torch_compile() -> None:
    stance = torch._dynamo.eval_frame._stance
    modules = [compiling(plain()) for _ in range(4)]

    def record(module: nn.Module) -> None:
        for _ in range(3):
            wrapped(module).record(pictures(), "output")

    threads = [threading.Thread(target=record, args=(module,)) for module in modules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch._dynamo.eval_frame._stance == stance


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """Process group of a single process, which DistributedDataParallel requires."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed")
@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel_equals_the_inner_network(one_process: None) -> None:
    bare = plain()
    check_equal(nn.parallel.DistributedDataParallel(plain()), bare)
    check_equal(Headed(nn.parallel.DistributedDataParallel(plain())), Headed(bare))


class Lightning(nn.Module):
    """User module with an attribute `module`, like a wrapper."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x)
        return result


class Doubling(nn.DataParallel):
    """Wrapper that doubles the output of its inner module."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return 2 * super().forward(*inputs, **options)


@pytest.mark.parametrize("kind", [Lightning, Doubling])
def test_module_that_is_not_a_pure_wrapper_is_kept(kind: type[nn.Module]) -> None:
    module = kind(plain())
    net = wrapped(module)
    assert net.module is module
    assert "module.0" in net.layers.names
    assert torch.equal(net.record(pictures(), "output").activations("output"), module.eval()(pictures()))


def test_module_with_two_names_has_the_first_one() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain()
            self.fast = compiling(self.net)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.fast(x)
            return result

    net = wrapped(Both())
    assert "net.0" in net.layers.names and not any("_orig_mod" in name for name in net.layers.names)
    with pytest.raises(LayerError, match=r"is another name of net\.0"):
        net.record(pictures(), "fast.0")


def test_names_in_messages_are_those_of_the_inner_module() -> None:
    module = plain()
    module[0].to("meta")
    with pytest.raises(NetworkError, match=r"on the meta device\): backbone\.0\.weight, backbone\.0\.bias"):
        wrapped(Headed(compiling(module))).record(pictures(), "output")


FACTORY = """
import torch
from torch import nn
import deconvviz as dv

def bare():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

def wrapped():
    return torch.compile(nn.DataParallel(bare()))

def network():
    return dv.Network(wrapped(), size=32)
"""


def test_factory_in_a_file_may_return_a_wrapper(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(FACTORY)
    bare = dv.load(f"{own}:bare")
    for factory in ("wrapped", "network"):
        net = dv.load(f"{own}:{factory}")
        assert net.layers.names == bare.layers.names and net.digest == bare.digest
        assert net.name == f"own.py:{factory}"
    torch.save(
        {f"module._orig_mod.{k}": 2 * v for k, v in bare.module.state_dict().items()}, tmp_path / "w.pth"
    )
    filled = dv.load(f"{own}:wrapped", weights=tmp_path / "w.pth")
    assert torch.equal(filled.module[0].weight, 2 * bare.module[0].weight)
    result = CliRunner().invoke(app, ["layers", "--model", f"{own}:wrapped"])
    assert result.exit_code == 0 and "_orig_mod" not in result.output and "module." not in result.output


def test_search_of_a_wrapped_network_can_be_saved_and_opened(tmp_path: Path) -> None:
    found = dv.search(wrapped(compiling(plain())), Noise(3), "0", out=tmp_path / "found", workers=0)
    opened = dv.open_search(tmp_path / "found", network=wrapped(nn.DataParallel(plain())), source=Noise(3))
    assert opened.topnine("0", channels=[0], k=2).arrays()["activation"].shape == (2,)
    assert found.peaks.equals(opened.peaks)


PARAMETRISED: dict[str, Callable[[], nn.Module]] = {
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Conv2d(4, 4, 1)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 3)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 3)),
}


@pytest.mark.parametrize("name", PARAMETRISED)
@pytest.mark.parametrize("wrapper", [lambda module: module, nn.DataParallel, compiling])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm:FutureWarning")
def test_parametrised_module_is_recorded_with_its_computed_weight(
    name: str, wrapper: Callable[[nn.Module], nn.Module]
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), PARAMETRISED[name](), nn.ReLU()).eval()
    given = wrapper(module)
    net = wrapped(given)
    with left_as_it_was(module):
        recording = net.record(pictures(), ["1", "2"])
        shown = recording.project("2", recording.strongest("2", 2))
    assert torch.allclose(recording.activations("2"), module(pictures()))
    # the same network with plain weights
    rebuilt = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, module[1].kernel_size), nn.ReLU())
    with torch.no_grad():
        rebuilt[0].load_state_dict(module[0].state_dict())
        rebuilt[1].weight.copy_(module[1].weight)
        rebuilt[1].bias.copy_(module[1].bias)
    expected = wrapped(rebuilt).record(pictures(), "2")
    assert torch.allclose(shown.pixels, expected.project("2", expected.strongest("2", 2)).pixels, atol=1e-6)
