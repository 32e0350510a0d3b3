"""Order and labels of checkpoints, measures of similarity, columns of the figure."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.errors import WeightsError
from deconvviz.experiments.evolution.content import shown_steps
from deconvviz.experiments.evolution.measures import Median, correlation, linear_cka, settled_at
from deconvviz.experiments.evolution.names import checkpoint_files, short_labels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for number in (1, 2, 10):
        (tmp_path / f"epoch_{number}.pth").touch()
    for name in ("early.pt", "late.pt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


def test_files_of_a_series_are_sorted_by_their_numbers(folder):
    assert checkpoint_files(["epoch_10.pth", "epoch_2.pth"]) == ["epoch_2.pth", "epoch_10.pth"]
    assert checkpoint_files(["epoch_*.pth"]) == ["epoch_1.pth", "epoch_2.pth", "epoch_10.pth"]


def test_the_given_order_can_be_kept(folder):
    assert checkpoint_files(["epoch_10.pth", "epoch_2.pth"], "given") == ["epoch_10.pth", "epoch_2.pth"]


def test_files_with_other_names_stay_in_the_given_order(folder):
    assert checkpoint_files(["late.pt", "early.pt"]) == ["late.pt", "early.pt"]
    assert checkpoint_files(["late.pt", "epoch_10.pth", "epoch_2.pth"])[0] == "late.pt"


def test_mistakes_in_names(folder):
    with pytest.raises(WeightsError, match=r"no file matches 'run_\*\.pth'"):
        checkpoint_files(["run_*.pth"])
    with pytest.raises(WeightsError, match=r"early\.pt' is given twice"):
        checkpoint_files(["early.pt", "late.pt", "early.pt"])
    with pytest.raises(WeightsError, match=r"there is only 'early\.pt'"):
        checkpoint_files(["early.pt"])
    with pytest.raises(WeightsError, match=r"gone\.pt"):
        checkpoint_files(["early.pt", "gone.pt"])


def test_labels_are_the_numbers_that_differ():
    assert short_labels(["run2/epoch_003.pth", "run2/epoch_010.pth"]) == ["3", "10"]
    assert short_labels(["a/first.pt", "a/second.pt"]) == ["first", "second"]
    assert short_labels(["a/model.pt", "b/model.pt"]) == ["a/model.pt", "b/model.pt"]
    assert short_labels(["e1_s10.pt", "e2_s20.pt"]) == ["e1_s10", "e2_s20"]


def test_correlation_equals_that_of_numpy():
    one, other = np.random.default_rng(0).normal(size=(2, 3, 5, 5))
    assert correlation(one, other) == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    assert correlation(one, 3 * one + 2) == pytest.approx(1)


def test_correlation_with_a_zero_projection_is_zero_and_of_two_is_unknown():
    zero = np.zeros((3, 4, 4))
    assert correlation(np.random.default_rng(0).normal(size=(3, 4, 4)), zero) == 0
    assert np.isnan(correlation(zero, zero))


@pytest.mark.parametrize("images", [8, 40])  # fewer and more images than channels
def test_cka_equals_its_definition(images):
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(images, 12)), rng.normal(size=(images, 15))
    centre = np.eye(images) - 1 / images
    kernels = [centre @ features @ features.T @ centre for features in (one, other)]
    expected = np.sum(kernels[0] * kernels[1]) / np.sqrt(np.prod([np.sum(k * k) for k in kernels]))
    assert linear_cka(one, other) == pytest.approx(expected)


def test_cka_ignores_rotation_and_scale():
    rng = np.random.default_rng(2)
    features, (turn, _) = rng.normal(size=(30, 6)), np.linalg.qr(rng.normal(size=(6, 6)))
    assert linear_cka(features, 5 * features @ turn + 3) == pytest.approx(1)
    assert np.isnan(linear_cka(features, np.ones((30, 2))))


def test_median_ignores_unknown_values_and_its_interval_contains_it():
    values = [0.1, float("nan"), 0.3, 0.4, 0.9]
    found = Median.of(values, seed=0)
    assert (found.value, found.count) == (pytest.approx(0.35), 4)
    assert 0.1 <= found.low <= found.value <= found.high <= 0.9
    assert Median.of([float("nan")], seed=0) is None


def test_a_layer_settles_where_it_stays_similar():
    assert settled_at([0.2, 0.95, 0.8, 0.92, 0.97, 1.0]) == 3
    assert settled_at([0.95, 0.95, 1.0]) == 0
    assert settled_at([0.2, 0.5, 1.0]) is None
    assert settled_at([0.95, None, 0.95, 1.0]) == 2


@given(count=st.integers(2, 200), most=st.integers(2, 12))
def test_columns_are_ascending_and_include_both_ends(count, most):
    steps = shown_steps(count, most)
    assert len(steps) == min(count, most)
    assert steps[0] == 0
    assert steps[-1] == count - 1
    assert all(before < after for before, after in pairwise(steps))
