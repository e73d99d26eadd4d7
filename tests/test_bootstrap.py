"""Bootstrap intervals: they cover the truth, pair what belongs together, and are the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evaluate.bootstrap import interval, paired_interval, ratio, resampled_sums


def _means(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones(len(values))], axis=1)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    draw = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        low, high = interval(_means(draw.exponential(2.0, 80)), ratio, 400, trial)
        hits += low <= 2.0 <= high
    assert 0.88 <= hits / 300 <= 0.98


def test_resampled_means_spread_like_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=200)
    means = ratio(resampled_sums(_means(values), 4000, 0))
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.1)


def test_a_small_steady_gain_over_hard_and_easy_examples_is_seen_only_when_paired() -> None:
    draw = np.random.default_rng(2)
    hardness = draw.normal(0, 5, 60)
    base, ours = _means(hardness), _means(hardness - 0.3 + draw.normal(0, 0.1, 60))
    low, high = paired_interval(ours, base, ratio, 1000, 0)
    assert low < -0.3 < high < 0
    alone = interval(ours, ratio, 1000, 0), interval(base, ratio, 1000, 0)
    assert alone[0][1] > alone[1][0]  # the two intervals overlap


def test_a_model_does_not_differ_from_itself() -> None:
    values = _means(np.random.default_rng(3).normal(size=30))
    assert paired_interval(values, values, ratio, 500, 7) == (0.0, 0.0)


def test_loss_is_weighted_by_tokens_not_by_examples() -> None:
    statistics = np.array([[100.0, 100.0], [1.0, 1.0], [30.0, 10.0]])
    assert ratio(statistics.sum(axis=0, keepdims=True))[0] == pytest.approx(131 / 111)


def test_one_example_gives_an_interval_of_no_width() -> None:
    assert interval(np.array([[3.0, 2.0]]), ratio, 200, 0) == (1.5, 1.5)


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        paired_interval(np.ones((3, 2)), np.ones((4, 2)), ratio, 100, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**64 - 1))
def test_a_seed_draws_the_same_examples_whatever_the_statistics(n: int, seed: int) -> None:
    marks = np.eye(n)  # sums of these are the number of times each example was drawn
    counts = resampled_sums(marks, 120, seed)
    assert (counts.sum(axis=1) == n).all()
    assert np.array_equal(counts, resampled_sums(marks, 120, seed))
    values = np.arange(n, dtype=np.float64)[:, None]
    assert np.allclose(resampled_sums(values, 120, seed)[:, 0], counts @ values[:, 0])
