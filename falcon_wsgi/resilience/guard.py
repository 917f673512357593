"""One guard for each dependency: retries with a budget around a circuit breaker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import pybreaker

from falcon_wsgi.errors import DependencyRejected, DependencyUnavailable
from falcon_wsgi.resilience.breaker import Breaker, CircuitOpen
from falcon_wsgi.resilience.deadline import Clock, Deadline
from falcon_wsgi.resilience.retry import RetryBudget, RetryPolicy

T = TypeVar("T")
State = Literal["closed", "open", "half_open"]

_log = logging.getLogger(__name__)
_STATES: dict[str, State] = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half_open",
}


class GuardObserver(Protocol):
    """Told of every attempt. Must not block; what it raises is logged and goes no further."""

    def success(self, dependency: str) -> None: ...

    def failure(self, dependency: str) -> None: ...

    def transition(self, dependency: str, to: State) -> None: ...

    def retry(self, dependency: str, operation: str) -> None: ...


class NullGuardObserver:
    """Ignores everything."""

    def success(self, dependency: str) -> None:
        pass

    def failure(self, dependency: str) -> None:
        pass

    def transition(self, dependency: str, to: State) -> None:
        pass

    def retry(self, dependency: str, operation: str) -> None:
        pass


class Guard:
    """Everything that is asked of one dependency goes through its guard.

    Args:
        name: of the dependency, as in metrics: "redis", "postgres".
        transient: exceptions that mean that the dependency is away. Each counts as a failure, and only they
            are retried. A driver's own timeout belongs here, as an exception of its own; a gevent.Timeout
            always counts as the caller's.
        policy, budget: limit the retries.
        failure_threshold: failures in a row that open the circuit.
        reset_timeout_s: how long it stays open before it is tried.
        half_open_attempts: trial calls at a time while half-open, and successes that close it.
        sleep: must let other greenlets run, as time.sleep does once gevent has patched it.
    """

    def __init__(
        self,
        name: str,
        transient: tuple[type[Exception], ...],
        *,
        policy: RetryPolicy | None = None,
        budget: RetryBudget | None = None,
        failure_threshold: int = 5,
        reset_timeout_s: float = 60.0,
        half_open_attempts: int = 3,
        observer: GuardObserver | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._transient = transient
        self._policy = policy or RetryPolicy()
        self._budget = budget or RetryBudget()
        self._observer = _Contained(name, observer or NullGuardObserver())
        self._clock = clock
        self._sleep = sleep
        self._breaker = Breaker(
            name,
            failures=transient,
            refusals=(DependencyRejected,),
            failure_threshold=failure_threshold,
            reset_timeout_s=reset_timeout_s,
            half_open_attempts=half_open_attempts,
            listeners=[_Relay(name, self._observer)],
            on_success=self._observer.success,
            clock=clock,
        )

    @property
    def state(self) -> State:
        return _STATES[self._breaker.current_state]

    @property
    def available(self) -> bool:
        """Whether a call would be made now, rather than refused."""
        return self._breaker.admits

    @property
    def healthy(self) -> bool:
        """Whether the circuit is closed."""
        return self._breaker.is_closed

    def reset_due_in_s(self) -> float:
        """Seconds until the open circuit may be tried; 0 in any other state."""
        return self._breaker.reset_due_in_s()

    def call(
        self,
        operation: str,
        fn: Callable[[], T],
        *,
        retry: bool = True,
        deadline: Deadline | None = None,
    ) -> T:
        """What `fn` returns. `operation` names it in metrics. With `retry`, `fn` may run several times.

        With `deadline`, the call fails at once if this dependency has already failed the same request, and a
        failure is remembered there.

        Raises:
            DependencyUnavailable: the circuit is open, or the attempts failed; then the driver's error is the
                cause.
            DependencyRejected: from `fn`, passed on; counts as a success of the dependency.
        """
        if deadline is not None and not deadline.waits_for(self.name):
            raise DependencyUnavailable(self.name, "it has already failed this request")
        started_s = self._clock()
        try:
            result = self._breaker.call(fn)
        except self._transient as error:
            if retry and self._breaker.is_closed:
                return self._retry(operation, fn, error, started_s, deadline)
            raise self._unavailable(error, deadline) from error
        except CircuitOpen as refusal:
            raise DependencyUnavailable(self.name, str(refusal)) from None
        self._budget.earn()
        return result

    def probe(self, fn: Callable[[], Any]) -> bool:
        """One attempt for a monitor: whether the dependency is well.

        Before an open circuit is due to be tried there is no attempt, and the answer is no.
        """
        try:
            self._breaker.call_as_probe(fn)
        except CircuitOpen:
            return False
        except self._transient:
            return False
        except DependencyRejected:
            return True
        return True

    def leave_trials_to_monitor(self, grace_s: float) -> None:
        """Let requests be trial calls only when no probe came within `grace_s` of the reset timeout.

        A trial call on a dependency that still hangs takes a whole timeout, which no request should pay.
        """
        self._breaker.caller_grace_s = grace_s

    def _retry(
        self,
        operation: str,
        fn: Callable[[], T],
        error: Exception,
        started_s: float,
        deadline: Deadline | None,
    ) -> T:
        for drawn_s in self._policy.waits():
            wait_s = self._policy.fitting(drawn_s, self._clock() - started_s)
            if wait_s is None or not self._budget.spend():
                break
            self._sleep(wait_s)
            if not self._breaker.is_closed:  # opened by others meanwhile; trial calls are never retries
                break
            self._observer.retry(operation)
            try:
                return self._breaker.call(fn)
            except self._transient as repeated:
                error = repeated
            except CircuitOpen:
                break
            if not self._breaker.is_closed:
                break
        raise self._unavailable(error, deadline) from error

    def _unavailable(self, error: Exception, deadline: Deadline | None) -> DependencyUnavailable:
        # The driver's text may name hosts and users, so only its type goes into a message that clients may
        # see.
        if deadline is not None:
            deadline.give_up_on(self.name)
        return DependencyUnavailable(self.name, type(error).__name__)


class _Contained:
    """Keeps an observer's exceptions from the caller of the guard."""

    def __init__(self, dependency: str, observer: GuardObserver) -> None:
        self._dependency = dependency
        self._observer = observer

    def success(self) -> None:
        # Written out, because it runs on every call of a healthy dependency.
        try:
            self._observer.success(self._dependency)
        except Exception:  # noqa: BLE001 - as in `_tell`
            _log.exception("guard_observer_failed")

    def failure(self) -> None:
        self._tell(self._observer.failure)

    def transition(self, to: State) -> None:
        self._tell(self._observer.transition, to)

    def retry(self, operation: str) -> None:
        self._tell(self._observer.retry, operation)

    def _tell(self, event: Callable[..., None], *arguments: str) -> None:
        try:
            event(self._dependency, *arguments)
        except Exception:  # noqa: BLE001 - whatever an observer does wrong, the guarded call must go on
            _log.exception("guard_observer_failed")


class _Relay(pybreaker.CircuitBreakerListener):
    """Translates pybreaker's events, and logs the transitions, with the error that opened the circuit."""

    def __init__(self, name: str, observer: _Contained) -> None:
        self._name = name
        self._observer = observer
        self._last_error = ""

    def failure(self, cb: pybreaker.CircuitBreaker, exc: BaseException) -> None:
        self._last_error = f"{type(exc).__name__}: {exc}"
        self._observer.failure()

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        to = _STATES[new_state.name]
        fields = {"dependency": self._name, "to": to}
        if to == "open":
            _log.warning("circuit_transition", extra=fields | {"error": self._last_error})
        else:
            _log.info("circuit_transition", extra=fields)
        self._observer.transition(to)
