"""One connection to Redis on which commands and replies stream past each other, driven by the event loop itself.

A greenlet that sends a batch, waits for its replies and then sends the next costs three switches and a timer for
each batch, and with a Redis that is 5 ms away nothing is sent for 5 ms. Here callbacks of the loop do the work:
one write for all that was asked in a turn of the loop, whether or not earlier replies are still to come.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import hiredis
from gevent.hub import Waiter
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError, InvalidResponse, RedisError, TimeoutError

from falcon_wsgi.errors import DependencyRejected

TRANSIENT: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
"""What operations fail with when Redis is away: refused, reset, too slow, still loading its data."""

_log = logging.getLogger(__name__)

_READ, _WRITE = 1, 2  # events of libev and libuv
_READ_BYTES = 65_536
_READS_BEFORE_LATE = 64
_LINGER_S = 0.002
_INCOMPLETE = object()
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# An idle connection may have been closed by the server, a proxy or a restart. It is looked at before use.
_IDLE_S = 0.5


class Operation:
    """Commands of one caller on their way, and what became of them."""

    __slots__ = ("count", "ended", "error", "refusal", "replies", "since_s", "waiter")

    def __init__(self, count: int) -> None:
        self.count = count
        self.replies: list[Any] = []
        self.refusal: RedisError | None = None
        self.error: Exception | None = None
        self.since_s = 0.0
        self.waiter: Any = None
        self.ended = False

    def wait(self) -> list[Any]:
        if not self.ended:
            self.waiter = waiter = Waiter()
            try:
                waiter.get()
            finally:
                # A caller that was killed is gone. Its commands run or have run; their replies are thrown away.
                self.waiter = None
        if self.error is not None:
            # A new exception for each caller: one raised in many greenlets would collect all their tracebacks.
            raise type(self.error)(str(self.error)) from self.error
        if self.refusal is not None:
            raise DependencyRejected(
                f"redis refused a command: {type(self.refusal).__name__}"
            ) from self.refusal
        return self.replies

    def end(self) -> None:
        """Runs in the hub, because only the hub may switch to waiters."""
        self.ended = True
        if self.waiter is not None:
            self.waiter.switch(None)


class _Alarm:
    """Calls `ring` once, in the hub, so many seconds after it was set. `ring` has to cancel it."""

    __slots__ = ("_loop", "_ring", "_timer")

    def __init__(self, loop: Any, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: Any = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, seconds: float) -> None:
        self._timer = self._loop.timer(seconds)
        self._timer.start(self._ring)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None


class RedisStream:
    """Sends operations and ends them with their replies, in order.

    If the oldest one is not answered within `timeout_s`, connecting included, every operation fails at once and
    the connection is dropped, so that a late reply can never be taken for another's. The next operation connects
    anew.

    Args:
        make: a connection of redis-py, not yet connected: it knows URLs, TLS, AUTH and SELECT.
        greet: is given each new connection to ask what it has to, waiting for the answers.
    """

    def __init__(self, make: Callable[[], Any], greet: Callable[[Any], None], timeout_s: float) -> None:
        self._make = make
        self._greet = greet
        self._timeout_s = timeout_s
        self._loop = gevent.get_hub().loop
        self._flight: deque[Operation] = deque()
        self._unsent: list[bytes] = []
        self._send_is_due = False
        self._connector: Any = None
        self._connection: Any = None
        self._socket: Any = None
        self._gets: Any = None
        self._feed: Any = None
        self._watchers: list[Any] = []
        self._late = _Alarm(self._loop, self._check_time)
        self._linger = _Alarm(self._loop, self._send)
        self._last_used_s = 0.0
        self._look_first = False
        self._closed = False

    def add(self, operation: Operation, message: bytes, *, urgent: bool) -> None:
        """Send `message` and give its replies to `operation`. Never raises.

        It goes out in this turn of the loop; what is not urgent may wait 2 ms for company: a write, and Redis waking
        up for it, costs more than the commands do.
        """
        operation.since_s = now_s = time.monotonic()
        if self._closed:
            operation.error = ConnectionError("the client is closed")
            self._loop.run_callback(operation.end)
            return
        if not self._flight:
            self._look_first = now_s - self._last_used_s > _IDLE_S
            if not self._late.is_set:
                self._late.set(self._timeout_s)
        self._flight.append(operation)
        self._unsent.append(message)
        if self._send_is_due:
            return
        if not urgent:
            if not self._linger.is_set:
                self._linger.set(_LINGER_S)
        else:
            self._send_is_due = True
            # Runs after the greenlets that are due to run already; their commands join the write.
            self._loop.run_callback(self._send)

    def close(self) -> None:
        """Fail what waits, and disconnect."""
        self._closed = True
        self._fail(ConnectionError("the client is closed"))
        self._late.cancel()

    # Callbacks of the loop. They run in the hub, where nothing may block.

    def _send(self) -> None:
        self._send_is_due = False
        self._linger.cancel()
        if self._look_first and self._socket is not None:
            self._look_first = False
            if self._has_something_to_read():  # nothing was asked, so it is the end, or out of step
                self._disconnect()
        if self._socket is None:
            if self._connector is None and self._flight:
                self._connector = gevent.spawn(self._connect)
            return
        if not self._unsent:
            return
        message = b"".join(self._unsent)
        try:
            sent = self._socket.send(message)
        except _BLOCKED:
            sent = 0
        except OSError as error:
            self._fail(_away(error))
            return
        self._unsent = [message[sent:]] if sent < len(message) else []
        if self._unsent:
            self._send_is_due = True  # by the watcher
            self._watchers[1].start(self._send_rest)

    def _send_rest(self) -> None:
        self._watchers[1].stop()
        self._send()

    def _receive(self) -> bool:
        """End the operations whose replies have arrived. False if nothing has."""
        try:
            received = self._socket.recv(_READ_BYTES)
            if not received:
                raise ConnectionError("Redis closed the connection")
            self._feed(received)
            self._last_used_s = time.monotonic()
            self._deal_out()
        except _BLOCKED:
            return False
        except (OSError, RedisError) as error:
            self._fail(_away(error))
        except Exception as error:  # noqa: BLE001 - the edge of what every caller depends on
            _log.exception("redis_stream_failed")
            self._fail(ConnectionError(type(error).__name__))
        return self._socket is not None

    def _receive_all(self) -> None:
        # What TLS has decrypted already no longer makes the socket readable.
        while self._receive() and getattr(self._socket, "pending", _nothing)():
            pass

    def _deal_out(self) -> None:
        flight, gets = self._flight, self._gets
        answered: list[Operation] = []
        try:
            while (reply := gets()) is not _INCOMPLETE:
                if not flight:
                    raise InvalidResponse("a reply that nobody asked for")
                operation = flight[0]
                if isinstance(reply, RedisError):
                    if isinstance(reply, TRANSIENT):  # it loads its data, or wants a password
                        raise reply
                    operation.refusal = reply
                operation.replies.append(reply)
                if len(operation.replies) == operation.count:
                    answered.append(flight.popleft())
        finally:
            for operation in answered:
                operation.end()

    def _check_time(self) -> None:
        # One timer is set for the oldest operation of the moment, and anew for what is the oldest when it rings,
        # because a timer for each operation costs more than sending it.
        self._late.cancel()
        if self._socket is not None:
            # After the hub was busy for long, what has arrived is not late.
            for _ in range(_READS_BEFORE_LATE):
                if not self._is_late() or not self._receive():
                    break
        if self._is_late():
            self._fail(TimeoutError("no answer in time"))
        elif self._flight:
            self._late.set(self._flight[0].since_s + self._timeout_s - time.monotonic())

    def _is_late(self) -> bool:
        return bool(self._flight) and time.monotonic() >= self._flight[0].since_s + self._timeout_s

    def _connect(self) -> None:
        """In a greenlet of its own, which ends with it. `_check_time` limits its time."""
        connection = None
        try:
            connection = self._make()
            connection.connect()
            self._greet(connection)
        except Exception as error:  # noqa: BLE001 - the edge of a greenlet; whoever waits is told
            if not isinstance(error, OSError | RedisError):
                _log.exception("redis_connect_failed")
            self._connector = None
            self._fail(_away(error))
            if connection is not None:
                connection.disconnect()
            return
        except BaseException:
            if connection is not None:
                connection.disconnect()
            raise
        self._connector = None
        self._connection = connection
        self._socket = connection._sock  # redis-py has no public name for it
        self._socket.setblocking(False)
        reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_INCOMPLETE
        )
        self._feed, self._gets = reader.feed, reader.gets
        descriptor = self._socket.fileno()
        # While something is asked, the timer keeps the loop alive; an idle connection need not.
        self._watchers = [self._loop.io(descriptor, event, ref=False) for event in (_READ, _WRITE)]
        self._watchers[0].start(self._receive_all)
        self._last_used_s = time.monotonic()
        self._send()

    def _has_something_to_read(self) -> bool:
        try:
            self._socket.recv(1)
        except _BLOCKED:
            return False
        except OSError:
            pass
        return True

    def _fail(self, error: Exception) -> None:
        """End everything that waits, so that nobody behind a timeout waits for another."""
        self._disconnect()
        failed, self._flight = self._flight, deque()
        self._unsent = []
        self._send_is_due = False
        self._linger.cancel()
        for operation in failed:
            operation.error = error
        if failed:
            self._loop.run_callback(_end, failed)

    def _disconnect(self) -> None:
        if self._connector is not None:
            self._connector.kill(block=False)
            self._connector = None
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        self._watchers = []
        self._socket = None
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None


def _away(error: BaseException) -> Exception:
    """The error as one of TRANSIENT: refused while connecting, reset, or out of step."""
    if isinstance(error, TRANSIENT):
        return error
    return ConnectionError(f"{type(error).__name__}: {error}")


def _end(operations: deque[Operation]) -> None:
    for operation in operations:
        operation.end()


def _nothing() -> int:
    return 0
