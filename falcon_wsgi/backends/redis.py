"""Redis over one connection for each worker, shared by all its greenlets.

A redis-py pool costs 54 to 86 us of CPU for a GET. Here the commands of all greenlets that are ready go out
in one write, and their replies are read together, which takes a fraction of that. A batch never waits for
company: it is what there is at the moment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from falcon_wsgi.backends.redis_stream import TRANSIENT, Operation, RedisStream
from falcon_wsgi.errors import ConfigurationError, DependencyUnavailable

__all__ = ["TRANSIENT", "RedisClient", "ping"]

Command = Sequence[bytes | str | int]

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

_log = logging.getLogger(__name__)


class RedisClient:
    """A pipelined client. Implements `pipeline.keyvalue.KeyValueStore`.

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
        self._stream = RedisStream(_connections(url, timeout_s, client_name), self._greet, timeout_s)
        self._max_background = max_background
        self._background = 0
        self._has_msetex = False
        self._closed = False

    def begin(self, commands: Sequence[Command]) -> Operation:
        operation = Operation(len(commands))
        self._stream.add(operation, _packed(commands), urgent=True)
        return operation

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        return self.begin(commands).wait()

    def submit(self, commands: Sequence[Command], failed: Callable[[], None] | None = None) -> bool:
        if self._closed or self._background + len(commands) > self._max_background:
            return False
        self._background += len(commands)
        self._stream.add(_Background(len(commands), self, failed), _packed(commands), urgent=False)
        return True

    def set_many(self, items: Sequence[tuple[str, bytes]], ttl_s: int) -> Sequence[Command]:
        # Redis 8.4 and Valkey 9.1 know MSETEX, which costs them half as much as a SET for each.
        if self._has_msetex and len(items) > 1:
            return (("MSETEX", len(items), *[part for item in items for part in item], "EX", ttl_s),)
        return [("SET", key, value, "EX", ttl_s) for key, value in items]

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
        self._stream.close()

    def _greet(self, connection: Any) -> None:
        connection.send_command("COMMAND", "INFO", "MSETEX")
        try:
            match connection.read_response():
                case [[*_]]:
                    self._has_msetex = True
                case _:
                    self._has_msetex = False
        except ResponseError:  # the user may not ask
            self._has_msetex = False

    def _ended(self, operation: _Background) -> None:
        self._background -= operation.count


class _Background(Operation):
    """Commands that nobody waits for."""

    __slots__ = ("_client", "_failed")

    def __init__(self, count: int, client: RedisClient, failed: Callable[[], None] | None) -> None:
        super().__init__(count)
        self._client = client
        self._failed = failed

    def end(self) -> None:
        self._client._ended(self)
        if self._failed is None or (self.error is None and self.refusal is None):
            return
        try:
            self._failed()
        except Exception:  # noqa: BLE001 - runs in the hub, and every caller depends on it
            _log.exception("redis_failure_report_failed")


def _packed(commands: Sequence[Command]) -> bytes:
    # hiredis packs in C; redis-py in Python, at eight times the cost. Its stub knows tuples of one element only.
    pack: Callable[[Any], bytes] = pack_command
    return b"".join([pack(tuple(command)) for command in commands])


def _connections(url: str, timeout_s: float, client_name: str | None) -> Callable[[], Any]:
    """Makes connections of redis-py, not yet connected. It knows URLs, TLS, AUTH and SELECT."""
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,  # needs no HELLO
            driver_info=None,  # sends no CLIENT SETINFO
            retry=Retry(NoBackoff(), 0),  # the guard alone retries
            socket_connect_timeout=timeout_s,
            socket_timeout=None,  # the client has a timeout for the whole
            client_name=client_name,
        )
        pool.connection_kwargs["decode_responses"] = False
        make = partial(pool.connection_class, **pool.connection_kwargs)
        make()
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL is not valid: {error}") from None
    return make


def ping(url: str, timeout_s: float = 2.0) -> None:
    """Connect, authenticate and ping, for use outside a worker.

    Raises:
        DependencyUnavailable: one line that says why, without the password.
        ConfigurationError: the URL is not valid.
    """
    connection = _connections(url, timeout_s, None)()
    connection.socket_timeout = timeout_s
    try:
        connection.connect()
        connection.send_command("PING")
        connection.read_response()
    except (RedisError, OSError) as error:
        raise DependencyUnavailable("redis", " ".join(str(error).split())) from error
    finally:
        connection.disconnect()
