"""The bound on unshipped rows: over all folders, oldest first, counted exactly."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from falcon_wsgi.backends.journal_files import Batch, JournalWriter


class Events(Counter[str]):
    def event(self, kind: str, count: int) -> None:
        self[kind] += count

    def depth(self, rows: int) -> None:
        pass


class Fleet:
    """Several writers below one root. Each append is stamped a millisecond after the one before."""

    def __init__(self, root: Path, max_records: int) -> None:
        self.root = root
        self.max_records = max_records
        self.now = 0.0
        self.written = 0
        self.events: list[Events] = []
        self.writers: list[JournalWriter] = []

    def add(self) -> JournalWriter:
        self.events.append(Events())
        self.writers.append(
            JournalWriter.open(
                self.root,
                f"worker-{len(self.writers) + 1}",
                max_records=self.max_records,
                observer=self.events[-1],
                clock=lambda: self.now,
            )
        )
        return self.writers[-1]

    def append(self, writer: JournalWriter, rows: int = 1) -> None:
        writer.append(b",".join(b'{"n":%d}' % (self.written + n) for n in range(rows)), rows)
        self.written += rows
        assert writer.folder is not None
        # Real times of such quick appends could be equal, and then the order would be left to chance.
        for segment in writer.folder.segments[-2:]:
            stamp = 1_000_000 * self.written
            os.utime(writer.folder.path / f"{segment:020d}.seg", ns=(stamp, stamp))

    def pass_of_all(self, seconds: float = 1.1) -> None:
        self.now += seconds
        for writer in self.writers:
            writer.backlog.maintain()

    @property
    def depth(self) -> int:
        return sum(writer.backlog.depth for writer in self.writers)

    def count(self, kind: str) -> int:
        return sum(events[kind] for events in self.events)

    def left(self) -> list[int]:
        """Ship everything; the numbers of the rows that were left."""
        numbers: list[int] = []
        for writer in self.writers:
            while (batch := writer.backlog.take(10)) is not None:
                numbers += numbers_in(batch)
                batch.acknowledge(len(batch.frames))
                batch.release()
        return sorted(numbers)


def numbers_in(batch: Batch) -> list[int]:
    return [row["n"] for frame in batch.frames for row in json.loads(b"[%b]" % frame.payload)]


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "journal", getattr(request, "param", 100))
    yield fleet
    for writer in fleet.writers:
        writer.close()


def test_under_the_bound_nothing_is_dropped(fleet: Fleet) -> None:
    writers = [fleet.add() for _ in range(4)]
    for n in range(100):
        fleet.append(writers[n % 4])
    fleet.pass_of_all()
    assert fleet.count("dropped") == 0
    assert fleet.left() == list(range(100))


def test_four_writers_together_keep_the_newest_rows_up_to_the_bound(fleet: Fleet) -> None:
    writers = [fleet.add() for _ in range(4)]
    for n in range(1000):
        fleet.append(writers[n % 4])
        assert fleet.depth <= 110
    fleet.pass_of_all()
    assert fleet.count("dropped") == 1000 - fleet.depth
    assert fleet.left() == list(range(900, 1000))


def test_the_oldest_rows_go_first_whoever_holds_them(fleet: Fleet) -> None:
    old, new = fleet.add(), fleet.add()
    for _ in range(60):
        fleet.append(old)
    for _ in range(60):
        fleet.append(new)
    fleet.pass_of_all()
    assert [events["dropped"] for events in fleet.events] == [20, 0]
    assert fleet.left() == list(range(20, 120))


@pytest.mark.parametrize("fleet", [10_000], indirect=True)
def test_a_larger_bound_is_kept_within_one_segment(fleet: Fleet) -> None:
    writer = fleet.add()
    for _ in range(600):
        fleet.append(writer, rows=50)
    fleet.pass_of_all()
    assert 10_000 - 200 < fleet.depth <= 10_000
    assert fleet.count("dropped") == 30_000 - fleet.depth
    kept = fleet.depth
    assert fleet.left() == list(range(30_000 - kept, 30_000))


def test_dead_workers_rows_count_and_go_first(fleet: Fleet) -> None:
    dead, living = fleet.add(), fleet.add()
    for _ in range(80):
        fleet.append(dead)
    dead.close()
    fleet.writers.remove(dead)
    for _ in range(70):
        fleet.append(living)
    fleet.pass_of_all()
    assert fleet.count("dropped") == 50
    assert fleet.left() == list(range(50, 150))


def test_without_a_shipper_the_bound_holds_too(fleet: Fleet) -> None:
    """No pass is made: rotation alone has to do it."""
    writer = fleet.add()
    for _ in range(500):
        fleet.append(writer)
    assert fleet.depth == 100
    assert fleet.count("dropped") == 400


def test_a_holder_that_hangs_cannot_make_the_others_break_the_bound(fleet: Fleet) -> None:
    hanging, living = fleet.add(), fleet.add()
    for _ in range(90):
        fleet.append(hanging)
    fleet.writers.remove(hanging)
    for _ in range(300):
        fleet.now += 0.1
        fleet.append(living)
    assert hanging.depth + living.depth <= 100 + 30
    assert fleet.count("dropped") == 390 - hanging.depth - living.depth
    hanging.close()


def test_rows_out_in_a_batch_count_as_dropped_only_if_they_do_not_arrive(fleet: Fleet) -> None:
    writer = fleet.add()
    for _ in range(100):
        fleet.append(writer)
    batch = writer.backlog.take(30)
    assert batch is not None
    for _ in range(50):
        fleet.append(writer)
    assert writer.depth == 100
    assert fleet.count("dropped") == 20
    batch.acknowledge(10)
    batch.release()
    assert fleet.count("dropped") == 40
    assert fleet.left() == list(range(50, 150))


def test_rows_that_arrive_after_all_are_not_counted_as_dropped(fleet: Fleet) -> None:
    writer = fleet.add()
    for _ in range(100):
        fleet.append(writer)
    batch = writer.backlog.take(30)
    assert batch is not None
    for _ in range(20):
        fleet.append(writer)
    batch.acknowledge(30)
    batch.release()
    assert fleet.count("dropped") == 0
    assert fleet.left() == list(range(30, 120))
    assert fleet.count("corrupt") == 0


def test_a_partly_shipped_folder_counts_only_what_is_left(fleet: Fleet) -> None:
    first, second = fleet.add(), fleet.add()
    for _ in range(90):
        fleet.append(first)
    batch = first.backlog.take(80)
    assert batch is not None
    batch.acknowledge(80)
    batch.release()
    for _ in range(90):
        fleet.append(second)
    fleet.pass_of_all()
    assert fleet.count("dropped") == 0
    assert fleet.depth == 100
