"""Where rows go that the database refuses for what they hold: a few files for a person to look at."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

import orjson

from falcon_wsgi.log_rows import as_json

_LOG = logging.getLogger(__name__)
_FOLDER = "rejected"
_MAX_FILES = 500
_MAX_BYTES = 16 * 1024 * 1024


def keep(root: Path, payload: bytes) -> str | None:
    """Write the rows as a JSON array below `root/rejected`; the file's name, None if the folder is full or
    the disk refuses. Never raises OSError: a row that cannot be kept must not stop those behind it."""
    folder = root / _FOLDER
    name = f"{uuid.uuid4().hex}.json"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with os.scandir(folder) as entries:
            sizes = [entry.stat().st_size for entry in entries]
        if len(sizes) >= _MAX_FILES or sum(sizes) + len(payload) > _MAX_BYTES:
            return None
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(b"[%b]\n" % _readable(payload))
    except OSError as error:
        _LOG.warning("rejected_rows_not_kept", extra={"reason": error.strerror})
        return None
    return name


def _readable(payload: bytes) -> bytes:
    """The rows as JSON objects; what is no rows at all as one string."""
    try:
        return as_json(payload)
    except ValueError:
        return orjson.dumps(payload.decode(errors="replace"))
