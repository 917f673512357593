"""The command line, without a process or a server."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from falcon_wsgi import resources
from falcon_wsgi.cli import cli
from falcon_wsgi.commands import configuration
from falcon_wsgi.commands.database import parse_age
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.settings import Settings


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return CliRunner(env={"DATA_DIR": str(tmp_path / "data"), "MODEL_STORE": str(tmp_path / "store")})


def test_settings_reference_is_current() -> None:
    written = (resources.ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    assert written == configuration.rendered("markdown") + "\n", "run: make docs"


def test_settings_reference_is_the_same_on_every_machine() -> None:
    text = configuration.rendered("markdown")
    assert str(Path.home()) not in text
    assert str(resources.ROOT) not in text


def test_config_masks_passwords(runner: CliRunner) -> None:
    env = {"REDIS_URL": "redis://:hunter2@cache:6379/0", "DATABASE_URL": "postgresql://f:hunter2@db/falcon"}
    for form in ([], ["--json"]):
        result = runner.invoke(cli, ["config", *form], env=env)
        assert result.exit_code == 0
        assert "hunter2" not in result.output
        assert "f:***@db" in result.output


def test_config_as_json_holds_every_setting(runner: CliRunner) -> None:
    result = runner.invoke(cli, ["config", "--json"], env={"PORT": "8123"})
    shown = json.loads(result.output)
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    assert shown["PORT"] == 8123


def test_wrong_setting_is_one_line_and_exit_code_1(runner: CliRunner) -> None:
    for command in (["config"], ["status"], ["serve"], ["db", "migrate"]):
        result = runner.invoke(cli, command, env={"PORT": "eighty"})
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("falcon: PORT is not valid")
        assert result.stderr.count("\n") == 1


def test_unknown_command_is_exit_code_2(runner: CliRunner) -> None:
    assert runner.invoke(cli, ["fly"]).exit_code == 2


@pytest.mark.parametrize("command", ["status", "reload"])
def test_without_an_instance_it_is_one_line_and_exit_code_3(runner: CliRunner, command: str) -> None:
    result = runner.invoke(cli, [command], env={"PORT": "8123"})
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "falcon: no instance runs on port 8123\n"


def test_a_reload_of_an_instance_that_is_starting_is_one_line_and_exit_code_1(
    runner: CliRunner, tmp_path: Path
) -> None:
    """Its lock is held, and no master has reported yet."""
    folder = tmp_path / "data" / "8123"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = runner.invoke(cli, ["reload"], env={"PORT": "8123"})
    assert result.exit_code == 1
    assert result.stderr == "falcon: the instance on port 8123 has no worker that serves yet\n"


def test_migrate_without_a_database_says_what_is_missing(runner: CliRunner) -> None:
    result = runner.invoke(cli, ["db", "migrate"], env={"PORT": "8123"})
    assert result.exit_code == 1
    assert (
        result.stderr
        == "falcon: DATABASE_URL is not set, and no instance with a Postgres runs on port 8123\n"
    )


def test_unknown_model_is_one_line(runner: CliRunner) -> None:
    for command in (
        ["models", "show", "nothing"],
        ["models", "verify", "nothing"],
        ["models", "promote", "nothing", "1.0.0"],
        ["models", "rollback", "nothing"],
        ["models", "remove", "nothing", "1.0.0"],
        ["train", "nothing"],
    ):
        result = runner.invoke(cli, command)
        assert result.exit_code == 1
        assert result.stderr.startswith("falcon: ")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("30d", timedelta(days=30)),
        ("48h", timedelta(hours=48)),
        (" 2w ", timedelta(weeks=2)),
        ("1d", timedelta(days=1)),
    ],
)
def test_age_is_a_number_with_a_unit(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["30", "d", "-3d", "1.5d", "12h", "0d", "999999w", "30 days", ""])
def test_age_that_would_delete_today_or_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="age"):
        parse_age(text)


def test_help_imports_neither_drivers_nor_models() -> None:
    script = (
        "import sys, falcon_wsgi.cli as c\n"
        "try: c.cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pydantic', 'sklearn', 'redis', 'psycopg', 'flask', 'gevent'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
