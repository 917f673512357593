"""What every key-value store promises, checked on the fake and on the real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import gevent
import pytest

from falcon_wsgi.backends.memory import MemoryStore
from falcon_wsgi.backends.redis import RedisClient
from falcon_wsgi.errors import DependencyRejected
from falcon_wsgi.pipeline.keyvalue import KeyValueStore


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[KeyValueStore]:
    made: Any = (
        MemoryStore()
        if request.param == "memory"
        else RedisClient(request.getfixturevalue("redis_server").url, timeout_s=2.0)
    )
    yield made
    made.close()


def connected_as_a_user_who_may_not(commands: str, url: str) -> RedisClient:
    admin = RedisClient(url, timeout_s=2.0)
    denied = [f"-{command}" for command in commands.split()]
    admin.execute([("ACL", "SETUSER", "limited", "on", "nopass", "~*", "+@all", *denied)])
    admin.close()
    parts = urlsplit(url)
    return RedisClient(f"redis://limited:any@{parts.hostname}:{parts.port}/0", timeout_s=2.0)


def test_there_is_one_reply_for_each_command_in_order(store: KeyValueStore) -> None:
    commands: list[Any] = [
        ("PING",),
        ("SET", "a", b"\x00\xff"),
        ("GET", "a"),
        ("GET", "b"),
        ("DEL", "a", "b"),
    ]
    assert store.execute(commands) == [b"PONG", b"OK", b"\x00\xff", None, 1]


def test_keys_and_values_may_be_text_bytes_or_numbers(store: KeyValueStore) -> None:
    store.execute([("SET", "é", "ü"), ("SET", b"k", 42)])
    assert store.execute([("MGET", b"\xc3\xa9", "k", "none")]) == [[b"\xc3\xbc", b"42", None]]


def test_set_nx_succeeds_only_on_an_absent_key(store: KeyValueStore) -> None:
    assert store.execute([("SET", "k", "a", "NX", "PX", 5000), ("SET", "k", "b", "NX", "PX", 5000)]) == [
        b"OK",
        None,
    ]
    assert store.execute([("GET", "k")]) == [b"a"]


def test_a_life_ends(store: KeyValueStore) -> None:
    store.execute([("SET", "short", "x", "PX", 30), ("SET", "long", "x", "EX", 100)])
    gevent.sleep(0.06)
    assert store.execute([("MGET", "short", "long")]) == [[None, b"x"]]
    assert 0 < store.execute([("PTTL", "long")])[0] <= 100_000


def test_set_without_a_life_ends_an_earlier_one(store: KeyValueStore) -> None:
    store.execute([("SET", "k", "x", "EX", 100), ("SET", "k", "y")])
    assert store.execute([("PTTL", "k"), ("PTTL", "none")]) == [-1, -2]


def check_set_many(store: KeyValueStore, count: int) -> None:
    items = [(f"k{n}", b"\x00\xff%d" % n) for n in range(count)]
    store.execute([("PING",), ("SET", "k0", "before")])
    store.execute(store.set_many(items, 100))
    assert store.execute([("MGET", *dict(items))]) == [list(dict(items).values())]
    for life_ms in store.execute([("PTTL", key) for key, _ in items]):
        assert 99_000 <= life_ms <= 100_000


@pytest.mark.parametrize("count", [1, 50])
def test_many_keys_are_set_for_a_limited_time(store: KeyValueStore, count: int) -> None:
    check_set_many(store, count)


def test_many_keys_are_set_by_one_command_where_the_server_has_it_and_else_by_one_each(
    redis_server: Any,
) -> None:
    server_knows = RedisClient(redis_server.url, timeout_s=2.0)
    known = server_knows.execute([("COMMAND", "INFO", "MSETEX")])[0][0] is not None
    assert len(server_knows.set_many([("a", b"1"), ("b", b"2")], 100)) == (1 if known else 2)
    server_knows.close()

    limited = connected_as_a_user_who_may_not("command msetex" if known else "command", redis_server.url)
    check_set_many(limited, 50)
    assert len(limited.set_many([("a", b"1"), ("b", b"2")], 100)) == 2
    limited.close()


def test_what_is_begun_runs_in_order_and_is_waited_for_later_or_never(store: KeyValueStore) -> None:
    first = store.begin([("SET", "k", "x")])
    store.begin([("SET", "k", "y")])
    refused = store.begin([("NO-SUCH-COMMAND",)])
    assert store.execute([("GET", "k")]) == [b"y"]
    assert first.wait() == [b"OK"]
    with pytest.raises(DependencyRejected):
        refused.wait()
    assert store.execute([("GET", "k")]) == [b"y"]


def test_a_refused_command_raises_and_the_others_of_the_call_did_run(store: KeyValueStore) -> None:
    with pytest.raises(DependencyRejected):
        store.execute([("SET", "a", "x"), ("NO-SUCH-COMMAND",), ("SET", "b", "y")])
    assert store.execute([("MGET", "a", "b")]) == [[b"x", b"y"]]


def test_a_refusal_concerns_no_other_caller(store: KeyValueStore) -> None:
    refused = gevent.spawn(pytest.raises, DependencyRejected, store.execute, [("SET", "a")])
    served = [gevent.spawn(store.execute, [("SET", f"k{n}", n), ("GET", f"k{n}")]) for n in range(10)]
    gevent.joinall([refused, *served], raise_error=True)
    assert [greenlet.value[1] for greenlet in served] == [b"%d" % n for n in range(10)]


def test_submitted_commands_run_before_what_is_asked_later(store: KeyValueStore) -> None:
    failures: list[int] = []
    assert store.submit([("SET", "a", "x"), ("SET", "b", "y")], lambda: failures.append(1))
    assert store.execute([("MGET", "a", "b")]) == [[b"x", b"y"]]
    assert failures == []


def test_a_submitted_command_that_is_refused_is_reported(store: KeyValueStore) -> None:
    failures: list[int] = []
    store.submit([("SET", "a")], lambda: failures.append(1))
    store.execute([("PING",)])
    assert failures == [1]


class TestCompareAndSet:
    def swap(self, store: KeyValueStore, *arguments: Any, **options: Any) -> int:
        replies = store.execute([store.compare_and_set("k", *arguments, **options)])
        reply: int = replies[0]
        return reply

    def test_it_sets_a_key_that_holds_what_is_expected(self, store: KeyValueStore) -> None:
        store.execute([("SET", "k", "mine", "EX", 1)])
        assert self.swap(store, b"mine", b"new", 90_000) == 1
        value, life_ms = store.execute([("GET", "k"), ("PTTL", "k")])
        assert value == b"new"
        assert 80_000 < life_ms <= 90_000

    def test_it_leaves_any_other_value_and_its_life(self, store: KeyValueStore) -> None:
        store.execute([("SET", "k", "theirs", "EX", 10)])
        assert self.swap(store, b"mine", b"new", 90_000) == 0
        assert self.swap(store, b"mine", None, 0) == 0
        assert self.swap(store, b"mine", b"new", 90_000, or_absent=True) == 0
        value, life_ms = store.execute([("GET", "k"), ("PTTL", "k")])
        assert value == b"theirs"
        assert life_ms <= 10_000

    def test_it_sets_an_absent_key_only_where_that_is_wanted(self, store: KeyValueStore) -> None:
        assert self.swap(store, b"mine", b"new", 90_000) == 0
        assert store.execute([("GET", "k")]) == [None]
        assert self.swap(store, b"mine", b"new", 90_000, or_absent=True) == 1
        assert store.execute([("GET", "k")]) == [b"new"]

    def test_it_deletes(self, store: KeyValueStore) -> None:
        store.execute([("SET", "k", "mine")])
        assert self.swap(store, b"mine", None, 0) == 1
        assert store.execute([("GET", "k")]) == [None]

    def test_repeated_it_replies_the_same_and_changes_nothing_more(self, store: KeyValueStore) -> None:
        store.execute([("SET", "k", "mine")])
        assert [self.swap(store, b"mine", b"new", 90_000) for _ in range(2)] == [1, 1]

    def test_the_same_value_gets_a_new_life(self, store: KeyValueStore) -> None:
        store.execute([("SET", "k", "mine", "EX", 1)])
        assert self.swap(store, b"mine", b"mine", 90_000) == 1
        assert store.execute([("PTTL", "k")])[0] > 80_000


class TestCountArrival:
    """One arrival in 10 seconds is allowed, and three at once; no test takes as long as one of them."""

    INTERVAL_US, BURST = 10_000_000, 3

    def count(self, store: KeyValueStore, key: str = "k", times: int = 1) -> list[int]:
        command = store.count_arrival(key, self.INTERVAL_US, self.BURST)
        return [store.execute([command])[0] for _ in range(times)]

    def test_a_burst_is_allowed_and_each_reply_says_how_far_it_is_ahead(self, store: KeyValueStore) -> None:
        replies = self.count(store, times=3)
        assert replies == pytest.approx([10_000_000, 20_000_000, 30_000_000], abs=2_000_000)
        assert replies[0] == self.INTERVAL_US

    def test_one_too_many_is_told_how_long_to_wait_and_is_not_counted(self, store: KeyValueStore) -> None:
        self.count(store, times=3)
        refusals = self.count(store, times=5)
        assert refusals == pytest.approx([-10_000_000] * 5, abs=2_000_000)
        assert sorted(refusals) == refusals, "the wait only gets shorter"

    def test_each_key_has_its_own_count(self, store: KeyValueStore) -> None:
        self.count(store, "a", times=4)
        assert self.count(store, "b") == [self.INTERVAL_US]

    def test_a_key_lives_as_long_as_it_is_ahead(self, store: KeyValueStore) -> None:
        self.count(store, times=2)
        assert 15_000 < store.execute([("PTTL", "k")])[0] <= 20_000

    def test_what_was_allowed_comes_back_with_time(self, store: KeyValueStore) -> None:
        often = store.count_arrival("k", 20_000, 1)
        assert store.execute([often])[0] > 0
        assert store.execute([often])[0] < 0
        gevent.sleep(0.04)
        assert store.execute([often])[0] > 0

    def test_a_count_from_the_future_costs_the_burst_and_not_more(self, store: KeyValueStore) -> None:
        """As after the store's clock was set back."""
        store.execute([("SET", "k", 2**52, "EX", 100)])
        assert self.count(store) == pytest.approx([-self.INTERVAL_US], abs=10)

    def test_a_value_that_is_no_count_is_refused(self, store: KeyValueStore) -> None:
        store.execute([("SET", "k", "not a number")])
        with pytest.raises(DependencyRejected):
            self.count(store)
