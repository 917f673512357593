"""Appending records to the open segment of the worker's own folder."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

from falcon_wsgi.backends.journal.commit import GroupCommit
from falcon_wsgi.backends.journal.folder import Folder
from falcon_wsgi.backends.journal.segments import segment_path

_LOG = logging.getLogger(__name__)
_NO_FILE = -1


class SegmentWriter:
    """One `os.write` for each record; a new segment after `segment_bytes` or `segment_rows`.

    When the disk refuses, `write` says so by returning False, and the segment is cut back to its last
    complete record; whether and when to try again is the caller's affair.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        segment_rows: int,
        segment_bytes: int,
        commit: GroupCommit | None,
        on_rotate: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._segment_rows = segment_rows
        self._segment_bytes = segment_bytes
        self._commit = commit
        self._on_rotate = on_rotate
        self._fd = _NO_FILE
        self._rows = 0

    def open_segment(self) -> bool:
        """Close the open segment and start the next; False if the disk refuses."""
        self.close_segment()
        folder = self._folder
        first = folder.end_sequence
        # O_TRUNC: a segment of this name can only be one that the disk refused before its first complete
        # record.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(segment_path(folder.path, first), flags, 0o600)
        except OSError as error:
            return self._refused(error)
        if not folder.segments or folder.segments[-1] != first:
            folder.segments.append(first)
        folder.end_bytes = self._rows = 0
        if self._commit is not None:
            self._commit.follow(self._fd)
        return True

    def write(self, record: bytes, rows: int) -> bool:
        """Whether the record is in the segment, and so survives the death of this process."""
        if self._fd == _NO_FILE and not self.open_segment():
            return False
        try:
            written = os.write(self._fd, record)
        except OSError as error:
            return self._refused(error)
        if written != len(record):
            return self._refused(OSError(errno.ENOSPC, "short write"))
        folder = self._folder
        folder.end_bytes += written
        folder.end_sequence += rows
        self._rows += rows
        if self._rows >= self._segment_rows or folder.end_bytes >= self._segment_bytes:
            # Opened at once, not by the next record: other processes count the closed segment by its
            # follower's name.
            self.open_segment()
            self._on_rotate()
        return True

    def sync(self) -> None:
        """With group commit: wait until what was written is safe from the machine's death too.

        A sync that fails is logged and not repeated: the kernel forgets such pages, so a second one would
        lie.
        """
        if self._commit is not None:
            self._commit.wait()

    def close_segment(self) -> None:
        if self._fd == _NO_FILE:
            return
        if self._commit is not None:
            self._commit.retire()
        else:
            os.close(self._fd)
        self._fd = _NO_FILE

    def close(self) -> None:
        self.close_segment()
        if self._commit is not None:
            self._commit.close()

    def _refused(self, error: OSError) -> bool:
        """Cut a torn record off, so that the next one follows a sound one; False."""
        # Before anything that could switch to another greenlet, which would write behind the torn bytes.
        if self._fd != _NO_FILE:
            try:
                os.ftruncate(self._fd, self._folder.end_bytes)
            except OSError:
                # The torn tail stays, in a segment to which nothing is added any more.
                self.close_segment()
        _LOG.error("journal_disk_refused", extra={"reason": error.strerror, "errno": error.errno})
        return False
