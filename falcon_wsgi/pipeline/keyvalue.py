"""What the pipeline asks of a key-value store, such as Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Command = Sequence[bytes | str | int]
"""A Redis command with its arguments, such as ("SET", key, value, "PX", 5000)."""


class Pending(Protocol):
    """Commands that were sent."""

    def wait(self) -> list[Any]:
        """What `execute` returns or raises. To be called at most once."""


class KeyValueStore(Protocol):
    """Commands of Redis, in batches. Which exceptions mean that it is away is the guard's to know."""

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """One reply for each command, in order; strings as bytes, nothing as None.

        The commands of one call run in order, but other clients' may run between them. A caller that is
        killed while it waits leaves its commands to run or not.

        Raises:
            DependencyRejected: the store refused one of the commands; the others of this call did run.
        """

    def begin(self, commands: Sequence[Command]) -> Pending:
        """Send the commands. The caller waits later, or never: then their replies are thrown away.

        What is asked for next may go out in the same write. Raises nothing; whatever happens, waiting tells.
        """

    def submit(self, commands: Sequence[Command], failed: Callable[[], None] | None = None) -> bool:
        """Run the commands without waiting, after everything that was asked for before and within milliseconds.

        False if too many wait already; then they are dropped. `failed` is called if they were lost or refused
        later. It must not block.
        """

    def set_many(self, items: Sequence[tuple[str, bytes]], ttl_s: int) -> Sequence[Command]:
        """Commands that set each key to its value, for `ttl_s` seconds."""

    def compare_and_set(
        self, key: str, expected: bytes, value: bytes | None, ttl_ms: int, *, or_absent: bool = False
    ) -> Command:
        """A command that sets `key` to `value` if it holds `expected`, and replies 1, else 0. It is atomic.

        `value` None deletes the key; any other must not be empty. With `or_absent`, a key that does not exist
        is set as well. Where the key holds `value` already the reply is 1 and nothing changes, so that the
        command may be repeated; only if `expected` and `value` are equal does its life begin anew.
        """

    def count_arrival(self, key: str, interval_us: int, burst: int) -> Command:
        """A command that counts one more arrival under `key`, of which one each `interval_us` is allowed and
        `burst` at once: the generic cell rate algorithm (ITU-T I.371). It is atomic, and on the store's clock.

        It replies in microseconds: how long the arrivals so far would take at that rate, this one included; or,
        for one too many, which is not counted, the negative of how long to wait.
        """
