from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.backends.memory import TRANSIENT, AbsentStore, MemoryStore
from falcon_wsgi.errors import (
    DeadlineExceeded,
    DependencyRejected,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    IdempotencyUnavailable,
)
from falcon_wsgi.pipeline.claims import ClaimRecord, store_key
from falcon_wsgi.pipeline.idempotency import Idempotency
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard

BODY = b'{"prediction":"positive","cache_hit":false,"idempotency_hit":false,"request_id":"r-1"}'
REPLAYED_BODY = BODY.replace(b'"idempotency_hit":false', b'"idempotency_hit":true')


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Outcome:
    status: int = 200
    body: bytes = BODY


@dataclass
class Request:
    idempotency_key: str | None = "key-1"
    client: str = "client-1"
    route: str = "/infer"
    fingerprint: bytes = b"f" * 32
    event_id: str = "event-1"
    from_trusted_balancer: bool = False
    deadline: Deadline = field(default_factory=lambda: Deadline.after(30))


class FaultyStore(MemoryStore):
    """Does something before each round trip, such as failing."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.before: Callable[[Sequence[Any]], None] = lambda _: None
        self.round_trips = 0

    def execute(self, commands: Sequence[Any]) -> list[Any]:
        self.round_trips += 1
        self.before(commands)
        return super().execute(commands)

    def submit(self, commands: Sequence[Any], failed: Any = None) -> bool:
        MemoryStore.execute(self, commands)
        return True


class RecordingObserver:
    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def hit(self) -> None:
        self.counts["hit",] += 1

    def miss(self) -> None:
        self.counts["miss",] += 1

    def conflict(self) -> None:
        self.counts["conflict",] += 1

    def error(self, operation: str) -> None:
        self.counts["error", operation] += 1

    def fallback(self, dependency: str, fallback_type: str) -> None:
        self.counts["fallback", dependency, fallback_type] += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> FaultyStore:
    return FaultyStore(clock)


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def make(store: FaultyStore, clock: Clock, observer: RecordingObserver) -> Any:
    made: list[Idempotency] = []

    def build(**changes: Any) -> Idempotency:
        guard = Guard("redis", TRANSIENT, sleep=lambda _: None)
        settings: dict[str, Any] = {
            "ttl_s": 86_400,
            "lease_s": 6.0,
            "observer": observer,
            "clock": clock,
            "sleep": clock.advance,
        }
        used_store = changes.pop("store", store)
        made.append(Idempotency(used_store, guard, **settings | changes))
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture
def idempotency(make: Any) -> Idempotency:
    built: Idempotency = make()
    return built


def answer(idempotency: Idempotency, request: Request, outcome: Outcome | None = None) -> str:
    """What the pipeline does: "replayed" or "answered"."""
    with idempotency.claim(request) as claim:
        if claim.replay is not None:
            claim.keep(claim.replay)
            return "replayed"
        claim.keep(outcome or Outcome())
    return "answered"


class TestRepeats:
    def test_a_repeat_gets_the_stored_answer_byte_for_byte_but_for_the_mark(
        self, idempotency: Idempotency, observer: RecordingObserver
    ) -> None:
        assert answer(idempotency, Request()) == "answered"
        with idempotency.claim(Request(event_id="event-2")) as claim:
            assert claim.replay is not None
            assert (claim.replay.status, claim.replay.body) == (200, REPLAYED_BODY)
            assert claim.status is None
        assert observer.counts == {("miss",): 1, ("hit",): 1}

    def test_only_the_first_mark_in_the_body_is_changed(self, idempotency: Idempotency) -> None:
        body = b'{"idempotency_hit":false,"echo":"\\"idempotency_hit\\":false","idempotency_hit":false}'
        answer(idempotency, Request(), Outcome(201, body))
        with idempotency.claim(Request()) as claim:
            assert claim.replay is not None
            assert claim.replay.status == 201
            assert claim.replay.body == body.replace(b'hit":false', b'hit":true', 1)

    @pytest.mark.parametrize("changes", [{"client": "client-2"}, {"route": "/infer/batch"}])
    def test_the_same_key_of_another_client_or_route_is_another_key(
        self, idempotency: Idempotency, changes: dict[str, str]
    ) -> None:
        answer(idempotency, Request())
        assert answer(idempotency, Request(**changes)) == "answered"

    def test_separators_in_client_route_and_key_cannot_make_two_keys_alike(self) -> None:
        assert store_key("a", "b:c", "d") != store_key("a:b", "c", "d")
        assert store_key("a", "b", "cd") != store_key("a", "bc", "d")

    def test_a_key_that_is_no_valid_text_is_still_a_key(self) -> None:
        assert store_key("a", "b", "\ud800") != store_key("a", "b", "\ud801")

    def test_the_stored_answer_ends_with_its_ttl(self, idempotency: Idempotency, clock: Clock) -> None:
        answer(idempotency, Request())
        clock.advance(86_399)
        assert answer(idempotency, Request()) == "replayed"
        clock.advance(1)
        assert answer(idempotency, Request()) == "answered"

    @pytest.mark.parametrize("in_progress", [True, False])
    def test_the_key_with_a_different_request_is_refused(
        self, idempotency: Idempotency, observer: RecordingObserver, in_progress: bool
    ) -> None:
        other = Request(fingerprint=b"g" * 32)
        with idempotency.claim(Request()) as claim:
            if not in_progress:
                claim.keep(Outcome())
            with pytest.raises(IdempotencyKeyReused), idempotency.claim(other):
                pytest.fail("the key was given to a different request")
        assert observer.counts["conflict",] == 1

    @pytest.mark.parametrize("changes", [{"enabled": False}, {}])
    def test_without_a_key_or_with_keys_disabled_nothing_is_asked_or_stored(
        self, make: Any, store: FaultyStore, changes: dict[str, bool]
    ) -> None:
        request = Request(idempotency_key=None) if not changes else Request()
        idempotency = make(**changes)
        for _ in range(2):
            assert answer(idempotency, request) == "answered"
        assert store.round_trips == 0


class TestRelease:
    @pytest.mark.parametrize("status", [400, 409, 422, 429, 500, 503, 504])
    def test_an_answer_that_is_no_success_is_not_stored_and_frees_the_key(
        self, idempotency: Idempotency, store: FaultyStore, status: int
    ) -> None:
        answer(idempotency, Request(), Outcome(status))
        assert len(store._entries) == 0
        assert answer(idempotency, Request()) == "answered"

    def test_an_exception_frees_the_key_at_once(self, idempotency: Idempotency) -> None:
        with pytest.raises(DeadlineExceeded), idempotency.claim(Request()):
            raise DeadlineExceeded
        assert answer(idempotency, Request()) == "answered"

    @pytest.mark.parametrize("error", [gevent.GreenletExit(), gevent.Timeout(1)])
    def test_a_killed_request_frees_the_key_without_waiting(
        self, idempotency: Idempotency, store: FaultyStore, error: BaseException
    ) -> None:
        with pytest.raises(type(error)), idempotency.claim(Request()):
            round_trips = store.round_trips
            raise error
        assert store.round_trips == round_trips
        assert answer(idempotency, Request()) == "answered"

    def test_a_request_killed_while_it_claims_leaves_no_claim(
        self, idempotency: Idempotency, store: FaultyStore
    ) -> None:
        def die_after(commands: Sequence[Any]) -> None:
            MemoryStore.execute(store, commands)
            raise gevent.GreenletExit

        store.before = die_after
        with pytest.raises(gevent.GreenletExit), idempotency.claim(Request()):
            pytest.fail("entered")
        store.before = lambda _: None
        assert answer(idempotency, Request()) == "answered"

    def test_a_stored_answer_is_not_released_by_a_later_failure(self, idempotency: Idempotency) -> None:
        with pytest.raises(ValueError, match="late"), idempotency.claim(Request()) as claim:
            claim.keep(Outcome())
            raise ValueError("late")
        assert answer(idempotency, Request()) == "replayed"

    def test_a_replay_leaves_the_stored_answer_alone(self, idempotency: Idempotency) -> None:
        answer(idempotency, Request())
        with pytest.raises(ValueError, match="late"), idempotency.claim(Request()):
            raise ValueError("late")
        assert answer(idempotency, Request()) == "replayed"


class TestConcurrency:
    def test_a_second_request_with_a_running_key_is_told_to_retry(
        self, idempotency: Idempotency, observer: RecordingObserver
    ) -> None:
        with idempotency.claim(Request()):
            with (
                pytest.raises(IdempotencyInProgress) as refusal,
                idempotency.claim(Request(event_id="event-2")),
            ):
                pytest.fail("two requests own one key")
            assert refusal.value.retry_after_s > 0
        assert observer.counts["conflict",] == 1

    def test_an_event_id_that_no_trusted_balancer_sent_does_not_wait(self, idempotency: Idempotency) -> None:
        with (
            idempotency.claim(Request()),
            pytest.raises(IdempotencyInProgress),
            idempotency.claim(Request()),
        ):
            pytest.fail("two requests own one key")

    def test_the_key_of_a_killed_owner_is_free_after_the_lease(self, make: Any, clock: Clock) -> None:
        dead = make()
        dead.claim(Request()).__enter__()
        dead.close()
        clock.advance(5.9)
        with pytest.raises(IdempotencyInProgress):
            answer(make(), Request())
        clock.advance(0.1)
        assert answer(make(), Request()) == "answered"

    def test_a_living_owner_keeps_its_claim_past_the_lease(
        self, idempotency: Idempotency, make: Any, clock: Clock
    ) -> None:
        with idempotency.claim(Request()) as claim:
            for _ in range(10):
                clock.advance(2)
                idempotency.leases.renew()
            with pytest.raises(IdempotencyInProgress):
                answer(make(), Request())
            claim.keep(Outcome())
        assert answer(make(), Request()) == "replayed"

    def test_young_claims_are_not_renewed(
        self, idempotency: Idempotency, store: FaultyStore, clock: Clock
    ) -> None:
        with idempotency.claim(Request()):
            clock.advance(1.9)
            round_trips = store.round_trips
            idempotency.leases.renew()
            assert store.round_trips == round_trips
            clock.advance(0.1)
            idempotency.leases.renew()
            assert store.round_trips == round_trips + 1

    def test_who_lost_the_claim_can_neither_overwrite_release_nor_renew_the_new_owners(
        self, make: Any, clock: Clock
    ) -> None:
        slow, quick = make(), make()
        with slow.claim(Request()) as late:
            clock.advance(6)
            with quick.claim(Request(event_id="event-2")) as claim:
                slow.leases.renew()
                late.keep(Outcome(body=b"late"))
                claim.keep(Outcome(body=b"quick"))
        with make().claim(Request()) as repeat:
            assert repeat.replay is not None
            assert repeat.replay.body == b"quick"

    def test_an_owner_whose_claim_ran_out_unnoticed_still_stores_its_answer(
        self, make: Any, clock: Clock
    ) -> None:
        with make().claim(Request()) as claim:
            clock.advance(6)
            claim.keep(Outcome())
        assert answer(make(), Request()) == "replayed"

    def test_a_key_that_expires_between_the_two_commands_is_claimed_anew(
        self, make: Any, store: FaultyStore, clock: Clock
    ) -> None:
        dead = make()
        dead.claim(Request()).__enter__()
        dead.close()

        class Vanishing(FaultyStore):
            def execute(self, commands: Sequence[Any]) -> list[Any]:
                replies = []
                for command in commands:
                    replies += store.execute([command])
                    clock.advance(5.9)  # past the lease between SET and GET
                return replies

        clock.advance(0.5)
        vanishing = Vanishing(clock)
        assert answer(make(store=vanishing), Request()) == "answered"


class TestBalancerRetry:
    @property
    def retry(self) -> Request:
        """Made when it is asked for: its deadline runs from there."""
        return Request(from_trusted_balancer=True)

    def test_it_waits_for_the_running_attempt_and_replays_its_answer(
        self, make: Any, store: FaultyStore
    ) -> None:
        first = make()
        running = first.claim(Request()).__enter__()
        looks = []

        def finish_at_the_third_look(_: Sequence[Any]) -> None:
            looks.append(1)
            if len(looks) == 3:
                store.before = lambda _: None
                running.keep(Outcome())

        store.before = finish_at_the_third_look
        assert answer(make(), self.retry) == "replayed"
        assert len(looks) == 3

    def test_it_takes_over_the_claim_of_a_dead_attempt_after_its_lease(self, make: Any, clock: Clock) -> None:
        dead = make()
        dead.claim(Request()).__enter__()
        dead.close()
        assert answer(make(), self.retry) == "answered"
        assert 6.0 <= clock() <= 6.1

    def test_it_waits_no_longer_than_its_deadline(self, make: Any, clock: Clock) -> None:
        retry = Request(from_trusted_balancer=True, deadline=Deadline.after(1.0, clock))
        with make().claim(Request()), pytest.raises(DeadlineExceeded):
            answer(make(), retry)
        assert clock() == pytest.approx(1.0)

    def test_it_does_not_wait_for_a_different_event(self, make: Any) -> None:
        with make().claim(Request()), pytest.raises(IdempotencyInProgress):
            answer(make(), Request(event_id="event-2", from_trusted_balancer=True))

    def test_it_answers_itself_once_the_running_attempt_gave_up(self, make: Any, store: FaultyStore) -> None:
        running = make().claim(Request())
        running.__enter__()

        def give_up(_: Sequence[Any]) -> None:
            store.before = lambda _: None
            running.__exit__(None, None, None)

        store.before = give_up
        assert answer(make(), self.retry) == "answered"


class TestDamage:
    @pytest.mark.parametrize("value", [b"x", b"FI1", b"{}", ClaimRecord(b"f", b"t", "e").encode()[:-1]])
    def test_a_damaged_value_counts_as_absent_and_is_replaced(
        self, idempotency: Idempotency, store: FaultyStore, observer: RecordingObserver, value: bytes
    ) -> None:
        MemoryStore.execute(store, [("SET", store_key("client-1", "/infer", "key-1"), value)])
        assert answer(idempotency, Request()) == "answered"
        assert answer(idempotency, Request()) == "replayed"
        assert observer.counts["error", "decode"] == 1

    @given(
        st.builds(
            ClaimRecord,
            st.binary(max_size=40),
            st.binary(max_size=20),
            st.text(st.characters(codec="utf-8"), max_size=60),
            st.integers(0, 599),
            st.binary(),
        )
    )
    def test_a_record_comes_back_exactly_as_it_went(self, record: ClaimRecord) -> None:
        assert ClaimRecord.decode(record.encode()) == record

    @given(st.data())
    def test_any_changed_byte_is_noticed(self, data: st.DataObject) -> None:
        value = bytearray(ClaimRecord(b"f" * 32, b"t" * 16, "event-1", 200, BODY).encode())
        value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
        assert ClaimRecord.decode(bytes(value)) is None

    @given(st.binary(max_size=80))
    def test_foreign_bytes_are_no_record(self, value: bytes) -> None:
        assert ClaimRecord.decode(value) is None


class TestOutage:
    def test_open_serves_says_so_and_counts_it(self, make: Any, observer: RecordingObserver) -> None:
        with make(store=AbsentStore(), on_outage="open").claim(Request()) as claim:
            assert claim.replay is None
            assert claim.status == "unavailable"
            claim.keep(Outcome())
        assert observer.counts == {("fallback", "redis", "idempotency_open"): 1}

    def test_closed_refuses(self, make: Any, observer: RecordingObserver) -> None:
        with (
            pytest.raises(IdempotencyUnavailable),
            make(store=AbsentStore(), on_outage="closed").claim(Request()),
        ):
            pytest.fail("served without protection")
        assert observer.counts == {("fallback", "redis", "idempotency_closed"): 1}

    def test_a_request_without_a_key_is_served_in_both_modes(self, make: Any) -> None:
        for mode in ("open", "closed"):
            with make(store=AbsentStore(), on_outage=mode).claim(Request(idempotency_key=None)) as claim:
                assert claim.status is None

    def test_a_store_that_refuses_the_claim_is_treated_as_away(self, make: Any, store: FaultyStore) -> None:
        def refuse(_: Sequence[Any]) -> None:
            raise DependencyRejected("out of memory")

        store.before = refuse
        with make(on_outage="open").claim(Request()) as claim:
            assert claim.status == "unavailable"
        with pytest.raises(IdempotencyUnavailable), make(on_outage="closed").claim(Request()):
            pytest.fail("served without protection")

    @pytest.mark.parametrize("mode", ["open", "closed"])
    def test_gone_when_the_answer_is_to_be_kept_it_is_stored_in_the_background(
        self, make: Any, store: FaultyStore, mode: str
    ) -> None:
        def fail(_: Sequence[Any]) -> None:
            raise ConnectionError

        def run() -> None:
            with make(on_outage=mode).claim(Request()) as claim:
                store.before = fail
                claim.keep(Outcome())
                assert claim.status == "unavailable"

        if mode == "open":
            run()
        else:
            with pytest.raises(IdempotencyUnavailable):
                run()
        store.before = lambda _: None
        assert answer(make(), Request()) == "replayed"

    def test_a_claim_that_failed_is_not_followed_by_another_wait(self, make: Any, store: FaultyStore) -> None:
        def fail(_: Sequence[Any]) -> None:
            raise ConnectionError

        store.before = fail
        request = Request()
        idempotency = make()
        with idempotency.claim(request) as claim:
            round_trips = store.round_trips
            claim.keep(Outcome())
        assert store.round_trips == round_trips
        assert not request.deadline.waits_for("redis")

    def test_a_claim_whose_reply_was_lost_is_recognised_as_its_own_by_the_retry(
        self, idempotency: Idempotency, store: FaultyStore
    ) -> None:
        def lose_the_reply(commands: Sequence[Any]) -> None:
            store.before = lambda _: None
            MemoryStore.execute(store, commands)
            raise ConnectionError

        store.before = lose_the_reply
        with idempotency.claim(Request()) as claim:
            assert claim.status is None
            store.before = lose_the_reply
            claim.keep(Outcome())
            assert claim.status is None
        assert answer(idempotency, Request()) == "replayed"

    def test_a_failed_renewal_is_tried_again(
        self, idempotency: Idempotency, store: FaultyStore, clock: Clock, make: Any
    ) -> None:
        def fail(_: Sequence[Any]) -> None:
            raise ConnectionError

        with idempotency.claim(Request()):
            clock.advance(3)
            store.before = fail
            idempotency.leases.renew()
            store.before = lambda _: None
            clock.advance(1)
            idempotency.leases.renew()
            clock.advance(5)
            with pytest.raises(IdempotencyInProgress):
                answer(make(), Request())
