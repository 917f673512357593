"""workers.json names who serves, whoever writes it at the same time, and never ends its writer."""

from __future__ import annotations

import fcntl
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.server import listing
from falcon_wsgi.server.listing import Listing


def content(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "workers.json").read_text()))


def listed(folder: Path) -> list[tuple[str, int]]:
    return [(worker["worker_id"], worker["pid"]) for worker in content(folder)["workers"]]


def test_workers_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    workers = Listing(tmp_path)
    for number in (10, 2, 1):
        workers.add(f"worker-{number}", number)
    assert listed(tmp_path) == [("worker-1", 1), ("worker-2", 2), ("worker-10", 10)]


def test_a_worker_takes_the_place_of_another_of_its_name(tmp_path: Path) -> None:
    workers = Listing(tmp_path)
    workers.add("worker-1", 11)
    workers.add("worker-1", 12)
    workers.remove("worker-1", 11)  # the old one is reaped after the new one has registered
    assert listed(tmp_path) == [("worker-1", 12)]
    workers.remove("worker-1", 12)
    assert listed(tmp_path) == []


def test_clear_forgets_an_earlier_instance(tmp_path: Path) -> None:
    Listing(tmp_path).add("worker-1", 11)
    Listing(tmp_path).clear()
    assert listed(tmp_path) == []


def test_each_worker_is_listed_with_what_it_serves(tmp_path: Path) -> None:
    Listing(tmp_path).add("worker-1", 11, {"sentiment": "1.1.0"})
    assert content(tmp_path)["workers"] == [
        {"worker_id": "worker-1", "pid": 11, "models": {"sentiment": "1.1.0"}}
    ]


def test_reports_of_the_master_and_entries_of_workers_leave_each_other_alone(tmp_path: Path) -> None:
    listing = Listing(tmp_path)
    listing.report(pid=7, looks=0)
    listing.add("worker-1", 11)
    listing.report(looks=1, refused="damaged")
    listing.remove("worker-1", 11)
    listing.add("worker-2", 12)
    assert content(tmp_path)["master"] == {"pid": 7, "looks": 1, "refused": "damaged"}
    assert listed(tmp_path) == [("worker-2", 12)]
    listing.clear()
    assert content(tmp_path) == {"workers": [], "master": {}}


@pytest.mark.parametrize(
    "damaged", ["", "{", "[]", '{"workers": [1]}', '{"workers": 7}', '{"workers": [], "master": 7}']
)
def test_a_damaged_list_is_begun_anew(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "workers.json").write_text(damaged)
    Listing(tmp_path).add("worker-1", 11)
    assert listed(tmp_path) == [("worker-1", 11)]


def test_delete_leaves_nothing(tmp_path: Path) -> None:
    workers = Listing(tmp_path)
    workers.add("worker-1", 11)
    workers.delete()
    workers.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_logged_and_ends_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Listing(tmp_path / "missing").add("worker-1", 11)
    assert [record.message for record in caplog.records] == ["worker_listing_not_written"]


def test_a_lock_that_is_never_released_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_LOCK_PATIENCE_S", 0.0)
    with (tmp_path / "workers.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        Listing(tmp_path).add("worker-1", 11)
    assert listed(tmp_path) == [("worker-1", 11)]
