"""What is kept of an API key: whose it is, until when, and a hash. The key itself is stored nowhere."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool

# falcon_ID_SECRET. The prefix lets people and secret scanners recognise a key; the id, which is public, finds its
# record, so that exactly one hash is compared.
_KEY = re.compile(r"falcon_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_ID_BYTES, _SECRET_BYTES = 6, 32


class KeyRecord(BaseModel):
    """One key in the file. Unknown fields are refused: a misspelt `expires_at` would be a key without an end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    client: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    admin: StrictBool = False
    note: str = Field("", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


def issue(
    client: str,
    created_at: datetime,
    *,
    expires_at: datetime | None = None,
    admin: bool = False,
    note: str = "",
) -> tuple[str, KeyRecord]:
    """A new key, and its record.

    Raises:
        pydantic.ValidationError: the client's name or the note is not accepted.
    """
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"falcon_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    record = KeyRecord(
        id=key_id,
        client=client,
        sha256=digest(key).hex(),
        created_at=created_at,
        expires_at=expires_at,
        admin=admin,
        note=note,
    )
    return key, record


def id_of(key: str) -> str | None:
    """The id within a key; None for a text that is no key."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def digest(key: str) -> bytes:
    """SHA-256. A slow hash makes guessing passwords dear; 256 random bits cannot be guessed at any speed, and each
    request pays for the hash."""
    return hashlib.sha256(key.encode()).digest()
