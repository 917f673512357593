"""Redis over one connection for each worker, shared by all its greenlets.

A redis-py pool costs 54 to 86 us of CPU for a GET. Here the commands of all greenlets that are ready go out
in one write, and their replies are read together, which takes a fraction of that. A batch never waits for
company: it is what there is at the moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gevent
from gevent.hub import Waiter
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError
from redis.retry import Retry

from falcon_wsgi.errors import ConfigurationError, DependencyRejected, DependencyUnavailable

Command = Sequence[bytes | str | int]

TRANSIENT: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
"""What `RedisClient` raises when Redis is away: refused, reset, too slow, still loading its data."""

# Atomic because Redis runs nothing else meanwhile. EVAL rather than EVALSHA: Redis keeps the compiled script
# either way, sending 200 more bytes costs less than 1 us, and a restart leaves no NOSCRIPT to recover from.
_COMPARE_AND_SET = """\
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] or (not held and ARGV[4] == '1') then
  if ARGV[2] == '' then redis.call('DEL', KEYS[1])
  else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
  return 1
end
if held == ARGV[2] then return 1 end
return 0"""

# The key holds when the arrivals so far would be due at the rate. A clock that was set back must not lock a client
# out, so no more than the whole burst is held against it.
_COUNT_ARRIVAL = """\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, allowed = tonumber(ARGV[1]), ARGV[1] * ARGV[2]
local held = tonumber(redis.call('GET', KEYS[1]) or now)
local due = math.min(math.max(held, now), now + allowed) + interval
local excess = due - now - allowed
if excess > 0 then return -excess end
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
return due - now"""

# An idle connection may have been closed by the server, a proxy or a restart. It is looked at before use.
_IDLE_S = 0.5

_log = logging.getLogger(__name__)


class RedisClient:
    """A pipelined client. Implements `pipeline.keyvalue.KeyValueStore`.

    One greenlet owns the connection: it takes all pending operations, sends them as one write, reads their
    replies and wakes their callers. If that fails or takes longer than `timeout_s`, connecting included,
    every operation in flight and every one queued behind fails at once, and the connection is dropped, so
    that a late reply can never be taken for another's. The next operation connects anew.

    Not for use by several threads. The process must be patched by gevent, and the client made after the fork.

    Args:
        url: redis://, rediss:// or unix://, with user, password and database as redis-py reads them.
        timeout_s: the longest that `execute` waits.
        max_background: commands of `submit` that may wait.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 0.2,
        client_name: str = "falcon",
        max_background: int = 2000,
    ) -> None:
        self._connection = _connection(url, timeout_s, client_name)
        self._timeout_s = timeout_s
        self._max_background = max_background
        self._background = 0
        self._pending: list[_Operation] = []
        self._hub = gevent.get_hub()
        self._idle: Any = None
        self._last_used_s = 0.0
        self._flusher: Any = None
        self._closed = False

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        operation = _Operation(self._connection.pack_commands(commands), len(commands))
        operation.waiter = waiter = Waiter(self._hub)
        self._enqueue(operation)
        try:
            waiter.get()
        except BaseException:
            # The caller was killed. Its commands run or have run, and their replies are read and thrown away.
            operation.waiter = None
            raise
        return operation.result()

    def submit(self, commands: Sequence[Command], failed: Callable[[], None] | None = None) -> bool:
        if self._closed or self._background + len(commands) > self._max_background:
            return False
        self._background += len(commands)
        self._enqueue(_Operation(self._connection.pack_commands(commands), len(commands), failed, True))
        return True

    def compare_and_set(
        self, key: str, expected: bytes, value: bytes | None, ttl_ms: int, *, or_absent: bool = False
    ) -> Command:
        return ("EVAL", _COMPARE_AND_SET, 1, key, expected, value or b"", ttl_ms, int(or_absent))

    def count_arrival(self, key: str, interval_us: int, burst: int) -> Command:
        return ("EVAL", _COUNT_ARRIVAL, 1, key, interval_us, burst)

    def ping(self) -> None:
        """Raises one of TRANSIENT when Redis is away."""
        self.execute((("PING",),))

    def close(self) -> None:
        """Send what is queued, wait for its replies within the timeout, and disconnect. Later calls fail."""
        if self._closed:
            return
        if self._background:
            try:
                self.ping()  # replies come in order, so this one comes last
            except RedisError:
                _log.warning("redis_closed_with_pending_writes", extra={"commands": self._background})
        self._closed = True
        if self._flusher is not None:
            self._flusher.kill()
        self._fail([], ConnectionError("the client is closed"))

    def _enqueue(self, operation: _Operation) -> None:
        if self._closed:
            raise ConnectionError("the client is closed")
        self._pending.append(operation)
        if self._flusher is None:
            self._flusher = gevent.spawn(self._flush_forever)
        elif self._idle is not None:
            # The flusher wakes after the greenlets that are due to run already; their commands join the batch.
            idle, self._idle = self._idle, None
            self._hub.loop.run_callback(idle.switch, None)

    def _flush_forever(self) -> None:
        while True:
            if not self._pending:
                self._idle = idle = Waiter(self._hub)
                idle.get()
            batch, self._pending = self._pending, []
            try:
                self._exchange(batch)
            except TRANSIENT as error:
                self._fail(batch, error)
            except Exception as error:  # noqa: BLE001 - the edge of the greenlet that every caller depends on
                _log.exception("redis_exchange_failed")
                self._fail(batch, ConnectionError(type(error).__name__))
            except BaseException:
                self._fail(batch, ConnectionError("the client is closed"))
                raise
            else:
                self._finish(batch)

    def _exchange(self, batch: list[_Operation]) -> None:
        try:
            with gevent.Timeout(self._timeout_s):
                self._connect()
                message = b"".join([chunk for operation in batch for chunk in operation.packed])
                self._connection.send_packed_command([message], check_health=False)
                self._read_replies(batch)
        except gevent.Timeout:
            # After the hub was busy for long, libev serves sockets before timers: what has arrived is not late.
            raise TimeoutError("no answer in time") from None
        except TRANSIENT:
            raise
        except (OSError, RedisError) as error:  # refused while connecting, or out of step
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        self._last_used_s = time.monotonic()

    def _connect(self) -> None:
        connection = self._connection
        if connection.is_connected and time.monotonic() - self._last_used_s > _IDLE_S:
            try:
                stale = connection.can_read(0)  # nothing was asked, so anything to read is out of step
            except RedisError:
                stale = True
            if stale:
                connection.disconnect()
        if not connection.is_connected:
            connection.connect()

    def _read_replies(self, batch: Iterable[_Operation]) -> None:
        read = self._connection.read_response
        for operation in batch:
            replies = operation.replies
            while len(replies) < operation.count:
                try:
                    replies.append(read(disconnect_on_error=False))
                except ResponseError as refusal:
                    replies.append(refusal)

    def _fail(self, batch: list[_Operation], error: Exception) -> None:
        """End everything that waits, so that nobody behind a timeout waits for another."""
        self._connection.disconnect()
        waiting, self._pending = batch + self._pending, []
        for operation in waiting:
            if len(operation.replies) < operation.count:
                operation.error = error
        self._finish(waiting)

    def _finish(self, operations: list[_Operation]) -> None:
        waiters = []
        for operation in operations:
            if operation.background:
                self._background -= operation.count
                operation.report()
            elif operation.waiter is not None:
                waiters.append(operation.waiter)
        if waiters:
            self._hub.loop.run_callback(_wake, waiters)


def _wake(waiters: list[Any]) -> None:
    """Runs in the hub, because only the hub may switch to waiters."""
    for waiter in waiters:
        waiter.switch(None)


class _Operation:
    """Commands of one caller on their way, and what became of them."""

    __slots__ = ("background", "count", "error", "failed", "packed", "replies", "waiter")

    def __init__(
        self,
        packed: list[bytes],
        count: int,
        failed: Callable[[], None] | None = None,
        background: bool = False,
    ) -> None:
        self.packed = packed
        self.count = count
        self.failed = failed
        self.background = background
        self.waiter: Any = None
        self.replies: list[Any] = []
        self.error: Exception | None = None

    def result(self) -> list[Any]:
        if self.error is not None:
            # A new exception for each caller: one raised in many greenlets would collect all their tracebacks.
            raise type(self.error)(str(self.error)) from self.error
        for reply in self.replies:
            if isinstance(reply, ResponseError):
                raise DependencyRejected(f"redis refused a command: {type(reply).__name__}") from reply
        return self.replies

    def report(self) -> None:
        """Tell the submitter of a background operation if it failed."""
        if self.failed is None:
            return
        if self.error is None and not any(isinstance(reply, ResponseError) for reply in self.replies):
            return
        try:
            self.failed()
        except Exception:  # noqa: BLE001 - runs in the greenlet that every caller depends on
            _log.exception("redis_failure_report_failed")


def _connection(url: str, timeout_s: float, client_name: str | None) -> Any:
    """A connection of redis-py, not yet connected. It knows URLs, TLS, AUTH, SELECT and hiredis."""
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,  # needs no HELLO
            driver_info=None,  # sends no CLIENT SETINFO
            retry=Retry(NoBackoff(), 0),  # the guard alone retries
            socket_connect_timeout=timeout_s,
            socket_timeout=None,  # the whole exchange has one timeout
            client_name=client_name,
        )
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL is not valid: {error}") from None
    pool.connection_kwargs["decode_responses"] = False
    return pool.make_connection()


def ping(url: str, timeout_s: float = 2.0) -> None:
    """Connect, authenticate and ping, for use outside a worker.

    Raises:
        DependencyUnavailable: one line that says why, without the password.
        ConfigurationError: the URL is not valid.
    """
    connection = _connection(url, timeout_s, None)
    connection.socket_timeout = timeout_s
    try:
        connection.connect()
        connection.send_command("PING")
        connection.read_response()
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("redis", " ".join(str(error).split())) from error
    finally:
        connection.disconnect()
