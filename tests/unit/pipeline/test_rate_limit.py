"""A client's rate: what it allows, whom it counts together, what it says, and what holds without the store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.backends.memory import TRANSIENT, AbsentStore, MemoryStore
from falcon_wsgi.errors import DependencyRejected, RateLimited
from falcon_wsgi.pipeline.rate_limit import ANONYMOUS, ClientRateLimit, Rate, Unlimited, bucket_of
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Caller:
    client: str = "acme"
    client_ip: str | None = "203.0.113.9"
    deadline: Deadline = field(default_factory=lambda: Deadline.after(60))
    headers: list[tuple[str, str]] = field(default_factory=list)


class Refusing(MemoryStore):
    def execute(self, commands: Sequence[Any]) -> list[Any]:
        raise DependencyRejected("redis refused a command: WRONGTYPE")


class Fallbacks:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def fallback(self, dependency: str, fallback_type: str) -> None:
        self.seen.append((dependency, fallback_type))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fallbacks() -> Fallbacks:
    return Fallbacks()


@pytest.fixture
def limit(clock: Clock, fallbacks: Fallbacks):
    def make(
        per_second: float = 2, burst: int = 4, *, shared: Any = None, workers: int = 2
    ) -> ClientRateLimit:
        guard = Guard("redis", TRANSIENT, sleep=lambda _: None)
        return ClientRateLimit(
            Rate.of(per_second, burst),
            shared or MemoryStore(clock=clock),
            guard,
            workers=workers,
            local=MemoryStore(clock=clock),
            observer=fallbacks,
        )

    return make


def allowed(limit: ClientRateLimit, times: int, **who: Any) -> int:
    """How many of so many requests got through."""
    count = 0
    for _ in range(times):
        try:
            limit.admit(Caller(**who))
        except RateLimited:
            continue
        count += 1
    return count


def test_a_burst_gets_through_and_then_the_rate(limit, clock: Clock) -> None:
    limit = limit(per_second=2, burst=4)
    assert allowed(limit, 10) == 4
    clock.now_s += 1
    assert allowed(limit, 10) == 2
    clock.now_s += 60
    assert allowed(limit, 10) == 4


def test_a_refused_request_says_when_the_next_one_gets_through(limit, clock: Clock) -> None:
    limit = limit(per_second=0.5, burst=1)
    limit.admit(Caller())
    clock.now_s += 0.5
    with pytest.raises(RateLimited) as raised:
        limit.admit(Caller())
    assert raised.value.retry_after_s == pytest.approx(1.5)
    clock.now_s += 1.4
    assert allowed(limit, 1) == 0
    clock.now_s += 0.2
    assert allowed(limit, 1) == 1


@given(
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    per_second=st.floats(0.5, 50),
    burst=st.integers(1, 10),
)
def test_never_more_than_the_burst_and_the_rate(pauses: list[float], per_second: float, burst: int) -> None:
    clock, store_clock = Clock(), Clock()
    guard = Guard("redis", TRANSIENT)
    store = MemoryStore(clock=clock)
    limit = ClientRateLimit(
        Rate.of(per_second, burst), store, guard, workers=1, local=store, observer=Fallbacks()
    )
    started = store_clock.now_s
    through: list[float] = []
    for pause in pauses:
        clock.now_s += pause
        if allowed(limit, 1):
            through.append(clock.now_s - started)
    for i, first in enumerate(through):
        for count, last in enumerate(through[i:], start=1):
            assert count <= burst + (last - first) * per_second * 1.001 + 1e-3


def test_each_client_has_a_rate_of_its_own(limit) -> None:
    limit = limit()
    assert [allowed(limit, 9, client=name) for name in ("a", "b", "a")] == [4, 4, 0]


def test_without_a_key_the_address_is_the_client(limit) -> None:
    limit = limit()
    addresses = ("203.0.113.9", "203.0.113.10", "203.0.113.9", None)
    assert [allowed(limit, 9, client=ANONYMOUS, client_ip=ip) for ip in addresses] == [4, 4, 0, 4]


def test_a_clients_keys_and_addresses_share_its_rate(limit) -> None:
    limit = limit()
    assert allowed(limit, 3, client_ip="203.0.113.9") + allowed(limit, 3, client_ip="203.0.113.10") == 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("203.0.113.9", "203.0.113.10", False),
    ],
)
def test_an_ipv6_network_is_one_client(one: str, other: str, same: bool) -> None:
    buckets = [bucket_of(Caller(client=ANONYMOUS, client_ip=address)) for address in (one, other)]
    assert (buckets[0] == buckets[1]) == same


def test_no_name_can_stand_for_an_address() -> None:
    assert bucket_of(Caller(client="203.0.113.9")) != bucket_of(Caller(client=ANONYMOUS))


def test_headers_say_what_is_left_and_when_all_is_back(limit, clock: Clock) -> None:
    limit = limit(per_second=2, burst=4)

    def ask() -> dict[str, str]:
        caller = Caller()
        try:
            limit.admit(caller)
        except RateLimited:
            pass
        return dict(caller.headers)

    answers = [ask() for _ in range(6)]
    assert {answer["RateLimit-Policy"] for answer in answers} == {'"client";q=4;w=2'}
    told = [re.fullmatch(r'"client";r=(\d+);t=(\d+)', answer["RateLimit"]) for answer in answers]
    assert [match and (int(match[1]), int(match[2])) for match in told] == [
        (3, 1),
        (2, 1),
        (1, 2),
        (0, 2),
        (0, 2),
        (0, 2),
    ]


def test_a_changed_rate_begins_anew(limit, clock: Clock) -> None:
    shared = MemoryStore(clock=clock)
    assert allowed(limit(per_second=0.01, burst=1, shared=shared), 5) == 1
    assert allowed(limit(per_second=2, burst=4, shared=shared), 5) == 4


def test_workers_and_instances_on_one_store_share_the_rate(limit, clock: Clock) -> None:
    shared = MemoryStore(clock=clock)
    one, other = limit(shared=shared), limit(shared=shared)
    assert allowed(one, 3) + allowed(other, 9) == 4


def test_with_the_store_away_each_worker_keeps_its_share_and_says_so(
    limit, clock: Clock, fallbacks: Fallbacks
) -> None:
    limit = limit(per_second=2, burst=4, shared=AbsentStore(), workers=2)
    assert allowed(limit, 10) == 2
    assert set(fallbacks.seen) == {("redis", "local_rate_limit")}
    assert len(fallbacks.seen) == 10
    clock.now_s += 1
    assert allowed(limit, 10) == 1


def test_a_share_is_never_nothing(limit) -> None:
    limit = limit(per_second=1, burst=1, shared=AbsentStore(), workers=16)
    assert allowed(limit, 10) == 1


def test_a_store_that_refuses_the_command_is_as_good_as_away(limit, fallbacks: Fallbacks) -> None:
    assert allowed(limit(shared=Refusing()), 10) == 2
    assert fallbacks.seen[0] == ("redis", "local_rate_limit")


def test_a_store_that_already_failed_the_request_is_not_waited_for_again(limit, clock: Clock) -> None:
    class Counting(MemoryStore):
        asked = 0

        def execute(self, commands: Sequence[Any]) -> list[Any]:
            Counting.asked += 1
            return super().execute(commands)

    caller = Caller()
    caller.deadline.give_up_on("redis")
    limit(shared=Counting(clock=clock)).admit(caller)
    assert Counting.asked == 0


@pytest.mark.parametrize(("per_second", "burst"), [(0.5, 1), (1, 1), (2.5, 3), (100, 100)])
def test_the_burst_is_a_seconds_worth_where_it_is_not_given(per_second: float, burst: int) -> None:
    assert Rate.of(per_second) == Rate(round(1_000_000 / per_second), burst)


def test_unlimited_admits_and_says_nothing() -> None:
    caller = Caller()
    for _ in range(100):
        Unlimited().admit(caller)
    assert caller.headers == []
