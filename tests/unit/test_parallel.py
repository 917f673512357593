"""The suite's runner leaves no test out and hides no failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import parallel


def test_every_module_is_run_once() -> None:
    run = [
        module
        for paths in parallel.groups().values()
        for path in paths
        for module in (
            [parallel.ROOT / path] if path.endswith(".py") else (parallel.ROOT / path).rglob("test_*.py")
        )
    ]
    suites = ("unit", "integration", "e2e")
    assert sorted(run) == sorted(
        module for suite in suites for module in (parallel.TESTS / suite).rglob("test_*.py")
    )


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two parts of modules in this folder, whose pytest loads none of the plugins that are installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(parallel, "ROOT", tmp_path)
    monkeypatch.setattr(parallel, "groups", lambda: {"one": ["test_one.py"], "two": ["test_two.py"]})
    (tmp_path / "test_one.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    return tmp_path


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().out.splitlines()[-1]
    return re.sub(r" in [\d.]+s \(0:00:\d\d\)$", "", line)


def test_parts_are_reported_as_one(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (suite / "test_two.py").write_text("def test_c(): pass\n")
    assert parallel.main([]) == 0
    assert last_line(capsys) == "3 passed"


def test_a_failure_in_one_part_fails_the_suite(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (suite / "test_two.py").write_text("def test_c(): assert not 'seen'\n")
    assert parallel.main([]) == 1
    output = capsys.readouterr().out
    assert "assert not 'seen'" in output
    assert output.splitlines()[-1].startswith("2 passed, 1 failed in ")


def test_a_part_that_dies_is_an_error(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (suite / "test_two.py").write_text("import os\ndef test_c(): os.kill(os.getpid(), 9)\n")
    assert parallel.main([]) == 9
    assert last_line(capsys) == "2 passed, 1 error"
