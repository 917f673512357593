"""What `NAME/current` named before: one line of JSON for each promotion and rollback, the oldest first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FILE_NAME = "history.jsonl"

Action = Literal["promote", "rollback"]


class Entry(BaseModel):
    """`former` is None where it was unknown: `current` named a version that the store did not have."""

    model_config = ConfigDict(frozen=True)

    time: datetime
    action: Action
    former: str | None = Field(alias="from")
    to: str


class History:
    """The file of one model. Writers hold the model's lock."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def entries(self) -> list[Entry]:
        """A line that cannot be read is left out: the end of a file whose writer was killed, say."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [entry for line in lines if (entry := _parsed(line)) is not None]

    def append(self, action: Action, former: str | None, to: str) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        entry = Entry.model_validate({"time": now, "action": action, "from": former, "to": to})
        line = entry.model_dump_json(by_alias=True).encode() + b"\n"
        with self._path.open("a+b") as file:
            if file.tell() and not _ends_with_a_line(file.fileno(), file.tell()):
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)


def served_before(entries: Sequence[Entry], current: str | None) -> list[str]:
    """Versions that were served before `current`, as a stack: the one that a rollback returns to is the last.

    A promotion puts the version that it replaced on top, a rollback takes away what it returned to. Where an entry
    does not begin with what the one before ended with, `current` was edited by hand in between, and that counts as a
    promotion.
    """
    stack: list[str] = []
    served: str | None = None
    for entry in entries:
        if served is not None and served != entry.former:
            stack.append(served)
        if entry.action == "rollback":
            _take_down_to(stack, entry.to)
        elif entry.former is not None:
            stack.append(entry.former)
        served = entry.to
    if served is not None and served != current:
        stack.append(served)
    return stack


def _take_down_to(stack: list[str], version: str) -> None:
    """What lay above it had been removed from the store when the rollback was made."""
    while stack and stack.pop() != version:
        pass


def _parsed(line: bytes) -> Entry | None:
    try:
        return Entry.model_validate_json(line)
    except ValidationError:
        return None


def _ends_with_a_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"
