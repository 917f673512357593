"""`falcon keys`, and what `falcon check` says of the file."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.backends.api_keys.record import issue
from falcon_wsgi.backends.api_keys.ring import KeyRing
from falcon_wsgi.cli import cli
from falcon_wsgi.commands import keys
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.settings import Settings


class Shell:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {"API_KEYS_FILE": str(path)}

    def __call__(self, *arguments: str) -> Result:
        return CliRunner(env=self.environment).invoke(cli, ["keys", *arguments])

    def create(self, *arguments: str) -> str:
        """The id of a new key."""
        result = self("create", *arguments)
        assert result.exit_code == 0, result.output
        return result.stdout.split("_")[1]


@pytest.fixture
def falcon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return Shell(tmp_path / "keys.json")


def refused(result: Result) -> str:
    """The one line of a command that refused."""
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("falcon: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_created_key_is_alone_on_standard_output_and_valid(falcon: Shell) -> None:
    result = falcon("create", "acme")
    assert result.exit_code == 0
    key = result.stdout.removesuffix("\n")
    assert "\n" not in key
    assert key not in result.stderr
    assert KeyRing.open(falcon.path).identify(key).client == "acme"


def test_a_key_gets_its_end_its_right_and_its_note(falcon: Shell) -> None:
    falcon.create("ops", "--expires", "90d", "--admin", "--note", "of the night shift")
    (record,) = KeyFile(falcon.path).read()
    assert record.expires_at == record.created_at + timedelta(days=90)
    assert (record.admin, record.note) == (True, "of the night shift")


def test_the_list_shows_everything_but_secrets(falcon: Shell) -> None:
    first = falcon("create", "acme", "--note", "[bold]of the warehouse[/]").stdout.strip()
    second = falcon.create("ops", "--admin", "--expires", "1h")
    shown = falcon("list").stdout
    assert first.split("_", 2)[2] not in shown
    assert KeyFile(falcon.path).read()[0].sha256 not in shown
    for text in (first.split("_")[1], second, "acme", "[bold]of the warehouse[/]", "yes"):
        assert text in shown


def test_an_expired_key_is_listed_as_such(falcon: Shell) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    _, record = issue("acme", long_ago, expires_at=long_ago + timedelta(days=1))
    KeyFile(falcon.path).change(lambda records: [record])
    assert "2020-01-02 00:00 (expired)" in falcon("list").stdout


def test_a_key_is_revoked_by_its_id(falcon: Shell) -> None:
    first, second = falcon.create("acme"), falcon.create("acme")
    assert falcon("revoke", first).stdout == f"revoked {first} of acme\n"
    assert [record.id for record in KeyFile(falcon.path).read()] == [second]


def test_an_only_key_is_revoked_by_its_clients_name(falcon: Shell) -> None:
    falcon.create("acme")
    falcon.create("other")
    assert falcon("revoke", "acme").exit_code == 0
    assert [record.client for record in KeyFile(falcon.path).read()] == ["other"]


def test_several_keys_of_a_client_are_revoked_only_on_demand(falcon: Shell) -> None:
    ids = [falcon.create("acme"), falcon.create("acme")]
    line = refused(falcon("revoke", "acme"))
    assert all(key_id in line for key_id in ids)
    assert "--all" in line
    assert len(KeyFile(falcon.path).read()) == 2
    assert falcon("revoke", "acme", "--all").stdout.count("revoked ") == 2
    assert KeyFile(falcon.path).read() == []


def test_revoking_what_is_not_there_is_refused(falcon: Shell) -> None:
    falcon.create("acme")
    assert "'nobody'" in refused(falcon("revoke", "nobody"))


@pytest.mark.parametrize("command", [("create", "acme"), ("list",), ("revoke", "acme")])
def test_without_a_file_setting_each_command_names_the_variable(
    falcon: Shell, command: tuple[str, ...]
) -> None:
    falcon.environment = {}
    assert "API_KEYS_FILE is not set" in refused(falcon(*command))


@pytest.mark.parametrize("name", ["", "two words", "-x/y", "é", "x" * 65, "a\nb", "anonymous"])
def test_a_name_that_cannot_be_a_clients_is_refused(falcon: Shell, name: str) -> None:
    assert "client" in refused(falcon("create", "--", name))
    assert not falcon.path.exists()


def test_a_note_with_control_characters_is_refused(falcon: Shell) -> None:
    assert "note" in refused(falcon("create", "acme", "--note", "\x1b[2J"))


def test_a_broken_file_stops_each_command_and_is_left_alone(falcon: Shell) -> None:
    falcon.path.write_text("{")
    for command in (("create", "acme"), ("list",), ("revoke", "acme")):
        assert "not valid" in refused(falcon(*command))
    assert falcon.path.read_text() == "{"


@pytest.mark.parametrize("text", ["90d", " 12w", "1h"])
def test_a_life_is_a_number_with_a_unit(text: str) -> None:
    assert keys.parse_life(text) > timedelta()


@pytest.mark.parametrize("text", ["", "90", "0d", "-1d", "1m", "forever", "36501d", "999999w"])
def test_a_life_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--expires"):
        keys.parse_life(text)


def test_check_tells_the_state_of_the_file(falcon: Shell) -> None:
    falcon.create("acme")
    falcon.create("acme", "--expires", "1d")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    _, expired = issue("old", long_ago, expires_at=long_ago)
    KeyFile(falcon.path).change(lambda records: [*records, expired])
    told = keys.condition(Settings(_env_file=None, api_keys_file=falcon.path))  # type: ignore[call-arg]
    assert told == "valid: 2, expired: 1, clients: 1"
    falcon.path.chmod(0o604)
    told = keys.condition(Settings(_env_file=None, api_keys_file=falcon.path))  # type: ignore[call-arg]
    assert told.endswith("can be read by every user")


def test_check_says_when_every_route_is_open_and_fails_on_a_broken_file(falcon: Shell) -> None:
    assert "open" in keys.condition(Settings(_env_file=None))  # type: ignore[call-arg]
    falcon.path.write_text("{")
    with pytest.raises(ConfigurationError, match="not valid"):
        keys.condition(Settings(_env_file=None, api_keys_file=falcon.path))  # type: ignore[call-arg]


def test_config_shows_the_path(falcon: Shell) -> None:
    shown = CliRunner(env=falcon.environment).invoke(cli, ["config"]).output
    assert os.fspath(falcon.path) in shown
