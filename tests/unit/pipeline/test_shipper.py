"""The shipper's decisions, turn by turn, against fakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import gevent
import pytest

from falcon_wsgi.errors import DependencyRejected, DependencyUnavailable
from falcon_wsgi.pipeline.shipper import Shipper

T = TypeVar("T")


class Frame(NamedTuple):
    payload: bytes
    rows: int = 1


class Result(NamedTuple):
    inserted: int
    duplicates: int


class Batch:
    def __init__(self, backlog: FakeBacklog, frames: list[Frame]) -> None:
        self.frames = frames
        self._backlog = backlog

    def acknowledge(self, frames: int) -> None:
        del self._backlog.frames[:frames]

    def release(self) -> None:
        self._backlog.out -= 1


class FakeBacklog:
    def __init__(self, *payloads: bytes) -> None:
        self.frames = [Frame(payload) for payload in payloads]
        self.rejected: list[bytes] = []
        self.maintained = self.out = 0
        self.volatile = False
        self.most = 10_000
        self.asked: list[tuple[int, bool]] = []

    @property
    def depth(self) -> int:
        return sum(frame.rows for frame in self.frames)

    def take(self, max_rows: int, *, own_only: bool = False) -> Batch | None:
        assert self.out == 0, "two batches are out"
        self.asked.append((max_rows, own_only))
        if not self.frames:
            return None
        self.out += 1
        return Batch(self, self.frames[: min(max_rows, self.most)])

    def reject(self, payload: bytes) -> str | None:
        self.rejected.append(payload)
        return "name.json"

    def maintain(self) -> None:
        self.maintained += 1


class FakeSink:
    """Refuses batches with a payload in `poison`; is away while `away` is set."""

    def __init__(self, poison: Sequence[bytes] = ()) -> None:
        self.poison = set(poison)
        self.stored: list[bytes] = []
        self.away: BaseException | None = None
        self.calls = 0
        self.checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.away is not None:
            raise self.away

    def ship(self, payloads: Sequence[bytes], rows: int) -> Result:
        self.calls += 1
        if self.away is not None:
            raise self.away
        if self.poison & set(payloads):
            raise DependencyRejected("invalid byte")
        new = [payload for payload in payloads if payload not in self.stored]
        self.stored += new
        return Result(len(new), rows - len(new))


class OpenGuard:
    def call(self, operation: str, fn: Callable[[], T], /) -> T:
        assert operation in ("insert_log", "ping")
        return fn()


class Events(Counter[str]):
    rows_left = -1

    def event(self, kind: str, count: int) -> None:
        self[kind] += count

    def depth(self, rows: int) -> None:
        self.rows_left = rows


class Scene:
    def __init__(self, backlog: FakeBacklog, sink: FakeSink | None = None, **options: Any) -> None:
        self.backlog = backlog
        self.sink = sink or FakeSink()
        self.events = Events()
        self.shipper = Shipper(backlog, self.sink, OpenGuard(), self.events, **options)

    def steps(self, limit: int = 50) -> None:
        """Turn until there is nothing to do at once."""
        for _ in range(limit):
            if self.shipper.step() > 0:
                return
        pytest.fail("the shipper never rests")


def payloads(count: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(count)]


def test_a_sink_is_asked_for_a_sign_of_life_while_there_is_nothing_to_ship() -> None:
    now = [100.0]
    scene = Scene(FakeBacklog(), clock=lambda: now[0])
    for _ in range(3):
        scene.shipper.step()
    assert scene.sink.checks == 1
    now[0] += 10
    scene.shipper.step()
    assert scene.sink.checks == 2


def test_a_sink_that_has_just_taken_rows_is_not_asked() -> None:
    scene = Scene(FakeBacklog(*payloads(3)))
    scene.steps()
    assert (scene.sink.checks, scene.sink.calls) == (0, 1)


def test_a_backlog_is_shipped_in_batches_without_a_pause() -> None:
    scene = Scene(FakeBacklog(*payloads(25)), batch_rows=10)
    scene.steps()
    assert scene.sink.stored == payloads(25)
    assert scene.sink.calls == 3
    assert scene.events == {"shipped": 25}
    assert scene.events.rows_left == 0


def test_rows_that_come_while_a_batch_is_out_are_let_gather() -> None:
    scene = Scene(FakeBacklog(*payloads(5)), batch_rows=10, idle_s=0.25)
    plain = scene.sink.ship

    def ship(sent: Sequence[bytes], count: int) -> Result:
        scene.backlog.frames += [Frame(b"new-%d" % n) for n in range(count - 1)]
        return plain(sent, count)

    scene.sink.ship = ship  # type: ignore[method-assign]
    assert scene.shipper.step() == 0.25
    assert scene.sink.calls == 1
    assert scene.backlog.depth == 4


def test_a_batch_that_was_cut_short_by_its_bytes_is_followed_at_once() -> None:
    backlog = FakeBacklog(*payloads(20))
    backlog.most = 3
    scene = Scene(backlog, batch_rows=10)
    pauses = [scene.shipper.step() for _ in range(6)]
    assert pauses[:5] == [0.0] * 5
    assert pauses[5] > 0, "what is left is less than a batch"
    assert scene.sink.stored == payloads(18)


def test_a_flush_does_not_wait_for_more_rows() -> None:
    scene = Scene(FakeBacklog(*payloads(5)), batch_rows=10, idle_s=3600.0)
    scene.shipper.start()
    with gevent.Timeout(5):
        assert scene.shipper.flush(60.0)
    scene.shipper.stop()
    assert scene.backlog.depth == 0


def test_an_empty_backlog_is_asked_again_after_a_pause() -> None:
    scene = Scene(FakeBacklog(), idle_s=0.25)
    assert scene.shipper.step() == 0.25
    assert scene.backlog.maintained == 1
    assert scene.sink.calls == 0


def test_rows_that_were_there_already_are_told_apart() -> None:
    scene = Scene(FakeBacklog(*payloads(3)))
    scene.sink.stored = payloads(2)
    scene.steps()
    assert scene.events == {"shipped": 1, "duplicate": 2}


def test_nothing_is_acknowledged_while_the_sink_is_away() -> None:
    scene = Scene(FakeBacklog(*payloads(5)))
    scene.sink.away = DependencyUnavailable("postgres", "refused")
    for _ in range(20):
        assert 0 < scene.shipper.step() <= 2.0
    assert scene.backlog.depth == 5
    assert scene.backlog.out == 0
    assert scene.events == {}
    scene.sink.away = None
    scene.steps()
    assert scene.sink.stored == payloads(5)


def test_batches_shrink_with_failures_and_grow_again() -> None:
    scene = Scene(FakeBacklog(*payloads(100)), batch_rows=16)
    scene.sink.away = DependencyUnavailable("postgres", "slow")
    for _ in range(6):
        scene.shipper.step()
    scene.sink.away = None
    scene.steps()
    assert [rows for rows, _ in scene.backlog.asked][:12] == [16, 8, 4, 2, 1, 1, 1, 2, 4, 8, 16, 16]


def test_poison_is_found_put_aside_and_passed() -> None:
    rows = payloads(100)
    poison = [rows[0], rows[41], rows[42], rows[99]]
    scene = Scene(FakeBacklog(*rows), FakeSink(poison))
    scene.steps()
    assert scene.sink.stored == [row for row in rows if row not in poison]
    assert scene.backlog.rejected == poison
    assert scene.events == {"shipped": 96, "rejected": 4}
    assert scene.backlog.depth == 0


def test_an_outage_in_the_middle_of_the_search_loses_and_repeats_nothing() -> None:
    rows = payloads(8)
    scene = Scene(FakeBacklog(*rows), FakeSink([rows[2]]))
    plain, calls = scene.sink.ship, [0]

    def ship(sent: Sequence[bytes], count: int) -> Result:
        calls[0] += 1
        if calls[0] == 6:
            raise DependencyUnavailable("postgres", "refused")
        return plain(sent, count)

    scene.sink.ship = ship  # type: ignore[method-assign]
    scene.shipper.step()
    assert scene.backlog.depth > 0
    scene.steps()
    assert scene.sink.stored == [row for row in rows if row != rows[2]]
    assert scene.backlog.rejected == [rows[2]]
    assert scene.events == {"shipped": 7, "rejected": 1}


@pytest.mark.parametrize("bug", [ZeroDivisionError("bug"), gevent.Timeout(1)])
def test_no_exception_ends_the_loop(bug: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(FakeBacklog(*payloads(2)))
    scene.sink.away = bug
    assert scene.shipper.step() > 0
    assert caplog.records[-1].message == "shipper_turn_failed"
    assert caplog.records[-1].exc_info is not None
    assert scene.backlog.out == 0
    scene.sink.away = None
    scene.steps()
    assert scene.sink.stored == payloads(2)


def test_a_flush_ships_own_rows_only_and_says_that_all_are_gone() -> None:
    scene = Scene(FakeBacklog(*payloads(25)), batch_rows=10)
    scene.shipper.start()
    assert scene.shipper.flush(5.0)
    scene.shipper.stop()
    assert scene.sink.stored == payloads(25)
    assert all(own_only for _, own_only in scene.backlog.asked)


def test_a_flush_gives_up_at_once_when_the_sink_is_away() -> None:
    scene = Scene(FakeBacklog(*payloads(2)), idle_s=0.01)
    scene.sink.away = DependencyUnavailable("postgres", "refused")
    scene.shipper.start()
    with gevent.Timeout(5):
        assert not scene.shipper.flush(60.0)
    scene.shipper.stop()
    assert scene.backlog.depth == 2


def test_a_flush_keeps_trying_for_rows_that_would_die_with_the_process() -> None:
    scene = Scene(FakeBacklog(*payloads(2)), idle_s=0.001)
    scene.backlog.volatile = True
    scene.sink.away = DependencyUnavailable("postgres", "refused")
    plain = scene.sink.ship

    def ship(sent: Sequence[bytes], count: int) -> Result:
        if scene.sink.calls == 2:
            scene.sink.away = None
        return plain(sent, count)

    scene.sink.ship = ship  # type: ignore[method-assign]
    scene.shipper.start()
    assert scene.shipper.flush(30.0)
    scene.shipper.stop()
    assert scene.sink.stored == payloads(2)


def test_waking_ends_the_pause() -> None:
    scene = Scene(FakeBacklog(), idle_s=3600.0)
    scene.shipper.start()
    gevent.sleep(0)
    scene.backlog.frames += [Frame(b"{}")]
    scene.shipper.wake()
    for _ in range(5):
        gevent.sleep(0)
    assert scene.sink.stored == [b"{}"]
    scene.shipper.stop()


def test_stopping_ends_a_batch_that_hangs_and_gives_it_back() -> None:
    scene = Scene(FakeBacklog(b"{}"))
    never = gevent.event.Event()
    scene.sink.ship = lambda *_: never.wait()  # type: ignore[method-assign, assignment, return-value]
    scene.shipper.start()
    gevent.sleep(0)
    assert scene.backlog.out == 1
    with gevent.Timeout(5):
        scene.shipper.stop(timeout_s=0.001)
    assert scene.backlog.out == 0
    assert scene.backlog.depth == 1
