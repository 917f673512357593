"""pybreaker's circuit breaker, made fit for greenlets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import pybreaker

from falcon_wsgi.resilience.deadline import Clock

T = TypeVar("T")


class CircuitOpen(pybreaker.CircuitBreakerError):
    """The call was refused without being made."""


class Breaker(pybreaker.CircuitBreaker):
    """A circuit breaker whose guarded calls run at the same time.

    pybreaker holds its lock while the guarded function runs, which would let one greenlet of a worker through
    at a time. Here the lock is held to admit a call and to record its result, never in between. On top of
    that:

    - Half-open admits `half_open_attempts` trial calls. As many successes close the circuit, one failure
      opens it. Successes count towards the limit, so no more are made however the callers race.
    - A result counts only in the state that admitted its call: one that was under way when the circuit opened
      can neither close it later nor open it again.
    - Only `failures` speak against the dependency and only a result or one of `refusals` for it. Everything
      else, such as a gevent.Timeout of the caller, GreenletExit or a bug, is the caller's own and changes
      nothing.

    Time is read from `clock` alone. Listeners run under the lock and must neither block nor raise. They are not
    told of successes: a call to each, on every healthy call, cost as much as the breaker itself. `on_success` is,
    outside of the lock.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: tuple[type[Exception], ...],
        refusals: tuple[type[Exception], ...] = (),
        failure_threshold: int = 5,
        reset_timeout_s: float = 60.0,
        half_open_attempts: int = 3,
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
        on_success: Callable[[], None] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(
            fail_max=failure_threshold,
            reset_timeout=reset_timeout_s,
            success_threshold=half_open_attempts,
            listeners=listeners,
            name=name,
            throw_new_error_on_trip=False,
        )
        self._failures = failures
        self._refusals = refusals
        self._clock = clock
        self._on_success = on_success
        self._closed = True
        self._untroubled = True  # closed, and the last result was no failure
        self._opened_at_s = 0.0
        self._trials = 0
        self._epoch = 0
        self.caller_grace_s = 0.0
        """Seconds after the reset timeout in which trial calls are left to `call_as_probe`."""

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def admits(self) -> bool:
        """Whether `call` would make a call at this moment."""
        return self._closed or self._admits_trial(self.caller_grace_s)

    def reset_due_in_s(self) -> float:
        """Seconds until the circuit may be tried; 0 unless it is open."""
        if self.current_state != pybreaker.STATE_OPEN:
            return 0.0
        return max(0.0, self._opened_at_s + self.reset_timeout - self._clock())

    def call(self, func: Callable[[], T]) -> T:
        """Call `func`. Raises CircuitOpen without calling it, or whatever it raises."""
        epoch = self._epoch if self._closed else self._admit_trial(self.caller_grace_s)
        return self._run(epoch, func)

    def call_as_probe(self, func: Callable[[], T]) -> T:
        """`call`, entitled to the first trial calls. For a monitor, whose waiting delays no request."""
        epoch = self._epoch if self._closed else self._admit_trial(0.0)
        return self._run(epoch, func)

    def open(self) -> bool:
        with self._lock:
            self._closed = self._untroubled = False
            self._opened_at_s = self._clock()
            self._begin_epoch()
            return super().open()

    def half_open(self) -> None:
        with self._lock:
            self._closed = self._untroubled = False
            self._begin_epoch()
            super().half_open()

    def close(self) -> None:
        with self._lock:
            self._begin_epoch()
            super().close()
            self._closed = self._untroubled = True

    def _begin_epoch(self) -> None:
        self._epoch += 1
        self._trials = 0

    def _admits_trial(self, grace_s: float) -> bool:
        if self._clock() < self._opened_at_s + self.reset_timeout + grace_s:
            return False
        if self.current_state == pybreaker.STATE_OPEN:
            return True
        return self._trials + self.success_counter < self.success_threshold

    def _admit_trial(self, grace_s: float) -> int:
        """The epoch of the admitted call."""
        with self._lock:
            if self._closed:  # closed by another greenlet while this one waited for the lock
                return self._epoch
            if not self._admits_trial(grace_s):
                raise CircuitOpen("its circuit is open")
            if self.current_state == pybreaker.STATE_OPEN:
                self.half_open()
            self._trials += 1
            return self._epoch

    def _run(self, epoch: int, func: Callable[[], T]) -> T:
        try:
            result = func()
        except self._failures as error:
            self._record_failure(epoch, error)
            raise
        except self._refusals:
            self._record_success(epoch)
            raise
        except BaseException:
            self._record_nothing(epoch)
            raise
        self._record_success(epoch)
        return result

    def _record_success(self, epoch: int) -> None:
        if not self._untroubled:  # else there is nothing to change and thus nothing to lock
            with self._lock:
                if epoch == self._epoch:
                    self._trials = max(0, self._trials - 1)
                    self._state_storage.reset_counter()
                    self._untroubled = self._closed
                    self.state.on_success()
        self._on_success()

    def _record_failure(self, epoch: int, error: Exception) -> None:
        with self._lock:
            for listener in self._listeners:
                listener.failure(self, error)
            if epoch != self._epoch:
                return
            self._untroubled = False
            self._inc_counter()
            if not self._closed or self.fail_counter >= self.fail_max:
                self.open()

    def _record_nothing(self, epoch: int) -> None:
        if not self._closed:
            with self._lock:
                if epoch == self._epoch:
                    self._trials = max(0, self._trials - 1)
