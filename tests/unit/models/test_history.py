"""Rollbacks undo promotions, the latest first, whatever happened to `current` or the file in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from falcon_wsgi.models.history import Action, Entry, History, served_before

Step = tuple[Action, str | None, str]


def entries(*steps: Step) -> list[Entry]:
    return [
        Entry.model_validate({"time": "2026-01-01T00:00:00Z", "action": action, "from": former, "to": to})
        for action, former, to in steps
    ]


@pytest.mark.parametrize(
    ("steps", "current", "stack"),
    [
        ([], "1", []),
        ([("promote", "1", "2")], "2", ["1"]),
        ([("promote", "1", "2"), ("promote", "2", "3")], "3", ["1", "2"]),
        ([("promote", "1", "2"), ("promote", "2", "3"), ("rollback", "3", "2")], "2", ["1"]),
        (
            [("promote", "1", "2"), ("promote", "2", "3"), ("rollback", "3", "2"), ("rollback", "2", "1")],
            "1",
            [],
        ),
        ([("promote", "1", "2"), ("rollback", "2", "1"), ("promote", "1", "3")], "3", ["1"]),
        ([("promote", None, "2")], "2", []),
    ],
)
def test_a_rollback_undoes_the_latest_promotion_that_is_not_undone(
    steps: list[Step], current: str, stack: list[str]
) -> None:
    assert served_before(entries(*steps), current) == stack


def test_an_edit_by_hand_counts_as_a_promotion() -> None:
    steps: list[Step] = [("promote", "1", "2")]
    assert served_before(entries(*steps), "9") == ["1", "2"]
    steps.append(("promote", "9", "3"))
    assert served_before(entries(*steps), "3") == ["1", "2", "9"]


def test_a_rollback_that_passed_over_removed_versions_takes_them_off() -> None:
    steps: list[Step] = [
        ("promote", "1", "2"),
        ("promote", "2", "3"),
        ("promote", "3", "4"),
        ("rollback", "4", "2"),
    ]
    assert served_before(entries(*steps), "2") == ["1"]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.entries() == []
    history.append("promote", None, "1.0.0")
    history.append("rollback", "1.1.0", "1.0.0")
    assert [(e.action, e.former, e.to) for e in history.entries()] == [
        ("promote", None, "1.0.0"),
        ("rollback", "1.1.0", "1.0.0"),
    ]


@pytest.mark.parametrize("broken", ['{"time": "2026', "nonsense\n", "\n\n", '{"action": "fly"}\n', "\xff\n"])
def test_a_line_cut_off_by_a_crash_loses_nothing_else(tmp_path: Path, broken: str) -> None:
    history = History(tmp_path)
    history.append("promote", "1.0.0", "1.1.0")
    with (tmp_path / "history.jsonl").open("ab") as file:
        file.write(broken.encode("latin-1"))
    history.append("promote", "1.1.0", "1.2.0")
    assert [entry.to for entry in history.entries()] == ["1.1.0", "1.2.0"]
