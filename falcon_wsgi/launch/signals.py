"""Signals to the supervisor, counted by the handler and acted on between two steps."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import FrameType


class Signals:
    """`stops` counts SIGINT and SIGTERM. `wait` returns early when a signal comes."""

    def __init__(self) -> None:
        self.stops = 0
        self._reload = False
        self._on_terminal = sys.stderr.isatty()
        self._wakeup: int | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Handle the three signals in this block, as before it afterwards."""
        handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGHUP: self._hang_up}
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        former_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._wakeup = reading
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_wakeup)
            for number, handler in former.items():
                signal.signal(number, handler)
            self._wakeup = None
            os.close(reading)
            os.close(writing)

    def wait(self, timeout_s: float) -> None:
        assert self._wakeup is not None
        if select.select([self._wakeup], [], [], timeout_s)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 4096)

    def take_reload(self) -> bool:
        """Whether SIGHUP came since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        """SIGHUP asks for a reload, unless it came because our terminal was closed."""
        if self._on_terminal and not sys.stderr.isatty():
            self.stops += 1
        else:
            self._reload = True
