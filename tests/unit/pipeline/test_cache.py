from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.backends.memory import TRANSIENT, AbsentStore, MemoryStore
from falcon_wsgi.models.prediction import Prediction, encode
from falcon_wsgi.pipeline.cache import LocalTier, PredictionCache, cache_keys
from falcon_wsgi.pipeline.encoding import delimited
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard

GOOD = Prediction("positive", 0.9, {"positive": 0.9, "negative": 0.1})
BAD = Prediction("negative", 0.8, {"positive": 0.2, "negative": 0.8})


def cache_key(model: str, digest: str, normalised_input: bytes) -> str:
    return cache_keys(model, digest, [sha256(normalised_input).hexdigest()])[0]


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.round_trips: list[Sequence[Any]] = []
        self.accepts = True
        self.fails: Exception | None = None

    def execute(self, commands: Sequence[Any]) -> list[Any]:
        self.round_trips.append(commands)
        if self.fails is not None:
            raise self.fails
        return super().execute(commands)

    def submit(self, commands: Sequence[Any], failed: Any = None) -> bool:
        return self.accepts and super().submit(commands, failed)


class RecordingObserver:
    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def hits(self, tier: str, count: int) -> None:
        self.counts["hit", tier] += count

    def misses(self, count: int) -> None:
        self.counts["miss",] += count

    def error(self, operation: str) -> None:
        self.counts["error", operation] += 1

    def fallback(self, dependency: str, fallback_type: str) -> None:
        self.counts["fallback", dependency, fallback_type] += 1


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def guard() -> Guard:
    return Guard("redis", TRANSIENT, sleep=lambda _: None)


@pytest.fixture
def cache(store: CountingStore, guard: Guard, observer: RecordingObserver, clock: Clock) -> PredictionCache:
    return PredictionCache(LocalTier(100, clock), store, guard, ttl_s=3600, observer=observer)


@pytest.fixture
def neighbour(store: CountingStore) -> PredictionCache:
    """The cache of another worker on the same shared store."""
    return PredictionCache(LocalTier(100), store, Guard("redis", TRANSIENT), ttl_s=3600)


class TestKeys:
    awkward = st.text(st.sampled_from("a:1\x00é|"), max_size=6)
    parts = st.tuples(awkward, awkward, awkward.map(str.encode))

    @given(parts, parts)
    def test_equal_keys_mean_equal_model_version_and_input(
        self, one: tuple[str, str, bytes], other: tuple[str, str, bytes]
    ) -> None:
        assert (cache_key(*one) == cache_key(*other)) == (one == other)

    @given(st.lists(st.binary(max_size=8), min_size=3, max_size=3))
    def test_delimited_parts_can_be_read_back(self, parts: list[bytes]) -> None:
        encoded, read = delimited(*parts), []
        while encoded:
            length, _, rest = encoded.partition(b":")
            read.append(rest[: int(length)])
            encoded = rest[int(length) :]
        assert read == parts

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (("a:b", "c", b"d"), ("a", "b:c", b"d")),
            (("a", "bc", b"d"), ("a", "b", b"cd")),
            (("", "a", b"b"), ("a", "", b"b")),
            (("1:a", "1", b""), ("1", ":a1", b"")),
        ],
    )
    def test_separators_in_names_cannot_make_two_keys_alike(self, one: Any, other: Any) -> None:
        assert cache_key(*one) != cache_key(*other)

    def test_a_key_shows_model_and_version_to_those_who_look_into_redis(self) -> None:
        key = cache_key("sentiment", "0123456789abcdef", b"good")
        assert key.startswith("falcon:cache:sentiment:0123456789ab:")


class TestTiers:
    def test_what_was_put_is_found_locally_without_a_round_trip(
        self, cache: PredictionCache, store: CountingStore, observer: RecordingObserver
    ) -> None:
        cache.put_many([("k", GOOD)])
        store.round_trips.clear()
        assert cache.look_up(["k"]).wait() == [GOOD]
        assert store.round_trips == []
        assert observer.counts == {("hit", "local"): 1}

    def test_another_worker_finds_it_in_the_shared_tier_and_then_locally(
        self,
        cache: PredictionCache,
        neighbour: PredictionCache,
        store: CountingStore,
        observer: RecordingObserver,
    ) -> None:
        neighbour.put_many([("k", GOOD)])
        assert cache.look_up(["k"]).wait() == [GOOD]
        store.round_trips.clear()
        assert cache.look_up(["k"]).wait() == [GOOD]
        assert store.round_trips == []
        assert observer.counts == {("hit", "shared"): 1, ("hit", "local"): 1}

    def test_a_batch_asks_once_and_only_for_what_is_not_held_locally(
        self,
        cache: PredictionCache,
        neighbour: PredictionCache,
        store: CountingStore,
        observer: RecordingObserver,
    ) -> None:
        cache.put_many([("mine", GOOD)])
        neighbour.put_many([("theirs", BAD)])
        store.round_trips.clear()
        assert cache.look_up(["new", "theirs", "mine", "newer"]).wait() == [None, BAD, GOOD, None]
        assert store.round_trips == [(("MGET", "new", "theirs", "newer"),)]
        assert observer.counts == {("hit", "local"): 1, ("hit", "shared"): 1, ("miss",): 2}

    def test_an_entry_taken_over_from_the_shared_tier_is_asked_for_again_after_a_minute(
        self, cache: PredictionCache, neighbour: PredictionCache, clock: Clock, observer: RecordingObserver
    ) -> None:
        neighbour.put_many([("k", GOOD)])
        cache.look_up(["k"]).wait()
        clock.now_s += 59.9
        cache.look_up(["k"]).wait()
        clock.now_s += 0.1
        cache.look_up(["k"]).wait()
        assert observer.counts == {("hit", "shared"): 2, ("hit", "local"): 1}

    def test_entries_in_the_shared_tier_end_with_their_ttl(
        self, cache: PredictionCache, store: CountingStore
    ) -> None:
        cache.put_many([("k", GOOD)])
        assert 3_599_000 <= store.execute([("PTTL", "k")])[0] <= 3_600_000

    @pytest.mark.parametrize("damaged", [b"", b"\xff", b"{}", b'["positive"]', encode(GOOD)[:-2]])
    def test_a_damaged_value_is_a_counted_miss_and_is_overwritten(
        self, cache: PredictionCache, store: CountingStore, observer: RecordingObserver, damaged: bytes
    ) -> None:
        store.execute([("SET", "k", damaged)])
        assert cache.look_up(["k"]).wait() == [None]
        assert observer.counts == {("error", "decode"): 1, ("miss",): 1}
        cache.put_many([("k", GOOD)])
        assert store.execute([("GET", "k")]) == [encode(GOOD)]

    def test_what_is_looked_up_travels_while_the_caller_does_something_else(
        self, cache: PredictionCache, neighbour: PredictionCache, store: CountingStore, observer: Any
    ) -> None:
        neighbour.put_many([("theirs", BAD)])
        store.round_trips.clear()
        lookup = cache.look_up(["theirs", "new"])
        store.execute([("PING",)])
        assert store.round_trips == [(("MGET", "theirs", "new"),), [("PING",)]]
        assert observer.counts == {}, "an answer that nobody waits for is neither a hit nor a miss"
        assert lookup.wait() == [BAD, None]
        assert len(store.round_trips) == 2
        assert observer.counts == {("hit", "shared"): 1, ("miss",): 1}


class TestOutage:
    def test_a_lookup_that_was_lost_on_its_way_is_asked_for_once_more(
        self, cache: PredictionCache, neighbour: PredictionCache, store: CountingStore, observer: Any
    ) -> None:
        neighbour.put_many([("k", GOOD)])
        store.fails = ConnectionError()
        lookup = cache.look_up(["k"])
        store.fails = None
        assert lookup.wait() == [GOOD]
        assert observer.counts == {("hit", "shared"): 1}

    def test_a_circuit_that_opens_while_a_lookup_travels_ends_the_wait_for_it(
        self, cache: PredictionCache, store: CountingStore, guard: Guard, observer: Any
    ) -> None:
        lookup = cache.look_up(["k"])
        store.fails = ConnectionError()
        for n in range(5):
            cache.look_up([f"other{n}"]).wait()
        assert guard.state == "open"
        assert lookup.wait() == [None]
        assert observer.counts["miss",] == 6

    def test_without_the_store_lookups_miss_and_the_fallback_is_counted(
        self, guard: Guard, observer: RecordingObserver
    ) -> None:
        cache = PredictionCache(LocalTier(100), AbsentStore(), guard, ttl_s=60, observer=observer)
        assert cache.look_up(["k"]).wait() == [None]
        assert observer.counts["fallback", "redis", "no_shared_cache"] == 1
        assert observer.counts["error", "get"] == 1
        assert observer.counts["miss",] == 1

    def test_an_open_circuit_skips_redis_and_local_entries_are_still_served(
        self, cache: PredictionCache, store: CountingStore, guard: Guard, observer: RecordingObserver
    ) -> None:
        cache.put_many([("k", GOOD)])
        store.fails = ConnectionError()
        for n in range(5):
            cache.look_up([f"other{n}"]).wait()
        assert guard.state == "open"
        errors = observer.counts["error", "get"]
        store.round_trips.clear()
        assert cache.look_up(["k", "missing"]).wait() == [GOOD, None]
        cache.put_many([("new", BAD)])
        assert cache.look_up(["new"]).wait() == [BAD]
        assert store.round_trips == []
        assert observer.counts["error", "get"] == errors, "a refused call is no error of an operation"
        assert observer.counts["error", "set"] == 1

    def test_a_request_that_the_store_failed_already_does_not_ask_it_again(
        self, cache: PredictionCache, store: CountingStore
    ) -> None:
        deadline = Deadline.after(30)
        deadline.give_up_on("redis")
        assert cache.look_up(["k"], deadline).wait() == [None]
        assert store.round_trips == []

    def test_a_write_that_finds_the_queue_full_is_dropped_and_counted(
        self, cache: PredictionCache, store: CountingStore, observer: RecordingObserver
    ) -> None:
        store.accepts = False
        cache.put_many([("k", GOOD)])
        assert observer.counts == {("error", "set"): 1}
        assert cache.look_up(["k"]).wait() == [GOOD]

    def test_a_refused_lookup_is_a_miss_and_not_an_outage(
        self, cache: PredictionCache, store: CountingStore, observer: RecordingObserver
    ) -> None:
        del store._verbs[b"MGET"]
        assert cache.look_up(["k"]).wait() == [None]
        assert observer.counts == {("error", "get"): 1, ("miss",): 1}


class TestLocalTier:
    def test_the_entry_unused_for_longest_goes_first(self) -> None:
        tier = LocalTier(2)
        tier.put_many([("a", GOOD)], 60)
        tier.put_many([("b", GOOD)], 60)
        tier.get_many(["a"])
        tier.put_many([("c", GOOD)], 60)
        assert tier.get_many(["a", "b", "c"]) == [GOOD, None, GOOD]

    def test_it_never_holds_more_than_its_bound(self) -> None:
        tier = LocalTier(10)
        for n in range(1000):
            tier.put_many([(str(n), GOOD)], 60)
        assert len(tier) == 10
        tier.put_many([(str(n), BAD) for n in range(50)], 60)
        assert len(tier) == 10

    def test_a_bound_of_zero_keeps_nothing(self) -> None:
        tier = LocalTier(0)
        tier.put_many([("a", GOOD)], 60)
        assert tier.get_many(["a"]) == [None]

    def test_an_entry_ends_with_its_ttl_and_a_new_one_begins_anew(self, clock: Clock) -> None:
        tier = LocalTier(10, clock)
        tier.put_many([("a", GOOD)], 60)
        clock.now_s = 59.9
        assert tier.get_many(["a"]) == [GOOD]
        tier.put_many([("a", BAD)], 60)
        clock.now_s = 119.8
        assert tier.get_many(["a"]) == [BAD]
        clock.now_s = 119.9
        assert tier.get_many(["a"]) == [None]
        assert len(tier) == 0
