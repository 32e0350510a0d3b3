"""Pictures read ahead, a batch at a time: the right ones, in order, whoever reads them."""

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

from deconvviz.errors import PictureError, SourceError
from deconvviz.image_sources import open_source
from deconvviz.image_sources.batches import Batch, Batches, load, telling_of_deaths
from deconvviz.images.image import Picture
from deconvviz.images.preprocessing import Preprocessing

PREPARED = Preprocessing.simple(16, (0.5,) * 3, (0.25,) * 3)


class Torn(Noise):
    """Every third picture is no good; the fifth batch of four holds nothing else."""

    def read(self, number: int) -> Picture:
        if number % 3 == 1 or 16 <= number < 20:
            raise PictureError(f"{self.names[number]} is torn")
        return super().read(number)


class Deadly(Noise):
    """The process that reads picture 6 dies, as one does for which memory runs out."""

    def read(self, number: int) -> Picture:
        if number == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(number)


class Sleepy(Noise):
    def read(self, number: int) -> Picture:
        if number >= 2:
            time.sleep(60)
        return super().read(number)


class Wrong(Noise):
    error: type[Exception]

    def read(self, number: int) -> Picture:
        raise self.error("a mistake in a source of one's own")


class Threads(Noise):
    """Its pictures tell with how many threads they were read."""

    def read(self, number: int) -> Picture:
        picture = super().read(number)
        picture.rgb[:] = torch.get_num_threads()
        return picture


def read(batches: Batches, indices: list[int], workers: int = 0) -> list[Batch]:
    return list(load(batches, indices, workers=workers))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_picture_once_in_order(workers: int) -> None:
    source = Torn(23)
    batches = Batches(source, PREPARED, 4)
    assert len(batches) == 6
    found = read(batches, list(range(6)), workers)
    assert [batch.index for batch in found] == list(range(6))
    for batch in found:
        numbers = range(batch.index * 4, min(batch.index * 4 + 4, 23))
        bad = [number for number in numbers if number % 3 == 1 or 16 <= number < 20]
        good = [number for number in numbers if number not in bad]
        assert batch.numbers.tolist() == good
        assert batch.failures == tuple((number, f"noise-{number:04d} is torn") for number in bad)
        assert batch.inputs.shape == (len(good), 3, 16, 16)
        for one, number in zip(batch.inputs, good, strict=True):
            assert torch.equal(one, PREPARED.apply(source.picture(number).rgb))
        assert batch.seconds > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_batches_that_are_asked_for(workers: int) -> None:
    found = read(Batches(Noise(20), PREPARED, 3), [5, 0, 6], workers)
    assert [batch.numbers.tolist() for batch in found] == [[15, 16, 17], [0, 1, 2], [18, 19]]
    assert read(Batches(Noise(20), PREPARED, 3), [], workers) == []


@pytest.mark.parametrize(("count", "size", "batches"), [(1, 1, 1), (8, 4, 2), (9, 4, 3), (3, 100, 1)])
def test_how_many_batches(count: int, size: int, batches: int) -> None:
    assert len(Batches(Noise(count), PREPARED, size)) == batches


def test_what_goes_to_a_worker_is_small(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number:02d}.png")
    batches = Batches(open_source(tmp_path), PREPARED, 4)
    packed = pickle.dumps(batches)
    assert len(packed) < 4000
    again = pickle.loads(packed)
    assert torch.equal(again[3].inputs, batches[3].inputs)


def test_a_process_that_dies_is_told_of_and_what_to_do() -> None:
    died = r"has died \(DataLoader worker.*memory may have run out.*resume=True, and with fewer workers=N"
    with pytest.raises(SourceError, match=died), telling_of_deaths():
        read(Batches(Deadly(12), PREPARED, 2), list(range(6)), 1)
    subprocess.run(["true"], check=True)  # torch would raise it again at the end of any child
    assert len(read(Batches(Noise(4), PREPARED, 2), [0, 1], 1)) == 2


def test_a_process_that_dies_while_the_network_works() -> None:
    with pytest.raises(SourceError, match="has died"), telling_of_deaths():
        for _ in load(Batches(Sleepy(40), PREPARED, 2), list(range(20)), workers=1):
            time.sleep(0.5)  # it reads: one that is killed while it holds a lock of torch's would hang us
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            time.sleep(5)  # the signal comes in here
    subprocess.run(["true"], check=True)


def test_another_error_is_not_taken_for_a_death() -> None:
    with pytest.raises(RuntimeError, match="out of memory on the device"), telling_of_deaths():
        raise RuntimeError("out of memory on the device")


@pytest.mark.parametrize("error", [RuntimeError, EOFError, ConnectionError])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_a_source_passes_as_it_is(workers: int, error: type[Exception]) -> None:
    source = Wrong(4)
    source.error = error
    if error is ConnectionError:  # an OSError is a picture that cannot be had
        assert not any(len(batch.numbers) for batch in read(Batches(source, PREPARED, 2), [0, 1], workers))
        return
    with pytest.raises(error, match="a mistake in a source of one's own"), telling_of_deaths():
        read(Batches(source, PREPARED, 2), [0, 1], workers)


def test_workers_have_one_thread_each(two_threads: None) -> None:
    by_worker, here = (read(Batches(Threads(1), PREPARED, 1), [0], workers)[0] for workers in (1, 0))
    one, two = (PREPARED.apply(picture(shade)) for shade in (1, 2))
    assert torch.equal(by_worker.inputs[0], one)
    assert torch.equal(here.inputs[0], two)


def picture(shade: int) -> torch.Tensor:
    found = Noise(1).picture(0).rgb
    found[:] = shade
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_users_random_numbers_are_not_touched(workers: int) -> None:
    before = torch.random.get_rng_state()
    read(Batches(Noise(4), PREPARED, 2), [0, 1], workers)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_reader_that_is_left_early_leaves_no_process() -> None:
    earlier = multiprocessing.active_children()
    stream = load(Batches(Noise(40), PREPARED, 2), list(range(20)), workers=2)
    next(stream)
    children = [child for child in multiprocessing.active_children() if child not in earlier]
    assert len(children) == 2
    stream.close()  # type: ignore[attr-defined]
    for child in children:
        child.join(10)
        assert not child.is_alive()
