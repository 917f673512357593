"""A Gunicorn that was begun early waits for its environment, and for nothing once its supervisor is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONF = """
import os, sys
print("stdin", repr(sys.stdin.read()), "imported", "colorsys" in sys.modules, "given", os.environ["GIVEN"])
sys.exit("no workers in a unit test")
"""


@pytest.fixture
def early(tmp_path: Path) -> subprocess.Popen[str]:
    """Reads its configuration, which ends it, only after it has been given its environment."""
    (tmp_path / "conf.py").write_text(CONF)
    return subprocess.Popen(
        [sys.executable, "-m", "falcon_wsgi.server.early_gunicorn", "colorsys", "-c", "conf.py", "a:b"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


def test_it_is_gunicorn_with_the_environment_that_it_is_sent(early: subprocess.Popen[str]) -> None:
    output, errors = early.communicate('{"GIVEN": "yes"}')
    assert output == "stdin '' imported True given yes\n"
    assert errors == "no workers in a unit test\n"
    assert early.returncode == 1


def test_it_ends_when_its_supervisor_is_gone(early: subprocess.Popen[str]) -> None:
    output, errors = early.communicate("")
    assert (output, errors, early.returncode) == ("", "", 0)
