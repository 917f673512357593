"""The file of API keys: what it holds, what it refuses, and what a change leaves as it was."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.backends.api_keys import file as key_file
from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.backends.api_keys.record import KeyRecord, id_of, issue
from falcon_wsgi.errors import ConfigurationError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def add(path: Path, client: str = "acme", **more: Any) -> str:
    key, record = issue(client, NOW, **more)
    KeyFile(path).change(lambda records: [*records, record])
    return key


def write(path: Path, **changes: Any) -> None:
    """A file with one key, some of its fields changed."""
    record = json.loads(issue("acme", NOW)[1].model_dump_json())
    path.write_text(json.dumps({"keys": [record | changes]}))


def test_a_key_has_256_random_bits_and_carries_its_public_id() -> None:
    key, record = issue("acme", NOW)
    prefix, key_id, secret = key.split("_", 2)
    assert (prefix, key_id) == ("falcon", record.id)
    assert len(secret) * 6 >= 256
    assert id_of(key) == record.id
    assert len({issue("acme", NOW)[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text", ["", "falcon_", "falcon_0123456789ab_short", "Falcon_0123456789ab_" + "x" * 43]
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert id_of(text) is None


def test_what_was_written_is_read(path: Path) -> None:
    add(path, "acme", expires_at=NOW + timedelta(days=90), admin=True, note="of the warehouse")
    add(path, "other")
    first, second = KeyFile(path).read()
    assert (first.client, first.created_at, first.expires_at) == ("acme", NOW, NOW + timedelta(days=90))
    assert (first.admin, first.note) == (True, "of the warehouse")
    assert (second.client, second.expires_at, second.admin, second.note) == ("other", None, False, "")


def test_neither_file_nor_record_shows_the_secret(path: Path) -> None:
    secret = add(path).split("_", 2)[2]
    assert secret not in path.read_text()
    (record,) = KeyFile(path).read()
    assert record.sha256 not in repr(record)


def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    add(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_change_keeps_the_access_that_someone_set(path: Path) -> None:
    add(path)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    owner = path.stat().st_uid
    add(path)
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o640, owner)


def test_a_symbolic_link_stays_one(tmp_path: Path, path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.json"
    target.parent.mkdir()
    path.symlink_to(target)
    add(path)
    add(path)
    assert path.is_symlink()
    assert len(KeyFile(target).read()) == 2


def test_every_change_is_seen_in_the_state(path: Path) -> None:
    file = KeyFile(path)
    assert file.state() is None
    add(path)
    states = [file.state()]
    add(path)
    states.append(file.state())
    same_size_and_time = path.read_bytes().replace(b"acme", b"acne")
    times = path.stat()
    path.write_bytes(same_size_and_time)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    states.append(file.state())
    assert len(set(states)) == 3


def test_an_empty_list_is_valid(path: Path) -> None:
    path.write_text('{"keys": []}')
    assert KeyFile(path).read() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": [{}]}',
        '{"version": 2, "keys": []}',
        '{"keys": [], "more": 1}',
        "[" * 10_000,
    ],
)
def test_what_is_no_list_of_keys_is_refused_in_one_line(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"API_KEYS_FILE: .*keys\.json is not valid: ") as raised:
        KeyFile(path).read()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "short"},
        {"client": ""},
        {"client": "two words"},
        {"sha256": "0" * 63},
        {"created_at": "2026-01-01T00:00:00"},
        {"expires_at": "soon"},
        {"expire_at": "2026-01-01T00:00:00Z"},
        {"admin": "yes"},
        {"note": "a\nb"},
    ],
    ids=str,
)
def test_a_record_with_a_wrong_or_unknown_field_is_refused_and_named(
    path: Path, wrong: dict[str, str]
) -> None:
    write(path, **wrong)
    (field,) = wrong
    with pytest.raises(ConfigurationError, match=rf"keys\.0\.{field}"):
        KeyFile(path).read()


def test_two_keys_with_one_id_are_refused(path: Path) -> None:
    add(path)
    held = json.loads(path.read_text())
    path.write_text(json.dumps({"keys": held["keys"] * 2}))
    with pytest.raises(ConfigurationError, match="same id"):
        KeyFile(path).read()


def test_a_file_that_is_not_there_is_named_with_the_remedy(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"keys\.json does not exist; falcon keys create"):
        KeyFile(path).read()


def test_a_file_that_cannot_be_read_is_named_with_the_reason(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigurationError, match=r"keys\.json cannot be read: Is a directory"):
        KeyFile(path).read()


def test_a_broken_file_is_not_overwritten(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="not valid"):
        add(path)
    assert path.read_text() == "{"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be changed: No such file or directory"):
        add(tmp_path / "none" / "keys.json")


def test_a_change_that_fails_half_way_leaves_the_file_and_nothing_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(path)
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_file.os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        add(path)
    assert path.read_bytes() == before
    assert sorted(found.name for found in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


@pytest.mark.parametrize(("after", "expired"), [(-1, False), (0, True), (1, True)])
def test_a_key_expires_at_its_moment(after: int, expired: bool) -> None:
    _, record = issue("acme", NOW, expires_at=NOW)
    assert record.has_expired(NOW + timedelta(seconds=after)) == expired
    assert not KeyRecord(**record.model_dump() | {"expires_at": None}).has_expired(NOW)
