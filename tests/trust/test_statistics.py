"""Correlations and bootstrap intervals, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deconvviz.trust_measures.statistics import Group, Sample, correlations, generator, pearson, spearman

RNG = np.random.default_rng(3)


def test_correlations_equal_those_of_numpy():
    one, other = RNG.standard_normal((3, 40)), RNG.standard_normal((4, 40)) * 1e-8 + 5
    found = correlations(one, other)
    assert found == pytest.approx(np.corrcoef(one, other)[:3, 3:], abs=1e-6)


def test_rank_correlation_equals_that_of_scipy_with_ties():
    one, other = RNG.integers(0, 6, 50), RNG.integers(0, 6, 50)
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert spearman(one, one) == pytest.approx(1)


@pytest.mark.parametrize("correlation", [pearson, spearman])
@pytest.mark.parametrize("constant", [0.0, 0.1, 7e5])
def test_correlation_with_a_constant_is_not_a_number(correlation, constant):
    values = np.full(9, constant)
    values[3] += constant * 1e-12  # rounding
    assert np.isnan(correlation(values, np.arange(9.0)))
    assert np.isnan(correlation(np.arange(9.0), values))


def test_value_is_the_centre_over_pictures_of_the_centres_over_units():
    sample = Sample()
    sample.add_values([1, 2, np.nan])
    sample.add_values([10])
    sample.add_values([np.nan])
    assert (sample.value, sample.pictures, sample.units) == (5.75, 2, 3)


def test_interval_resamples_pictures_and_not_units():
    """Units of a picture that are all equal do not make the interval narrower."""
    means = RNG.standard_normal(12)
    alone, many = Sample(), Sample()
    for mean in means:
        alone.add_values([mean])
        many.add_values(np.full(50, mean))
    assert many.interval() == alone.interval()
    brute = [np.mean(RNG.choice(means, 12)) for _ in range(20000)]
    assert alone.interval() == pytest.approx(tuple(np.quantile(brute, [0.025, 0.975])), abs=0.06)


def test_interval_of_a_median_uses_the_median():
    values = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 100.0])
    sample = Sample(np.median)
    for value in values:
        sample.add_values([value])
    assert sample.value == 0
    assert sample.interval()[1] == 0  # an outlier is rarely the median


def test_single_picture_resamples_its_units():
    values = RNG.standard_normal(30)
    sample = Sample()
    sample.add_values(values)
    brute = [np.mean(RNG.choice(values, 30)) for _ in range(20000)]
    assert sample.interval() == pytest.approx(tuple(np.quantile(brute, [0.025, 0.975])), abs=0.04)


def test_interval_of_one_unit_is_not_known():
    sample = Sample()
    assert (sample.value, sample.interval()) == (None, (None, None))
    sample.add_values([3])
    assert (sample.value, sample.interval()) == (3, (None, None))


def test_pairs_leave_out_the_pair_of_a_unit_with_itself():
    table = np.array([[1.0, 0.2, 0.4], [0.2, 1.0, 0.6], [0.4, 0.6, 1.0]])
    sample = Sample(np.median)
    sample.add_pairs(table)
    assert sample.value == pytest.approx(0.4)
    low, high = sample.interval()
    assert 0.2 <= low <= high <= 0.6  # never 1, although a resample repeats units


def test_groups_that_are_not_a_number_are_left_out():
    sample = Sample()
    sample.add(Group(3, lambda units: float("nan")))
    sample.add(Group(0, lambda units: 1.0))
    assert sample.pictures == 0


def test_generator_depends_on_seed_and_purpose_only():
    draws = [generator(*key).random() for key in [(1, "a"), (1, "a"), (2, "a"), (1, "b"), (1, "a", 0)]]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4
