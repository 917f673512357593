"""Which keys are valid, and that the last good ones stay so when the file breaks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from pathlib import Path

import pytest

from falcon_wsgi.backends.api_keys import ring as ring_module
from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.backends.api_keys.record import id_of, issue
from falcon_wsgi.backends.api_keys.ring import KeyRing
from falcon_wsgi.errors import ConfigurationError, Unauthenticated

NOW = datetime(2026, 1, 1, tzinfo=UTC)

Add = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def add(file: KeyFile) -> Add:
    def add(client: str = "acme", *, days: int | None = None, admin: bool = False) -> str:
        ends = NOW + timedelta(days=days) if days else None
        key, record = issue(client, NOW, expires_at=ends, admin=admin)
        file.change(lambda records: [*records, record])
        return key

    return add


def refusal(ring: KeyRing, key: str) -> str:
    with pytest.raises(Unauthenticated) as raised:
        ring.identify(key)
    assert key == "" or key not in str(raised.value)
    return raised.value.reason


def test_a_listed_key_is_its_clients(file: KeyFile, add: Add) -> None:
    user, admin = add("user"), add("operator", admin=True)
    ring = KeyRing(file)
    assert (ring.identify(user).client, ring.identify(user).admin) == ("user", False)
    assert (ring.identify(admin).client, ring.identify(admin).admin) == ("operator", True)


def test_a_key_with_any_other_secret_is_unknown(file: KeyFile, add: Add) -> None:
    key, other = add(), add()
    ring = KeyRing(file)
    assert refusal(ring, key[:-1] + ("A" if key[-1] != "A" else "B")) == "unknown"
    assert refusal(ring, key[: len("falcon_0123456789ab_")] + other.split("_", 2)[2]) == "unknown"


def test_a_key_of_no_list_is_unknown(file: KeyFile, add: Add) -> None:
    add()
    assert refusal(KeyRing(file), issue("acme", NOW)[0]) == "unknown"


@pytest.mark.parametrize("text", ["", "x", "falcon_zz_x", "é" * 63, "falcon_0123456789ab_" + "ü" * 43])
def test_what_is_no_key_is_malformed(file: KeyFile, add: Add, text: str) -> None:
    add()
    assert refusal(KeyRing(file), text) == "malformed"


def test_each_refusal_compares_one_hash_in_constant_time(
    file: KeyFile, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the id is listed, one digest of full length is compared, and with `compare_digest`."""
    key = add()
    compared: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one) + len(other))
        return compare_digest(one, other)

    monkeypatch.setattr(ring_module.hmac, "compare_digest", compare)
    ring = KeyRing(file)
    for wrong in (issue("acme", NOW)[0], key[:20] + "x" * 43):
        refusal(ring, wrong)
    assert compared == [64, 64]


def test_a_key_ends_at_its_moment_without_the_file_being_read_again(file: KeyFile, add: Add) -> None:
    key = add(days=1)
    now = [NOW.timestamp()]
    ring = KeyRing(file, clock=lambda: now[0])
    assert ring.identify(key).client == "acme"
    now[0] += timedelta(days=1).total_seconds()
    assert refusal(ring, key) == "expired"
    assert refusal(ring, key[:20] + "x" * 43) == "unknown"


def test_a_change_is_taken_up_by_refresh(file: KeyFile, add: Add) -> None:
    first = add("first")
    ring = KeyRing(file)
    second = add("second")
    file.change(lambda records: [record for record in records if record.id != id_of(first)])
    assert ring.identify(first).client == "first"
    ring.refresh()
    assert ring.identify(second).client == "second"
    assert refusal(ring, first) == "unknown"


def test_an_unchanged_file_is_not_read_again(
    file: KeyFile, add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    add()
    ring = KeyRing(file)
    with caplog.at_level(logging.INFO):
        ring.refresh()
    assert caplog.records == []


@pytest.mark.parametrize(
    "text", [None, "", "{", '{"keys": [{}]}'], ids=["gone", "empty", "cut off", "invalid"]
)
def test_a_broken_file_leaves_the_keys_last_read_and_is_logged_once(
    file: KeyFile, add: Add, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    key = add()
    good = file.path.read_bytes()
    ring = KeyRing(file)
    if text is None:
        file.path.unlink()
    else:
        file.path.write_text(text)
    for _ in range(3):
        ring.refresh()
    assert ring.identify(key).client == "acme"
    assert not ring.valid
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "api_keys_refused")
    assert "\n" not in record.reason  # type: ignore[attr-defined]
    file.path.write_bytes(good)
    ring.refresh()
    assert ring.valid


def test_each_further_break_is_logged_again(
    file: KeyFile, add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    add()
    ring = KeyRing(file)
    for text in ("{", "[}"):
        file.path.write_text(text)
        ring.refresh()
        ring.refresh()
    assert [record.message for record in caplog.records] == ["api_keys_refused"] * 2


def test_a_broken_file_is_tried_again_though_its_state_is_the_same(
    file: KeyFile, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read may fail for a reason of the process, such as too many open files."""
    add()
    ring = KeyRing(file)
    late = add("late")
    with monkeypatch.context() as patched:
        patched.setattr(
            Path, "read_bytes", lambda path: (_ for _ in ()).throw(OSError(24, "Too many open files"))
        )
        ring.refresh()
    assert not ring.valid
    ring.refresh()
    assert ring.valid
    assert ring.identify(late).client == "late"


def test_an_emptied_list_refuses_everyone(file: KeyFile, add: Add) -> None:
    key = add()
    ring = KeyRing(file)
    file.change(lambda records: [])
    ring.refresh()
    assert ring.valid
    assert refusal(ring, key) == "unknown"


def test_a_file_that_cannot_be_used_at_the_start_raises(file: KeyFile) -> None:
    with pytest.raises(ConfigurationError, match="API_KEYS_FILE"):
        KeyRing.open(file.path)


def test_a_file_that_all_can_read_is_warned_of_once(
    file: KeyFile, add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    add()
    ring = KeyRing(file)
    ring.refresh()
    assert caplog.records == []
    file.path.chmod(0o644)
    for _ in range(3):
        ring.refresh()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["api_keys_readable_by_all"]
