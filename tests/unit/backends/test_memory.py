from __future__ import annotations

import pytest

from falcon_wsgi.backends.memory import TRANSIENT, AbsentStore, MemoryStore


def test_past_its_bound_the_key_written_first_goes() -> None:
    store = MemoryStore(max_entries=3)
    for key in ("a", "b", "c", "a", "d"):
        store.execute([("SET", key, key)])
    assert store.execute([("MGET", "a", "b", "c", "d")]) == [[b"a", None, b"c", b"d"]]


def test_keys_end_with_their_life_on_the_given_clock() -> None:
    now_s = [0.0]
    store = MemoryStore(clock=lambda: now_s[0])
    store.execute([("SET", "a", "x", "PX", 1500), ("SET", "b", "x", "EX", 2)])
    now_s[0] = 1.4
    assert store.execute([("PTTL", "a"), ("MGET", "a", "b")]) == [100, [b"x", b"x"]]
    now_s[0] = 1.5
    assert store.execute([("MGET", "a", "b"), ("PTTL", "a")]) == [[None, b"x"], -2]


def test_an_absent_store_raises_what_means_away_and_accepts_no_write() -> None:
    store = AbsentStore()
    with pytest.raises(TRANSIENT):
        store.execute([("GET", "a")])
    with pytest.raises(TRANSIENT):
        store.ping()
    with pytest.raises(TRANSIENT):
        store.begin([("GET", "a")]).wait()
    assert not store.submit([("SET", "a", "x")])
