"""Programs that tests run and pip cannot install: installed where that is possible, missed loudly where it is not.

As root on Debian or Ubuntu a missing one is installed. Where that does not work, the test fails in CI; elsewhere it
does not run, and the suite ends with a line that names the command to install the program and the tests that need it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import defaultdict

import pytest

_INSTALL_TIMEOUT_S = 300
_missed: dict[str, list[str]] = defaultdict(list)


def command_for(package: str) -> str:
    return f"apt-get install -y --no-install-recommends {package}"


def find(program: str, package: str) -> str | None:
    """The program's path, installed first where that is possible; else None."""
    if (found := shutil.which(program)) is not None:
        return found
    return shutil.which(program) if _install(package) else None


def require(program: str, package: str, test: str) -> str:
    """The program's path. Where there is none, fails or skips `test`, as the module says."""
    if (found := find(program, package)) is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{program} is missing; as root: {command_for(package)}", pytrace=False)
    _missed[package].append(test)
    pytest.skip(f"{program} is missing")


def _install(package: str) -> bool:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ("apt-get update", command_for(package)):
        done = subprocess.run(
            command.split(), env=environment, capture_output=True, check=False, timeout=_INSTALL_TIMEOUT_S
        )
        if done.returncode != 0:
            return False
    return True


def report(terminal: pytest.TerminalReporter) -> None:
    """The loud line of each missing program."""
    for package, tests in sorted(_missed.items()):
        terminal.write_line(
            f"NOT RUN, {package} is missing; as root: {command_for(package)}; then: {', '.join(tests)}",
            red=True,
            bold=True,
        )
