"""`falcon models`, without loading a model."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from falcon_wsgi.cli import cli
from falcon_wsgi.commands import models
from falcon_wsgi.models import promotion
from falcon_wsgi.models.manifest import MODEL_FILE
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.settings import Settings
from tests.unit.models.stored import store_with


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return store_with(tmp_path / "store", "1.0.0", "1.1.0", "1.2.0")


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return CliRunner(env={"DATA_DIR": str(tmp_path / "data"), "MODEL_STORE": str(tmp_path / "store")})


def test_the_list_has_one_line_for_each_version(runner: CliRunner, store: ModelStore) -> None:
    promotion.promote(store, "toy", "1.0.0")
    (store.folder("toy") / "1.1.0" / MODEL_FILE).write_bytes(b"[red]")
    result = runner.invoke(cli, ["models", "list"])
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()[1:]]
    digest = store.manifest("toy", "1.0.0").digest[:12]
    assert lines[0].startswith("toy 1.0.0 served text_classification ")
    assert lines[0].endswith(f"2026-01-01 00:00 {digest} ok")
    assert lines[1].endswith("damaged: toy/1.1.0/model.skops is not the file that was recorded")
    assert lines[2].startswith("toy 1.2.0 previous ")
    assert len(lines) == 3


def test_the_list_as_json_holds_what_the_table_shows(runner: CliRunner, store: ModelStore) -> None:
    (store.folder("toy") / "1.0.0" / "manifest.json").write_text("{")
    damaged, _, served = json.loads(runner.invoke(cli, ["models", "list", "--json"]).stdout)
    assert (damaged["kind"], damaged["digest"], damaged["served"]) == (None, None, False)
    assert "manifest.json is not valid" in damaged["damage"]
    assert served == {
        "name": "toy",
        "version": "1.2.0",
        "served": True,
        "previous": False,
        "kind": "text_classification",
        "size_bytes": sum(path.stat().st_size for path in (store.folder("toy") / "1.2.0").iterdir()),
        "trained_at": "2026-01-01T00:00:00+00:00",
        "digest": store.manifest("toy", "1.2.0").digest,
        "damage": None,
    }


def test_a_pointer_to_nothing_is_told_beside_the_list(runner: CliRunner, store: ModelStore) -> None:
    (store.folder("toy") / "current").write_text("9.9.9")
    result = runner.invoke(cli, ["models", "list"])
    assert "served" not in result.stdout
    assert result.stderr == "falcon: toy/current names version '9.9.9', which the store does not have\n"


def test_without_a_terminal_a_removal_does_not_ask(runner: CliRunner, store: ModelStore) -> None:
    result = runner.invoke(cli, ["models", "remove", "toy", "1.0.0"])
    assert (result.exit_code, result.stdout) == (0, "removed toy 1.0.0\n")
    assert store.versions("toy") == ["1.1.0", "1.2.0"]


def test_a_removal_of_the_served_version_is_one_line(runner: CliRunner, store: ModelStore) -> None:
    result = runner.invoke(cli, ["models", "remove", "toy", "1.2.0", "--yes"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "falcon: toy 1.2.0 is served, as the highest; promote another version first\n"
    assert store.versions("toy") == ["1.0.0", "1.1.0", "1.2.0"]


@pytest.mark.parametrize(
    ("answer", "left"), [("y\n", ["1.1.0", "1.2.0"]), ("n\n", ["1.0.0", "1.1.0", "1.2.0"])]
)
def test_on_a_terminal_a_removal_asks(
    runner: CliRunner, store: ModelStore, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr(models, "_on_a_terminal", lambda: True)
    result = runner.invoke(cli, ["models", "remove", "toy", "1.0.0"], input=answer)
    assert "Delete toy 1.0.0 for good?" in result.output
    assert store.versions("toy") == left


def test_a_rollback_with_nothing_before_is_one_line(runner: CliRunner, store: ModelStore) -> None:
    result = runner.invoke(cli, ["models", "rollback", "toy"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "falcon: no version of toy that the store still has was served before\n"


def test_a_new_version_says_whether_it_is_served(runner: CliRunner, store: ModelStore) -> None:
    told = {}
    for pointer in (None, "1.0.0", "9.9.9"):
        if pointer:
            (store.folder("toy") / "current").write_text(pointer)
        told[pointer] = _standing_of("1.2.0", runner)
    assert told[None].startswith("toy 1.2.0 is served from the next start on; a running instance takes")
    assert told["1.0.0"] == (
        "toy 1.0.0 stays the served version; to serve this one: falcon models promote toy 1.2.0"
    )
    assert told["9.9.9"] == "to serve this one: falcon models promote toy 1.2.0"


def _standing_of(version: str, runner: CliRunner) -> str:
    @click.command()
    def say() -> None:
        click.echo(models.standing("toy", version))

    return runner.invoke(say).stdout.strip()


@pytest.mark.parametrize("variable", ["SHADOW", "CANARY"])
def test_a_version_on_trial_is_not_removed(runner: CliRunner, store: ModelStore, variable: str) -> None:
    trial = {variable: "toy@1.1.0:0.5"}
    result = runner.invoke(cli, ["models", "remove", "toy", "1.1.0", "--yes"], env=trial)
    assert (result.exit_code, result.stderr) == (1, f"falcon: toy 1.1.0 is on trial: {variable} names it\n")
    assert "1.1.0" in store.versions("toy")
    assert runner.invoke(cli, ["models", "remove", "toy", "1.0.0", "--yes"], env=trial).exit_code == 0
