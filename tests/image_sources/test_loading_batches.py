"""Batches loaded in advance: the right images in the right order, with and without worker processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from helpers.searches import Noise
from PIL import Image

from deconvviz.errors import ImageError, SourceError
from deconvviz.image_sources import open_source
from deconvviz.image_sources.batches import Batch, Batches, load, telling_of_deaths
from deconvviz.images.image import InputImage
from deconvviz.images.preprocessing import Preprocessing

PREPARED = Preprocessing.simple(16, (0.5,) * 3, (0.25,) * 3)


class PartlyBroken(Noise):
    """Every third image cannot be read, and no image of the fifth batch of four."""

    def read(self, number: int) -> InputImage:
        if number % 3 == 1 or 16 <= number < 20:
            raise ImageError(f"{self.names[number]} is broken")
        return super().read(number)


class KillsReader(Noise):
    """The process that reads image 6 is killed, as when memory runs out."""

    def read(self, number: int) -> InputImage:
        if number == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(number)


class SlowAfterTwo(Noise):
    def read(self, number: int) -> InputImage:
        if number >= 2:
            time.sleep(60)
        return super().read(number)


class RaisesError(Noise):
    error: type[Exception]

    def read(self, number: int) -> InputImage:
        raise self.error("a bug in the source of a user")


class ThreadCount(Noise):
    """The pixels of each image are the number of threads of the process that has read it."""

    def read(self, number: int) -> InputImage:
        image = super().read(number)
        image.rgb[:] = torch.get_num_threads()
        return image


def read(batches: Batches, indices: list[int], workers: int = 0) -> list[Batch]:
    return list(load(batches, indices, workers=workers))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_image_is_loaded_once_in_order(workers: int) -> None:
    source = PartlyBroken(23)
    batches = Batches(source, PREPARED, 4)
    assert len(batches) == 6
    found = read(batches, list(range(6)), workers)
    assert [batch.index for batch in found] == list(range(6))
    for batch in found:
        numbers = range(batch.index * 4, min(batch.index * 4 + 4, 23))
        bad = [number for number in numbers if number % 3 == 1 or 16 <= number < 20]
        good = [number for number in numbers if number not in bad]
        assert batch.numbers.tolist() == good
        assert batch.failures == tuple((number, f"noise-{number:04d} is broken") for number in bad)
        assert batch.inputs.shape == (len(good), 3, 16, 16)
        for one, number in zip(batch.inputs, good, strict=True):
            assert torch.equal(one, PREPARED.apply(source.image(number).rgb))
        assert batch.seconds > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_requested_batches_are_loaded(workers: int) -> None:
    found = read(Batches(Noise(20), PREPARED, 3), [5, 0, 6], workers)
    assert [batch.numbers.tolist() for batch in found] == [[15, 16, 17], [0, 1, 2], [18, 19]]
    assert read(Batches(Noise(20), PREPARED, 3), [], workers) == []


@pytest.mark.parametrize(("count", "size", "batches"), [(1, 1, 1), (8, 4, 2), (9, 4, 3), (3, 100, 1)])
def test_last_batch_may_be_smaller(count: int, size: int, batches: int) -> None:
    assert len(Batches(Noise(count), PREPARED, size)) == batches


def test_pickled_batches_are_small(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number:02d}.png")
    batches = Batches(open_source(tmp_path), PREPARED, 4)
    packed = pickle.dumps(batches)
    assert len(packed) < 4000
    again = pickle.loads(packed)
    assert torch.equal(again[3].inputs, batches[3].inputs)


def test_death_of_a_worker_raises_source_error_with_advice() -> None:
    died = r"has died \(DataLoader worker.*memory may have run out.*resume=True, and with a smaller workers=N"
    with pytest.raises(SourceError, match=died), telling_of_deaths():
        read(Batches(KillsReader(12), PREPARED, 2), list(range(6)), 1)
    subprocess.run(["true"], check=True)  # torch would raise again when any child process ends
    assert len(read(Batches(Noise(4), PREPARED, 2), [0, 1], 1)) == 2


def test_death_of_a_worker_between_batches_raises_source_error() -> None:
    with pytest.raises(SourceError, match="has died"), telling_of_deaths():
        for _ in load(Batches(SlowAfterTwo(40), PREPARED, 2), list(range(20)), workers=1):
            time.sleep(
                0.5
            )  # the worker reads now: if it were killed while it has a lock of torch, this test would hang
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            time.sleep(5)  # the signal arrives here
    subprocess.run(["true"], check=True)


def test_other_runtime_errors_are_not_taken_for_a_death() -> None:
    with pytest.raises(RuntimeError, match="out of memory on the device"), telling_of_deaths():
        raise RuntimeError("out of memory on the device")


@pytest.mark.parametrize("error", [RuntimeError, EOFError, ConnectionError])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_error_raised_by_a_source_is_passed_on(workers: int, error: type[Exception]) -> None:
    source = RaisesError(4)
    source.error = error
    if error is ConnectionError:  # an OSError means that the image cannot be read
        assert not any(len(batch.numbers) for batch in read(Batches(source, PREPARED, 2), [0, 1], workers))
        return
    with pytest.raises(error, match="a bug in the source of a user"), telling_of_deaths():
        read(Batches(source, PREPARED, 2), [0, 1], workers)


def test_each_worker_uses_one_thread(two_threads: None) -> None:
    by_worker, here = (read(Batches(ThreadCount(1), PREPARED, 1), [0], workers)[0] for workers in (1, 0))
    one, two = (PREPARED.apply(image_of(shade)) for shade in (1, 2))
    assert torch.equal(by_worker.inputs[0], one)
    assert torch.equal(here.inputs[0], two)


def image_of(shade: int) -> torch.Tensor:
    found = Noise(1).image(0).rgb
    found[:] = shade
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_does_not_change_the_global_random_state(workers: int) -> None:
    before = torch.random.get_rng_state()
    read(Batches(Noise(4), PREPARED, 2), [0, 1], workers)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_closing_the_iterator_ends_the_workers() -> None:
    earlier = multiprocessing.active_children()
    stream = load(Batches(Noise(40), PREPARED, 2), list(range(20)), workers=2)
    next(stream)
    children = [child for child in multiprocessing.active_children() if child not in earlier]
    assert len(children) == 2
    stream.close()  # type: ignore[attr-defined]
    for child in children:
        child.join(10)
        assert not child.is_alive()
