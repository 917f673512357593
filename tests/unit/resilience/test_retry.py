from __future__ import annotations

import pytest

from falcon_wsgi.resilience.retry import RetryBudget, RetryPolicy


def test_waits_are_jittered_over_the_full_range_below_a_growing_and_capped_bound() -> None:
    policy = RetryPolicy(max_attempts=5, base_delay_s=0.1, max_delay_s=0.3)
    drawn = [list(policy.waits()) for _ in range(2000)]
    assert {len(waits) for waits in drawn} == {4}
    for n, bound_s in enumerate((0.1, 0.2, 0.3, 0.3)):
        waits = [each[n] for each in drawn]
        assert 0 <= min(waits) < bound_s * 0.05
        assert bound_s * 0.95 < max(waits) <= bound_s


def test_one_attempt_means_no_waits() -> None:
    assert list(RetryPolicy(max_attempts=1).waits()) == []


@pytest.mark.parametrize(
    ("elapsed_s", "fitting_s"),
    [(0.0, 0.03), (0.02, 0.02), (0.039, 0.001), (0.04, None), (0.2, None)],
)
def test_a_wait_leaves_room_for_a_whole_attempt_within_the_budget(
    elapsed_s: float, fitting_s: float | None
) -> None:
    policy = RetryPolicy(time_budget_s=0.24, attempt_timeout_s=0.2)
    assert policy.fitting(0.03, elapsed_s) == (
        None if fitting_s is None else pytest.approx(fitting_s, abs=1e-9)
    )


def test_the_budget_allows_its_capacity_and_then_one_retry_for_ten_successes() -> None:
    budget = RetryBudget(ratio=0.1, capacity=3)
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    for _ in range(2):  # one more than ten, for what ten times 0.1 lacks in binary
        budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_no_number_of_successes_saves_more_than_the_capacity() -> None:
    budget = RetryBudget(ratio=0.1, capacity=2)
    for _ in range(10_000):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]
