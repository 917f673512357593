"""What the master decides before any process is forked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.server import master
from falcon_wsgi.settings import Settings


@pytest.fixture(autouse=True)
def at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(master, "_master", master._Master())
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "names"),
    [("worker-1", ["worker-1", "worker-2", "worker-11"]), ("api-7", ["api-7", "api-7-2", "api-7-11"])],
)
def test_the_first_worker_has_the_instances_name(name: str, names: list[str]) -> None:
    settings = Settings(worker_id=name)
    assert [master.worker_id(settings, number) for number in (1, 2, 11)] == names


def test_broken_settings_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "many")
    with pytest.raises(ConfigurationError, match="PORT"):
        master.effective_settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "many"), ("PORT", "8001"), ("HOST", "0.0.0.0"), ("JOURNAL_DIR", "/elsewhere")],
)
def test_a_reload_refuses_broken_settings_and_another_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str
) -> None:
    former = master.effective_settings()
    monkeypatch.setenv(variable, value)
    with caplog.at_level(logging.ERROR):
        assert master.effective_settings() is former
    assert [record.message for record in caplog.records] == ["settings_refused"]
    assert variable in caplog.records[0].reason


def test_a_reload_takes_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    master.effective_settings()
    monkeypatch.setenv("CACHE_TTL_SECONDS", "7")
    assert master.effective_settings().cache_ttl_seconds == 7


def test_a_folder_that_cannot_be_made_stops_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(SystemExit, match=r"^falcon: .*file.* cannot be used: Not a directory$"):
        master.on_starting(None)


def test_an_empty_store_stops_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODEL_STORE", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match=r"^falcon: the model store is empty; run: falcon train sentiment$"):
        master.on_starting(None)


def test_nothing_has_happened_yet() -> None:
    assert not master.stop_is_announced()
    assert not master.instance_is_stopping()
    assert not master.instance_has_served()
