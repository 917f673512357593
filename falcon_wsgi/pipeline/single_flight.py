"""Equal work that is asked for at the same time is done once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from gevent.event import Event

from falcon_wsgi.resilience.deadline import Deadline

V = TypeVar("V")


class _Flight(Generic[V]):
    """One leader's work under way. Most have no followers, so the event is made for the first."""

    __slots__ = ("ended", "values", "waiters")

    def __init__(self) -> None:
        self.ended = False
        self.values: Mapping[str, V] = {}
        self.waiters: Event | None = None


class SingleFlight(Generic[V]):
    """Among the greenlets of a worker, the first to ask for a key computes it and the others wait for its
    value.

    A failure is never shared: it may be the leader's own, such as its deadline. The followers try again,
    and one of them leads. Values are shared as they are and must not be None.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[V]] = {}

    def resolve(
        self, keys: Iterable[str], compute: Callable[[list[str]], Mapping[str, V]], deadline: Deadline
    ) -> Mapping[str, V]:
        """A value for each distinct key.

        `compute` gets those keys that nobody computes yet, and returns a value for each of them. It is called
        again for what other leaders failed to deliver. Own keys are finished before others are waited for, so
        that batches which overlap in any order cannot wait for each other in a circle.

        Raises:
            DeadlineExceeded: the wait for another greenlet's value took too long.
        """
        missing = dict.fromkeys(keys)
        if self._flights.keys().isdisjoint(missing):  # nearly always
            return self._lead(list(missing), compute)
        values: dict[str, V] = {}
        while missing:
            followed = {key: flight for key in missing if (flight := self._flights.get(key)) is not None}
            led = [key for key in missing if key not in followed]
            if led:
                values.update(self._lead(led, compute))
            for key, flight in followed.items():
                value = self._follow(key, flight, deadline)
                if value is not None:
                    values[key] = value
            missing = {key: None for key in missing if key not in values}
        return values

    def _lead(self, keys: list[str], compute: Callable[[list[str]], Mapping[str, V]]) -> Mapping[str, V]:
        flight: _Flight[V] = _Flight()
        self._flights.update(dict.fromkeys(keys, flight))
        try:
            flight.values = compute(keys)
        finally:
            for key in keys:
                del self._flights[key]
            flight.ended = True
            if flight.waiters is not None:
                flight.waiters.set()
        return flight.values

    @staticmethod
    def _follow(key: str, flight: _Flight[V], deadline: Deadline) -> V | None:
        """The leader's value, or None if it failed."""
        if not flight.ended:
            flight.waiters = flight.waiters or Event()
            if not flight.waiters.wait(deadline.remaining_s()):
                deadline.check()
        return flight.values.get(key)
