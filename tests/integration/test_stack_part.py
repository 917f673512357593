"""A process of a stack with real processes: what ends is started again, and what it left is ended first."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falcon_wsgi import settings as configuration
from falcon_wsgi.launch import processes
from falcon_wsgi.launch.server import free_port
from falcon_wsgi.settings import environment
from falcon_wsgi.stack import record
from falcon_wsgi.stack.part import Part
from falcon_wsgi.stack.record import Record
from tests.e2e.instance import wait_until

# Listens on PORT, then forks a worker that keeps the port after the first process is killed, as Gunicorn's do.
MASTER_AND_WORKER = """
import os, signal, socket, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(os.environ["PORT"])))
listener.listen()
if os.environ.get("IGNORANT"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
time.sleep(60)
"""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Part]]:
    parts: list[Part] = []

    def started(command: str, **own: str) -> Part:
        port = free_port()
        address = configuration.load(env_file=None, port=port)
        surroundings = environment(PROGRAM=sys.executable, SCRIPT=MASTER_AND_WORKER, PORT=str(port), **own)
        parts.append(Part("part", command, surroundings, address, tmp_path / "part.log", clock=clock))
        parts[-1].start()
        return parts[-1]

    yield started
    for part in parts:
        part.ask_to_stop()
        part.finish(5)


def ended(part: Part) -> bool:
    return part.exit_code is not None


def listens(part: Part) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", part.address.port)) == 0


def test_one_that_ran_well_is_started_again_at_once(make: Callable[..., Part], clock: Clock) -> None:
    part = make("exec sleep 60")
    first = part.pid
    assert not part.look_after()
    clock.now += 60
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: ended(part))
    assert part.look_after()
    assert part.look_after()
    assert part.pid not in (None, first)
    assert part.restarts == 1


def test_one_that_ends_at_once_is_started_at_growing_intervals(
    make: Callable[..., Part], clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    part = make("echo no such file; exit 3")
    for pause_s in (0.5, 1.0, 2.0):
        wait_until(lambda: ended(part))
        part.look_after()
        told = capsys.readouterr().err.splitlines()
        assert f"falcon: part ended (exit code 3); next start in {pause_s:g} s" in told
        assert "falcon: part: no such file" in told
        clock.now += pause_s - 0.1
        restarts = part.restarts
        assert not part.look_after()
        clock.now += 0.1
        assert part.look_after()
        assert part.restarts == restarts + 1


def test_workers_that_outlive_their_master_are_ended_before_it_is_started_again(
    make: Callable[..., Part], clock: Clock
) -> None:
    part = make('exec "$PROGRAM" -c "$SCRIPT"')
    wait_until(lambda: listens(part) and processes.children(part.pid or 0))
    worker = processes.children(part.pid or 0)[0]
    clock.now += 60
    os.kill(part.pid or 0, signal.SIGKILL)
    wait_until(lambda: ended(part))
    wait_until(lambda: part.look_after() and part.pid)
    assert not processes.alive(worker)
    wait_until(lambda: listens(part))


def test_workers_that_do_not_end_are_killed_when_their_time_is_up(
    make: Callable[..., Part], clock: Clock
) -> None:
    part = make('exec "$PROGRAM" -c "$SCRIPT"', IGNORANT="1")
    wait_until(lambda: listens(part) and processes.children(part.pid or 0))
    worker = processes.children(part.pid or 0)[0]
    clock.now += 60
    os.kill(part.pid or 0, signal.SIGKILL)
    wait_until(lambda: ended(part))
    part.look_after()
    assert not part.look_after()
    assert processes.alive(worker)
    clock.now += part.patience_s
    wait_until(lambda: part.look_after() and part.pid)
    assert not processes.alive(worker)


def test_finish_ends_the_whole_group_by_force(make: Callable[..., Part]) -> None:
    part = make('exec "$PROGRAM" -c "$SCRIPT"', IGNORANT="1")
    wait_until(lambda: listens(part) and processes.children(part.pid or 0))
    family = [part.pid or 0, *processes.children(part.pid or 0)]
    part.ask_to_stop()
    part.finish(2)
    assert processes.wait_until_gone(family, 5)


def test_a_recorded_pid_counts_only_for_the_process_that_was_recorded(tmp_path: Path) -> None:
    own = os.getpid()
    assert record.is_the_recorded({"pid": own, "born": record.born(own)})
    assert not record.is_the_recorded({"pid": own, "born": "1"})
    assert not record.is_the_recorded({"pid": None, "born": ""})


def test_a_record_is_private_and_goes_with_its_owner(tmp_path: Path) -> None:
    own = Record(tmp_path / "stack")
    own.claim()
    own.publish({"pid": 1, "redis_url": "redis://:secret@127.0.0.1"})
    assert record.is_claimed(tmp_path / "stack")
    assert record.read(tmp_path / "stack")["pid"] == 1
    assert (tmp_path / "stack" / "stack.json").stat().st_mode & 0o777 == 0o600
    own.release()
    assert not record.is_claimed(tmp_path / "stack")
    assert record.read(tmp_path / "stack") == {}
