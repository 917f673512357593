"""Who owns a folder: whoever holds the flock on its file `lock`.

The kernel frees the lock when its holder dies, however it dies. So a folder whose lock is free belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from falcon_wsgi.backends.journal.segments import CHECKPOINT, is_segment

_LOCK = "lock"
_NAME = re.compile(r"(?:\.new-)?[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{32}(?:\.rows)?")

UNNAMED_PREFIX = ".new-"
# Versions that know rows only as JSON take no folder of this name for a journal's, so they leave its rows alone.
LINES_SUFFIX = ".rows"


def lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None if another process does."""
    lock_file = f"{path}/{_LOCK}"
    fd = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The owner before us may have removed the folder between our open and our lock.
        if os.path.samestat(os.fstat(fd), os.stat(lock_file)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def is_folder_name(name: str) -> bool:
    """Whether the name is one that `create` gives; nothing else in the journal's root is ever touched."""
    return _NAME.fullmatch(name) is not None


def remove(path: Path) -> None:
    """Delete the folder, the lock last; what cannot be deleted now is left for a later adoption."""
    with suppress(OSError):
        for name in sorted(os.listdir(path), key=lambda name: name == _LOCK):
            if is_segment(name) or name in (CHECKPOINT, _LOCK):
                os.unlink(path / name)
        os.rmdir(path)
