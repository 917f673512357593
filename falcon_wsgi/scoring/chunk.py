"""What travels between the reader, the workers and the writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two rows of the input, with the next row's number.

    Attributes:
        offset: uncompressed bytes of a text format before it; rows of a Parquet file.
        row: rows before it; the header and empty lines are none.
        line: line ends of a text format before it.
    """

    offset: int = 0
    row: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of the input.

    Attributes:
        payload: the bytes of whole records, or an Arrow IPC stream.
        done: how far the input is read, in the units of `Source.size`.
    """

    start: Position
    end: Position
    payload: bytes
    done: int

    @property
    def rows(self) -> int:
        return self.end.row - self.start.row


@dataclass(frozen=True, slots=True)
class Part:
    """What came of a chunk, encoded as it is appended to the files.

    Attributes:
        rows: of the chunk, the rejected ones too.
        footer: of a Parquet part, its metadata; empty where no row is left.
        rejects: lines of JSON.
    """

    rows: int
    rejected: int
    body: bytes
    footer: bytes
    rejects: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that is not in the output. `index` counts the rows of its chunk from 0."""

    index: int
    issues: list[dict[str, str]]
    line: int | None
    raw: Any

    def encoded(self, first_row: int) -> bytes:
        entry: dict[str, Any] = {"row": first_row + self.index + 1}
        if self.line is not None:
            entry["line"] = self.line
        entry |= {
            "pointer": self.issues[0]["pointer"],
            "reason": self.issues[0]["message"],
            "errors": self.issues,
            "raw": self.raw,
        }
        return orjson.dumps(entry, default=str, option=orjson.OPT_APPEND_NEWLINE)


def issue(message: str, kind: str, pointer: str = "") -> list[dict[str, str]]:
    return [{"pointer": pointer, "message": message, "type": kind}]
