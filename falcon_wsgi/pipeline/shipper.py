"""Moves journal rows to the database in the background, each at least once; the table's key makes it
exactly once.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

import gevent
from gevent.event import Event

from falcon_wsgi.errors import DependencyRejected, DependencyUnavailable

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_BATCH_ROWS = 1000
_IDLE_S = 0.25
_MAX_BACKOFF_S = 2.0
_AFTER_BUG_S = 1.0
_CHECK_INTERVAL_S = 2.0


class Frame(Protocol):
    """Rows of one request, as `log_rows` has them."""

    @property
    def payload(self) -> bytes: ...

    @property
    def rows(self) -> int: ...


class Batch(Protocol):
    """Frames taken from the backlog, oldest first. They stay in it until they are acknowledged."""

    @property
    def frames(self) -> Sequence[Frame]: ...

    def acknowledge(self, frames: int) -> None:
        """The next `frames` frames are dealt with for good."""

    def release(self) -> None:
        """Nothing more will be acknowledged; the rest may be taken again."""


class Backlog(Protocol):
    """What is not shipped yet."""

    @property
    def depth(self) -> int:
        """Rows in it."""

    @property
    def volatile(self) -> bool:
        """Whether some of them would die with the process."""

    def take(self, max_rows: int, *, own_only: bool = False) -> Batch | None:
        """About `max_rows` rows; None if there are none. With `own_only`, none of dead workers."""

    def reject(self, payload: bytes) -> str | None:
        """Put rows aside that the sink refuses; where, or None if they could not be kept."""

    def maintain(self) -> None:
        """Housekeeping, to be called often."""


class Result(Protocol):
    @property
    def inserted(self) -> int: ...

    @property
    def duplicates(self) -> int: ...


class Sink(Protocol):
    def check(self) -> None:
        """Ask the sink for a sign of life."""

    def ship(self, payloads: Sequence[bytes], rows: int) -> Result:
        """Store the rows, all or none, each once however often it comes.

        Raises:
            DependencyRejected: one of the rows cannot be stored.
            DependencyUnavailable, or what the guard knows as transient: none can be stored now.
        """


class Guard(Protocol):
    def call(self, operation: str, fn: Callable[[], _T], /) -> _T:
        """What `fn` returns.

        Raises:
            DependencyUnavailable: the circuit is open, or the attempts failed.
            DependencyRejected: from `fn`.
        """


class ShipperObserver(Protocol):
    def event(self, kind: Literal["shipped", "duplicate", "rejected"], count: int) -> None:
        """Rows that are new in the sink, that were there already, that it refused."""

    def depth(self, rows: int) -> None:
        """Rows still to be shipped."""


class NullShipperObserver:
    def event(self, kind: Literal["shipped", "duplicate", "rejected"], count: int) -> None:
        pass

    def depth(self, rows: int) -> None:
        pass


class Shipper:
    """One greenlet for each worker: a batch at a time, at once while there is backlog, else when some has gathered.

    Nothing is read ahead, so memory stays flat however long the sink is away. After a failure the batches
    are smaller and grow again with each success: what is tried while the sink recovers is cheap, and a
    batch that takes longer than the sink's timeout is not repeated for ever.
    """

    def __init__(
        self,
        backlog: Backlog,
        sink: Sink,
        guard: Guard,
        observer: ShipperObserver | None = None,
        *,
        batch_rows: int = _BATCH_ROWS,
        idle_s: float = _IDLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backlog = backlog
        self._sink = sink
        self._guard = guard
        self._observer = NullShipperObserver() if observer is None else observer
        self._max_rows = self._rows = batch_rows
        self._idle_s = idle_s
        self._clock = clock
        self._failures = 0
        self._heard_at = float("-inf")
        self._flush_until: float | None = None
        self._flushed = False
        self._flush_ended = Event()
        self._woken = Event()
        self._stopping = False
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._run)

    def wake(self) -> None:
        """Ship now rather than at the next turn."""
        self._woken.set()

    def flush(self, timeout_s: float) -> bool:
        """Ship all that this worker wrote, for its end; whether all is shipped. Call it when nothing is
        written any more.

        What is left stays on disk, for whoever adopts it. So a sink that is away ends the attempt at once,
        unless some rows are in memory only, which are worth all of the time.
        """
        self._flushed = False
        self._flush_ended.clear()
        self._flush_until = self._clock() + timeout_s
        self.wake()
        self._flush_ended.wait(timeout_s)
        self._flush_until = None
        return self._flushed

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the greenlet, by force if the batch it works on takes longer than `timeout_s`. That batch is
        then shipped again by whoever adopts it."""
        self._stopping = True
        self.wake()
        if self._greenlet is not None:
            self._greenlet.join(timeout_s)
            self._greenlet.kill()
            self._greenlet = None

    def step(self) -> float:
        """One turn: housekeeping and one batch. Seconds to wait before the next. Raises no Exception."""
        try:
            self._backlog.maintain()
            pause_s = self._turn()
        except (Exception, gevent.Timeout):  # noqa: BLE001 - the loop must go on; the rows are on disk
            _LOG.exception("shipper_turn_failed")
            pause_s = _AFTER_BUG_S
        self._observer.depth(self._backlog.depth)
        return pause_s

    def _run(self) -> None:
        while not self._stopping:
            # Before the turn, so that who wakes the greenlet meanwhile is heard behind it.
            self._woken.clear()
            pause_s = self.step()
            if pause_s > 0:
                self._woken.wait(pause_s)
            else:
                gevent.sleep(0)

    def _turn(self) -> float:
        flushing = self._flush_until is not None
        asked = self._rows
        try:
            shipped = self._ship_next(own_only=flushing) or self._check_if_silent()
        except DependencyUnavailable as error:
            return self._back_off(error, flushing)
        if shipped:
            self._heard_at = self._clock()
            self._failures = 0
            self._rows = min(self._max_rows, asked * 2)
            # What came while this batch was out is let gather: a batch costs the sink some 200 us before its first row.
            drained = shipped < asked and self._backlog.depth <= shipped
            return self._idle_s if drained and not flushing else 0.0
        if flushing:
            self._end_flush(flushed=True)
        return self._idle_s

    def _check_if_silent(self) -> int:
        """With nothing to ship, learn all the same whether the sink is there; 0."""
        if self._flush_until is None and self._clock() - self._heard_at >= _CHECK_INTERVAL_S:
            self._guard.call("ping", self._sink.check)
            self._heard_at = self._clock()
            self._failures = 0
        return 0

    def _ship_next(self, *, own_only: bool) -> int:
        """Ship one batch; its rows, 0 if there is none."""
        batch = self._backlog.take(self._rows, own_only=own_only)
        if batch is None:
            return 0
        frames = batch.frames
        try:
            # To read them took the event loop a millisecond or two, and to send them takes another.
            gevent.sleep(0)
            self._ship(batch, frames)
        finally:
            batch.release()
        return sum(frame.rows for frame in frames)

    def _ship(self, batch: Batch, frames: Sequence[Frame]) -> None:
        """Ship the batch's next frames. Those that the sink refuses are found by halving, and put aside."""
        payloads = [frame.payload for frame in frames]
        rows = sum(frame.rows for frame in frames)
        try:
            result = self._guard.call("insert_log", lambda: self._sink.ship(payloads, rows))
        except DependencyRejected as error:
            if len(frames) > 1:
                middle = len(frames) // 2
                self._ship(batch, frames[:middle])
                self._ship(batch, frames[middle:])
                return
            self._reject(frames[0], error)
        else:
            self._tell("shipped", result.inserted)
            self._tell("duplicate", result.duplicates)
        batch.acknowledge(len(frames))

    def _reject(self, frame: Frame, error: DependencyRejected) -> None:
        kept_in = self._backlog.reject(frame.payload)
        _LOG.error("log_rows_rejected", extra={"rows": frame.rows, "reason": str(error), "kept_in": kept_in})
        self._tell("rejected", frame.rows)

    def _back_off(self, error: DependencyUnavailable, flushing: bool) -> float:
        self._failures += 1
        self._rows = max(1, self._rows // 2)
        if self._failures == 1:
            _LOG.warning("log_shipping_interrupted", extra={"reason": error.reason})
        if flushing and not self._backlog.volatile:
            self._end_flush(flushed=False)
        return random.uniform(
            self._idle_s, min(_MAX_BACKOFF_S, self._idle_s * 2.0 ** min(self._failures, 16))
        )

    def _end_flush(self, *, flushed: bool) -> None:
        self._flushed = flushed
        self._flush_until = None
        self._flush_ended.set()

    def _tell(self, kind: Literal["shipped", "duplicate", "rejected"], count: int) -> None:
        if count:
            self._observer.event(kind, count)
