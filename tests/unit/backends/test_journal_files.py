"""One worker's journal: what is appended is what can be taken, whatever happens to files and disk in between."""

from __future__ import annotations

import json
import os
import re
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi import log_rows
from falcon_wsgi.backends.journal import ownership
from falcon_wsgi.backends.journal_files import JournalWriter
from falcon_wsgi.errors import ConfigurationError


class Events(Counter[str]):
    """A journal observer that counts."""

    rows_left = -1

    def event(self, kind: str, count: int) -> None:
        self[kind] += count

    def depth(self, rows: int) -> None:
        self.rows_left = rows


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """Opens journals below one root, with one clock and one observer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events = Events()
        self.clock = FakeClock()
        self.opened: list[JournalWriter] = []

    def open(self, worker_id: str = "worker-1", **options: Any) -> JournalWriter:
        journal = JournalWriter.open(self.root, worker_id, observer=self.events, clock=self.clock, **options)
        self.opened.append(journal)
        return journal

    def kill(self, journal: JournalWriter) -> None:
        """What the kernel does with a dead process: descriptors are closed, nothing else happens."""
        assert journal.folder is not None
        os.close(journal.folder._lock_fd)
        journal.folder = None

    def pass_time(self, seconds: float = 2.0) -> None:
        self.clock.now += seconds


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "journal")
    yield stage
    for journal in stage.opened:
        journal.close()


def row(number: int) -> bytes:
    return b'{"n":%06d}' % number


def append(journal: JournalWriter, *numbers: int) -> None:
    for number in numbers:
        journal.append(row(number), 1)


def take(journal: JournalWriter, max_rows: int = 10_000, **options: Any) -> list[bytes]:
    """Take one batch and give it back untouched."""
    batch = journal.backlog.take(max_rows, **options)
    if batch is None:
        return []
    batch.release()
    return [frame.payload for frame in batch.frames]


def ship(journal: JournalWriter, max_rows: int = 10_000) -> list[bytes]:
    """Take and acknowledge all there is, `max_rows` at a time."""
    shipped = []
    while (batch := journal.backlog.take(max_rows)) is not None:
        shipped += [frame.payload for frame in batch.frames]
        batch.acknowledge(len(batch.frames))
        batch.release()
    return shipped


def segments(journal: JournalWriter) -> list[Path]:
    assert journal.folder is not None
    return sorted(journal.folder.path.glob("*.seg"))


@contextmanager
def disk_that_refuses(journal: JournalWriter, after_bytes: int = 0) -> Iterator[None]:
    """No file of this process can grow past the open segment's size plus `after_bytes` (EFBIG, short writes)."""
    size = max((path.stat().st_size for path in segments(journal)), default=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + after_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_appended_is_taken_in_order(stage: Stage) -> None:
    journal = stage.open()
    append(journal, *range(25))
    assert journal.depth == 25
    assert ship(journal, max_rows=10) == [row(n) for n in range(25)]
    assert journal.depth == 0
    assert stage.events == {"written": 25}


def test_an_empty_journal_is_no_reason_to_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    journal = stage.open()
    assert take(journal) == []
    append(journal, 0)
    ship(journal)
    assert take(journal) == []
    assert caplog.records == []


def test_a_record_of_many_rows_is_taken_whole(stage: Stage) -> None:
    journal = stage.open()
    journal.append(b",".join(row(n) for n in range(50)), 50)
    append(journal, 50)
    batch = journal.backlog.take(1)
    assert batch is not None
    assert [frame.rows for frame in batch.frames] == [50]
    batch.acknowledge(1)
    batch.release()
    assert journal.depth == 1


def test_a_batch_that_is_released_is_taken_again(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0, 1, 2)
    assert take(journal) == take(journal) == [row(0), row(1), row(2)]


def test_half_a_batch_can_be_acknowledged(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0, 1, 2)
    batch = journal.backlog.take(10)
    assert batch is not None
    batch.acknowledge(1)
    batch.acknowledge(1)
    batch.release()
    assert take(journal) == [row(2)]


def test_only_one_batch_is_out_at_a_time(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0)
    batch = journal.backlog.take(1)
    assert batch is not None
    with pytest.raises(RuntimeError, match="still out"):
        journal.backlog.take(1)
    batch.release()


def test_shipped_segments_are_deleted(stage: Stage) -> None:
    journal = stage.open(max_records=640)  # 10 rows a segment
    append(journal, *range(95))
    assert len(segments(journal)) == 10
    assert ship(journal, max_rows=7) == [row(n) for n in range(95)]
    assert len(segments(journal)) == 1
    append(journal, 95)
    assert ship(journal) == [row(95)]


def test_a_batch_is_bounded_in_bytes(stage: Stage) -> None:
    journal = stage.open()
    for _ in range(8):
        journal.append(b'{"t":"%b"}' % (b"x" * 1_000_000), 1)
    assert len(take(journal)) == 2
    assert len(ship(journal)) == 8


def test_a_closed_journal_with_nothing_left_leaves_no_file(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0)
    ship(journal)
    journal.close()
    assert list(stage.root.iterdir()) == []


def test_what_a_closed_journal_leaves_is_adopted(stage: Stage) -> None:
    first = stage.open("worker-1")
    append(first, 0, 1, 2)
    batch = first.backlog.take(1)
    assert batch is not None
    batch.acknowledge(1)
    batch.release()
    first.close()
    second = stage.open("worker-2")
    second.backlog.maintain()
    assert second.backlog.depth == 2
    assert second.depth == 0
    assert ship(second) == [row(1), row(2)]
    assert stage.events["adopted"] == 2
    assert [path.name for path in stage.root.iterdir()] == [second.folder.path.name]  # type: ignore[union-attr]


def test_a_living_journal_is_not_adopted(stage: Stage) -> None:
    first, second = stage.open("worker-1"), stage.open("worker-2")
    append(first, 0)
    second.backlog.maintain()
    assert second.backlog.depth == 0
    assert ship(first) == [row(0)]


def test_a_dead_journal_is_adopted_by_one_only(stage: Stage) -> None:
    dead, first, second = stage.open("dead"), stage.open("worker-1"), stage.open("worker-2")
    append(dead, 0)
    stage.kill(dead)
    first.backlog.maintain()
    second.backlog.maintain()
    assert (first.backlog.depth, second.backlog.depth) == (1, 0)


def test_adoption_is_looked_for_at_most_once_a_second(stage: Stage) -> None:
    journal, dead = stage.open(), stage.open("dead")
    journal.backlog.maintain()
    append(dead, 0)
    stage.kill(dead)
    stage.pass_time(0.9)
    journal.backlog.maintain()
    assert journal.backlog.depth == 0
    stage.pass_time(0.2)
    journal.backlog.maintain()
    assert journal.backlog.depth == 1


def test_a_folder_of_an_earlier_version_is_adopted_and_shipped(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, 0, 1)
    assert dead.folder is not None
    path = dead.folder.path
    stage.kill(dead)
    path.rename(path.with_suffix(""))
    journal.backlog.maintain()
    assert ship(journal) == [row(0), row(1)]
    assert not path.with_suffix("").exists()


def test_earlier_versions_leave_folders_of_this_one_alone(stage: Stage) -> None:
    """They would read its lines as JSON, and put every row aside as rejected."""
    journal = stage.open()
    assert journal.folder is not None
    earlier = re.compile(r"(?:\.new-)?[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{32}")
    assert not earlier.fullmatch(journal.folder.path.name)
    assert ownership.is_folder_name(journal.folder.path.name)


def test_a_flush_takes_nothing_of_the_dead(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, 0)
    stage.kill(dead)
    append(journal, 1)
    journal.backlog.maintain()
    assert take(journal, own_only=True) == [row(1)]
    assert take(journal) == [row(0)]


def test_adopted_rows_go_first(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, 0)
    append(journal, 1)
    stage.kill(dead)
    journal.backlog.maintain()
    assert ship(journal) == [row(0), row(1)]


def test_folders_that_are_not_the_journals_own_are_never_touched(stage: Stage) -> None:
    """JOURNAL_DIR may be a folder that holds other things too."""
    stage.root.mkdir()
    for name in ("rejected", "photos", "worker-1", ".new-x"):
        (stage.root / name).mkdir()
        (stage.root / name / "00000000000000000001.seg").write_bytes(b"mine")
        (stage.root / name / "lock").write_bytes(b"mine")
    journal = stage.open()
    journal.backlog.maintain()
    journal.close()
    assert len(list(stage.root.rglob("*.seg"))) == len(list(stage.root.rglob("lock"))) == 4


def test_a_stray_file_in_an_adopted_folder_is_kept(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, 0)
    assert dead.folder is not None
    stray = dead.folder.path / "notes.txt"
    stray.write_text("keep")
    stage.kill(dead)
    journal.backlog.maintain()
    ship(journal)
    assert stray.read_text() == "keep"


def test_a_folder_in_the_making_is_left_alone_until_it_is_old(stage: Stage) -> None:
    unborn = stage.root / (".new-worker-1-" + "0" * 32)
    unborn.mkdir(parents=True)
    journal = stage.open()
    journal.backlog.maintain()
    assert unborn.exists()
    os.utime(unborn, (0, 0))
    stage.pass_time()
    journal.backlog.maintain()
    assert not unborn.exists()


def test_a_lost_checkpoint_means_shipping_again(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, 0, 1)
    batch = dead.backlog.take(1)
    assert batch is not None
    batch.acknowledge(1)
    batch.release()
    assert dead.folder is not None
    (dead.folder.path / "checkpoint").write_bytes(b"00000000000000000001 garbage")
    stage.kill(dead)
    journal.backlog.maintain()
    assert ship(journal) == [row(0), row(1)]


def test_a_file_shorter_than_its_checkpoint_is_read_from_its_start(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, 0, 1, 2)
    ship(dead)
    assert dead.folder is not None
    os.truncate(segments(dead)[0], 2 * (12 + len(row(0))))
    stage.kill(dead)
    journal.backlog.maintain()
    assert ship(journal) == [row(0), row(1)]


def test_a_torn_tail_of_a_dead_worker_is_passed_over(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, 0, 1)
    path = segments(dead)[0]
    stage.kill(dead)
    os.truncate(path, path.stat().st_size - 3)
    journal.backlog.maintain()
    assert ship(journal) == [row(0)]
    assert stage.events["corrupt"] == 0


def test_damage_in_the_last_segment_of_a_dead_worker_is_skipped_and_counted(stage: Stage) -> None:
    dead, journal = stage.open("dead"), stage.open()
    append(dead, *range(5))
    path = segments(dead)[0]
    stage.kill(dead)
    damage(path, at=2 * (12 + len(row(0))) + 15)
    journal.backlog.maintain()
    assert ship(journal) == [row(0), row(1), row(3), row(4)]
    assert stage.events["corrupt"] == 1
    assert len(list(stage.root.iterdir())) == 1


def test_damage_in_a_closed_segment_is_counted_in_rows(stage: Stage) -> None:
    journal = stage.open(max_records=640)
    append(journal, *range(25))
    damage(segments(journal)[0], at=2 * (12 + len(row(0))) + 15)
    damage(segments(journal)[0], at=3 * (12 + len(row(0))) + 15)
    assert ship(journal) == [row(n) for n in range(25) if n not in (2, 3)]
    assert stage.events["corrupt"] == 2
    assert journal.depth == 0


def test_a_segment_that_is_all_damage_does_not_stop_the_rest(stage: Stage) -> None:
    journal = stage.open(max_records=640)
    append(journal, *range(25))
    segments(journal)[0].write_bytes(b"\0" * 300)
    segments(journal)[1].unlink()
    assert ship(journal) == [row(n) for n in range(20, 25)]
    assert stage.events["corrupt"] == 20


def test_a_refusing_disk_costs_no_record(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0)
    with disk_that_refuses(journal):
        append(journal, 1, 2)
        assert journal.depth == 3
        assert journal.backlog.volatile
    stage.pass_time()
    append(journal, 3)
    assert not journal.backlog.volatile
    assert ship(journal) == [row(n) for n in range(4)]
    assert stage.events["buffered"] == 2
    assert stage.events["dropped"] == 0


def test_a_short_write_leaves_no_torn_record(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0)
    sound = segments(journal)[0].read_bytes()
    with disk_that_refuses(journal, after_bytes=5):
        append(journal, 1)
    assert segments(journal)[0].read_bytes() == sound
    stage.pass_time()
    append(journal, 2)
    stage.kill(journal)
    other = stage.open("worker-2")
    other.backlog.maintain()
    assert ship(other) == [row(0), row(1), row(2)]
    assert stage.events["corrupt"] == 0


def test_the_memory_queue_ships_while_the_disk_refuses(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0)
    with disk_that_refuses(journal):
        append(journal, 1, 2)
        assert ship(journal, max_rows=1) == [row(0), row(1), row(2)]
        assert journal.depth == 0


def test_what_the_memory_queue_cannot_hold_is_dropped_and_counted(stage: Stage) -> None:
    journal = stage.open(memory_rows=10)
    with disk_that_refuses(journal):
        append(journal, *range(25))
        assert stage.events == {"buffered": 10, "dropped": 15}
        assert ship(journal) == [row(n) for n in range(10)]


def test_a_refusing_disk_is_tried_once_a_second(stage: Stage) -> None:
    journal = stage.open()
    with disk_that_refuses(journal):
        append(journal, 0)
    append(journal, 1)
    assert stage.events == {"buffered": 2}
    stage.pass_time(1.1)
    append(journal, 2)
    assert stage.events == {"buffered": 2, "written": 3}


def test_the_disk_is_tried_again_without_new_records_too(stage: Stage) -> None:
    journal = stage.open()
    with disk_that_refuses(journal):
        append(journal, 0)
    stage.pass_time()
    journal.backlog.maintain()
    assert not journal.backlog.volatile
    assert stage.events["written"] == 1


def test_rows_that_reach_the_disk_while_they_are_out_ship_again(stage: Stage) -> None:
    journal = stage.open()
    with disk_that_refuses(journal):
        append(journal, 0, 1)
    batch = journal.backlog.take(10)
    assert batch is not None
    stage.pass_time()
    append(journal, 2)
    batch.acknowledge(2)
    batch.release()
    assert ship(journal) == [row(0), row(1), row(2)]


def test_memory_that_cannot_be_saved_at_the_end_is_counted_as_dropped(stage: Stage) -> None:
    journal = stage.open()
    with disk_that_refuses(journal):
        append(journal, 0, 1)
        journal.close()
    assert stage.events["dropped"] == 2


def test_memory_is_saved_at_the_end_if_the_disk_is_back(stage: Stage) -> None:
    journal = stage.open()
    with disk_that_refuses(journal):
        append(journal, 0, 1)
    journal.close()
    other = stage.open("worker-2")
    other.backlog.maintain()
    assert ship(other) == [row(0), row(1)]


def test_a_full_disk_does_not_prevent_the_start(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ownership, "lock", full)
        journal = stage.open()
        append(journal, 0)
        assert journal.folder is None
    stage.pass_time()
    append(journal, 1)
    assert ship(journal) == [row(0), row(1)]
    assert stage.events["written"] == 2


def test_a_root_that_cannot_be_a_folder_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="JOURNAL_DIR"):
        JournalWriter.open(tmp_path / "file" / "journal", "worker-1")


def test_a_closed_journal_drops_and_counts(stage: Stage) -> None:
    journal = stage.open()
    journal.close()
    append(journal, 0)
    assert stage.events == {"dropped": 1}


def test_rejected_rows_are_kept_as_json_for_a_person_to_read(stage: Stage) -> None:
    journal = stage.open()
    fields = ["0190", *[log_rows.NULL] * (len(log_rows.COLUMNS) - 2), log_rows.document({"text": "a\tb"})]
    line = "\t".join(fields).encode() + b"\n"
    for payload, expected in ((line * 2, [("0190", {"text": "a\tb"})] * 2), (b"no \xff row", None)):
        name = journal.backlog.reject(payload)
        assert name is not None
        kept = json.loads((stage.root / "rejected" / name).read_bytes())
        if expected is None:
            assert kept == ["no \ufffd row"]
        else:
            assert [(row["event_id"], row["payload"]) for row in kept] == expected


def test_rejected_rows_are_kept_up_to_a_bound(stage: Stage) -> None:
    journal = stage.open()
    name = journal.backlog.reject(row(1))
    assert name is not None
    assert (stage.root / "rejected" / name).read_bytes() == b"[" + row(1) + b"]\n"
    assert journal.backlog.reject(b"x" * (16 * 1024 * 1024)) is None


def test_depth_is_reported(stage: Stage) -> None:
    journal = stage.open()
    append(journal, 0, 1)
    journal.backlog.maintain()
    assert stage.events.rows_left == 2


def damage(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
