"""Only what loads and gives its golden examples is promoted, by as many processes at once as there are."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from falcon_wsgi.cli import cli
from falcon_wsgi.commands import models
from falcon_wsgi.errors import ModelCrashed, ModelError
from falcon_wsgi.launch import processes, verification
from falcon_wsgi.models import promotion
from falcon_wsgi.models.store import ModelStore
from tests.e2e.toy_models import write_model


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    for version in ("1.0.0", "1.1.0"):
        write_model(store, version)
    return store


@pytest.fixture
def store(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    shutil.copytree(written, tmp_path / "store")
    monkeypatch.setenv("MODEL_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    store = ModelStore(tmp_path / "store")
    store.point("sentiment", "1.0.0")
    return store


def falcon(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["models", *arguments])


def damage(folder: Path) -> None:
    contents = bytearray((folder / "model.skops").read_bytes())
    contents[len(contents) // 2] ^= 1
    (folder / "model.skops").write_bytes(contents)


def falsify_the_golden_example(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"][0]["prediction"] = "neutral"
    (folder / "manifest.json").write_text(json.dumps(manifest))


HARM = {
    damage: "is not the file that was recorded",
    falsify_the_golden_example: "does not reproduce its golden example",
}


def refused(result: Result, reason: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("falcon: sentiment")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_what_cannot_be_served_is_not_promoted(store: ModelStore, harm: Callable[[Path], None]) -> None:
    harm(store.folder("sentiment") / "1.1.0")
    refused(falcon("promote", "sentiment", "1.1.0"), HARM[harm])
    assert store.current("sentiment") == "1.0.0"
    assert not (store.folder("sentiment") / "history.jsonl").exists()


def test_a_damaged_version_is_not_rolled_back_to(store: ModelStore) -> None:
    for version in ("1.1.0", "1.0.0"):
        promotion.promote(store, "sentiment", version)
    history = (store.folder("sentiment") / "history.jsonl").read_text()
    damage(store.folder("sentiment") / "1.1.0")
    refused(falcon("rollback", "sentiment"), HARM[damage])
    assert store.current("sentiment") == "1.0.0"
    assert (store.folder("sentiment") / "history.jsonl").read_text() == history


def test_promotion_and_rollback_say_what_they_did(store: ModelStore) -> None:
    told = falcon("promote", "sentiment", "1.1.0")
    assert (told.exit_code, store.current("sentiment")) == (0, "1.1.0")
    assert told.stdout == (
        "promoted sentiment 1.1.0, before 1.0.0; a running instance takes it with: falcon reload\n"
    )
    back = falcon("rollback", "sentiment")
    assert (back.exit_code, store.current("sentiment")) == (0, "1.0.0")
    assert back.stdout.startswith("rolled back to sentiment 1.0.0, before 1.1.0;")


def test_a_gate_that_refuses_leaves_the_pointer(store: ModelStore) -> None:
    asked = []

    def gate(of: ModelStore, name: str, served: str, candidate: str) -> None:
        asked.append((of.root, name, served, candidate))
        raise ModelError("they agree on 0.5 of the inputs only")

    with pytest.raises(ModelError, match="they agree"):
        models.promote("sentiment", "1.1.0", gate=gate)
    assert asked == [(store.root, "sentiment", "1.0.0", "1.1.0")]
    assert store.current("sentiment") == "1.0.0"


@contextmanager
def crashing_loads(number: signal.Signals) -> Iterator[list[int]]:
    """Each process that tries a version is ended, as a file that crashes the interpreter or fills the memory would.

    Yields the pids of those that were.
    """
    ended: list[int] = []
    over = threading.Event()

    def end_them() -> None:
        while not over.is_set():
            for pid in processes.children(os.getpid()):
                if pid not in ended and "verification" in processes.command_line(pid):
                    ended.append(pid)
                    os.kill(pid, number)
            over.wait(0.01)

    killer = threading.Thread(target=end_them)
    killer.start()
    try:
        yield ended
    finally:
        over.set()
        killer.join(10)


def test_a_version_that_ends_the_interpreter_is_not_promoted(store: ModelStore) -> None:
    with crashing_loads(signal.SIGSEGV) as ended:
        result = falcon("promote", "sentiment", "1.1.0")
    assert len(ended) == 1
    refused(result, "sentiment 1.1.0 cannot be loaded: the process that tried it was ended by SIGSEGV")
    assert store.current("sentiment") == "1.0.0"


def test_verification_goes_on_after_a_version_that_fails(store: ModelStore) -> None:
    falsify_the_golden_example(store.folder("sentiment") / "1.0.0")
    result = falcon("verify")
    assert result.exit_code == 1
    assert [line[:23] for line in result.stdout.splitlines()] == [
        "FAIL  sentiment 1.0.0: ",
        "ok    sentiment 1.1.0",
    ]
    with crashing_loads(signal.SIGKILL):
        result = falcon("verify", "sentiment")
    assert result.exit_code == 1
    assert result.stdout.count("the process that tried it was ended by SIGKILL\n") == 2


def test_a_version_that_never_ends_its_load_is_given_up(store: ModelStore) -> None:
    with pytest.raises(ModelCrashed, match="did not end within"):
        verification.verify(store.root, "sentiment", "1.0.0", timeout_s=0.01)


def test_promotions_by_several_processes_are_each_whole(store: ModelStore) -> None:
    """A reader finds a whole name at any moment, and the history is one chain."""
    script = (
        "import sys; from pathlib import Path; from falcon_wsgi.models.promotion import promote\n"
        "from falcon_wsgi.models.store import ModelStore\n"
        "for i in range(20): promote(ModelStore(Path(sys.argv[1])), 'sentiment', f'1.{i % 2}.0')"
    )
    command = [sys.executable, "-c", script, str(store.root)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    seen = set()
    while any(process.poll() is None for process in processes):
        seen.add(store.current("sentiment"))
    assert [(process.returncode, process.communicate()[1]) for process in processes] == [(0, b"")] * 2
    assert seen == {"1.0.0", "1.1.0"}
    lines = (store.folder("sentiment") / "history.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert all(former["to"] == later["from"] for former, later in itertools.pairwise(steps))
    assert store.current("sentiment") == steps[-1]["to"]
