"""A program that tests need and that is not there is never passed over quietly."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests import programs

TESTS = ("tests/e2e/test_a.py::test_one", "tests/e2e/test_b.py::test_two")


class Terminal:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any program, apt-get included."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(programs, "_missed", defaultdict(list))


def test_one_line_names_the_command_and_what_did_not_run() -> None:
    for test in TESTS:
        with pytest.raises(pytest.skip.Exception):
            programs.require("chromium", "chromium", test)
    terminal = Terminal()
    programs.report(terminal)  # type: ignore[arg-type]
    (line,) = terminal.lines
    assert "apt-get install -y --no-install-recommends chromium" in line
    assert all(test in line for test in TESTS)


def test_in_ci_it_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install -y --no-install-recommends chromium"):
        programs.require("chromium", "chromium", TESTS[0])


def test_a_program_that_is_there_is_used(tmp_path: Path) -> None:
    program = tmp_path / "chromium"
    program.write_text("")
    program.chmod(0o755)
    assert programs.require("chromium", "chromium", TESTS[0]) == str(program)
    terminal = Terminal()
    programs.report(terminal)  # type: ignore[arg-type]
    assert terminal.lines == []
