"""The request journal on local disk: what one worker writes, and what is still to be shipped."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from falcon_wsgi.backends.journal.backlog import Backlog, Batch
from falcon_wsgi.backends.journal.commit import GroupCommit
from falcon_wsgi.backends.journal.folder import Folder
from falcon_wsgi.backends.journal.frames import encode
from falcon_wsgi.backends.journal.memory import MemoryQueue, Record
from falcon_wsgi.backends.journal.observer import JournalEvent, JournalObserver, NullJournalObserver
from falcon_wsgi.backends.journal.retention import Retention
from falcon_wsgi.backends.journal.writer import SegmentWriter
from falcon_wsgi.errors import ConfigurationError

__all__ = ["Backlog", "Batch", "JournalEvent", "JournalObserver", "JournalWriter", "NullJournalObserver"]

_LOG = logging.getLogger(__name__)

# At most this part of the bound is in one segment, the unit in which the oldest rows are dropped.
_SEGMENTS_IN_BOUND = 64
_MAX_SEGMENT_ROWS = 16_384
_SEGMENT_BYTES = 4 * 1024 * 1024
_SPILL_BYTES = 256 * 1024
_DISK_RETRY_S = 1.0
_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


class JournalWriter:
    """The journal of one worker process. Open it after the fork: the lock of its folder is inherited by a
    fork.

    While the disk refuses, records wait in a bounded memory queue and the disk is tried once a second; what
    the queue cannot hold is dropped and counted. Greenlet-safe; not for several threads.
    """

    def __init__(
        self,
        root: Path,
        worker_id: str,
        *,
        max_records: int,
        sync: Literal["none", "group"],
        memory_rows: int,
        observer: JournalObserver,
        clock: Callable[[], float],
    ) -> None:
        self._root = root
        self._worker_id = worker_id
        self._group_commit = sync == "group"
        self._segment_rows = max(1, min(max_records // _SEGMENTS_IN_BOUND, _MAX_SEGMENT_ROWS))
        self._observer = observer
        self._clock = clock
        self._segments: SegmentWriter | None = None
        self._disk_failed = True
        self._try_disk_at = float("-inf")
        self._closed = False
        self.folder: Folder | None = None
        self.memory = MemoryQueue(memory_rows)
        retention = Retention(root, max_rows=max_records, segment_rows=self._segment_rows, clock=clock)
        self.backlog = Backlog(self, root, retention, observer, clock)

    @classmethod
    def open(
        cls,
        root: Path,
        worker_id: str,
        *,
        max_records: int = 1_000_000,
        sync: Literal["none", "group"] = "none",
        memory_rows: int = 10_000,
        observer: JournalObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> JournalWriter:
        """Start a folder of its own below `root`. A full or failing disk does not prevent it.

        Raises:
            ConfigurationError: `root` cannot be a folder that this process may write.
        """
        journal = cls(
            root,
            worker_id,
            max_records=max_records,
            sync=sync,
            memory_rows=memory_rows,
            observer=NullJournalObserver() if observer is None else observer,
            clock=clock,
        )
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            journal._create_folder()
            journal._disk_failed = False
        except OSError as error:
            if error.errno not in _DISK_TROUBLE:
                raise ConfigurationError(
                    f"JOURNAL_DIR: {root} cannot be written ({error.strerror})"
                ) from error
            _LOG.error("journal_disk_refused", extra={"reason": error.strerror, "errno": error.errno})
        return journal

    def append(self, rows: bytes, count: int) -> None:
        """Keep the `count` rows of one request, in the form that `log_rows` gives them.

        When it returns, they survive the death of this process; with group commit, that of the machine.

        Raises:
            ValueError: no row, more than 65,535, or over 16 MiB. A disk that fails never raises.
        """
        record = encode(rows, count)
        if self._disk_failed and not self.try_disk_again():
            self._buffer(Record(rows, count))
        elif not self._write(record, count):
            self._disk_failed = True
            self._try_disk_at = self._clock() + _DISK_RETRY_S
            self._buffer(Record(rows, count))
        elif self._group_commit:
            self._writer().sync()

    @property
    def depth(self) -> int:
        """Unshipped rows of this worker, on disk and in memory."""
        return self.memory.rows + (self.folder.unshipped if self.folder is not None else 0)

    def try_disk_again(self) -> bool:
        """After a failure: move the memory queue to the disk, if it is time and the disk takes it. Whether
        it works.
        """
        if not self._disk_failed:
            return True
        now = self._clock()
        if self._closed or now < self._try_disk_at:
            return False
        self._try_disk_at = now + _DISK_RETRY_S
        if self._move_to_disk():
            self._disk_failed = False
            _LOG.warning("journal_disk_back")
        return not self._disk_failed

    def close_oldest(self) -> None:
        """If the open segment holds the oldest unshipped row, start another, so that it can be dropped."""
        folder = self.folder
        if folder is not None and folder.segments and folder.position.sequence >= folder.segments[-1]:
            self._writer().open_segment()

    def close(self) -> None:
        """Leave what is unshipped to others: on disk, for adoption. Removes the folder if nothing is."""
        self._try_disk_at = float("-inf")
        self.try_disk_again()
        self._closed = self._disk_failed = True
        if lost := self.memory.clear():
            self._observer.event("dropped", lost)
        self.backlog.close()
        if self._segments is not None:
            self._segments.close()
        if self.folder is not None:
            self.folder.release()
            self.folder = None

    def _write(self, record: bytes, rows: int) -> bool:
        if self._writer().write(record, rows):
            self._observer.event("written", rows)
            return True
        return False

    def _buffer(self, record: Record) -> None:
        kept = not self._closed and self.memory.put(record)
        self._observer.event("buffered" if kept else "dropped", record.rows)

    def _move_to_disk(self) -> bool:
        try:
            if self.folder is None:
                self._create_folder()
        except OSError:
            return False
        while records := self.memory.first(self._segment_rows, _SPILL_BYTES):
            encoded = b"".join(encode(record.payload, record.rows) for record in records)
            if not self._write(encoded, sum(record.rows for record in records)):
                return False
            self.memory.spills += 1
            self.memory.remove_first(len(records))
        # An empty queue says nothing about the disk; opening a segment does.
        return self._writer().open_segment()

    def _create_folder(self) -> None:
        self.folder = Folder.create(self._root, self._worker_id, self._observer)
        self._segments = SegmentWriter(
            self.folder,
            segment_rows=self._segment_rows,
            segment_bytes=_SEGMENT_BYTES,
            commit=GroupCommit(str(self.folder.path)) if self._group_commit else None,
            on_rotate=self._rotated,
        )

    def _writer(self) -> SegmentWriter:
        assert self._segments is not None
        return self._segments

    def _rotated(self) -> None:
        # Also here, not only from the shipper's pass: without a database there is no shipper.
        self.backlog.maintain()
        self.backlog.keep_bound()
