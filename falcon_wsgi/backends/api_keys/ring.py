"""The keys that are valid now, as of the last look at the file that found it usable."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from falcon_wsgi.backends.api_keys.file import FileState, KeyFile
from falcon_wsgi.backends.api_keys.record import KeyRecord, digest, id_of
from falcon_wsgi.errors import ConfigurationError, Unauthenticated

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a key stands for.

    Attributes:
        admin: may load and unload models.
    """

    client: str
    admin: bool


@dataclass(frozen=True, slots=True)
class _Key:
    digest: bytes
    expires_at: float
    holder: Holder


# Compared with where the id is unknown, so that the time of a refusal says nothing of which ids there are.
_NOBODYS = _Key(bytes(32), float("inf"), Holder("", False))


class KeyRing:
    """Holds a request's key against those of the file. A file that becomes unusable leaves the last good keys valid.

    Made by the master and inherited by its workers, so that one that is replaced meanwhile has them too.

    Attributes:
        valid: whether the last look found the file usable.
    """

    def __init__(self, file: KeyFile, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigurationError if the file cannot be used."""
        self._file = file
        self._clock = clock
        self._warned = False
        self._seen: FileState | None = file.state()
        self._keys = _by_id(file.read())
        self.valid = True

    @classmethod
    def open(cls, path: Path) -> KeyRing:
        """Raises ConfigurationError if the file cannot be used."""
        return cls(KeyFile(path))

    def identify(self, key: str) -> Holder:
        """Raises Unauthenticated. Takes the same time whatever part of the secret is wrong."""
        key_id = id_of(key)
        if key_id is None:
            raise Unauthenticated("the API key is not valid", "malformed")
        known = self._keys.get(key_id, _NOBODYS)
        if not hmac.compare_digest(digest(key), known.digest) or known is _NOBODYS:
            raise Unauthenticated("the API key is not valid", "unknown")
        if self._clock() >= known.expires_at:
            raise Unauthenticated("the API key has expired", "expired")
        return known.holder

    def refresh(self) -> None:
        """Read the file if it has changed, and for as long as it is not usable. To be called every second."""
        state = self._file.state()  # before reading: a change in between is then seen next time
        self._warn_of_access(state)
        if state == self._seen and self.valid:
            return
        try:
            self._keys = _by_id(self._file.read())
        except ConfigurationError as error:
            if self.valid or state != self._seen:
                log.error("api_keys_refused", extra={"reason": str(error), "keys_in_force": len(self._keys)})
            self.valid = False
        else:
            log.info("api_keys_read", extra={"keys": len(self._keys)})
            self.valid = True
        self._seen = state

    def _warn_of_access(self, state: FileState | None) -> None:
        if state is not None and state.readable_by_all and not self._warned:
            log.warning("api_keys_readable_by_all", extra={"remedy": f"chmod 600 {self._file.path}"})
            self._warned = True


def _by_id(records: Iterable[KeyRecord]) -> dict[str, _Key]:
    return {
        record.id: _Key(
            bytes.fromhex(record.sha256),
            record.expires_at.timestamp() if record.expires_at else float("inf"),
            Holder(record.client, record.admin),
        )
        for record in records
    }
