"""Where the records of CSV and JSON Lines end, found without parsing them."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Offsets: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

# A quotation mark opens a quoted field only where a field begins (RFC 4180); elsewhere it is text. What follows
# the closing one is text up to the next comma, as csv and Arrow read it too.
_QUOTED = re.compile(rb'(?:(?<=[,\r\n])|\A)"[^"]*(?:""[^"]*)*(?:"|\Z)')
_LF, _CR = 10, 13


@dataclass(frozen=True, slots=True)
class Records:
    """The records of some text that are not empty lines.

    Attributes:
        starts, ends: offsets of each, without its line end.
        lines: line ends before each.
    """

    starts: Offsets
    ends: Offsets
    lines: Offsets

    def __len__(self) -> int:
        return len(self.starts)


def line_ends(text: bytes) -> Offsets:
    """Offset of every line feed."""
    return np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == _LF)


def record_ends(text: bytes, quoted: bool) -> Offsets:
    """Offsets of the line feeds that end a record, where `text` begins with one.

    With `quoted`, those inside quoted fields end none.
    """
    feeds = line_ends(text)
    if not quoted or b'"' not in text:
        return feeds
    spans = np.array([match.span() for match in _QUOTED.finditer(text)], dtype=np.int64).reshape(-1, 2)
    if not len(spans):
        return feeds
    before = np.searchsorted(spans[:, 0], feeds, side="right") - 1
    inside = (before >= 0) & (feeds < spans[np.maximum(before, 0), 1])
    outside: Offsets = feeds[~inside]
    return outside


def ends_open(text: bytes) -> bool:
    """Whether `text`, which begins with a record, ends within a quoted field."""
    last = next(iter(deque(_QUOTED.finditer(text), maxlen=1)), None)
    return last is not None and last.end() == len(text) and last[0].count(b'"') % 2 == 1


def records(text: bytes, quoted: bool) -> Records:
    """The records of `text`, which begins and ends with whole ones; the last may lack its line feed."""
    ends = record_ends(text, quoted)
    if len(text) and (not len(ends) or ends[-1] != len(text) - 1):
        ends = np.append(ends, len(text))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1] + 1]) if len(ends) else ends
    codes = np.frombuffer(text, dtype=np.uint8)
    returns = (ends > starts) & (codes[np.maximum(ends - 1, 0)] == _CR) if len(ends) else ends.astype(bool)
    stripped = ends - returns
    filled = stripped > starts
    lines = np.searchsorted(line_ends(text), starts[filled])
    return Records(starts[filled], stripped[filled], lines.astype(np.int64))
