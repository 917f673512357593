"""Segment files and positions in them.

A segment is named by the sequence number of its first row. Rows are numbered from 1 in each folder, so the
number of rows in a segment follows from its name and the next one's, without reading either.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

_SUFFIX = ".seg"
_DIGITS = 20

CHECKPOINT = "checkpoint"


class Position(NamedTuple):
    """A place between two records: `offset` bytes into `segment`; the next row has number `sequence`."""

    segment: int
    offset: int
    sequence: int


def segment_path(folder: Path, segment: int) -> str:
    return f"{folder}/{segment:0{_DIGITS}d}{_SUFFIX}"


def list_segments(folder: Path) -> list[int]:
    """The first row numbers of all segments in the folder, ascending."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return sorted(int(name[:_DIGITS]) for name in names if is_segment(name))


def is_segment(name: str) -> bool:
    return len(name) == _DIGITS + len(_SUFFIX) and name.endswith(_SUFFIX) and name[:_DIGITS].isdecimal()


class Checkpoint:
    """The file that remembers how far a folder is shipped.

    It is one short line with its own checksum, overwritten in place: that needs no free block on a full
    disk, and a line that is torn reads as none. To lose it means only that rows are shipped again, which
    the table's key absorbs.
    """

    def __init__(self, folder: Path) -> None:
        self._path = f"{folder}/{CHECKPOINT}"
        self._fd = -1

    def save(self, position: Position) -> None:
        """Raises OSError if the disk does not take it."""
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._fd, _line(position), 0)

    def load(self) -> Position | None:
        try:
            with open(self._path, "rb") as file:
                fields = file.read(256).split()
            position = Position(*(int(field) for field in fields[:3]))
        except (OSError, ValueError, TypeError):
            return None
        return position if _line(position).split() == fields else None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(position: Position) -> bytes:
    text = f"{position.segment:020d} {position.offset:020d} {position.sequence:020d}".encode()
    return b"%b %08x\n" % (text, crc32(text))
