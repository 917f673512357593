"""Group commit: greenlets that wait for the disk share one fdatasync, which runs in a native thread."""

from __future__ import annotations

import logging
import os

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

_LOG = logging.getLogger(__name__)


class GroupCommit:
    """Makes written records survive the death of the machine.

    A record is safe only after a sync that started behind its write. So a waiter never joins the sync that is
    running, it joins the next one; that one starts as soon as the running one ends, with everyone who came
    meanwhile.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._fd = -1
        self._retired: list[int] = []
        self._new_entry = False
        self._next: AsyncResult[bool] | None = None
        self._running: gevent.Greenlet | None = None
        # A pool of its own: predictions that occupy gevent's shared pool must not delay the log.
        self._threads = ThreadPool(1)

    def follow(self, fd: int) -> None:
        """`fd` is the open segment from now on, in a file that is new in the folder."""
        self.retire()
        self._fd = fd
        self._new_entry = True

    def retire(self) -> None:
        """The open segment gets no more records: it is synced once more, then closed here."""
        if self._fd >= 0:
            self._retired.append(self._fd)
            self._fd = -1

    def wait(self) -> bool:
        """Return when all that was written before this call is on the disk; False if the disk refused."""
        result = self._next
        if result is None:
            result = self._next = AsyncResult()
            if self._running is None:
                self._running = gevent.spawn(self._run)
        return bool(result.get())

    def close(self) -> None:
        """Finish what is waited for, sync and close the files."""
        while self._running is not None:
            self._running.join()
        self.retire()
        self._sync_all()
        self._threads.kill()

    def _run(self) -> None:
        try:
            while (result := self._next) is not None:
                self._next = None
                done = False
                try:
                    done = self._sync_all()
                finally:
                    result.set(done)
        finally:
            self._running = None

    def _sync_all(self) -> bool:
        retired, self._retired = self._retired, []
        new_entry, self._new_entry = self._new_entry, False
        # The open segment may be retired while the thread works on it. It is closed only here, never under
        # the thread.
        fds = [*retired, self._fd] if self._fd >= 0 else retired
        try:
            self._threads.apply(_sync, (fds, self._folder if new_entry else None))
        except OSError as error:
            _LOG.error("journal_sync_failed", extra={"reason": error.strerror})
            return False
        finally:
            for fd in retired:
                os.close(fd)
        return True


def _sync(fds: list[int], folder: str | None) -> None:
    for fd in fds:
        os.fdatasync(fd)
    if folder is not None:
        # A new segment's name is safe only once its folder is, and the folder's own once its parent is.
        for path in (folder, os.path.dirname(folder)):
            _sync_folder(path)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
