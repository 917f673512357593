from __future__ import annotations

from typing import Any

import pytest

from falcon_wsgi.errors import DeadlineExceeded
from falcon_wsgi.resilience.deadline import Deadline


def test_a_deadline_counts_down_and_expires_at_its_moment(clock: Any) -> None:
    deadline = Deadline.after(2.0, clock)
    clock.advance(1.5)
    assert deadline.remaining_s() == pytest.approx(0.5)
    deadline.check()
    clock.advance(0.5)
    assert deadline.expired


def test_an_expired_deadline_has_nothing_left_and_raises(clock: Any) -> None:
    deadline = Deadline.after(1.0, clock)
    clock.advance(3.0)
    assert deadline.remaining_s() == 0.0
    with pytest.raises(DeadlineExceeded):
        deadline.check()


def test_giving_up_on_one_dependency_leaves_the_others_and_other_requests(clock: Any) -> None:
    deadline = Deadline.after(1.0, clock)
    deadline.give_up_on("redis")
    assert not deadline.waits_for("redis")
    assert deadline.waits_for("postgres")
    assert Deadline.after(1.0, clock).waits_for("redis")
