"""A worker asks the master to take the store over: this process plays the master, with its signals and its report."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.errors import DeadlineExceeded, ModelControlRefused, NotReady, UnknownModel
from falcon_wsgi.resilience.deadline import Deadline
from falcon_wsgi.server.listing import Listing
from falcon_wsgi.server.takeover import take_over
from falcon_wsgi.settings import Settings


class Master:
    """Reports a look for each SIGUSR1, with `found` and `refused`, and counts each SIGHUP."""

    def __init__(self, settings: Settings) -> None:
        self.listing = Listing(settings.instance_dir)
        self.found = {"tone": "1.0.0"}
        self.refused: str | None = None
        self.deaf = False
        self.looks = self.reloads = 0

    def start(self) -> None:
        self.listing.clear()
        self.listing.add("worker-1", os.getpid(), {"tone": "1.0.0"})
        self.listing.report(pid=os.getpid(), looks=0, models=self.found, refused=None, failed_start=None)

    def look(self, number: int, frame: Any) -> None:
        if not self.deaf:
            self.looks += 1
            self.listing.report(looks=self.looks, models=self.found, refused=self.refused)

    def reload(self, number: int, frame: Any) -> None:
        self.reloads += 1


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "store" / "tone" / "1.0.0").mkdir(parents=True)
    settings = Settings(data_dir=tmp_path / "data", model_store=tmp_path / "store")
    settings.instance_dir.mkdir(parents=True)
    return settings


@pytest.fixture
def master(settings: Settings) -> Iterator[Master]:
    master = Master(settings)
    master.start()
    former = signal.signal(signal.SIGUSR1, master.look), signal.signal(signal.SIGHUP, master.reload)
    yield master
    signal.signal(signal.SIGUSR1, former[0])
    signal.signal(signal.SIGHUP, former[1])


def load(settings: Settings, name: str = "tone", within_s: float = 10.0) -> None:
    take_over(settings, name, Deadline.after(within_s))


def test_workers_that_serve_the_versions_already_are_left_alone(settings: Settings, master: Master) -> None:
    load(settings)
    assert (master.looks, master.reloads) == (1, 0)


def test_workers_are_replaced_once_another_version_is_verified(settings: Settings, master: Master) -> None:
    master.found = {"tone": "1.1.0"}
    load(settings)
    assert (master.looks, master.reloads) == (1, 1)


def test_what_the_master_refuses_replaces_no_worker(settings: Settings, master: Master) -> None:
    master.found, master.refused = {"tone": "1.1.0"}, "tone/1.2.0 is damaged"
    with pytest.raises(ModelControlRefused, match=r"tone/1\.2\.0 is damaged"):
        load(settings)
    assert master.reloads == 0


def test_a_model_that_the_store_does_not_have_costs_no_look(settings: Settings, master: Master) -> None:
    for name in ("unknown", "..", ""):
        with pytest.raises(UnknownModel):
            load(settings, name)
    assert master.looks == 0


def test_a_master_that_does_not_look_is_not_waited_for_beyond_the_deadline(
    settings: Settings, master: Master
) -> None:
    master.deaf = True
    with pytest.raises(DeadlineExceeded, match="ask again"):
        load(settings, within_s=0.2)
    assert master.reloads == 0


def test_only_one_reload_runs_at_a_time(settings: Settings, master: Master) -> None:
    with (settings.instance_dir / "reload.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ModelControlRefused, match="is running"):
            load(settings)
    load(settings)
    assert master.looks == 1


def test_without_a_master_the_client_is_told_to_wait(settings: Settings) -> None:
    with pytest.raises(NotReady):
        load(settings)
