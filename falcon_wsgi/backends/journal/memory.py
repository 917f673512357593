"""Where records wait while the disk refuses them."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple


class Record(NamedTuple):
    payload: bytes
    rows: int


class MemoryQueue:
    """At most `max_rows` rows and `max_bytes` bytes, oldest first. They die with the process, so this is
    for a broken disk only."""

    def __init__(self, max_rows: int, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._records: deque[Record] = deque()
        self._bytes = 0
        self.rows = 0
        self.spills = 0
        """How often records left for the disk; a batch taken before knows by it that its rows ship again
        from there.
        """

    def put(self, record: Record) -> bool:
        """False if the queue has no room for it."""
        if self.rows + record.rows > self._max_rows or self._bytes + len(record.payload) > self._max_bytes:
            return False
        self._records.append(record)
        self.rows += record.rows
        self._bytes += len(record.payload)
        return True

    def first(self, max_rows: int, max_bytes: int) -> list[Record]:
        """The oldest records up to either limit, at least one if there is any; they stay in the queue."""
        taken = rows = size = 0
        for record in self._records:
            rows, size = rows + record.rows, size + len(record.payload)
            if taken and (rows > max_rows or size > max_bytes):
                break
            taken += 1
        return list(islice(self._records, taken))

    def remove_first(self, records: int) -> None:
        for _ in range(records):
            record = self._records.popleft()
            self.rows -= record.rows
            self._bytes -= len(record.payload)

    def clear(self) -> int:
        """Forget everything; the number of rows that were in it."""
        rows, self.rows, self._bytes = self.rows, 0, 0
        self.spills += 1
        self._records.clear()
        return rows
