"""Group commit: few syncs for many waiters, and none too early."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from falcon_wsgi.backends.journal.commit import GroupCommit
from falcon_wsgi.backends.journal_files import JournalWriter


class Disk:
    """Counts syncs, and what was in each file when one began."""

    def __init__(self, sync: Callable[[int], None]) -> None:
        self._sync = sync
        self.syncs = 0
        self.synced_bytes = 0
        self.error: OSError | None = None

    def fdatasync(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        if self.error is not None:
            raise self.error
        self._sync(fd)
        self.syncs += 1
        self.synced_bytes = max(self.synced_bytes, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(os.fdatasync)
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    return disk


@pytest.fixture
def journal(tmp_path: Path, disk: Disk) -> Iterator[JournalWriter]:
    journal = JournalWriter.open(tmp_path / "journal", "worker-1", sync="group")
    yield journal
    journal.close()


def test_fifty_greenlets_share_their_syncs(journal: JournalWriter, disk: Disk) -> None:
    def write() -> None:
        for _ in range(20):
            journal.append(b'{"n":1}', 1)

    gevent.joinall([gevent.spawn(write) for _ in range(50)], raise_error=True)
    assert journal.depth == 1000
    assert disk.syncs <= 100


def test_a_record_is_on_disk_when_append_returns(journal: JournalWriter, disk: Disk) -> None:
    """The sync must have begun behind the write, not before."""
    late: list[int] = []

    def write() -> None:
        for _ in range(20):
            journal.append(b'{"n":1}', 1)
            assert journal.folder is not None
        late.append(disk.synced_bytes)

    def write_and_check() -> None:
        for _ in range(20):
            before = journal.folder.end_bytes  # type: ignore[union-attr]
            journal.append(b'{"n":1}', 1)
            assert disk.synced_bytes > before

    writers = [gevent.spawn(write_and_check), *(gevent.spawn(write) for _ in range(10))]
    gevent.joinall(writers, raise_error=True)
    assert len(late) == 10


def test_without_group_commit_nothing_is_synced(tmp_path: Path, disk: Disk) -> None:
    journal = JournalWriter.open(tmp_path / "journal", "worker-1")
    journal.append(b'{"n":1}', 1)
    journal.close()
    assert disk.syncs == 0


def test_a_segment_is_synced_before_it_is_closed(tmp_path: Path, disk: Disk) -> None:
    journal = JournalWriter.open(tmp_path / "journal", "worker-1", sync="group", max_records=640)
    gevent.joinall([gevent.spawn(journal.append, b'{"n":1}', 1) for _ in range(95)], raise_error=True)
    assert journal.depth == 95
    open_files = os.listdir("/proc/self/fd")
    journal.close()
    assert len(open_files) - len(os.listdir("/proc/self/fd")) <= 4


def test_a_failed_sync_releases_the_waiters_and_is_logged(
    journal: JournalWriter, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.error = OSError(5, "Input/output error")
    with caplog.at_level(logging.ERROR):
        journal.append(b'{"n":1}', 1)
    assert [record.message for record in caplog.records] == ["journal_sync_failed"]
    disk.error = None
    journal.append(b'{"n":2}', 1)
    assert journal.depth == 2


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    commit = GroupCommit(str(tmp_path))
    commit.close()
    commit.close()
