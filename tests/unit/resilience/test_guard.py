from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Group

from falcon_wsgi.errors import DependencyRejected, DependencyUnavailable
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard
from falcon_wsgi.resilience.retry import RetryBudget, RetryPolicy


class Away(Exception):
    """What the driver raises."""


class RecordingObserver:
    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def success(self, dependency: str) -> None:
        self.events.append(("success", dependency))

    def failure(self, dependency: str) -> None:
        self.events.append(("failure", dependency))

    def transition(self, dependency: str, to: str) -> None:
        self.events.append(("transition", dependency, to))

    def retry(self, dependency: str, operation: str) -> None:
        self.events.append(("retry", dependency, operation))

    def count(self, *event: str) -> int:
        return Counter(self.events)[event]


class Backend:
    """Fails as often as told, and counts what reaches it."""

    def __init__(self, failures: float = 0, takes: Callable[[], None] = lambda: None) -> None:
        self.failures = failures
        self.calls = 0
        self._takes = takes

    def __call__(self) -> str:
        self.calls += 1
        self._takes()
        if self.calls <= self.failures:
            raise Away("redis://user:secret@host")
        return "reply"


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def guard(clock: Any, observer: RecordingObserver) -> Guard:
    return make_guard(clock, observer)


def make_guard(clock: Any, observer: Any = None, **changes: Any) -> Guard:
    settings: dict[str, Any] = {
        "failure_threshold": 5,
        "reset_timeout_s": 60.0,
        "half_open_attempts": 3,
        "clock": clock,
        "sleep": clock.advance,
        "observer": observer,
    }
    return Guard("redis", (Away,), **settings | changes)


def break_circuit(guard: Guard, failures: int = 5) -> None:
    for _ in range(failures):
        with pytest.raises(DependencyUnavailable):
            guard.call("get", Backend(failures=1), retry=False)


def test_a_healthy_call_returns_its_result_and_counts_as_success(
    guard: Guard, observer: RecordingObserver
) -> None:
    assert guard.call("get", Backend()) == "reply"
    assert observer.events == [("success", "redis")]


def test_failures_in_a_row_open_the_circuit_and_then_nothing_reaches_the_dependency(
    guard: Guard, observer: RecordingObserver
) -> None:
    break_circuit(guard, failures=4)
    assert guard.state == "closed"
    break_circuit(guard, failures=1)
    assert guard.state == "open"
    assert not guard.available
    backend = Backend()
    with pytest.raises(DependencyUnavailable):
        guard.call("get", backend)
    assert backend.calls == 0
    assert observer.count("failure", "redis") == 5
    assert observer.count("transition", "redis", "open") == 1


def test_a_success_between_failures_keeps_the_circuit_closed(guard: Guard) -> None:
    for _ in range(3):
        break_circuit(guard, failures=4)
        guard.call("get", Backend())
    assert guard.state == "closed"


def test_the_error_names_the_dependency_and_keeps_the_drivers_text_to_the_cause(guard: Guard) -> None:
    with pytest.raises(DependencyUnavailable) as raised:
        guard.call("get", Backend(failures=1), retry=False)
    assert str(raised.value) == "redis is unavailable: Away"
    assert isinstance(raised.value.__cause__, Away)


def test_the_call_that_trips_the_circuit_still_fails_with_the_drivers_error_as_cause(guard: Guard) -> None:
    break_circuit(guard, failures=4)
    with pytest.raises(DependencyUnavailable) as raised:
        guard.call("get", Backend(failures=1), retry=False)
    assert isinstance(raised.value.__cause__, Away)


def test_guarded_calls_of_many_greenlets_are_inside_the_dependency_at_the_same_time(guard: Guard) -> None:
    release, inside = Event(), []

    def slow() -> None:
        inside.append(1)
        release.wait()

    greenlets = [gevent.spawn(guard.call, "get", slow) for _ in range(20)]
    gevent.idle()
    assert len(inside) == 20
    release.set()
    gevent.joinall(greenlets, raise_error=True)


class TestRetries:
    def test_a_transient_failure_is_retried_and_each_attempt_is_counted(
        self, guard: Guard, observer: RecordingObserver
    ) -> None:
        backend = Backend(failures=2)
        assert guard.call("get", backend) == "reply"
        assert backend.calls == 3
        assert observer.count("failure", "redis") == 2
        assert observer.count("success", "redis") == 1
        assert observer.count("retry", "redis", "get") == 2

    def test_attempts_end_at_their_maximum(self, clock: Any) -> None:
        backend = Backend(failures=99)
        guard = make_guard(clock, policy=RetryPolicy(max_attempts=4, base_delay_s=0.001))
        with pytest.raises(DependencyUnavailable):
            guard.call("get", backend)
        assert backend.calls == 4

    def test_no_retry_where_the_caller_wants_none(self, guard: Guard) -> None:
        backend = Backend(failures=1)
        with pytest.raises(DependencyUnavailable):
            guard.call("get", backend, retry=False)
        assert backend.calls == 1

    def test_an_attempt_that_used_up_its_timeout_is_not_retried(self, clock: Any) -> None:
        backend = Backend(failures=99, takes=lambda: clock.advance(0.2))
        with pytest.raises(DependencyUnavailable):
            make_guard(clock).call("get", backend)
        assert backend.calls == 1

    def test_waits_and_attempts_together_stay_within_the_time_budget(self, clock: Any) -> None:
        policy = RetryPolicy(max_attempts=10, base_delay_s=0.1, time_budget_s=1.0, attempt_timeout_s=0.2)
        for _ in range(200):
            started_s = clock()
            guard = make_guard(clock, policy=policy, failure_threshold=99, budget=RetryBudget(capacity=99))
            with pytest.raises(DependencyUnavailable):
                guard.call("get", Backend(failures=99, takes=lambda: clock.advance(0.2)))
            assert clock() - started_s <= 1.0 + 1e-9

    def test_a_retry_ends_as_soon_as_the_circuit_is_open(self, clock: Any) -> None:
        guard = make_guard(clock, failure_threshold=2)
        backend = Backend(failures=99)
        with pytest.raises(DependencyUnavailable):
            guard.call("get", backend)
        assert backend.calls == 2
        assert guard.state == "open"

    def test_a_circuit_that_others_open_during_the_wait_ends_the_retry(
        self, clock: Any, observer: RecordingObserver
    ) -> None:
        def others_fail(_: float) -> None:
            break_circuit(guard, failures=4)

        guard = make_guard(clock, observer, sleep=others_fail)
        backend = Backend(failures=99)
        with pytest.raises(DependencyUnavailable):
            guard.call("get", backend)
        assert backend.calls == 1
        assert observer.count("retry", "redis", "get") == 0

    def test_trial_calls_are_never_retried(self, guard: Guard, clock: Any) -> None:
        break_circuit(guard)
        clock.advance(60)
        backend = Backend(failures=1)
        with pytest.raises(DependencyUnavailable):
            guard.call("get", backend)
        assert backend.calls == 1
        assert guard.state == "open"

    @pytest.mark.parametrize("threshold", [5, 10_000], ids=["breaker opens", "breaker never opens"])
    def test_over_an_outage_of_1000_calls_retries_are_at_most_a_tenth(
        self, clock: Any, observer: RecordingObserver, threshold: int
    ) -> None:
        guard = make_guard(clock, observer, failure_threshold=threshold)
        for _ in range(1000):
            guard.call("get", Backend())  # a good past must not pay for a storm
        for _ in range(1000):
            with pytest.raises(DependencyUnavailable):
                guard.call("get", Backend(failures=99))
        assert 1 <= observer.count("retry", "redis", "get") <= 100


class TestHalfOpen:
    @pytest.fixture(autouse=True)
    def _due(self, guard: Guard, clock: Any) -> None:
        break_circuit(guard)
        clock.advance(59.9)
        assert not guard.available
        assert guard.reset_due_in_s() == pytest.approx(0.1)
        clock.advance(0.1)
        assert guard.available

    def test_of_50_racing_callers_exactly_as_many_are_admitted_as_configured(self, guard: Guard) -> None:
        release, inside, refused = Event(), [], []

        def trial() -> None:
            inside.append(1)
            release.wait()

        def caller() -> None:
            try:
                guard.call("get", trial)
            except DependencyUnavailable:
                refused.append(1)

        group = Group()
        for _ in range(50):
            group.spawn(caller)
        gevent.idle()
        assert (len(inside), len(refused)) == (3, 47)
        assert guard.state == "half_open"
        assert not guard.available
        release.set()
        group.join()
        assert guard.state == "closed"

    def test_that_many_successes_close_it(self, guard: Guard, observer: RecordingObserver) -> None:
        for _ in range(2):
            guard.call("get", Backend())
            assert guard.state == "half_open"
        guard.call("get", Backend())
        assert guard.state == "closed"
        assert [event[2] for event in observer.events if event[0] == "transition"] == [
            "open",
            "half_open",
            "closed",
        ]

    def test_one_failure_opens_it_again_for_the_whole_timeout(self, guard: Guard, clock: Any) -> None:
        guard.call("get", Backend())
        guard.call("get", Backend())
        break_circuit(guard, failures=1)
        assert guard.state == "open"
        clock.advance(59.9)
        assert not guard.available
        clock.advance(0.1)
        for _ in range(2):  # earlier successes do not count
            guard.call("get", Backend())
        assert guard.state == "half_open"

    @pytest.mark.parametrize("error", [gevent.Timeout(1), gevent.GreenletExit(), KeyboardInterrupt()])
    def test_a_killed_trial_gives_back_its_place_and_proves_nothing(
        self, guard: Guard, error: BaseException
    ) -> None:
        def killed() -> None:
            raise error

        for _ in range(10):
            with pytest.raises(type(error)):
                guard.call("get", killed)
            assert guard.state == "half_open"
        for _ in range(3):
            guard.call("get", Backend())
        assert guard.state == "closed"

    def test_a_success_from_before_the_outage_does_not_close_it(self, clock: Any) -> None:
        guard = make_guard(clock, half_open_attempts=1)
        release = Event()
        old = gevent.spawn(guard.call, "get", release.wait)
        gevent.idle()
        break_circuit(guard)
        clock.advance(60)
        trial = gevent.spawn(guard.call, "get", Event().wait)
        gevent.idle()
        release.set()
        old.get()
        assert guard.state == "half_open"
        trial.kill()

    def test_a_failure_from_before_the_outage_does_not_open_it_again(self, clock: Any) -> None:
        guard = make_guard(clock)
        release = Event()
        late = Backend(failures=1, takes=release.wait)
        old = gevent.spawn(pytest.raises, DependencyUnavailable, guard.call, "get", late, retry=False)
        gevent.idle()
        break_circuit(guard)
        clock.advance(60)
        guard.call("get", Backend())
        release.set()
        old.get()
        assert guard.state == "half_open"


class TestWhatCounts:
    @pytest.mark.parametrize("error", [gevent.Timeout(1), gevent.GreenletExit(), KeyboardInterrupt()])
    def test_the_callers_own_end_is_no_failure_of_the_dependency(
        self, guard: Guard, observer: RecordingObserver, error: BaseException
    ) -> None:
        def killed() -> None:
            raise error

        for _ in range(10):
            with pytest.raises(type(error)):
                guard.call("get", killed)
        assert guard.state == "closed"
        assert observer.events == []

    def test_a_timeout_that_the_driver_raises_as_its_own_is_a_failure(self, guard: Guard) -> None:
        def slow() -> None:
            try:
                raise gevent.Timeout(0.2)
            except gevent.Timeout as timeout:
                raise Away("no answer in time") from timeout

        for _ in range(5):
            with pytest.raises(DependencyUnavailable):
                guard.call("get", slow, retry=False)
        assert guard.state == "open"

    def test_a_refusal_passes_through_and_counts_as_a_success_of_the_dependency(
        self, guard: Guard, observer: RecordingObserver
    ) -> None:
        def refuse() -> None:
            raise DependencyRejected("wrong type")

        break_circuit(guard, failures=4)
        with pytest.raises(DependencyRejected):
            guard.call("get", refuse)
        break_circuit(guard, failures=4)
        assert guard.state == "closed"
        assert observer.count("success", "redis") == 1

    def test_a_bug_passes_through_counts_nowhere_and_is_not_retried(
        self, guard: Guard, observer: RecordingObserver
    ) -> None:
        calls = []

        def broken() -> None:
            calls.append(1)
            raise TypeError("a bug")

        for _ in range(10):
            with pytest.raises(TypeError):
                guard.call("get", broken)
        assert len(calls) == 10
        assert observer.events == []

    def test_an_observer_that_raises_reaches_no_caller_and_changes_no_state(
        self, clock: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken:
            def __getattr__(self, name: str) -> Any:
                def event(*_: str) -> None:
                    raise RuntimeError(name)

                return event

        guard = make_guard(clock, Broken())
        assert guard.call("get", Backend(failures=1)) == "reply"
        break_circuit(guard)
        assert guard.state == "open"
        clock.advance(60)
        for _ in range(3):
            assert guard.call("get", Backend()) == "reply"
        assert guard.state == "closed"
        assert "guard_observer_failed" in caplog.messages


class TestDeadline:
    def test_a_request_whose_operation_failed_is_refused_without_a_second_wait(
        self, guard: Guard, clock: Any
    ) -> None:
        deadline, second = Deadline.after(30, clock), Backend()
        with pytest.raises(DependencyUnavailable):
            guard.call("claim", Backend(failures=99), deadline=deadline)
        with pytest.raises(DependencyUnavailable):
            guard.call("get", second, deadline=deadline)
        assert second.calls == 0

    def test_other_requests_still_try(self, guard: Guard, clock: Any) -> None:
        with pytest.raises(DependencyUnavailable):
            guard.call("claim", Backend(failures=99), deadline=Deadline.after(30, clock))
        assert guard.call("get", Backend(), deadline=Deadline.after(30, clock)) == "reply"

    def test_a_retry_that_succeeds_is_not_held_against_the_dependency(self, guard: Guard, clock: Any) -> None:
        deadline = Deadline.after(30, clock)
        guard.call("claim", Backend(failures=1), deadline=deadline)
        assert guard.call("get", Backend(), deadline=deadline) == "reply"


class TestProbe:
    def test_probes_open_and_close_the_circuit_without_any_call(self, guard: Guard, clock: Any) -> None:
        ping = Backend(failures=5)
        assert [guard.probe(ping) for _ in range(5)] == [False] * 5
        assert guard.state == "open"
        assert not guard.probe(ping)
        assert ping.calls == 5, "an open circuit was probed before its time"
        clock.advance(60)
        assert [guard.probe(ping) for _ in range(3)] == [True] * 3
        assert guard.state == "closed"

    def test_a_refused_ping_shows_that_the_dependency_answers(self, guard: Guard) -> None:
        def refuse() -> None:
            raise DependencyRejected("no permission")

        assert guard.probe(refuse)

    def test_requests_leave_the_trial_calls_to_a_monitor_until_it_is_overdue(
        self, guard: Guard, clock: Any
    ) -> None:
        guard.leave_trials_to_monitor(grace_s=3.0)
        break_circuit(guard)
        clock.advance(62.9)
        assert not guard.available
        with pytest.raises(DependencyUnavailable):
            guard.call("get", Backend())
        assert guard.probe(Backend())
        assert not guard.available, "a request took a trial call from the monitor"
        clock.advance(0.1)
        assert guard.call("get", Backend()) == "reply"


def test_the_log_says_why_a_circuit_opened(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    break_circuit(guard)
    (record,) = [record for record in caplog.records if record.message == "circuit_transition"]
    assert record.__dict__["to"] == "open"
    assert record.__dict__["error"].startswith("Away: ")
