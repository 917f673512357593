"""The file that Gunicorn and its workers log to, and what it says when they end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

KEPT = 5
ROTATED_BYTES = 100 * 1024 * 1024
_READ_BYTES = 256 * 1024


class LogFile:
    """`falcon.log`, and the five before it: `falcon.log.1` (the latest) to `falcon.log.5`.

    It is rotated at each start, and when it is over 100 MiB. Its writers keep it open, so then it is copied
    and emptied: lines written between the two are lost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> int:
        """Begin an empty file; returns a descriptor that appends to it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size:
            self._shift()
            self.path.rename(self._numbered(1))
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def rotate_if_large(self) -> None:
        with contextlib.suppress(OSError):
            if self.path.stat().st_size <= ROTATED_BYTES:
                return
            self._shift()
            shutil.copyfile(self.path, self._numbered(1))
            os.truncate(self.path, 0)

    def _shift(self) -> None:
        for number in range(KEPT - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def last_error(self) -> str:
        """Why the processes ended: the last line meant for people, else the last severe record."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - _READ_BYTES))
            return last_error(file.read().decode("utf-8", "replace"))
        return ""


def last_error(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    told = [line.removeprefix("falcon: ") for line in lines if line.startswith("falcon: ")]
    severe = [found for line in lines if (found := _severe(line))]
    return (told or severe or [line.strip() for line in lines] or [""])[-1][:500]


def _severe(line: str) -> str:
    """The message of a JSON record of level ERROR or CRITICAL, with its exception's last line."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(record, dict) or record.get("level") not in ("ERROR", "CRITICAL"):
        return ""
    trace = str(record.get("exc_info") or "").strip().splitlines()
    return ": ".join([str(record.get("message", "")).strip(), *trace[-1:]])
