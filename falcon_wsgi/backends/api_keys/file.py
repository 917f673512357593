"""The file of API keys: read whole, changed under a lock, replaced at once."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from falcon_wsgi.backends.api_keys.record import KeyRecord
from falcon_wsgi.errors import ConfigurationError

Records = Sequence[KeyRecord]


class _Contents(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    keys: list[KeyRecord]


class FileState(NamedTuple):
    """Differs after any change: a file put in its place has another inode, and no program can set the ctime."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int
    mode: int

    @property
    def readable_by_all(self) -> bool:
        return bool(self.mode & stat.S_IROTH)


class KeyFile:
    """The keys at `path`, as JSON. Readers need no lock: they find the file as it was or as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def state(self) -> FileState | None:
        """None if there is no file, or none that can be looked at."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return FileState(
            found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, stat.S_IMODE(found.st_mode)
        )

    def read(self) -> list[KeyRecord]:
        """Raises ConfigurationError: one line, for a file that is missing, unreadable or not valid."""
        try:
            return self._read()
        except FileNotFoundError:
            raise ConfigurationError(
                f"API_KEYS_FILE: {self.path} does not exist; falcon keys create CLIENT makes it"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"API_KEYS_FILE: {self.path} cannot be read: {error.strerror}") from None

    def change(self, edit: Callable[[list[KeyRecord]], Records]) -> None:
        """Replace the records by `edit` of them, while no other process does. Makes the file if it is not there.

        Raises:
            ConfigurationError: the file is not valid, or cannot be read or written. Nothing has changed.
        """
        try:
            with self._lock():
                try:
                    records = self._read()
                except FileNotFoundError:
                    records = []
                self._write(edit(records))
        except OSError as error:
            raise ConfigurationError(
                f"API_KEYS_FILE: {self.path} cannot be changed: {error.strerror}"
            ) from None

    def _read(self) -> list[KeyRecord]:
        try:
            records = _Contents.model_validate_json(self.path.read_bytes()).keys
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ConfigurationError(
                f"API_KEYS_FILE: {self.path} is not valid: {place}: {first['msg']}"
            ) from None
        if len({record.id for record in records}) < len(records):
            raise ConfigurationError(f"API_KEYS_FILE: {self.path} is not valid: two keys have the same id")
        return records

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # Beside the file, because the file itself is replaced: whoever waited would hold the lock of the old one.
        beside = self.path.with_name(self.path.name + ".lock")
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _write(self, records: Records) -> None:
        target = self.path.resolve()  # a symbolic link stays one
        fd, new = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
        try:
            with os.fdopen(fd, "wb") as file:
                _take_over_access(target, fd)
                file.write(_Contents(keys=list(records)).model_dump_json(indent=1).encode() + b"\n")
                file.flush()
                os.fsync(fd)
            os.replace(new, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise


def _take_over_access(former: Path, fd: int) -> None:
    """Owner and mode stay as someone set them: root may add a key to a file that a service's user has to read."""
    try:
        found = os.stat(former)
    except FileNotFoundError:
        return
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) != (found.st_uid, found.st_gid):
        os.fchown(fd, found.st_uid, found.st_gid)
    os.fchmod(fd, stat.S_IMODE(found.st_mode))
