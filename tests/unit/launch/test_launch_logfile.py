"""The log file: rotation, and the one line said when Gunicorn ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from falcon_wsgi.launch import logfile
from falcon_wsgi.launch.logfile import LogFile, last_error


def _record(level: str, message: str, **fields: str) -> str:
    return json.dumps({"level": level, "message": message, **fields})


def test_line_meant_for_people_is_preferred() -> None:
    log = "\n".join([_record("ERROR", "worker_failed"), "falcon: model sentiment: digest differs", "bye"])
    assert last_error(log) == "model sentiment: digest differs"


def test_last_severe_record_is_told_with_its_exception() -> None:
    trace = "Traceback (most recent call last):\n  File x\nValueError: wrong"
    log = "\n".join(
        [_record("ERROR", "first"), _record("ERROR", "boot", exc_info=trace), _record("INFO", "exit")]
    )
    assert last_error(log) == "boot: ValueError: wrong"


def test_plain_text_gives_its_last_line() -> None:
    assert (
        last_error("one\nModuleNotFoundError: No module named 'x'\n\n")
        == "ModuleNotFoundError: No module named 'x'"
    )


def test_empty_log_says_nothing(tmp_path: Path) -> None:
    assert LogFile(tmp_path / "none.log").last_error() == ""


def _start(log: LogFile, text: str) -> None:
    descriptor = log.open()
    os.write(descriptor, text.encode())
    os.close(descriptor)


def test_each_start_begins_a_new_file_and_five_old_ones_stay(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log" / "falcon.log")
    for number in range(9):
        _start(log, f"start {number}")
    kept = {path.name: path.read_text() for path in log.path.parent.iterdir()}
    assert kept == {"falcon.log": "start 8"} | {f"falcon.log.{n}": f"start {8 - n}" for n in range(1, 6)}


def test_file_that_grew_too_large_is_moved_aside_under_its_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "ROTATED_BYTES", 10)
    log = LogFile(tmp_path / "falcon.log")
    writer = log.open()
    os.write(writer, b"more than ten bytes")
    log.rotate_if_large()
    os.write(writer, b"next")
    os.close(writer)
    assert (tmp_path / "falcon.log.1").read_text() == "more than ten bytes"
    assert log.path.read_text() == "next"


def test_log_is_not_readable_by_other_users(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "falcon.log")
    _start(log, "x")
    assert log.path.stat().st_mode & 0o077 == 0
