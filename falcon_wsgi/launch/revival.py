"""Embedded servers that died while the instance runs are started again."""

from __future__ import annotations

import time
from collections.abc import Callable

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch.console import say
from falcon_wsgi.launch.server import EmbeddedServer

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_STABLE_S = 60.0


class Revived:
    """One server, started again at growing intervals when it dies. A suspended one has not died."""

    def __init__(self, server: EmbeddedServer, clock: Callable[[], float] = time.monotonic) -> None:
        self.server = server
        self._clock = clock
        self._pause_s = _FIRST_PAUSE_S
        self._due = 0.0

    def look_after(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Start the server if it is dead and an attempt is due. True if it runs again, with a new pid."""
        now = self._clock()
        if self.server.running:
            if now > self._due + _STABLE_S:
                self._pause_s = _FIRST_PAUSE_S
            return False
        if now < self._due:
            return False
        pause_s, self._pause_s = self._pause_s, min(_LONGEST_PAUSE_S, self._pause_s * 2)
        try:
            self.server.start(given_up)
        except ConfigurationError as error:
            say(f"{self.server.name} died and does not start again: {error}; next attempt in {pause_s:g} s")
            return False
        finally:
            self._due = self._clock() + pause_s
        say(f"{self.server.name} died and was started again (pid {self.server.pid})")
        return True
