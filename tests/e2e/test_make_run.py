"""`make run` as a newcomer has it: a clean clone, an almost empty environment, and what may be wrong there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falcon_wsgi import resources
from tests.e2e.serving import Started, nothing_left

NOT_CLONED = shutil.ignore_patterns(
    ".git", ".venv", ".falcon", ".env", "__pycache__", ".*_cache", ".hypothesis", "[0-9]*.[0-9]*.[0-9]*"
)
TOOLS = ("make", "sh", "cat", "cmp", "dirname", "rm")
NETWORK = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "HTTP_PROXY", "HTTPS_PROXY")
SETUP_S = 400.0


def _clone(folder: Path) -> Path:
    shutil.copytree(resources.ROOT, folder, ignore=NOT_CLONED, dirs_exist_ok=True)
    return folder


def _environment(tools: Path, **changes: str) -> dict[str, str]:
    """PATH and, where this machine has them, the settings without which pip reaches no index."""
    network = {name: os.environ[name] for name in NETWORK if name in os.environ}
    return {"PATH": f"{tools}:/usr/bin:/bin", **network, **changes}


def _tools(folder: Path, python: Path | None) -> Path:
    """A folder for PATH with the programs that a clone needs, and `python` as python3."""
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    if python is not None:
        (folder / "python3.13").symlink_to(python)
    return folder


def _base_python() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _make(clone: Path, *targets: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *targets],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SETUP_S,
    )


@pytest.fixture(scope="module")
def tools(servers_folder: Path) -> Path:
    return _tools(servers_folder / "tools", _base_python())


@pytest.fixture(scope="module")
def instances(servers_folder: Path, tools: Path) -> Iterator[tuple[Started, Started]]:
    """Two `make run` at once, on two ports, from a clone in which nothing has been set up."""
    clone = _clone(servers_folder / "clone with a space")
    clone.chmod(0o755)
    started: list[Started] = []
    try:
        for name in ("one", "two"):
            folder = servers_folder / name
            folder.mkdir()
            environment = _environment(tools, DATA_DIR=str(clone / ".falcon"), PYTHONPATH="")
            started.append(Started(folder, "make", "run", cwd=clone, **environment))
        for each in started:
            each.ready(SETUP_S)
        yield started[0], started[1]
    finally:
        for each in started:
            each.clean_up()


def test_two_at_once_from_a_clean_clone_both_serve(instances: tuple[Started, Started]) -> None:
    for started in instances:
        curl = started.out.read_text().splitlines()[1]
        done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["prediction"] == "positive"
        assert "WARNING" not in started.said()
    said = [started.said() for started in instances]
    assert sum("installing requirements.lock" in text for text in said) == 1
    assert sum("trained sentiment" in text for text in said) == 1


def test_second_setup_calls_no_pip(instances: tuple[Started, Started], tools: Path) -> None:
    log = instances[0].cwd / ".falcon" / "setup.log"
    before = log.stat().st_mtime_ns
    done = subprocess.run(
        ["scripts/setup.sh", "run"],
        cwd=instances[0].cwd,
        env=_environment(tools),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert log.stat().st_mtime_ns == before, "pip was called"


def test_clean_leaves_a_running_instance_alone(instances: tuple[Started, Started], tools: Path) -> None:
    clone = instances[0].cwd
    refused = _make(clone, "clean", **_environment(tools))
    assert refused.returncode != 0
    assert "an instance runs from this clone on port" in refused.stderr
    kept = _make(clone, "clean-data", **_environment(tools))
    assert kept.returncode == 0
    for started in instances:
        assert f"the instance on port {started.port} runs, its data stays" in kept.stderr
        assert started.get("/readyz")["ready"] is True


def test_ctrl_c_at_make_ends_one_instance_and_not_the_other(
    instances: tuple[Started, Started], tools: Path
) -> None:
    first, second = instances
    with nothing_left(first):
        first.interrupt()
    assert first.said().splitlines()[-1] != ""
    assert "falcon: stopped" in first.said()
    assert second.get("/readyz")["ready"] is True
    deleted = _make(first.cwd, "clean-data", **_environment(tools))
    assert f"deleted {first.data}" in deleted.stdout
    assert not first.data.exists()
    assert second.data.exists()


def _stub(folder: Path, output: str) -> Path:
    """A Python that answers the probe so."""
    path = folder / "stub"
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_clone(home: Path) -> Path:
    """What setup needs of a clone."""
    clone = home / "clone"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-test.lock"):
        shutil.copy(resources.ROOT / name, clone / name)
    shutil.copytree(resources.ROOT / "scripts", clone / "scripts")
    return clone


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What is said beside make's own line about the failed target."""
    assert done.returncode != 0
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, lines
    return lines[0]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """What is said after setup may have begun to install."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert all(line.startswith("falcon: installing requirements.lock into .venv") for line in lines[:-1]), (
        lines
    )
    assert lines[-1].startswith("falcon: ")
    return lines[-1]


def test_old_python_is_named_with_what_is_needed(bare_clone: Path, home: Path) -> None:
    tools = _tools(home / "tools", _stub(home, "old 3.9.2"))
    assert _one_line(_make(bare_clone, "run", PATH=str(tools))) == (
        "falcon: Python 3.11 or newer is needed, found python3.13 (3.9.2); "
        "install it, or name one: make run PYTHON=/path/to/python3.12"
    )


def test_no_python_is_said(bare_clone: Path, home: Path) -> None:
    tools = _tools(home / "tools", None)
    line = _one_line(_make(bare_clone, "run", PATH=str(tools)))
    assert line.startswith("falcon: Python 3.11 or newer is needed, found none on PATH; ")


def test_python_without_venv_names_the_package(bare_clone: Path, home: Path) -> None:
    answer = "bare 3.11.2 has no venv module; on Debian and Ubuntu: apt-get install python3.11-venv"
    tools = _tools(home / "tools", _stub(home, answer))
    assert (
        _one_line(_make(bare_clone, "run", PATH=str(tools)))
        == f"falcon: Python {answer.removeprefix('bare ')}"
    )


def test_probe_finds_a_missing_venv_module(home: Path) -> None:
    """The real probe, in a Python whose ensurepip cannot be imported."""
    script = (resources.ROOT / "scripts" / "find-python.sh").read_text()
    probe = script.split("probe='\n")[1].split("\n'\n")[0]
    blocked = "import sys; sys.modules['ensurepip'] = None\n" + probe
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"bare {'.'.join(map(str, sys.version_info[:3]))} has no venv module")
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in done.stdout


def test_wrong_python_that_the_user_names_is_not_replaced_by_another(bare_clone: Path, tools: Path) -> None:
    line = _one_line(_make(bare_clone, "run", PATH=str(tools), PYTHON="/nonexistent/python"))
    assert line == "falcon: PYTHON=/nonexistent/python is not Python 3.11 or newer"


def test_clone_that_cannot_be_written_is_one_line(bare_clone: Path, tools: Path) -> None:
    (bare_clone / ".falcon").write_text("a file where the folder for the log belongs")
    line = _one_line(_make(bare_clone, "run", PATH=str(tools)))
    assert line.startswith("falcon: cannot set up: ")
    assert str(bare_clone) in line


def test_full_disk_is_one_line(bare_clone: Path, tools: Path, full_disk: Callable[[int], Path]) -> None:
    small = full_disk(3_000_000)
    shutil.copytree(bare_clone, small / "clone")
    line = _reason(_make(small / "clone", "run", PATH=str(tools)))
    assert "the disk is full" in line or "File too large" in line


def test_unreachable_index_is_one_line_that_names_the_log(bare_clone: Path, tools: Path) -> None:
    done = _make(
        bare_clone,
        "run",
        PATH=str(tools),
        PIP_CONFIG_FILE="/dev/null",
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_NO_CACHE_DIR="1",
    )
    assert _reason(done) == (
        "falcon: setup failed: the package index cannot be reached; check the network, or pip's proxy and "
        f"index settings (all of pip's output: {bare_clone}/.falcon/setup.log)"
    )
    assert "127.0.0.1" in (bare_clone / ".falcon" / "setup.log").read_text()


def test_help_lists_every_target() -> None:
    makefile = (resources.ROOT / "Makefile").read_text()
    targets = [line.split(":")[0] for line in makefile.splitlines() if line[:1].isalpha() and ": ##" in line]
    shown = _make(resources.ROOT, "help", PATH=os.environ["PATH"]).stdout
    assert targets
    for target in targets:
        assert f"make {target} " in shown
