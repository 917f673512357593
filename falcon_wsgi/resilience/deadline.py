"""The limits of one request: until when it runs, and for whom it still waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from falcon_wsgi.errors import DeadlineExceeded

Clock = Callable[[], float]
"""Seconds since any fixed moment; never goes back."""


class Deadline:
    """A moment on the monotonic clock, shared by everything that is done for one request.

    It also remembers the dependencies that failed this request: whoever asks one of them again on its
    behalf is refused without waiting, so that several operations on a hung dependency cost the request one
    timeout.
    """

    __slots__ = ("_at_s", "_clock", "_given_up")

    def __init__(self, at_s: float, clock: Clock = time.monotonic) -> None:
        self._at_s = at_s
        self._clock = clock
        self._given_up: frozenset[str] = frozenset()

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Deadline:
        return cls(clock() + seconds, clock)

    def remaining_s(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self._at_s - self._clock())

    @property
    def expired(self) -> bool:
        return self._clock() >= self._at_s

    def check(self) -> None:
        """Raises DeadlineExceeded once the moment has passed."""
        if self.expired:
            raise DeadlineExceeded("the time allowed for this request has passed")

    def give_up_on(self, dependency: str) -> None:
        """This request does not wait for `dependency` again."""
        self._given_up |= {dependency}

    def waits_for(self, dependency: str) -> bool:
        return dependency not in self._given_up
