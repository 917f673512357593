"""How often a client may ask a model: a rate with a burst, shared by all workers and instances on one store."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from falcon_wsgi.errors import DependencyError, RateLimited
from falcon_wsgi.pipeline.keyvalue import KeyValueStore
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.resilience.guard import Guard

ANONYMOUS = "anonymous"
"""The client of every request where no API keys are asked for."""

_US = 1_000_000


class Caller(Protocol):
    """What is asked of a request's context. `headers` are those of the response."""

    @property
    def client(self) -> str: ...

    @property
    def client_ip(self) -> str | None: ...

    @property
    def deadline(self) -> Deadline: ...

    @property
    def headers(self) -> list[tuple[str, str]]: ...


class RateLimit(Protocol):
    """`ClientRateLimit`, or `Unlimited`."""

    def admit(self, caller: Caller) -> None:
        """Count the request. Raises RateLimited if it is one too many; then it is not counted."""


class Unlimited:
    """What RATE_LIMIT_PER_SECOND=0 puts in the limit's place."""

    def admit(self, caller: Caller) -> None:
        pass


class RateLimitObserver(Protocol):
    def fallback(self, dependency: str, fallback_type: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a client may make: one each `interval_us` microseconds, and `burst` at once after a pause."""

    interval_us: int
    burst: int

    @classmethod
    def of(cls, per_second: float, burst: int | None = None) -> Rate:
        """`burst` defaults to what a second allows, at least 1."""
        return cls(round(_US / per_second), burst or math.ceil(per_second))

    def share(self, parts: int) -> Rate:
        """The rate of one of `parts` that together keep this one; none gets a burst of less than 1."""
        return Rate(self.interval_us * parts, max(1, self.burst // parts))


class ClientRateLimit:
    """The generic cell rate algorithm, for each client: its API key's name, else its address.

    With the store away each worker keeps its share of the rate by itself. Then a client whose requests all meet
    the same worker gets less than its rate, and one on several instances more.

    Args:
        workers: of this instance.
        local: in this process' memory.
    """

    def __init__(
        self,
        rate: Rate,
        shared: KeyValueStore,
        guard: Guard,
        *,
        workers: int,
        local: KeyValueStore,
        observer: RateLimitObserver,
    ) -> None:
        self._rate = rate
        self._share = rate.share(workers)
        self._shared = shared
        self._guard = guard
        self._local = local
        self._observer = observer
        # The rate is in the key: one that was changed begins anew, instead of with debts at the former rate.
        self._prefix = f"falcon:rate:{rate.interval_us}:{rate.burst}:"
        window_s = math.ceil(rate.interval_us * rate.burst / _US)
        self._policy = ("RateLimit-Policy", f'"client";q={rate.burst};w={window_s}')

    def admit(self, caller: Caller) -> None:
        rate, ahead_us = self._count(self._prefix + bucket_of(caller), caller.deadline)
        allowed = ahead_us > 0
        left = (rate.interval_us * rate.burst - ahead_us) // rate.interval_us if allowed else 0
        # A refused request would have to wait until the burst is within bounds again: one interval short of full.
        full_in_us = ahead_us if allowed else rate.interval_us * (rate.burst - 1) - ahead_us
        # draft-ietf-httpapi-ratelimit-headers-10: r requests are left, and in t seconds the whole quota is again.
        caller.headers.append(self._policy)
        caller.headers.append(("RateLimit", f'"client";r={left};t={math.ceil(full_in_us / _US)}'))
        if not allowed:
            raise RateLimited("too many requests from this client", -ahead_us / _US)

    def _count(self, key: str, deadline: Deadline) -> tuple[Rate, int]:
        """The rate that was applied, and `KeyValueStore.count_arrival`'s reply."""
        rate, store = self._rate, self._shared
        command = store.count_arrival(key, rate.interval_us, rate.burst)
        try:
            # The guard may repeat it: at worst a request whose reply was lost counts twice.
            reply = self._guard.call("rate_limit", lambda: store.execute((command,)), deadline=deadline)
        except DependencyError:
            self._observer.fallback(self._guard.name, "local_rate_limit")
            rate, store = self._share, self._local
            reply = store.execute((store.count_arrival(key, rate.interval_us, rate.burst),))
        return rate, reply[0]


def bucket_of(caller: Caller) -> str:
    """Whose requests are counted together."""
    if caller.client != ANONYMOUS:
        return f"client:{caller.client}"
    return f"ip:{_network(caller.client_ip)}" if caller.client_ip else "ip:unknown"


@lru_cache(4096)
def _network(address: str) -> str:
    """An IPv6 host may use any address of its /64, so that counts as one."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)
