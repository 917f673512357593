"""What is stored under an idempotency key, and how claims that take long are kept alive."""

from __future__ import annotations

import hashlib
import logging
import struct
import time
import zlib
from functools import lru_cache
from typing import Any, NamedTuple

import gevent

from falcon_wsgi.errors import DependencyError
from falcon_wsgi.pipeline.encoding import delimited
from falcon_wsgi.pipeline.keyvalue import KeyValueStore
from falcon_wsgi.resilience.deadline import Clock
from falcon_wsgi.resilience.guard import Guard

_log = logging.getLogger(__name__)

_MAGIC = b"FI1"
_UNCHECKED = struct.Struct(">3sI")  # magic, CRC-32 of what follows it
_CHECKED = struct.Struct(">HHHH")  # three lengths, HTTP status
_HEADER = struct.Struct(">3sIHHHH")


def store_key(client: str, route: str, key: str) -> str:
    """Hashed, because clients choose keys and some put personal data there."""
    hashed = _scope(client, route).copy()
    hashed.update(delimited(_encoded(key)))
    return "falcon:idem:" + hashed.hexdigest()


@lru_cache(4096)
def _scope(client: str, route: str) -> hashlib._Hash:
    """SHA-256 of what the keys of a client on a route have in common, to be copied."""
    return hashlib.sha256(delimited(_encoded(client), _encoded(route)))


def _encoded(part: str) -> bytes:
    return part.encode("utf-8", "surrogatepass")


class ClaimRecord(NamedTuple):
    """The value of a key: a claim while `status` is 0, later the stored answer.

    Attributes:
        fingerprint: of the request that claimed the key.
        token: names the owner; no two claims have the same.
        event_id: of the request; a retry by our own load balancer repeats it.
        status, body: of the answer, once there is one.
    """

    fingerprint: bytes
    token: bytes
    event_id: str
    status: int = 0
    body: bytes = b""

    @property
    def in_progress(self) -> bool:
        return self.status == 0

    def encode(self) -> bytes:
        fingerprint, token, event_id, status, body = self
        event = event_id.encode()
        lengths = _CHECKED.pack(len(fingerprint), len(token), len(event), status)
        checked = b"".join((lengths, fingerprint, token, event, body))
        return _UNCHECKED.pack(_MAGIC, zlib.crc32(checked)) + checked

    @classmethod
    def decode(cls, value: bytes) -> ClaimRecord | None:
        """None for a value that is damaged or not one of ours."""
        if len(value) < _HEADER.size:
            return None
        magic, checksum, fingerprint, token, event, status = _HEADER.unpack_from(value)
        if magic != _MAGIC or checksum != zlib.crc32(value[_UNCHECKED.size :]):
            return None
        token_at = _HEADER.size + fingerprint
        event_at = token_at + token
        body_at = event_at + event
        return cls(
            value[_HEADER.size : token_at],
            value[token_at:event_at],
            value[event_at:body_at].decode(),
            status,
            value[body_at:],
        )


class Leases:
    """The live claims of a worker. One greenlet renews those older than a third of the lease.

    A claim thus outlives its lease while its owner lives, and ends with it when the owner is killed.
    """

    def __init__(
        self, store: KeyValueStore, guard: Guard, lease_s: float, clock: Clock = time.monotonic
    ) -> None:
        self._store = store
        self._guard = guard
        self._lease_s = lease_s
        self._clock = clock
        self._claims: dict[tuple[str, bytes], float] = {}
        self._greenlet: Any = None

    @property
    def lease_ms(self) -> int:
        return round(self._lease_s * 1000)

    def add(self, key: str, claim: bytes) -> None:
        self._claims[key, claim] = self._clock()
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._renew_forever)

    def discard(self, key: str, claim: bytes) -> None:
        self._claims.pop((key, claim), None)

    def close(self) -> None:
        """Stop renewing; what is still claimed ends with its lease."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        self._claims.clear()

    def renew(self) -> None:
        """Begin the lease of each old claim anew. A claim that another owner holds by now is forgotten."""
        now_s = self._clock()
        due = [claim for claim, since_s in self._claims.items() if now_s - since_s >= self._lease_s / 3]
        if not due:
            return
        commands = [self._store.compare_and_set(key, held, held, self.lease_ms) for key, held in due]
        try:
            replies = self._guard.call("idempotency_renew", lambda: self._store.execute(commands))
        except DependencyError:
            return  # the guard has counted it; the next round tries again
        for claim, renewed in zip(due, replies, strict=True):
            if not renewed:
                if self._claims.pop(claim, None) is not None:
                    _log.warning("idempotency_lease_lost", extra={"key": claim[0]})
            elif claim in self._claims:
                self._claims[claim] = now_s

    def _renew_forever(self) -> None:
        while True:
            gevent.sleep(self._lease_s / 6)
            try:
                self.renew()
            except Exception:  # noqa: BLE001 - the edge of a greenlet that all claims depend on
                _log.exception("idempotency_renewal_failed")
