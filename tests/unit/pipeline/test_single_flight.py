from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from falcon_wsgi.errors import DeadlineExceeded
from falcon_wsgi.pipeline.single_flight import SingleFlight
from falcon_wsgi.resilience.deadline import Deadline


class Work:
    """Computes a value from each key, once it is released, and remembers what it was asked."""

    def __init__(self) -> None:
        self.release = Event()
        self.asked: list[list[str]] = []
        self.errors: list[BaseException] = []

    def __call__(self, keys: list[str]) -> dict[str, str]:
        self.asked.append(keys)
        self.release.wait()
        gevent.sleep(0)  # as every model call does
        if self.errors:
            raise self.errors.pop(0)
        return {key: key.upper() for key in keys}


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def flights() -> SingleFlight[str]:
    return SingleFlight()


def start(flights: SingleFlight[str], keys: Iterable[str], work: Any, seconds: float = 30) -> Any:
    greenlet = gevent.spawn(flights.resolve, keys, work, Deadline.after(seconds))
    gevent.idle()
    return greenlet


def test_equal_keys_at_the_same_time_are_computed_once(flights: SingleFlight[str], work: Work) -> None:
    greenlets = [start(flights, ["a"], work) for _ in range(50)]
    work.release.set()
    assert [greenlet.get() for greenlet in greenlets] == [{"a": "A"}] * 50
    assert work.asked == [["a"]]


def test_later_and_different_keys_are_computed_anew(flights: SingleFlight[str], work: Work) -> None:
    work.release.set()
    for keys in (["a"], ["a"], ["b"]):
        start(flights, keys, work).get()
    assert work.asked == [["a"], ["a"], ["b"]]


def test_equal_keys_within_a_batch_are_computed_once(flights: SingleFlight[str], work: Work) -> None:
    work.release.set()
    assert flights.resolve(["a", "b", "a"], work, Deadline.after(30)) == {"a": "A", "b": "B"}
    assert work.asked == [["a", "b"]]


def test_a_batch_computes_only_what_no_other_does(flights: SingleFlight[str], work: Work) -> None:
    first = start(flights, ["a", "b"], work)
    second = start(flights, ["b", "c"], work)
    work.release.set()
    assert first.get() == {"a": "A", "b": "B"}
    assert second.get() == {"b": "B", "c": "C"}
    assert work.asked == [["a", "b"], ["c"]]


def test_batches_that_overlap_in_opposite_order_do_not_wait_in_a_circle(flights: SingleFlight[str]) -> None:
    one, other = Work(), Work()
    batches = [start(flights, ["a"], one), start(flights, ["b"], other)]
    crossing = [start(flights, ["x", "a", "y", "b"], one), start(flights, ["y", "b", "x", "a"], other)]
    for work in (one, other):
        work.release.set()
    gevent.joinall(batches + crossing, timeout=5, raise_error=True)
    assert all(greenlet.successful() for greenlet in crossing)
    assert crossing[0].value == crossing[1].value == {"a": "A", "b": "B", "x": "X", "y": "Y"}


@pytest.mark.parametrize("error", [DeadlineExceeded("the leader's"), ValueError("bad")])
def test_followers_do_not_inherit_the_leaders_failure_and_one_of_them_leads_next(
    flights: SingleFlight[str], work: Work, error: Exception
) -> None:
    work.errors = [error]
    leader = start(flights, ["a"], work)
    followers = [start(flights, ["a"], work) for _ in range(10)]
    work.release.set()
    with pytest.raises(type(error)):
        leader.get()
    assert [follower.get() for follower in followers] == [{"a": "A"}] * 10
    assert work.asked == [["a"], ["a"]]


def test_a_killed_leader_leaves_the_lead_to_a_follower(flights: SingleFlight[str], work: Work) -> None:
    leader, follower = start(flights, ["a"], work), start(flights, ["a"], work)
    leader.kill()
    work.release.set()
    assert follower.get() == {"a": "A"}


def test_a_flight_that_failed_while_its_follower_led_others_is_led_again(flights: SingleFlight[str]) -> None:
    failing, own = Work(), Work()
    failing.errors = [ValueError("bad")]
    leader = start(flights, ["a"], failing)
    batch = start(flights, ["a", "b"], own)
    failing.release.set()
    with pytest.raises(ValueError, match="bad"):
        leader.get()
    own.release.set()
    assert batch.get(timeout=5) == {"a": "A", "b": "B"}
    assert own.asked == [["b"], ["a"]]


def test_a_follower_waits_no_longer_than_its_own_deadline(flights: SingleFlight[str], work: Work) -> None:
    leader = start(flights, ["a"], work)
    with pytest.raises(DeadlineExceeded):
        start(flights, ["a"], work, seconds=0).get(timeout=5)
    work.release.set()
    assert leader.get() == {"a": "A"}


def test_nothing_is_kept_once_all_have_their_values(flights: SingleFlight[str], work: Work) -> None:
    work.release.set()
    start(flights, ["a", "b"], work).get()
    assert flights._flights == {}
