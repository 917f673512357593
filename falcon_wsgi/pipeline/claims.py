"""What is stored under an idempotency key, and how claims that take long are kept alive."""

from __future__ import annotations

import hashlib
import logging
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Any

import gevent

from falcon_wsgi.errors import DependencyError
from falcon_wsgi.pipeline.encoding import delimited
from falcon_wsgi.pipeline.keyvalue import KeyValueStore
from falcon_wsgi.resilience.deadline import Clock
from falcon_wsgi.resilience.guard import Guard

_log = logging.getLogger(__name__)

_MAGIC = b"FI1"
_HEADER = struct.Struct(">3sIHHHH")  # magic, CRC-32 of what follows it, three lengths, HTTP status
_CRC_END = 7


def store_key(client: str, route: str, key: str) -> str:
    """Hashed, because clients choose keys and some put personal data there."""
    scope = delimited(*(part.encode("utf-8", "surrogatepass") for part in (client, route, key)))
    return "falcon:idem:" + hashlib.sha256(scope).hexdigest()


@dataclass(frozen=True, slots=True)
class ClaimRecord:
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
        event = self.event_id.encode()
        lengths = (len(self.fingerprint), len(self.token), len(event))
        payload = b"".join((self.fingerprint, self.token, event, self.body))
        unchecked = _HEADER.pack(_MAGIC, 0, *lengths, self.status)
        checksum = zlib.crc32(payload, zlib.crc32(unchecked[_CRC_END:]))
        return _HEADER.pack(_MAGIC, checksum, *lengths, self.status) + payload

    @classmethod
    def decode(cls, value: bytes) -> ClaimRecord | None:
        """None for a value that is damaged or not one of ours."""
        if len(value) < _HEADER.size:
            return None
        magic, checksum, fingerprint, token, event, status = _HEADER.unpack_from(value)
        if magic != _MAGIC or checksum != zlib.crc32(value[_CRC_END:]):
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
