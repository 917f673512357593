"""How many requests a worker takes on at a time."""

from __future__ import annotations

from falcon_wsgi.errors import Overloaded


class Admission:
    """Counts the requests in flight in this worker and refuses those above the limit, at once.

    `with admission:` encloses a request; entering raises Overloaded. Nothing queues here: waiting would use
    up the deadline of a request that another worker could serve. `limit` may be changed at any time, for
    instance by a controller that watches latency; requests that already run stay.

    No lock: greenlets of one thread switch nowhere in here.
    """

    __slots__ = ("_retry_after_s", "in_flight", "limit")

    def __init__(self, limit: int, retry_after_s: float = 1.0) -> None:
        self.limit = limit
        self.in_flight = 0
        self._retry_after_s = retry_after_s

    def __enter__(self) -> Admission:
        if self.in_flight >= self.limit:
            raise Overloaded("too many requests are being answered", self._retry_after_s)
        self.in_flight += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
