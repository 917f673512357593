"""Structured logs: one JSON object a line on stderr, from the logging module and for each request."""

from __future__ import annotations

import logging
import os
import random
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol

import gevent
import orjson
from pythonjsonlogger.json import JsonFormatter as BaseFormatter

_log = logging.getLogger(__name__)

_STDERR = 2


class Correlated(Protocol):
    """What a log line can be tied to."""

    @property
    def request_id(self) -> str: ...

    @property
    def trace_id(self) -> str | None: ...


class LoggedRequest(Correlated, Protocol):
    """What an access record says of a request beside its result."""

    @property
    def event_id(self) -> str: ...

    @property
    def client(self) -> str: ...

    @property
    def client_ip(self) -> str | None: ...


current_request: ContextVar[Correlated | None] = ContextVar("current_request", default=None)


class _Correlation(logging.Filter):
    """Binds worker, request and trace to every record."""

    def __init__(self, worker_id: str) -> None:
        super().__init__()
        self._worker_id = worker_id

    def filter(self, record: logging.LogRecord) -> bool:
        request = current_request.get()
        record.worker_id = self._worker_id
        record.request_id = request.request_id if request else None
        record.trace_id = request.trace_id if request else None
        return True


class JsonFormatter(BaseFormatter):
    """Fields in a fixed order; the time as RFC 3339 in UTC."""

    def __init__(self) -> None:
        super().__init__(
            "%(timestamp)s %(levelname)s %(name)s %(message)s %(worker_id)s %(request_id)s %(trace_id)s",
            rename_fields={"levelname": "level", "name": "logger"},
        )

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        super().add_fields(log_data, record, message_dict)
        log_data["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _StderrHandler(logging.Handler):
    """One write for each record, so that lines of several processes do not mix."""

    def emit(self, record: logging.LogRecord) -> None:
        _write_line(self.format(record).encode())


def configure(level: str, worker_id: str) -> None:
    """Send the root logger, and with it every other, to stderr as JSON. Replaces an earlier configuration."""
    handler = _StderrHandler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_Correlation(worker_id))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What these libraries say below WARNING is of no use to an operator.
    for name in ("pybreaker", "backoff", "psycopg"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _capture_what_would_be_printed()


def _capture_what_would_be_printed() -> None:
    """Python and gevent print warnings and stray exceptions as plain text; these become records too."""
    logging.captureWarnings(True)
    sys.excepthook = lambda *error: _log.critical("exception_uncaught", exc_info=error)
    sys.unraisablehook = lambda stray: _log.error(
        "exception_ignored",
        exc_info=(stray.exc_type, stray.exc_value or stray.exc_type(), stray.exc_traceback),
    )
    gevent.get_hub().print_exception = lambda context, *error: _log.error(
        "greenlet_failed", exc_info=error, extra={"greenlet": str(context)}
    )


class AccessLog:
    """One record for each request, with the fields of any other record.

    It is encoded and written here, not by the logging module, which took 60 us a request. Its level is INFO for
    a success, WARNING for a status of 400 or more, ERROR for 500 or more.

    Args:
        level: the least severe level that is written.
        sample: share of the successes that are written, 0 to 1.
    """

    def __init__(self, worker_id: str, level: str, sample: float) -> None:
        self._worker_id = worker_id
        self._threshold = logging.getLevelNamesMapping()[level]
        self._sample = sample if self._threshold <= logging.INFO else 0.0

    def write(self, request: LoggedRequest, status: int, method: str, path: str, seconds: float) -> None:
        """`path` is decoded as WSGI asks: each character is one byte."""
        if status < 400:
            if self._sample < 1 and random.random() >= self._sample:
                return
            level = "INFO"
        elif status < 500:
            if self._threshold > logging.WARNING:
                return
            level = "WARNING"
        elif self._threshold > logging.ERROR:
            return
        else:
            level = "ERROR"
        record = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "logger": "falcon_wsgi.access",
            "message": "request",
            "worker_id": self._worker_id,
            "request_id": request.request_id,
            "trace_id": request.trace_id,
            "status": status,
            "method": method,
            "path": path[:256].encode("latin-1").decode("utf-8", "replace"),
            "duration_ms": round(seconds * 1000, 3),
            "client": request.client,
            "client_ip": request.client_ip,
            "event_id": request.event_id,
        }
        _write_line(orjson.dumps(record))


def _write_line(line: bytes) -> None:
    """A line that cannot be written (a closed pipe, a full disk) is given up: the answer matters more."""
    try:
        os.write(_STDERR, line + b"\n")
    except OSError:
        return
