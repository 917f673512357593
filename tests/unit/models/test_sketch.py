"""Quantiles in constant memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.models.sketch import Sketch


def sketch_of(*values: float) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_each_quantile_is_within_1_percent_of_the_exact_one(values: list[float], q: float) -> None:
    exact = sorted(values)[int(q * (len(values) - 1))]
    assert sketch_of(*values).quantile(q) == pytest.approx(exact, rel=0.0101, abs=2e-9)


def test_memory_does_not_grow_with_the_values() -> None:
    draw = random.Random(1)
    sketch = sketch_of(*(draw.lognormvariate(0, 20) for _ in range(50_000)))
    assert len(sketch._bins) < 2500
    assert sketch.count == 50_000


def test_without_values_there_is_no_quantile_and_no_mean() -> None:
    assert (sketch_of().quantile(0.5), sketch_of().mean, sketch_of().largest) == (None, None, 0.0)


def test_mean_and_largest_are_exact() -> None:
    sketch = sketch_of(0, 1, 2)
    assert (sketch.mean, sketch.largest, sketch.quantile(0)) == (1, 2, 0)


def test_a_histogram_counts_every_value_once() -> None:
    assert sketch_of(0, 0, 0.5, 3, 30).histogram((1e-6, 1, 10)) == [2, 1, 1, 1]
