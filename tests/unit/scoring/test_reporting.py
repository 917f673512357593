"""Progress for people."""

from __future__ import annotations

from falcon_wsgi.scoring.reporting import Lines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_every_ten_seconds_with_share_rate_and_time_left() -> None:
    clock, said = Clock(), list[str]()
    report = Lines(1000, 0, clock, said.append)
    report(0, 0, 0)
    clock.now = 9.9
    report(100, 50_000, 0)
    assert said == []
    clock.now = 20.0
    report(200, 100_000, 7)
    clock.now = 21.0
    report(210, 105_000, 7)
    assert said == ["20%, 100,000 rows, 5,000 rows/s, 1:20 left, 7 rejected"]


def test_the_rate_of_a_resumed_run_is_its_own() -> None:
    clock, said = Clock(), list[str]()
    report = Lines(1000, 900_000, clock, said.append)
    report(900, 900_000, 0)
    clock.now = 10.0
    report(950, 950_000, 0)
    assert said == ["95%, 950,000 rows, 5,000 rows/s, 0:10 left, 0 rejected"]


def test_without_a_size_there_is_no_share() -> None:
    clock, said = Clock(), list[str]()
    report = Lines(None, 0, clock, said.append)
    clock.now = 4000.0
    report(1, 2000, 0)
    assert said == ["2,000 rows, 0 rows/s, 0 rejected"]
