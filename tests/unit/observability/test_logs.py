"""Log records: their form, what is written at which level, and what else would reach stderr."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import gevent
import orjson
import pytest

from falcon_wsgi.observability import logs
from falcon_wsgi.observability.logs import AccessLog, configure, current_request


@dataclass
class Request:
    request_id: str = "request-1"
    trace_id: str | None = "4bf92f3577b34da6a3ce929d0e0e4736"
    event_id: str = "event-1"
    client: str = "acme"
    client_ip: str | None = "203.0.113.9"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What is written to stderr from here on, parsed. The process's own configuration is restored after."""
    written: list[dict[str, Any]] = []
    root, hub = logging.getLogger(), gevent.get_hub()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(logs.os, "write", lambda number, line: written.append(orjson.loads(line)))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    yield written
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    vars(hub).pop("print_exception", None)


def test_a_record_has_the_common_fields_and_its_own(lines) -> None:
    configure("INFO", "worker-1")
    logging.getLogger("part").warning("it_happened", extra={"depth": 3})
    (record,) = lines
    assert list(record) == [
        "timestamp",
        "level",
        "logger",
        "message",
        "worker_id",
        "request_id",
        "trace_id",
        "depth",
    ]
    assert datetime.fromisoformat(record["timestamp"]).utcoffset() is not None
    assert (record["level"], record["logger"], record["message"]) == ("WARNING", "part", "it_happened")
    assert (record["worker_id"], record["request_id"], record["trace_id"]) == ("worker-1", None, None)


def test_a_record_within_a_request_carries_its_ids(lines) -> None:
    configure("INFO", "worker-1")
    token = current_request.set(Request())
    logging.getLogger("part").info("within")
    current_request.reset(token)
    logging.getLogger("part").info("after")
    assert [record["request_id"] for record in lines] == ["request-1", None]
    assert lines[0]["trace_id"] == Request.trace_id


def test_greenlets_do_not_see_each_others_request(lines) -> None:
    configure("INFO", "worker-1")

    def run(name: str) -> None:
        current_request.set(Request(request_id=name))
        gevent.sleep(0)
        logging.getLogger("part").info(name)

    gevent.joinall([gevent.spawn(run, f"r{i}") for i in range(5)], raise_error=True)
    assert [(r["message"], r["request_id"]) for r in lines] == [(f"r{i}", f"r{i}") for i in range(5)]


def test_a_traceback_stays_in_its_line(lines) -> None:
    configure("INFO", "worker-1")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("part").exception("it_broke")
    (record,) = lines
    assert "Traceback" in record["exc_info"]
    assert "two\nlines" in record["exc_info"]


@pytest.mark.parametrize("value", ["\ud800", b"\xff", {1: 2}, object(), float("inf"), 10**30, {"a"}])
def test_a_field_of_any_kind_can_be_logged(monkeypatch, lines, value: object) -> None:
    written: list[bytes] = []
    configure("INFO", "worker-1")
    monkeypatch.setattr(logs.os, "write", lambda number, line: written.append(line))
    logging.getLogger("part").info("odd", extra={"field": value})
    (line,) = written
    assert line.startswith(b"{")
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1


def test_a_lower_level_is_not_written(lines) -> None:
    configure("ERROR", "worker-1")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("part").log(level, "said")
    assert [record["level"] for record in lines] == ["ERROR"]


def test_what_python_and_gevent_would_print_becomes_records(lines) -> None:
    configure("INFO", "worker-1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old\nhabit", stacklevel=1)
    gevent.spawn(lambda: 1 / 0).join()
    try:
        raise ValueError("stray")
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert [(r["logger"], r["message"].split("\n")[0][:20]) for r in lines[1:]] == [
        ("falcon_wsgi.observability.logs", "greenlet_failed"),
        ("falcon_wsgi.observability.logs", "exception_uncaught"),
    ]
    assert lines[0]["logger"] == "py.warnings"
    assert all("Traceback" in record["exc_info"] for record in lines[1:])


def test_a_broken_stderr_is_no_reason_to_fail(monkeypatch, lines) -> None:
    def broken(number: int, line: bytes) -> int:
        raise BrokenPipeError

    configure("INFO", "worker-1")
    monkeypatch.setattr(logs.os, "write", broken)
    logging.getLogger("part").error("unheard")
    AccessLog("worker-1", "INFO", 1.0).write(Request(), 200, "GET", "/", 0.1)


def test_an_access_record_has_its_fields(lines) -> None:
    AccessLog("worker-1", "INFO", 1.0).write(Request(), 200, "POST", "/caf\xc3\xa9\xff", 0.0123456)
    (record,) = lines
    assert datetime.fromisoformat(record.pop("timestamp"))
    assert record == {
        "level": "INFO",
        "logger": "falcon_wsgi.access",
        "message": "request",
        "worker_id": "worker-1",
        "request_id": "request-1",
        "trace_id": Request.trace_id,
        "status": 200,
        "method": "POST",
        "path": "/café\ufffd",
        "duration_ms": 12.346,
        "client": "acme",
        "client_ip": "203.0.113.9",
        "event_id": "event-1",
    }


def test_a_long_path_is_cut(lines) -> None:
    AccessLog("worker-1", "INFO", 1.0).write(Request(), 404, "GET", "/" + "x" * 4000, 0.1)
    assert len(lines[0]["path"]) == 256


@pytest.mark.parametrize(
    ("level", "sample", "statuses"),
    [
        ("DEBUG", 1.0, [200, 404, 500]),
        ("INFO", 1.0, [200, 404, 500]),
        ("INFO", 0.0, [404, 500]),
        ("WARNING", 1.0, [404, 500]),
        ("ERROR", 1.0, [500]),
        ("CRITICAL", 1.0, []),
    ],
)
def test_level_and_sample_decide_what_is_written(
    lines, level: str, sample: float, statuses: list[int]
) -> None:
    access = AccessLog("worker-1", level, sample)
    for status in (200, 404, 500):
        access.write(Request(), status, "GET", "/", 0.1)
    assert [record["status"] for record in lines] == statuses


def test_a_share_of_the_successes_is_sampled(lines, monkeypatch) -> None:
    draws = iter([0.05, 0.5, 0.0999, 0.1, 0.9])
    monkeypatch.setattr(logs.random, "random", lambda: next(draws))
    access = AccessLog("worker-1", "INFO", 0.1)
    for _ in range(5):
        access.write(Request(), 200, "GET", "/", 0.1)
    assert len(lines) == 2
