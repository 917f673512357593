"""What is still to be shipped: folders adopted from dead workers, the worker's own folder, its memory
queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from falcon_wsgi.backends.journal import rejected
from falcon_wsgi.backends.journal.adoption import adopt
from falcon_wsgi.backends.journal.folder import Folder, Frame
from falcon_wsgi.backends.journal.memory import MemoryQueue, Record
from falcon_wsgi.backends.journal.observer import JournalObserver
from falcon_wsgi.backends.journal.retention import Retention

_LOG = logging.getLogger(__name__)
_MAX_BATCH_BYTES = 1024 * 1024
_MAX_ADOPTED = 16
_MAX_ADOPTED_AT_ONCE = 4  # each is read to its end to count its rows, which takes up to some 10 ms
_MAINTENANCE_INTERVAL_S = 1.0


class Batch(Protocol):
    """Records taken to be shipped. They stay in the backlog until they are acknowledged."""

    @property
    def frames(self) -> Sequence[Frame | Record]: ...

    def acknowledge(self, frames: int) -> None:
        """The next `frames` records are dealt with for good."""

    def release(self) -> None:
        """Nothing more will be acknowledged; what is left may be taken again."""


class OwnRecords(Protocol):
    """The worker's own part of the backlog."""

    folder: Folder | None
    memory: MemoryQueue

    @property
    def depth(self) -> int: ...

    def try_disk_again(self) -> bool: ...

    def close_oldest(self) -> None: ...


class Backlog:
    """For one consumer: one batch is out at a time."""

    def __init__(
        self,
        journal: OwnRecords,
        root: Path,
        retention: Retention,
        observer: JournalObserver,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._root = root
        self._retention = retention
        self._observer = observer
        self._clock = clock
        self._adopted: list[Folder] = []
        self._batch: DiskBatch | MemoryBatch | None = None
        self._maintain_at = float("-inf")

    @property
    def depth(self) -> int:
        """Unshipped rows that this process holds, adopted ones among them."""
        return self._journal.depth + sum(folder.unshipped for folder in self._adopted)

    @property
    def volatile(self) -> bool:
        """Whether some rows are in memory only and die with the process."""
        return self._journal.memory.rows > 0

    def take(self, max_rows: int, *, own_only: bool = False) -> Batch | None:
        """The oldest records, about `max_rows` rows or 1 MiB of them; None if there are none.

        Raises:
            RuntimeError: the last batch was not released.
        """
        if self._batch is not None:
            raise RuntimeError("the last batch is still out")
        self._batch = (None if own_only else self._take_adopted(max_rows)) or self._take_own(max_rows)
        return self._batch

    def maintain(self) -> None:
        """Adopt, keep the bound, try a broken disk again, report the depth. Cheap; at most once a second in
        effect.
        """
        now = self._clock()
        if now < self._maintain_at:
            return
        self._maintain_at = now + _MAINTENANCE_INTERVAL_S
        try:
            self._journal.try_disk_again()
            held = {folder.path.name for folder in self._held()}
            room = min(_MAX_ADOPTED_AT_ONCE, _MAX_ADOPTED - len(self._adopted))
            self._adopted += adopt(self._root, held, room, self._observer)
            self.keep_bound()
        except OSError as error:
            _LOG.warning("journal_maintenance_failed", extra={"reason": error.strerror})
        self._observer.depth(self.depth)

    def keep_bound(self) -> None:
        """Drop the oldest segments past the bound."""
        try:
            self._retention.enforce(self._held(), self._drop_oldest)
        except OSError as error:
            _LOG.warning("journal_bound_not_checked", extra={"reason": error.strerror})

    def reject(self, payload: bytes) -> str | None:
        """Put rows aside that the database refuses; their file's name, None if they were not kept."""
        return rejected.keep(self._root, payload)

    def close(self) -> None:
        """Give the adopted folders up; what is left in them is for others."""
        for folder in self._adopted:
            folder.release()
        self._adopted.clear()

    def returned(self) -> None:
        """The batch that was out is released."""
        self._batch = None
        self._forget_finished()

    def _held(self) -> list[Folder]:
        own = self._journal.folder
        return self._adopted if own is None else [*self._adopted, own]

    def _take_adopted(self, max_rows: int) -> DiskBatch | None:
        for folder in self._adopted:
            if frames := folder.read(max_rows, _MAX_BATCH_BYTES):
                return DiskBatch(self, folder, frames, self._observer)
        self._forget_finished()
        return None

    def _take_own(self, max_rows: int) -> DiskBatch | MemoryBatch | None:
        own, memory = self._journal.folder, self._journal.memory
        if own is not None and (frames := own.read(max_rows, _MAX_BATCH_BYTES)):
            return DiskBatch(self, own, frames, self._observer)
        # Behind the disk's: records go to memory only after it failed, and to the disk again only from there.
        if records := memory.first(max_rows, _MAX_BATCH_BYTES):
            return MemoryBatch(self, memory, records)
        return None

    def _forget_finished(self) -> None:
        for folder in [folder for folder in self._adopted if not folder.unshipped]:
            self._adopted.remove(folder)
            folder.release()

    def _drop_oldest(self, folder: Folder) -> int:
        if folder is self._journal.folder:
            self._journal.close_oldest()
        dropped = folder.drop_oldest()
        lost = len(dropped)
        if isinstance(self._batch, DiskBatch) and self._batch.folder is folder:
            lost = self._batch.dropped(dropped)
        if lost:
            self._observer.event("dropped", lost)
        return len(dropped)


class DiskBatch:
    """Records of one folder."""

    def __init__(
        self, backlog: Backlog, folder: Folder, frames: list[Frame], observer: JournalObserver
    ) -> None:
        self.frames = frames
        self.folder = folder
        self._backlog = backlog
        self._observer = observer
        self._next = 0
        self._end = frames[-1].after.sequence
        self._shipped_to = self._dropped_to = folder.position.sequence

    def acknowledge(self, frames: int) -> None:
        done = self.frames[self._next : self._next + frames]
        self._next += frames
        self._shipped_to = done[-1].after.sequence
        kept_from = self.folder.position.sequence
        if self._shipped_to > kept_from:
            rows = sum(frame.rows for frame in done if frame.after.sequence > kept_from)
            self.folder.acknowledge(done[-1].after, rows)

    def dropped(self, sequences: range) -> int:
        """The bound took these rows from the disk: how many of them are lost now. Those that are out in
        this batch may still arrive, so they count as lost only when it is released without them."""
        self._dropped_to = min(sequences.stop, self._end)
        return max(0, sequences.stop - max(sequences.start, self._end))

    def release(self) -> None:
        lost = self._dropped_to - self._shipped_to
        if lost > 0:
            self._observer.event("dropped", lost)
        self._backlog.returned()


class MemoryBatch:
    """Records that are not on the disk."""

    def __init__(self, backlog: Backlog, memory: MemoryQueue, records: list[Record]) -> None:
        self.frames = records
        self._backlog = backlog
        self._memory = memory
        self._spills = memory.spills

    def acknowledge(self, frames: int) -> None:
        # Written to disk while they were out, they ship again from there; the table's key absorbs it.
        if self._memory.spills == self._spills:
            self._memory.remove_first(frames)

    def release(self) -> None:
        self._backlog.returned()
