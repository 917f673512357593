"""Watches the dependencies, so that circuits open and close without traffic."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import gevent

from falcon_wsgi.resilience.guard import Guard

_log = logging.getLogger(__name__)


class Monitor:
    """Pings each dependency through its guard, from a greenlet of its own: a hung one delays no other.

    Args:
        pings: what to call for each guard; bounded in time by itself.
        interval_s: between pings.
        trial_interval_s: between pings while the circuit is half-open.
    """

    def __init__(
        self,
        pings: Mapping[Guard, Callable[[], Any]],
        *,
        interval_s: float = 1.0,
        trial_interval_s: float = 0.2,
    ) -> None:
        self._pings = dict(pings)
        self._interval_s = interval_s
        self._trial_interval_s = trial_interval_s
        self._greenlets: list[Any] = []

    def start(self) -> None:
        """To be called after the fork: greenlets do not survive it."""
        for guard, ping in self._pings.items():
            # A few missed probes mean that this monitor does not run; then requests try the circuit
            # themselves.
            guard.leave_trials_to_monitor(grace_s=3 * self._interval_s)
            self._greenlets.append(gevent.spawn(self._watch, guard, ping))

    def stop(self) -> None:
        gevent.killall(self._greenlets)
        self._greenlets.clear()
        for guard in self._pings:
            guard.leave_trials_to_monitor(grace_s=0.0)

    def _watch(self, guard: Guard, ping: Callable[[], Any]) -> None:
        while True:
            try:
                guard.probe(ping)
            except Exception:  # noqa: BLE001 - the edge of a greenlet that must outlive one bad ping
                _log.exception("probe_failed", extra={"dependency": guard.name})
            gevent.sleep(self._pause_s(guard))

    def _pause_s(self, guard: Guard) -> float:
        if guard.state == "half_open":
            return self._trial_interval_s
        if guard.state == "open":
            return min(self._interval_s, max(self._trial_interval_s, guard.reset_due_in_s()))
        return self._interval_s
