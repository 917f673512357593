"""What the journal tells about itself."""

from __future__ import annotations

from typing import Literal, Protocol

JournalEvent = Literal[
    "written", "buffered", "shipped", "duplicate", "adopted", "dropped", "corrupt", "rejected"
]


class JournalObserver(Protocol):
    """Hears of rows: `written` to disk, `buffered` in memory, `adopted` from a dead worker, `dropped` for
    want of room, lost as `corrupt`. The shipper adds `shipped`, `duplicate` and `rejected`."""

    def event(self, kind: JournalEvent, count: int) -> None: ...

    def depth(self, rows: int) -> None:
        """Rows that this process holds and has not shipped."""


class NullJournalObserver:
    def event(self, kind: JournalEvent, count: int) -> None:
        pass

    def depth(self, rows: int) -> None:
        pass
