"""Equal work that is asked for at the same time is done once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from gevent.event import Event

from falcon_wsgi.resilience.deadline import Deadline

V = TypeVar("V")


class _Flight(Generic[V]):
    """Work under way for one key. Most have no followers, so the event is made for the first."""

    __slots__ = ("done", "ended", "value")

    def __init__(self) -> None:
        self.done = False
        self.ended: Event | None = None
        self.value: V | None = None


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
    ) -> dict[str, V]:
        """A value for each distinct key.

        `compute` gets those keys that nobody computes yet, and returns a value for each of them. It is called
        again for what other leaders failed to deliver. Own keys are finished before others are waited for, so
        that batches which overlap in any order cannot wait for each other in a circle.

        Raises:
            DeadlineExceeded: the wait for another greenlet's value took too long.
        """
        values: dict[str, V] = {}
        missing = dict.fromkeys(keys)
        while missing:
            followed = {key: flight for key in missing if (flight := self._flights.get(key)) is not None}
            led = [key for key in missing if key not in followed]
            if led:
                values.update(self._lead(led, compute))
            for key, flight in followed.items():
                value = self._follow(flight, deadline)
                if value is not None:
                    values[key] = value
            missing = {key: None for key in missing if key not in values}
        return values

    def _lead(self, keys: list[str], compute: Callable[[list[str]], Mapping[str, V]]) -> dict[str, V]:
        flights: dict[str, _Flight[V]] = {key: _Flight() for key in keys}
        self._flights.update(flights)
        try:
            computed = compute(keys)
            for key, flight in flights.items():
                flight.value = computed[key]
        finally:
            for key, flight in flights.items():
                del self._flights[key]
                flight.done = True
                if flight.ended is not None:
                    flight.ended.set()
        return {key: computed[key] for key in keys}

    @staticmethod
    def _follow(flight: _Flight[V], deadline: Deadline) -> V | None:
        """The leader's value, or None if it failed."""
        if not flight.done:
            flight.ended = flight.ended or Event()
            if not flight.ended.wait(deadline.remaining_s()):
                deadline.check()
        return flight.value
