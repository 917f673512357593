"""Accepting connections while a worker is busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

# While connections wait, this many are taken this often: few, because other workers want some too. An attempt in vain
# costs some 5 us.
_AT_ONCE, _EVERY_S, _EVERY_S_IN_VAIN = 4, 0.001, 0.005


class Listener(Protocol):
    """What is used of gevent's StreamServer."""

    def do_read(self) -> tuple[Any, ...] | None: ...

    def do_handle(self, *args: Any) -> None: ...


class Accepting:
    """Takes new connections between two requests, a few now and then.

    The event loop accepts one in each of its turns, so that a burst is shared among the workers. A turn also answers
    a request of every connection that has one, though: with a hundred of them it takes tens of milliseconds, and of
    256 clients that come together more than half are still in the queue after a second. With this none is.

    Args:
        free: how many more connections may be served.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        free: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listeners = listeners
        self._free = free
        self._clock = clock
        self._next_at = 0.0

    def between_requests(self) -> None:
        now = self._clock()
        if now < self._next_at:
            return
        taken = sum(self._accept(listener) for listener in self._listeners)
        self._next_at = now + (_EVERY_S if taken else _EVERY_S_IN_VAIN)

    def _accept(self, listener: Listener) -> int:
        """How many connections were taken from its queue."""
        for taken in range(_AT_ONCE):
            if not self._free():
                return taken
            try:
                accepted = listener.do_read()
            except OSError:
                return taken  # no descriptors, say: the loop's own attempt meets it too, reports it and backs off
            if accepted is None:
                return taken
            listener.do_handle(*accepted)
        return _AT_ONCE
