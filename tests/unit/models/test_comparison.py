"""Differences of two answers, and the statistics over many."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from scipy.stats import binomtest

from falcon_wsgi.models.comparison import Classes, bucket_quantile, difference, wilson
from falcon_wsgi.models.prediction import Prediction

POSITIVE = Prediction("positive", 0.7, {"negative": 0.3, "positive": 0.7})


def test_equal_labels_agree_whatever_their_probabilities() -> None:
    found = difference(POSITIVE, Prediction("positive", 0.9, {"negative": 0.1, "positive": 0.9}), 0.0)
    assert (found.agree, found.absolute) == (True, None)
    assert found.distance == pytest.approx(0.2)


def test_other_labels_disagree() -> None:
    found = difference(POSITIVE, Prediction("negative", 0.6, {"negative": 0.6, "positive": 0.4}), 1.0)
    assert not found.agree
    assert found.distance == pytest.approx(0.3)


def test_a_class_that_one_version_does_not_know_has_probability_0_there() -> None:
    candidate = Prediction("neutral", 0.8, {"neutral": 0.8, "positive": 0.2})
    assert difference(POSITIVE, candidate, 0).distance == pytest.approx(0.8)


def test_without_probabilities_there_is_no_distance() -> None:
    assert difference(Prediction("a"), Prediction("a", 1.0, {"a": 1.0}), 0).distance is None


def test_labels_are_compared_as_the_request_log_writes_them() -> None:
    assert difference(Prediction("3"), Prediction(3), 0).agree
    assert difference(Prediction("true"), Prediction(True), 0).agree


@pytest.mark.parametrize(
    ("live", "candidate", "agree", "relative"),
    [
        (100.0, 101.0, True, 1 / 101),
        (100.0, 101.1, False, 1.1 / 101.1),
        (0.0, 0.0, True, 0.0),
        (0.0, 1e-9, False, 1.0),
        (-1.0, 1.0, False, 2.0),
    ],
)
def test_numbers_agree_within_the_relative_tolerance(
    live: float, candidate: float, agree: bool, relative: float
) -> None:
    found = difference(Prediction(live), Prediction(candidate), 0.01)
    assert found.agree is agree
    assert found.distance == pytest.approx(relative)
    assert found.absolute == pytest.approx(abs(live - candidate))


def test_classes_beyond_the_tenth_are_other() -> None:
    classes = Classes(range(8), range(4, 12))
    assert classes.pair(Prediction(9), Prediction(10), False) == ("9", "other")
    assert classes.pair(Prediction("unheard of"), Prediction(0), False) == ("other", "0")


def test_long_labels_are_cut() -> None:
    assert len(Classes(("x" * 500, "y")).pair(Prediction("x" * 500), Prediction("y"), False)[0]) == 60


def test_numbers_have_a_side_in_the_place_of_a_class() -> None:
    pair = Classes(()).pair
    assert pair(Prediction(1.0), Prediction(2.0), False) == ("number", "higher")
    assert pair(Prediction(1.0), Prediction(0.5), False) == ("number", "lower")
    assert pair(Prediction(1.0), Prediction(1.001), True) == ("number", "number")


@pytest.mark.parametrize("counts", [(0, 10), (5, 10), (10, 10), (9_810, 10_000), (1, 10**6)])
def test_wilson_gives_the_interval_that_scipy_gives(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_nothing_is_known_without_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_within_0_and_1(counts: tuple[int, int]) -> None:
    low, high = wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1
    assert low < high


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "h", buckets=(1, 2, 4), registry=registry)
    for value in (0.5, 1.5, 1.5, 3.0):
        histogram.observe(value)
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "h_bucket"
    ]
    assert bucket_quantile(buckets, 0.5) == pytest.approx(1.5)
    assert bucket_quantile(buckets, 1.0) == pytest.approx(4)


def test_a_quantile_beyond_all_bounds_is_the_last_bound() -> None:
    assert bucket_quantile([(1.0, 0), (2.0, 1), (math.inf, 10)], 0.9) == 2.0


def test_an_empty_histogram_has_no_quantile() -> None:
    assert bucket_quantile([], 0.5) is None
    assert bucket_quantile([(1.0, 0), (math.inf, 0)], 0.5) is None
