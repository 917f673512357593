"""Idempotency keys: a request that carries one is answered once, and repeats get that answer.

The first use of a key claims it with a lease, so that the key of a killed owner becomes free. The claim is
one SET that succeeds only on an absent key, so of any number of racing requests exactly one owns it.
Everything later (storing the answer, releasing, renewing) compares the stored claim with the own one first,
in one atomic command: who has lost a claim can no longer touch it. Each command may be repeated, as the
guard's retries do.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Literal, Protocol

from falcon_wsgi.errors import (
    DependencyError,
    FalconError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    IdempotencyUnavailable,
)
from falcon_wsgi.pipeline.claims import ClaimRecord, Leases, store_key
from falcon_wsgi.pipeline.keyvalue import Command, KeyValueStore
from falcon_wsgi.resilience.deadline import Clock, Deadline
from falcon_wsgi.resilience.guard import Guard

_log = logging.getLogger(__name__)

_RETRY_AFTER_S = 1.0
_VANISHING_KEY_TRIES = 3


class ClaimRequest(Protocol):
    """What a claim needs to know of a request.

    `client` and `route` are the key's scope. `fingerprint` is equal for equal requests. `event_id` is the
    same for all attempts of our own load balancer at one request, which `from_trusted_balancer` says it comes
    from.
    """

    @property
    def idempotency_key(self) -> str | None: ...

    @property
    def client(self) -> str: ...

    @property
    def route(self) -> str: ...

    @property
    def fingerprint(self) -> bytes: ...

    @property
    def event_id(self) -> str: ...

    @property
    def from_trusted_balancer(self) -> bool: ...

    @property
    def deadline(self) -> Deadline: ...


class Answer(Protocol):
    """What is kept of an outcome."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class IdempotencyObserver(Protocol):
    """Told what became of requests with a key. `operation` of an error is "decode"."""

    def hit(self) -> None: ...

    def miss(self) -> None: ...

    def conflict(self) -> None: ...

    def error(self, operation: str) -> None: ...

    def fallback(self, dependency: str, fallback_type: str) -> None: ...


class NullIdempotencyObserver:
    """Ignores everything."""

    def hit(self) -> None:
        pass

    def miss(self) -> None:
        pass

    def conflict(self) -> None:
        pass

    def error(self, operation: str) -> None:
        pass

    def fallback(self, dependency: str, fallback_type: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer that the key was given before, unchanged but for saying that it is a replay."""

    status: int
    body: bytes

    @classmethod
    def replay_of(cls, record: ClaimRecord) -> StoredAnswer:
        body = record.body.replace(b'"idempotency_hit":false', b'"idempotency_hit":true', 1)
        return cls(record.status, body)


class Claim:
    """A request's hold on its key. This one is of a request without a key, for which everything is allowed.

    Attributes:
        replay: the stored answer to send instead of a new one.
        status: value of the Idempotency-Status header, where the key could not be honoured.
    """

    replay: StoredAnswer | None = None
    status: Literal["unavailable"] | None = None

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        pass

    def keep(self, outcome: Answer) -> None:
        """Store a success (2xx) for repeats. Leaving the block without it releases the key."""


class Idempotency:
    """Claims keys.

    Args:
        ttl_s: life of a stored answer.
        lease_s: a key whose owner was killed is free after this long. Living owners renew it.
        on_outage: with the store away, "open" serves requests with keys unprotected and says so in
            `Claim.status`; "closed" refuses them, also when the store went away while the answer was made.
        enabled: if not, keys are ignored.
        sleep: must let other greenlets run.
    """

    def __init__(
        self,
        store: KeyValueStore,
        guard: Guard,
        *,
        ttl_s: int,
        lease_s: float,
        on_outage: Literal["open", "closed"] = "open",
        enabled: bool = True,
        observer: IdempotencyObserver | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.guard = guard
        self.ttl_ms = ttl_s * 1000
        self.on_outage = on_outage
        self.observer = observer or NullIdempotencyObserver()
        self.leases = Leases(store, guard, lease_s, clock)
        self.sleep = sleep
        self._enabled = enabled

    def claim(self, request: ClaimRequest) -> Claim:
        """To be used in a `with` statement around the making of the answer.

        Entering it raises:
            IdempotencyKeyReused: the key belongs to a different request.
            IdempotencyInProgress: the first request with this key is still running.
            IdempotencyUnavailable: the store is away, and `on_outage` is "closed".
            DeadlineExceeded: an earlier attempt of the load balancer did not end in time.
        """
        key = request.idempotency_key if self._enabled else None
        return Claim() if key is None else KeyedClaim(self, request, key)

    def close(self) -> None:
        self.leases.close()


class KeyedClaim(Claim):
    """The claim of a request with a key. Holds the key between entering and `keep` or leaving."""

    def __init__(self, idempotency: Idempotency, request: ClaimRequest, key: str) -> None:
        self._idempotency = idempotency
        self._request = request
        self._key = store_key(request.client, request.route, key)
        self._record = ClaimRecord(request.fingerprint, secrets.token_bytes(16), request.event_id)
        self._mine = self._record.encode()
        self._owned = False

    def __enter__(self) -> Claim:
        try:
            self._acquire()
        except DependencyError as error:
            self._release_in_background()  # a claim whose reply was lost may have been made
            self._degrade(error)
        except FalconError:
            raise
        except BaseException:
            self._release_in_background()  # killed while waiting: the claim may have been made
            raise
        return self

    def keep(self, outcome: Answer) -> None:
        """Store the outcome for repeats if it is a success (2xx).

        With the store away the answer is written in the background if that is possible at all, without
        waiting.

        Raises:
            IdempotencyUnavailable: that happened, and `on_outage` is "closed".
        """
        if not self._owned or not 200 <= outcome.status < 300:
            return
        done = ClaimRecord(
            self._record.fingerprint, self._record.token, self._record.event_id, outcome.status, outcome.body
        )
        # Absent, the claim was evicted or ran out, and nobody else has the key: the answer may be stored.
        command = self._idempotency.store.compare_and_set(
            self._key, self._mine, done.encode(), self._idempotency.ttl_ms, or_absent=True
        )
        self._disown()
        try:
            stored = self._call("idempotency_keep", command)[0]
        except DependencyError as error:
            self._submit(command)
            self._degrade(error)
        else:
            if not stored:
                _log.warning("idempotency_claim_lost", extra={"event_id": self._record.event_id})

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._owned:
            return
        self._disown()
        if error is not None and not isinstance(error, Exception):
            self._release_in_background()  # the greenlet is being ended and must not wait
            return
        # Waited for, so that a client that repeats the request on receiving this answer finds the key free.
        try:
            self._call("idempotency_release", self._release_command())
        except DependencyError:
            _log.info("idempotency_release_failed", extra={"event_id": self._record.event_id})

    def _acquire(self) -> None:
        for pause_s in _poll_pauses_s():
            held = self._contend()
            if held is None:
                self._owned = True
                self._idempotency.leases.add(self._key, self._mine)
                self._idempotency.observer.miss()
                return
            if not self._is_to_wait_for(held):
                self.replay = StoredAnswer.replay_of(held)
                self._idempotency.observer.hit()
                return
            self._idempotency.sleep(min(pause_s, self._request.deadline.remaining_s()))
            self._request.deadline.check()

    def _is_to_wait_for(self, held: ClaimRecord) -> bool:
        """Whether `held` is a running attempt of the load balancer at this very request, not an answer."""
        if held.fingerprint != self._record.fingerprint:
            self._idempotency.observer.conflict()
            raise IdempotencyKeyReused("the idempotency key was used with a different request")
        if not held.in_progress:
            return False
        if self._request.from_trusted_balancer and held.event_id == self._record.event_id:
            return True
        raise self._in_progress()

    def _contend(self) -> ClaimRecord | None:
        """None if the key is ours now, else what is stored under it."""
        leases = self._idempotency.leases
        claim: tuple[Command, ...] = (
            ("SET", self._key, self._mine, "NX", "PX", leases.lease_ms),
            ("GET", self._key),
        )
        for _ in range(_VANISHING_KEY_TRIES):
            is_set, held = self._call("idempotency_claim", *claim)
            # Our own claim is found instead of set where a retry repeats an attempt whose reply was lost.
            if is_set is not None or held == self._mine:
                return None
            if held is None:  # expired or was released between the two commands
                continue
            record = ClaimRecord.decode(held)
            if record is not None:
                return record
            self._idempotency.observer.error("decode")
            replace = self._idempotency.store.compare_and_set(self._key, held, self._mine, leases.lease_ms)
            if self._call("idempotency_claim", replace)[0]:
                return None
        raise self._in_progress()

    def _in_progress(self) -> IdempotencyInProgress:
        self._idempotency.observer.conflict()
        return IdempotencyInProgress("a request with this idempotency key is in progress", _RETRY_AFTER_S)

    def _degrade(self, error: DependencyError) -> None:
        idempotency = self._idempotency
        idempotency.observer.fallback(idempotency.guard.name, f"idempotency_{idempotency.on_outage}")
        if idempotency.on_outage == "closed":
            raise IdempotencyUnavailable("idempotency keys cannot be honoured at present") from error
        self.status = "unavailable"

    def _call(self, operation: str, *commands: Command) -> list[Any]:
        idempotency = self._idempotency
        return idempotency.guard.call(
            operation, lambda: idempotency.store.execute(commands), deadline=self._request.deadline
        )

    def _submit(self, command: Command) -> None:
        if self._idempotency.guard.healthy:
            self._idempotency.store.submit((command,))

    def _release_in_background(self) -> None:
        self._submit(self._release_command())

    def _release_command(self) -> Command:
        return self._idempotency.store.compare_and_set(self._key, self._mine, None, 0)

    def _disown(self) -> None:
        self._owned = False
        self._idempotency.leases.discard(self._key, self._mine)


def _poll_pauses_s() -> Iterator[float]:
    """Seconds between looks at an earlier attempt, without end; the request's deadline ends it."""
    return chain((0.025,), repeat(0.05))
