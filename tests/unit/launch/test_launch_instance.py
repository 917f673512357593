"""The instance's folder, its lock and its state."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from falcon_wsgi import settings as configuration
from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.launch import instance as instances
from falcon_wsgi.launch.instance import Instance
from falcon_wsgi.launch.status import status
from falcon_wsgi.settings import Settings


def _settings(data_dir: Path, port: int) -> Settings:
    return configuration.load(env_file=None, data_dir=data_dir, port=port, redis_url=None, database_url=None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return _settings(tmp_path / "data", 8000)


def test_second_claim_is_refused_in_one_line_that_names_port_and_owner(settings: Settings) -> None:
    first = Instance(settings)
    first.claim()
    first.publish(pid=4711)
    with pytest.raises(ConfigurationError) as refused:
        Instance(settings).claim()
    first.release()
    assert str(refused.value) == (
        "port 8000 is taken by another Falcon of this folder (pid 4711); "
        "choose another one, for example PORT=8001"
    )


def test_released_instance_can_be_claimed_again(settings: Settings) -> None:
    for _ in range(2):
        claimed = Instance(settings)
        claimed.claim()
        assert instances.is_claimed(settings)
        claimed.release()
        assert not instances.is_claimed(settings)


def test_two_ports_of_one_folder_are_two_instances(settings: Settings) -> None:
    first, second = Instance(settings), Instance(_settings(settings.data_dir, 8001))
    first.claim()
    second.claim()
    second.release()
    first.release()


def test_folder_that_cannot_be_written_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, so nothing can be created below it")
    with pytest.raises(ConfigurationError, match=r"^DATA_DIR \(.*data\) cannot be written: .+") as refused:
        Instance(settings).claim()
    assert "\n" not in str(refused.value)


def test_state_is_private_and_gone_after_release(settings: Settings) -> None:
    claimed = Instance(settings)
    claimed.claim()
    claimed.publish(redis_url="redis://:secret@127.0.0.1:1/0")
    assert settings.state_file.stat().st_mode & 0o777 == 0o600
    claimed.release()
    assert not settings.state_file.exists()


def test_status_of_nothing_is_none(settings: Settings) -> None:
    assert status(settings) is None


def test_state_left_by_a_killed_supervisor_is_not_believed(settings: Settings) -> None:
    settings.instance_dir.mkdir(parents=True)
    (settings.instance_dir / "lock").touch()
    settings.state_file.write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:8000"}))
    assert status(settings) is None


def test_dead_workers_are_not_listed(settings: Settings) -> None:
    settings.instance_dir.mkdir(parents=True)
    with subprocess.Popen(["true"]) as ended:
        pass
    dead = ended.pid
    workers = [{"worker_id": "worker-1", "pid": os.getpid()}, {"worker_id": "worker-2", "pid": dead}]
    (settings.instance_dir / "workers.json").write_text(json.dumps({"workers": workers}))
    assert instances.read_workers(settings) == workers[:1]


def test_a_dead_masters_report_is_not_believed(settings: Settings) -> None:
    settings.instance_dir.mkdir(parents=True)
    with subprocess.Popen(["true"]) as ended:
        pass
    for pid, believed in ((os.getpid(), True), (ended.pid, False)):
        report = {"pid": pid, "refused": None}
        (settings.instance_dir / "workers.json").write_text(json.dumps({"workers": [], "master": report}))
        assert instances.read_master(settings) == (report if believed else {})


@pytest.mark.parametrize(
    "content", ["", "not json", "[]", '{"workers": [{}]}', '{"workers": 3}', '{"master": {"pid": "x"}}']
)
def test_broken_files_count_as_absent(settings: Settings, content: str) -> None:
    settings.instance_dir.mkdir(parents=True)
    (settings.instance_dir / "workers.json").write_text(content)
    settings.state_file.write_text(content)
    assert instances.read_workers(settings) == []
    assert instances.read_master(settings) == {}
    assert status(settings) is None
