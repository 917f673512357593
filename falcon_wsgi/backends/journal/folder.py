"""One worker life's folder, held by this process: `{worker_id}-{uuid}.rows/` with segments, a checkpoint and a lock;
without `.rows` it is from a version that wrote JSON (`log_rows`).

Whoever has the lock (flock on `lock`) owns the folder. The kernel frees it when the owner dies, however it
dies; so a free lock means a dead owner, and the folder may be adopted.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import uuid
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from falcon_wsgi.backends.journal import ownership
from falcon_wsgi.backends.journal.frames import Scan, count_rows, scan
from falcon_wsgi.backends.journal.observer import JournalObserver
from falcon_wsgi.backends.journal.segments import Checkpoint, Position, list_segments, segment_path

_LOG = logging.getLogger(__name__)
_CHUNK_BYTES = 192 * 1024
# To read this many holds the event loop for about a millisecond.
_MAX_FRAMES = 500
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Frame(NamedTuple):
    """A record ready to ship, and the position behind it."""

    payload: bytes
    rows: int
    after: Position


class Folder:
    """Reads records from `position` on, in order; forgets them once they are acknowledged or dropped.

    `end_sequence` and `end_bytes` say where the last segment ends. For the worker's own folder the writer
    moves them after each complete record, so that a reader never sees half of one.
    """

    def __init__(self, path: Path, lock_fd: int, observer: JournalObserver) -> None:
        self.path = path
        self.segments = list_segments(path)
        self._lock_fd = lock_fd
        self._observer = observer
        self._checkpoint = Checkpoint(path)
        self._checkpoint_failed = False
        self.end_sequence = self.end_bytes = 0
        self.position = self._recall()
        self._find_end()

    @classmethod
    def create(cls, root: Path, worker_id: str, observer: JournalObserver) -> Folder:
        """Make and lock a new folder. It gets its name only when it is locked, so that nobody adopts it
        before.

        Raises OSError if the disk does not allow it.
        """
        name = f"{worker_id}-{uuid.uuid4().hex}{ownership.LINES_SUFFIX}"
        unborn, path = root / f"{ownership.UNNAMED_PREFIX}{name}", root / name
        unborn.mkdir(mode=0o700, parents=True)
        try:
            lock_fd = ownership.lock(unborn)
            if lock_fd is None:
                raise OSError(errno.EBUSY, "the new folder is locked by another process")
            try:
                unborn.rename(path)
                return cls(path, lock_fd, observer)
            except OSError:
                os.close(lock_fd)
                raise
        except OSError:
            for remnant in (unborn, path):
                ownership.remove(remnant)
            raise

    @classmethod
    def adopt(cls, path: Path, observer: JournalObserver) -> Folder | None:
        """Take over a folder whose owner is dead; None if it is not, or if another process was faster."""
        lock_fd = ownership.lock(path)
        if lock_fd is None:
            return None
        try:
            return cls(path, lock_fd, observer)
        except BaseException:
            os.close(lock_fd)
            raise

    @property
    def unshipped(self) -> int:
        """Rows behind the checkpoint."""
        return max(0, self.end_sequence - self.position.sequence)

    def rows_in(self, segment: int) -> int:
        """Unshipped rows of one segment."""
        following = self._following(segment)
        end = self.end_sequence if following is None else following
        return max(0, end - max(segment, self.position.sequence))

    def read(self, max_rows: int, max_bytes: int) -> list[Frame]:
        """The next records from `position` on: about `max_rows` rows, `max_bytes` bytes or some 500 records, whichever
        comes first.
        """
        frames: list[Frame] = []
        rows = size = 0
        cursor = self.position
        while self.unshipped and rows < max_rows and size < max_bytes and len(frames) < _MAX_FRAMES:
            piece, behind = self._read_piece(cursor, max_rows - rows)
            if behind == cursor:
                break
            frames += piece
            rows += sum(frame.rows for frame in piece)
            size += sum(len(frame.payload) for frame in piece)
            cursor = behind
        if not frames and cursor != self.position:
            self.acknowledge(cursor, 0)
        return frames

    def acknowledge(self, after: Position, rows: int) -> None:
        """`rows` rows, all up to `after`, need not be kept any more."""
        lost = after.sequence - self.position.sequence - rows
        self._advance(after)
        if lost > 0:
            _LOG.error("journal_rows_corrupt", extra={"rows": lost, "folder": self.path.name})
            self._observer.event("corrupt", lost)

    def drop_oldest(self) -> range:
        """Delete the oldest segment, which must not be open for writing; the numbers of the rows lost with
        it.
        """
        sequence = self.position.sequence
        following = next((segment for segment in self.segments if segment > sequence), self.end_sequence)
        lost = range(sequence, following)
        self._advance(Position(following, 0, following))
        return lost

    def release(self) -> None:
        """Give the folder up: others may adopt what is left in it; if nothing is left it is removed."""
        self._checkpoint.close()
        if not self.unshipped:
            ownership.remove(self.path)
        os.close(self._lock_fd)

    def _recall(self) -> Position:
        saved = self._checkpoint.load()
        first = self.segments[0] if self.segments else 1
        if saved is None:
            return Position(first, 0, first)
        # A crash may have come between the checkpoint and the deletion of what lies before it.
        while self.segments and self.segments[0] < saved.segment:
            self._unlink(self.segments.pop(0))
        if not self.segments:
            return Position(saved.sequence, 0, saved.sequence)
        first = self.segments[0]
        # After the machine's death a file may be shorter than its checkpoint; then its start is read again.
        if first == saved.segment and saved.offset <= _size(self.path, first):
            return saved
        return Position(first, 0, first)

    def _find_end(self) -> None:
        """Count the rows of the last segment, whose name tells only where it starts."""
        self.end_sequence = self.position.sequence
        if not self.segments:
            return
        last = self.segments[-1]
        start = self.position if self.position.segment == last else Position(last, 0, last)
        self.end_bytes = _size(self.path, last)
        content = self._bytes_at(start, self.end_bytes)[0]
        # Headers alone tell the number of rows in a tenth of the time that checking them takes; the event loop waits
        # for this. Damage inside a record is found when it is read.
        rows, sound_to = count_rows(content)
        found = scan(content[sound_to:], max_rows=sys.maxsize, whole=True)
        self.end_sequence = start.sequence + rows + sum(span.rows for span in found.spans)
        if found.damaged:
            # How many rows a damaged stretch held cannot be known here; each counts as one.
            _LOG.error("journal_tail_corrupt", extra={"stretches": found.damaged, "folder": self.path.name})
            self._observer.event("corrupt", found.damaged)

    def _read_piece(self, cursor: Position, max_rows: int) -> tuple[list[Frame], Position]:
        """Records of one segment from `cursor` on, and the position behind them."""
        following, end_sequence = self._following(cursor.segment), self.end_sequence
        found, at_end = self._scan_at(cursor, max_rows)
        frames = []
        sequence = cursor.sequence
        for payload, rows, end in found.spans:
            sequence += rows
            frames.append(Frame(payload, rows, Position(cursor.segment, cursor.offset + end, sequence)))
        if not at_end:
            return frames, frames[-1].after if frames else cursor
        behind = (
            Position(cursor.segment, cursor.offset + found.end, end_sequence)
            if following is None
            else Position(following, 0, following)
        )
        if frames:
            frames[-1] = frames[-1]._replace(after=behind)
        return frames, behind

    def _scan_at(self, cursor: Position, max_rows: int) -> tuple[Scan, bool]:
        """Scan a chunk; if not even one record can be read from it, find one in the rest of the segment."""
        chunk, whole = self._bytes_at(cursor, _CHUNK_BYTES)
        found = scan(chunk, max_rows=max_rows, whole=whole)
        if not found.spans and not whole:
            chunk, whole = self._bytes_at(cursor, sys.maxsize)
            found = scan(chunk, max_rows=1, whole=True)
        return found, whole and found.end == len(chunk)

    def _bytes_at(self, cursor: Position, limit: int) -> tuple[bytes, bool]:
        """Up to `limit` bytes, and whether they reach the segment's end. An unreadable segment counts as
        empty.
        """
        try:
            fd = os.open(segment_path(self.path, cursor.segment), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return self._unreadable(error, cursor)
        try:
            is_last = self._following(cursor.segment) is None
            left = (self.end_bytes if is_last else os.fstat(fd).st_size) - cursor.offset
            chunk = os.pread(fd, max(0, min(left, limit)), cursor.offset)
            return chunk, len(chunk) >= left or len(chunk) < min(left, limit)
        except OSError as error:
            return self._unreadable(error, cursor)
        finally:
            os.close(fd)

    def _unreadable(self, error: OSError, cursor: Position) -> tuple[bytes, bool]:
        if error.errno in _SHORTAGES:
            raise error
        _LOG.error("journal_segment_unreadable", extra={"reason": error.strerror, "segment": cursor.segment})
        return b"", True

    def _following(self, segment: int) -> int | None:
        index = bisect_right(self.segments, segment)
        return self.segments[index] if index < len(self.segments) else None

    def _advance(self, position: Position) -> None:
        self.position = position
        try:
            self._checkpoint.save(position)
            self._checkpoint_failed = False
        except OSError as error:
            if not self._checkpoint_failed:
                _LOG.warning("journal_checkpoint_not_saved", extra={"reason": error.strerror})
            self._checkpoint_failed = True
        while self.segments and self.segments[0] < position.segment:
            self._unlink(self.segments.pop(0))

    def _unlink(self, segment: int) -> None:
        with suppress(OSError):
            os.unlink(segment_path(self.path, segment))


def _size(folder: Path, segment: int) -> int:
    try:
        return os.stat(segment_path(folder, segment)).st_size
    except OSError:
        return 0
