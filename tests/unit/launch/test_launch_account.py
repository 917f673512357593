"""Whom the servers run as, and where their data goes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from falcon_wsgi.launch.account import Account


@dataclass(frozen=True)
class Confined(Account):
    """Another user as root would switch to, but with our own id, so that the test needs no root."""

    enters: bool = True

    def can_enter(self, folder: Path) -> bool:
        return self.enters


def _account(tmp_path: Path, enters: bool) -> Confined:
    return Confined(os.geteuid(), os.getegid(), switch=True, state=tmp_path / "state", enters=enters)


def test_data_stays_beside_the_instance_where_the_user_can_reach_it(tmp_path: Path) -> None:
    assert _account(tmp_path, enters=True).own_folder(tmp_path / "redis") == tmp_path / "redis"


def test_data_out_of_reach_goes_below_the_state_folder_and_is_found_again(tmp_path: Path) -> None:
    account = _account(tmp_path, enters=False)
    folder = account.own_folder(tmp_path / "redis")
    assert folder.is_relative_to(tmp_path / "state")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert account.own_folder(tmp_path / "redis") == folder


def test_data_that_was_moved_stays_there_when_the_place_becomes_reachable(tmp_path: Path) -> None:
    folder = _account(tmp_path, enters=False).own_folder(tmp_path / "redis")
    assert _account(tmp_path, enters=True).own_folder(tmp_path / "redis") == folder


def test_two_clones_do_not_share_a_folder(tmp_path: Path) -> None:
    account = _account(tmp_path, enters=False)
    for clone in ("a", "b"):
        (tmp_path / clone).mkdir()
    assert account.own_folder(tmp_path / "a" / "redis") != account.own_folder(tmp_path / "b" / "redis")


@pytest.mark.parametrize("enters", [True, False])
def test_no_permission_of_an_existing_folder_changes(tmp_path: Path, enters: bool) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (tmp_path / "state").mkdir(mode=0o711)
    before = {path: path.stat().st_mode for path in (tmp_path, closed, tmp_path / "state")}
    _account(tmp_path, enters).own_folder(closed / "redis")
    assert {path: path.stat().st_mode for path in before} == before


def test_current_user_is_kept_unless_it_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    account = Account.for_servers()
    assert (account.uid, account.switch, account.popen_options()) == (1234, False, {})


def test_root_becomes_an_unprivileged_user_without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    options = Account.for_servers().popen_options()
    assert options["user"] != 0
    assert options["extra_groups"] == []
