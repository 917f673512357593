"""How far a run is, for people: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import click

_EVERY_S = 10.0


class Reporter(Protocol):
    def __call__(self, done: int, rows: int, rejected: int) -> None:
        """How much of the input is done, in units of its size; rows and rejected ones since the very beginning."""


@contextmanager
def reporting(size: int | None, rows_before: int, *, terminal: bool) -> Iterator[Reporter]:
    if terminal:
        with _bar(size, rows_before) as reporter:
            yield reporter
    else:
        yield Lines(size, rows_before, time.monotonic, lambda line: click.echo(f"falcon: {line}", err=True))


class Lines:
    """A line now and then."""

    def __init__(
        self, size: int | None, rows_before: int, clock: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self._size, self._rows_before = size, rows_before
        self._clock, self._say = clock, say
        self._started = self._said = clock()
        self._first_done: int | None = None

    def __call__(self, done: int, rows: int, rejected: int) -> None:
        now = self._clock()
        if self._first_done is None:
            self._first_done = done
        if now - self._said < _EVERY_S:
            return
        self._said = now
        elapsed = now - self._started
        rate = (rows - self._rows_before) / elapsed
        parts = [f"{rows:,} rows", f"{rate:,.0f} rows/s"]
        if self._size:
            parts.insert(0, f"{done / self._size:.0%}")
            if done > self._first_done:
                left = (self._size - done) * elapsed / (done - self._first_done)
                parts.append(f"{_duration(left)} left")
        self._say(", ".join([*parts, f"{rejected:,} rejected"]))


@contextmanager
def _bar(size: int | None, rows_before: int) -> Iterator[Reporter]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TextColumn("{task.fields[rate]:,.0f} rows/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rejected]:,} rejected"),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=size, rows=rows_before, rate=0.0, rejected=0)

        def report(done: int, rows: int, rejected: int) -> None:
            rate = (rows - rows_before) / max(time.monotonic() - started, 1e-3)
            progress.update(task, completed=done, rows=rows, rate=rate, rejected=rejected)

        yield report


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
