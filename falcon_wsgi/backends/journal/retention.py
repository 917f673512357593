"""The bound on unshipped rows over all folders of one journal root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from falcon_wsgi.backends.journal.adoption import folders
from falcon_wsgi.backends.journal.folder import Folder
from falcon_wsgi.backends.journal.frames import count_rows
from falcon_wsgi.backends.journal.segments import Checkpoint, list_segments, segment_path


class _Segment(NamedTuple):
    written_ns: int
    rows: int
    folder: Folder | None


class _Foreign(NamedTuple):
    """Another process's folder as its file names tell it: (segment, unshipped rows), the open one apart."""

    path: Path
    closed: list[tuple[int, int]]
    open: int
    shipped_to: int


class _Counted(NamedTuple):
    segment: int
    offset: int
    rows: int


class Retention:
    """Deletes the globally oldest segments past `max_rows`; each process only those that it holds.

    All processes of the root see the same order (time of the last write), so together they delete its head,
    and none needs to wait for another. Should a holder not do its part for `patience_s` (it hangs, or
    nothing runs in it), the others make the room in their own folders, a segment a pass.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_rows: int,
        segment_rows: int,
        patience_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._max_rows = max_rows
        self._segment_rows = segment_rows
        self._patience_s = patience_s
        self._clock = clock
        self._left_to_others_since: float | None = None
        self._counted: dict[Path, _Counted] = {}

    def enforce(self, held: Sequence[Folder], drop_oldest: Callable[[Folder], int]) -> None:
        """Call `drop_oldest`, which returns the rows it freed, as often as the bound needs."""
        foreign = self._foreign({folder.path.name for folder in held})
        certain = sum(folder.unshipped for folder in held)
        certain += sum(rows for other in foreign for _, rows in other.closed)
        # An open segment holds fewer rows than one that is due for rotation. Reading them can wait until it
        # matters.
        if certain + len(foreign) * self._segment_rows <= self._max_rows:
            self._left_to_others_since = None
            return
        segments = [*self._held_segments(held), *self._foreign_segments(foreign)]
        excess = sum(segment.rows for segment in segments) - self._max_rows
        left = self._drop(sorted(segments, key=lambda segment: segment.written_ns), excess, drop_oldest)
        self._make_room_for_others(held, left, drop_oldest)

    def _drop(self, segments: list[_Segment], excess: int, drop_oldest: Callable[[Folder], int]) -> int:
        """Drop what is ours among the oldest; the rows that others have to drop."""
        left = 0
        for segment in segments:
            if excess <= 0:
                break
            if segment.folder is not None:
                excess -= drop_oldest(segment.folder)
            else:
                excess -= segment.rows
                left += segment.rows
        return left

    def _make_room_for_others(
        self, held: Sequence[Folder], left: int, drop_oldest: Callable[[Folder], int]
    ) -> None:
        if left == 0:
            self._left_to_others_since = None
            return
        now = self._clock()
        if self._left_to_others_since is None:
            self._left_to_others_since = now
        if now - self._left_to_others_since < self._patience_s:
            return
        for folder in held:
            if folder.unshipped:
                drop_oldest(folder)
                return

    def _held_segments(self, held: Sequence[Folder]) -> list[_Segment]:
        return [
            _Segment(_written_ns(folder.path, segment), rows, folder)
            for folder in held
            for segment in folder.segments
            if (rows := folder.rows_in(segment))
        ]

    def _foreign_segments(self, foreign: list[_Foreign]) -> list[_Segment]:
        segments = []
        for other in foreign:
            for segment, rows in [*other.closed, (other.open, self._open_rows(other))]:
                if rows:
                    segments.append(_Segment(_written_ns(other.path, segment), rows, None))
        self._counted = {
            other.path: self._counted[other.path] for other in foreign if other.path in self._counted
        }
        return segments

    def _foreign(self, held: set[str]) -> list[_Foreign]:
        found = []
        with suppress(FileNotFoundError):
            for name in set(folders(self._root)) - held:
                path = self._root / name
                # Its owner may remove it at any moment, or it may be another user's.
                with suppress(OSError):
                    if segments := list_segments(path):
                        saved = Checkpoint(path).load()
                        shipped_to = saved.sequence if saved else 0
                        closed = [
                            (first, max(0, following - max(first, shipped_to)))
                            for first, following in pairwise(segments)
                        ]
                        found.append(_Foreign(path, closed, segments[-1], shipped_to))
        return found

    def _open_rows(self, other: _Foreign) -> int:
        """Unshipped rows of another's open segment; only what was added since the last count is read."""
        last = self._counted.get(other.path)
        if last is None or last.segment != other.open:
            last = _Counted(other.open, 0, 0)
        with suppress(OSError), open(segment_path(other.path, other.open), "rb") as file:
            file.seek(last.offset)
            rows, end = count_rows(file.read())
            last = _Counted(other.open, last.offset + end, last.rows + rows)
        self._counted[other.path] = last
        return max(0, last.rows - max(0, other.shipped_to - other.open))


def _written_ns(folder: Path, segment: int) -> int:
    try:
        return os.stat(segment_path(folder, segment)).st_mtime_ns
    except OSError:
        return 0
