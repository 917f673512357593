"""Key-value stores without a server: one in this process' memory, and one that is always away."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from falcon_wsgi.errors import DependencyRejected

Command = Sequence[bytes | str | int]

TRANSIENT: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
"""What a store here raises when it is away."""

_COMPARE_AND_SET = b"FALCON.CAS"
_COUNT_ARRIVAL = b"FALCON.ARRIVAL"


class MemoryStore:
    """Implements `pipeline.keyvalue.KeyValueStore` with the commands that the pipeline uses, and Redis'
    replies.

    Holds at most `max_entries` keys; past that the one written first goes.
    """

    def __init__(self, max_entries: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._verbs: dict[bytes, Callable[..., Any]] = {
            b"PING": lambda: b"PONG",
            b"GET": self._get,
            b"MGET": lambda *keys: [self._get(key) for key in keys],
            b"SET": self._set,
            b"DEL": lambda *keys: sum(self._entries.pop(key, None) is not None for key in keys),
            b"PTTL": self._pttl,
            _COMPARE_AND_SET: self._compare_and_set,
            _COUNT_ARRIVAL: self._count_arrival,
        }

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        outcomes = [self._run(command) for command in commands]
        for outcome in outcomes:
            if isinstance(outcome, DependencyRejected):
                raise outcome
        return outcomes

    def begin(self, commands: Sequence[Command]) -> _Done | _Failed:
        try:
            return _Done(self.execute(commands))
        except (DependencyRejected, ConnectionError, TimeoutError) as error:
            return _Failed(error)

    def submit(self, commands: Sequence[Command], failed: Callable[[], None] | None = None) -> bool:
        try:
            self.execute(commands)
        except DependencyRejected:
            if failed is not None:
                failed()
        return True

    def set_many(self, items: Sequence[tuple[str, bytes]], ttl_s: int) -> Sequence[Command]:
        return [("SET", key, value, "EX", ttl_s) for key, value in items]

    def compare_and_set(
        self, key: str, expected: bytes, value: bytes | None, ttl_ms: int, *, or_absent: bool = False
    ) -> Command:
        return (_COMPARE_AND_SET, key, expected, value or b"", ttl_ms, int(or_absent))

    def count_arrival(self, key: str, interval_us: int, burst: int) -> Command:
        return (_COUNT_ARRIVAL, key, interval_us, burst)

    def ping(self) -> None:
        """Always there."""

    def close(self) -> None:
        self._entries.clear()

    def _run(self, command: Command) -> Any:
        verb, *arguments = [_as_bytes(part) for part in command]
        try:
            return self._verbs[verb.upper()](*arguments)
        except (KeyError, TypeError, ValueError):
            return DependencyRejected(f"no such command, or not with these arguments: {verb.decode()}")

    def _get(self, key: bytes) -> bytes | None:
        value, dies_s = self._entries.get(key, (None, 0.0))
        if value is not None and self._clock() >= dies_s:
            del self._entries[key]
            return None
        return value

    def _set(self, key: bytes, value: bytes, *options: bytes) -> bytes | None:
        words = iter(options)
        lives_s, only_if_absent = float("inf"), False
        for word in words:
            match word.upper():
                case b"NX":
                    only_if_absent = True
                case b"PX":
                    lives_s = int(next(words)) / 1000
                case b"EX":
                    lives_s = float(int(next(words)))
                case _:
                    raise ValueError(word)
        if only_if_absent and self._get(key) is not None:
            return None
        self._put(key, value, lives_s)
        return b"OK"

    def _pttl(self, key: bytes) -> int:
        if self._get(key) is None:
            return -2
        left_s = self._entries[key][1] - self._clock()
        return -1 if left_s == float("inf") else round(left_s * 1000)

    def _compare_and_set(
        self, key: bytes, expected: bytes, value: bytes, ttl_ms: bytes, or_absent: bytes
    ) -> int:
        held = self._get(key)
        if held != expected and not (held is None and or_absent == b"1"):
            return int(held == value)
        if value:
            self._put(key, value, int(ttl_ms) / 1000)
        else:
            self._entries.pop(key, None)
        return 1

    def _count_arrival(self, key: bytes, interval_us: bytes, burst: bytes) -> int:
        interval, allowed = int(interval_us), int(interval_us) * int(burst)
        now = round(self._clock() * 1_000_000)
        due = min(max(int(self._get(key) or now), now), now + allowed) + interval
        excess = due - now - allowed
        if excess > 0:
            return -excess
        self._put(key, str(due).encode(), (due - now) / 1_000_000)
        return due - now

    def _put(self, key: bytes, value: bytes, lives_s: float) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (value, self._clock() + lives_s)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class AbsentStore:
    """A store that is always away, for an instance that has none: all degrades as in an outage."""

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        raise _absent()

    def begin(self, commands: Sequence[Command]) -> _Failed:
        return _Failed(_absent())

    def submit(self, commands: Sequence[Command], failed: Callable[[], None] | None = None) -> bool:
        return False

    def set_many(self, items: Sequence[tuple[str, bytes]], ttl_s: int) -> Sequence[Command]:
        return ()

    def compare_and_set(
        self, key: str, expected: bytes, value: bytes | None, ttl_ms: int, *, or_absent: bool = False
    ) -> Command:
        return ()

    def count_arrival(self, key: str, interval_us: int, burst: int) -> Command:
        return ()

    def ping(self) -> None:
        raise _absent()

    def close(self) -> None:
        """Nothing to close."""


class _Done:
    """What `begin` gives where commands take no time."""

    def __init__(self, replies: list[Any]) -> None:
        self._replies = replies

    def wait(self) -> list[Any]:
        return self._replies


class _Failed:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def wait(self) -> NoReturn:
        raise self._error


def _absent() -> ConnectionError:
    return ConnectionError("no store is configured")


def _as_bytes(part: bytes | str | int) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
