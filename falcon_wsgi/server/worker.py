"""Gunicorn's gevent worker with a drain that loses nothing, and problem documents for broken HTTP.

What the stock worker lacks (measured, gunicorn 27): one idle kept-alive connection holds its drain for the whole
graceful timeout; connections still in the accept queue are reset when the last listener closes; a request that
cannot be parsed gets an HTML page; one worker that fails to boot ends the whole instance.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import traceback
from functools import partial
from types import FrameType
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import http, util
from gunicorn.arbiter import Arbiter
from gunicorn.workers.ggevent import GeventWorker

from falcon_wsgi.errors import FalconError
from falcon_wsgi.server import invalid_http, master, takeover
from falcon_wsgi.server.accepting import Accepting
from falcon_wsgi.server.connection import LEFT_OVER_S, Connection, Idle
from falcon_wsgi.server.plain import common_environ
from falcon_wsgi.services import Services

log = logging.getLogger(__name__)

_TICK_S = 0.1
_LIST_AGAIN_S = 5.0
# A client that just got an answer may be sending its next request: an idle connection gets this long to bring it.
_IDLE_GRACE_S = 0.5
# Time kept from the graceful timeout for the journal, before the master kills what is left.
_FLUSH_RESERVE_S = 2.0
# A worker that is replaced alone flushes for this long only: its successor starts when it is gone.
_FLUSH_ALONE_S = 1.0
_BOOT_PAUSE_S = 1.0


class FalconWorker(GeventWorker):  # type: ignore[misc]
    """Serves HTTP/1.1 for one app; see the module's docstring for what differs from its base.

    Signals only set flags, so each end goes through `run`: SIGTERM drains, SIGINT and SIGQUIT cut off.
    """

    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = Pool(self.worker_connections)
        self.idle = Idle()
        self.common_environ = common_environ(self.cfg)
        self._at_once = False

    # The life of the process.

    def init_process(self) -> None:
        """As its base. A failure ends this process, and the instance only if it never served.

        Gunicorn takes a worker that does not boot for a fault of the app and halts. In an instance that served,
        the cause may pass: no memory, no file descriptor, a full disk. Then the master gets another attempt.
        """
        try:
            super().init_process()
        except Exception as error:
            reason = str(error) if isinstance(error, FalconError) else repr(error)
            log.error("worker_failed", extra={"reason": reason}, exc_info=not isinstance(error, FalconError))
            if not master.instance_has_served():
                sys.exit(Arbiter.WORKER_BOOT_ERROR)
            master.report_failed_start(reason)
            time.sleep(_BOOT_PAUSE_S)  # the master starts the next one at once
            sys.exit(1)

    def load_wsgi(self) -> None:
        self.wsgi = self.app.wsgi()
        self._services: Services = self.wsgi.extensions["falcon"]

    def run(self) -> None:
        services = self._services
        services.on_stuck = self._retire
        services.take_over = partial(takeover.take_over, services.settings)
        services.start()
        servers = [self._serve(listener) for listener in self.sockets]
        self._accepting = Accepting(servers, self._connections.free_count)
        self._work()
        ends_at = time.monotonic() + self.cfg.graceful_timeout
        reserve_s = min(_FLUSH_RESERVE_S, self.cfg.graceful_timeout / 4)
        self._drain(servers, ends_at - reserve_s)
        services.close(self._flush_s(ends_at - reserve_s / 2))
        # The interpreter would take 0.2 s to free what the kernel frees at once, and wait for any stuck thread.
        os._exit(0)

    def _work(self) -> None:
        """Serve until told to end."""
        services = self._services
        list_at = time.monotonic()
        while self.alive:
            self.notify()
            if time.monotonic() >= list_at:
                listed = master.register_worker(services.settings, services.worker_id, self.pid)
                list_at = float("inf") if listed else time.monotonic() + _LIST_AGAIN_S
            if master.stop_is_announced():
                services.begin_drain()
            if master.instance_is_stopping():
                self.alive = False  # in case the signal came before this process had a handler for it
            gevent.sleep(_TICK_S)

    def notify(self) -> None:
        """Tell the master that the event loop turns; end if the master is gone. Also ends idle connections."""
        self.tmp.notify()
        self.idle.end(self.cfg.keepalive)
        if self.alive and self._is_orphaned():
            log.warning("master_gone")
            self.alive = False

    def _is_orphaned(self) -> bool:
        return bool(self.ppid != os.getppid())

    def _retire(self) -> None:
        """End once drained; the master starts a replacement."""
        self.alive = False

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self._at_once = True
        self.alive = False

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """The master has had no heartbeat for its `timeout`: the event loop stands still, and here it says where."""
        try:
            log.critical("worker_stood_still", extra={"stack": "".join(traceback.format_stack(frame))})
        finally:
            os._exit(1)

    # The drain.

    def _drain(self, servers: list[StreamServer], deadline: float) -> None:
        """Finish what clients have begun. Returns when no connection is left, or at `deadline`."""
        if master.instance_is_stopping() or self._is_orphaned():
            self._services.begin_drain()
            # A balancer has to see readiness fail before it sends its clients elsewhere.
            self._wait_until(min(deadline, time.monotonic() + self._services.settings.drain_delay_seconds))
            for server in servers:
                self._accept_queued(server)
        for server in servers:
            server.close()
        grace_ends = time.monotonic() + _IDLE_GRACE_S
        while self._connections and time.monotonic() < deadline and not self._at_once:
            self.notify()
            if time.monotonic() >= grace_ends:
                self.idle.end(_IDLE_GRACE_S)
            self._connections.join(timeout=_TICK_S / 2)
        if self._connections:
            log.warning("drain_incomplete", extra={"connections_cut_off": len(self._connections)})
            self._connections.kill(timeout=_TICK_S)

    def _wait_until(self, moment: float) -> None:
        while time.monotonic() < moment and not self._at_once:
            self.notify()
            gevent.sleep(_TICK_S)

    def _accept_queued(self, server: StreamServer) -> None:
        """Take the connections that the kernel has completed but nobody has accepted: closing would reset them."""
        server.stop_accepting()
        while self._connections.free_count():
            try:
                accepted = server.do_read()
            except OSError:
                return
            if accepted is None:
                return
            server.do_handle(*accepted)

    def _flush_s(self, ends_at: float) -> float:
        """How long the journal may be flushed. What is not shipped then stays on disk and is adopted."""
        if self._at_once or not master.instance_is_stopping():
            return _FLUSH_ALONE_S
        return max(_FLUSH_ALONE_S, ends_at - time.monotonic())

    # Connections.

    def _serve(self, listener: socket.socket) -> StreamServer:
        listener.setblocking(True)
        handle = partial(self.handle, listener.getsockname())
        server = StreamServer(listener, handle=handle, spawn=self._connections)
        if self.cfg.workers > 1:
            server.max_accept = 1  # leaves the rest of a burst to the other workers
        server.start()
        return server

    def handle(self, listener_name: Any, client: socket.socket, addr: Any) -> None:
        """One connection, from its first byte to its close."""
        try:
            Connection(self, listener_name, client, addr).serve()
        except (StopIteration, http.errors.NoMoreData):
            pass
        except OSError as error:
            log.debug("connection_lost", extra={"reason": str(error)})
        except Exception as error:  # noqa: BLE001 - the edge of a connection; handle_error logs the traceback
            self.handle_error(None, client, addr, error)
        finally:
            util.close(client)

    def request_ended(self) -> None:
        if self.alive:
            self._accepting.between_requests()

    def count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            log.info("worker_recycled", extra={"requests": self.nr})
            self.alive = False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what never reached the app: a request that is not valid HTTP, or a failure below the app."""
        invalid_http.answer(client, exc, self._services.worker_id)
        util.close_graceful(client, timeout=LEFT_OVER_S)
