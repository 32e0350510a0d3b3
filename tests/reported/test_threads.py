"""One network used by several threads: every thread gets the same results as a single one."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.snapshots import CHANNELS, Counting, Noise, composed, left_as_it_was, pictures, wrapped
from torch import Tensor, nn

import deconvviz as dv
from deconvviz.errors import LayerError
from deconvviz.models.structure import structure_of

pytestmark = pytest.mark.slow

THREADS = 8
CALLS = 200  # in evaluation mode, and as many in training mode
TIMEOUT = 60.0
"""Seconds after which a thread is regarded as stuck."""

Job = Callable[[], Any]


@contextmanager
def frequent_thread_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(jobs: Sequence[Job], threads: int = THREADS) -> list[Any]:
    """Run jobs in several threads that start at the same time, and return the results in order.

    Thread n runs the jobs n, n + threads, and so on. Raises the error of the first job that failed.
    """
    answers: list[Any] = [None] * len(jobs)
    errors: list[BaseException] = []
    start = threading.Barrier(threads)

    def work(first: int) -> None:
        try:
            torch.set_num_threads(1)
            start.wait(TIMEOUT)
            for number in range(first, len(jobs), threads):
                answers[number] = jobs[number]()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
    with frequent_thread_switches():
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(TIMEOUT)
    if errors:
        raise errors[0]
    assert not any(worker.is_alive() for worker in workers), "a thread is stuck"
    return answers


def convolutions(training: bool = False) -> nn.Sequential:
    """Return a small network with batch norm and dropout, which depend on the training mode."""
    module = composed(["batch norm", "relu", "conv", "dropout", "relu"])
    with torch.no_grad():
        module[1].running_mean.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr, operator]
        module[1].running_var.mul_(2)  # type: ignore[union-attr, operator]
    return module.train(training)


LAYERS = ["0", "1", "2", "3", "4", "5", "output"]


def ask(net: dv.Network, inputs: Tensor, layers: Sequence[str]) -> tuple[list[Tensor], list[Any]]:
    """Return the tensors and the other results of a recording and its projections."""
    rec = net.record(inputs, layers)
    tensors, more = [rec.inputs], []
    for layer in layers:
        proj = rec.project(layer, rec.strongest(layer, 2))
        tensors += [rec.activations(layer), proj.pixels]
        more += [proj.units, proj.boxes, proj.layer, rec.coverage(layer)]
    return tensors, more


def alike(ours: tuple[list[Tensor], list[Any]], theirs: tuple[list[Tensor], list[Any]]) -> bool:
    """Return whether two results of `ask` are equal, tensors bit for bit."""
    same = all(torch.equal(one, other) for one, other in zip(ours[0], theirs[0], strict=True))
    return same and ours[1] == theirs[1]


def questions(count: int, seed: int = 0) -> list[tuple[Tensor, list[str]]]:
    """Return random images and layers."""
    dice = random.Random(seed)
    return [
        (pictures(dice.choice([1, 1, 2]), seed=number % 40), dice.sample(LAYERS, dice.choice([1, 1, 2])))
        for number in range(count)
    ]


def test_two_threads_with_different_images_get_their_own_results() -> None:
    """This is the minimal reproduction of the reported bug."""
    module = convolutions()
    net = wrapped(module)
    asked = [(pictures(seed=1), ["0"]), (pictures(seed=2), ["4", "output"])] * 20
    want = [ask(wrapped(module), *question) for question in asked[:2]]
    with left_as_it_was(module):
        got = in_threads([lambda q=question: ask(net, *q) for question in asked], threads=2)  # type: ignore[misc]
    for number, answer in enumerate(got):
        assert alike(answer, want[number % 2])


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_results_of_eight_threads_equal_those_of_one(training: bool) -> None:
    module = convolutions(training)
    asked = questions(77)  # not a multiple of the number of threads
    alone = wrapped(module)
    want = [ask(alone, *question) for question in asked]
    net = wrapped(module)
    with left_as_it_was(module):
        got = in_threads([lambda q=asked[n % 77]: ask(net, *q) for n in range(CALLS)])  # type: ignore[misc]
    assert sum(not alike(answer, want[n % 77]) for n, answer in enumerate(got)) == 0
    assert all(part.training is training for part in module.modules())


def test_recordings_are_correct_while_other_threads_list_layers() -> None:
    """Every other call lists the layers, or the operations, of a new `Network` of the same module."""
    module = convolutions(training=True)
    net, asked = wrapped(module), questions(40, seed=1)
    layers, operations = wrapped(module).layers.to_json(), str(wrapped(module).coverage())
    want = [ask(wrapped(module), *question) for question in asked]

    def list_layers() -> None:
        assert wrapped(module).layers.to_json() == layers

    def list_operations() -> None:
        assert str(wrapped(module).coverage()) == operations

    jobs: list[Job] = []
    for number, question in enumerate(asked):
        jobs += [lambda q=question: ask(net, *q), list_operations if number % 3 else list_layers]  # type: ignore[misc]
    with left_as_it_was(module):
        got = in_threads(jobs, threads=7)  # so that each thread does both
    assert all(alike(ours, theirs) for ours, theirs in zip(got[::2], want, strict=True))


def test_layers_of_a_new_network_are_the_same_in_all_threads() -> None:
    """All threads start before the layers have been listed and cached."""
    module = convolutions(training=True)
    for _ in range(5):
        net = wrapped(module)
        with left_as_it_was(module):
            tables = in_threads([lambda net=net: net.layers.to_json() for _ in range(THREADS)])  # type: ignore[misc]
        assert all(table == tables[0] for table in tables)


@pytest.mark.slow
def test_two_networks_that_share_a_backbone_do_not_disturb_each_other() -> None:
    body = convolutions(training=True)[:6]
    dice = torch.Generator().manual_seed(3)
    heads = [nn.Conv2d(CHANNELS, 3, 1), nn.Conv2d(CHANNELS, 5, 3)]
    for head in heads:
        head.weight.data.normal_(generator=dice)
    modules = [nn.Sequential(body, head).train() for head in heads]
    nets = [wrapped(module) for module in modules]
    layers = ["0.0", "0.3", "0.5", "1"]
    asked = [(n % 2, pictures(seed=n % 10), [layers[n % 4], layers[(n // 4) % 4]]) for n in range(80)]
    alone = [wrapped(module) for module in modules]
    want = [ask(alone[which], x, names) for which, x, names in asked]
    with left_as_it_was(modules[0]), left_as_it_was(modules[1]):
        got = in_threads([lambda n=n, x=x, names=names: ask(nets[n], x, names) for n, x, names in asked])  # type: ignore[misc]
    assert all(alike(ours, theirs) for ours, theirs in zip(got, want, strict=True))


def test_a_network_and_a_network_of_its_submodule_do_not_disturb_each_other() -> None:
    module = convolutions(training=True)
    whole, part = wrapped(module), wrapped(module[:4])
    want = [ask(wrapped(module), pictures(), ["3"]), ask(wrapped(module[:4]), pictures(), ["3"])]
    jobs: list[Job] = [
        lambda net=net: ask(net, pictures(), ["3"])  # type: ignore[misc]
        for _ in range(50)
        for net in (whole, part)
    ]
    with left_as_it_was(module):
        got = in_threads(jobs, threads=5)
    assert all(alike(answer, want[number % 2]) for number, answer in enumerate(got))


@pytest.mark.slow
def test_buffers_written_in_forward_are_restored_for_every_thread() -> None:
    """The activations of this network depend on how often it ran; each pass must be its first."""
    module = composed(["counting", "remembering", "adapted", "creating", "clamping"]).train()
    asked = [(pictures(seed=n % 7), [LAYERS[n % 6]]) for n in range(160)]
    want = {n: ask(wrapped(module), *asked[n]) for n in range(42)}
    net = wrapped(module)
    with left_as_it_was(module):
        got = in_threads([lambda q=question: ask(net, *q) for question in asked])  # type: ignore[misc]
    assert all(alike(answer, want[number % 42]) for number, answer in enumerate(got))
    counter = module[1]
    assert isinstance(counter, Counting) and int(counter.seen) == 0


def test_layers_are_not_read_during_the_pass_of_another_thread() -> None:
    """During this pass the module has an attribute and a submodule that it has at no other time."""
    inside, may_leave = threading.Event(), threading.Event()

    class Changing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if threading.current_thread().name == "passing":
                self.size = x.shape[-1]
                self.extra = nn.Identity()
                inside.set()
                may_leave.wait(TIMEOUT)
                x = self.extra(x)
            return x * 1

    module = nn.Sequential(Changing(), *convolutions())
    net, before = wrapped(module), structure_of(module)
    table = net.layers.to_json()
    passing = threading.Thread(target=lambda: net.record(pictures(), "3"), name="passing", daemon=True)
    passing.start()
    assert inside.wait(TIMEOUT)
    threading.Timer(0.2, may_leave.set).start()
    assert structure_of(module) == before
    assert net.layers.to_json() == table
    passing.join(TIMEOUT)


def test_one_recording_can_be_projected_by_several_threads() -> None:
    net = wrapped(convolutions())
    rec = net.record(pictures(3), LAYERS)
    want = {layer: rec.project(layer, rec.strongest(layer, 2)).pixels for layer in LAYERS}
    jobs = [lambda name=name: rec.project(name, rec.strongest(name, 2)).pixels for name in LAYERS * 16]  # type: ignore[misc]
    for number, pixels in enumerate(in_threads(jobs)):
        assert torch.equal(pixels, want[LAYERS[number % len(LAYERS)]])


def test_forward_passes_of_other_threads_are_neither_stopped_nor_recorded() -> None:
    """A server may run the network while others record it. The hooks must not stop its passes."""
    module = convolutions()
    net, x = wrapped(module), pictures(2)
    with torch.no_grad():
        scores = module(x)
    want = ask(wrapped(module), pictures(seed=9), ["2"])

    def run() -> Tensor:
        with torch.no_grad():
            result: Tensor = module(x)
        return result

    jobs: list[Job] = [lambda: ask(net, pictures(seed=9), ["2"]), run] * 100
    with left_as_it_was(module):
        got = in_threads(jobs, threads=7)
    assert all(alike(answer, want) for answer in got[::2])
    assert all(torch.equal(result, scores) for result in got[1::2])


def test_errors_in_some_threads_do_not_affect_others() -> None:
    """Some threads request an unknown layer, or images for which the network raises."""

    class RaisesIfBright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if bool((x > 100).any()):
                raise ValueError("too bright")
            return x

    module = nn.Sequential(RaisesIfBright(), *convolutions(training=True))
    net = wrapped(module)
    want = ask(wrapped(module), pictures(), ["1", "6"])

    def too_bright() -> None:
        with pytest.raises(ValueError, match="too bright"):
            net.record(pictures() + 200, "3")

    def no_layer() -> None:
        with pytest.raises(LayerError, match="no layer 'missing'"):
            net.record(pictures(), "missing")

    jobs: list[Job] = [lambda: ask(net, pictures(), ["1", "6"]), too_bright, no_layer] * 40
    with left_as_it_was(module):
        got = in_threads(jobs)
    assert all(alike(answer, want) for answer in got[::3])


def test_output_of_user_code_goes_to_stderr_in_every_thread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sys.stdout` is restored afterwards."""
    path = tmp_path / "own.py"
    path.write_text(
        "from torch import nn\n"
        "class Talking(nn.Conv2d):\n"
        "    def forward(self, x):\n"
        "        print('talking')\n"
        "        return super().forward(x)\n"
        "def make():\n"
        "    return nn.Sequential(Talking(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))\n",
        encoding="utf-8",
    )
    before = sys.stdout
    net = dv.load(f"{path}:make", weights="random")
    want = net.record(pictures(size=16), "2").activations("2")
    jobs = [lambda: net.record(pictures(size=16), "2").activations("2") for _ in range(160)]
    try:
        got = in_threads(jobs)
        assert sys.stdout is before
    finally:
        sys.stdout = before
    assert all(torch.equal(activations, want) for activations in got)
    printed = capsys.readouterr()
    assert "talking" not in printed.out and "talking" in printed.err


def test_each_thread_keeps_its_grad_mode_and_inference_mode() -> None:
    module = convolutions()
    net = wrapped(module)
    want = ask(wrapped(module), pictures(), ["3"])

    def without_gradients() -> Any:
        with torch.no_grad():
            answer = ask(net, pictures(), ["3"])
            assert not torch.is_grad_enabled()
        return answer

    def in_inference_mode() -> Any:
        with torch.inference_mode():
            answer = ask(net, pictures(), ["3"])
            assert torch.is_inference_mode_enabled()
        return answer

    def with_gradients() -> Any:
        answer = ask(net, pictures(), ["3"])
        assert torch.is_grad_enabled()
        return answer

    jobs: list[Job] = [without_gradients, in_inference_mode, with_gradients] * 30
    assert all(alike(answer, want) for answer in in_threads(jobs))


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_searches_in_several_threads_equal_those_in_one(training: bool) -> None:
    """The searches have different layers and batch sizes; another thread records at the same time."""
    module = composed(["counting", "batch norm", "conv", "dropout", "remembering"]).train(training)
    net, x = wrapped(module), pictures(2)

    def search(layers: list[str], batch_size: int) -> list[Any]:
        found = dv.search(net, Noise(6), layers, top=3, batch_size=batch_size, workers=0)
        return [found.top(layer, channel) for layer in layers for channel in (0, 1)]

    with left_as_it_was(module):
        want = [search(["0", "3"], 2), search(["5"], 3), ask(net, x, ["3"])]
        jobs: list[Job] = [
            lambda: search(["0", "3"], 2),
            lambda: search(["5"], 3),
            lambda: ask(net, x, ["3"]),
        ]
        got = in_threads(jobs * 6, threads=3)
    for number, answer in enumerate(got):
        if number % 3 == 2:
            assert alike(answer, want[2])
        else:
            assert answer == want[number % 3]
