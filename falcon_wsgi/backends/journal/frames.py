"""One journal record: a header with a checksum, then the rows of one request as `log_rows` has them.

The magic bytes occur in no UTF-8 text, so a search for the next record never stops inside a payload,
whatever a client sent.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"\xff\xfa"
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024

# magic, number of rows, payload length in bytes, CRC-32 of the payload seeded with the number of rows
_HEADER = struct.Struct(">2sHII")
_HEADER_BYTES = _HEADER.size
_INCOMPLETE = -1
_INVALID = -2


class Span(NamedTuple):
    """A sound record inside a buffer. `end` is the offset of the byte behind it."""

    payload: bytes
    rows: int
    end: int


class Scan(NamedTuple):
    """What a scan found: sound records, where it ended, and how many damaged stretches it skipped."""

    spans: list[Span]
    end: int
    damaged: int


def encode(payload: bytes, rows: int) -> bytes:
    """The record as it is written. `payload` holds `rows` rows, in UTF-8.

    Raises:
        ValueError: no row, more than 65,535 rows, or a payload over 16 MiB.
    """
    size = len(payload)
    if not (0 < rows <= 0xFFFF and 0 < size <= MAX_PAYLOAD_BYTES):
        raise ValueError(f"a record of {rows} rows and {size} bytes cannot be written")
    return _HEADER.pack(MAGIC, rows, size, crc32(payload, rows)) + payload


def scan(buffer: bytes, *, max_rows: int, whole: bool) -> Scan:
    """Read records from the start of `buffer` until `max_rows` rows are found or no sound record follows.

    With `whole`, the buffer reaches to the end of its file: damage is skipped up to the next sound record,
    and a last record that was cut short is passed over as never written. Without, the scan stops before
    whatever it cannot read, which may only be cut off by the end of the buffer.
    """
    spans: list[Span] = []
    offset = rows = damaged = 0
    size = len(buffer)
    while rows < max_rows and offset < size:
        end, count = _record_at(buffer, offset)
        if end >= 0:
            spans.append(Span(buffer[offset + _HEADER_BYTES : end], count, end))
            rows += count
            offset = end
        elif not whole:
            break
        else:
            following = _next_sound(buffer, offset + 1)
            damaged += following < size or end == _INVALID
            offset = following
    return Scan(spans, offset, damaged)


def count_rows(buffer: bytes) -> tuple[int, int]:
    """(rows, end) of the complete records at the start of `buffer`, by their headers alone; payloads go
    unchecked.
    """
    rows = offset = 0
    size = len(buffer)
    while offset + _HEADER_BYTES <= size:
        magic, count, length, _ = _HEADER.unpack_from(buffer, offset)
        end = offset + _HEADER_BYTES + length
        if magic != MAGIC or end > size:
            break
        rows += count
        offset = end
    return rows, offset


def _record_at(buffer: bytes, offset: int) -> tuple[int, int]:
    """(end, rows) of the sound record at `offset`, else (_INCOMPLETE or _INVALID, 0)."""
    payload_start = offset + _HEADER_BYTES
    if payload_start > len(buffer):
        return _INCOMPLETE, 0
    magic, rows, length, checksum = _HEADER.unpack_from(buffer, offset)
    if magic != MAGIC or rows == 0 or not 0 < length <= MAX_PAYLOAD_BYTES:
        return _INVALID, 0
    end = payload_start + length
    if end > len(buffer):
        return _INCOMPLETE, 0
    if crc32(buffer[payload_start:end], rows) != checksum:
        return _INVALID, 0
    return end, rows


def _next_sound(buffer: bytes, start: int) -> int:
    """Offset of the first sound record at or behind `start`; the buffer's end if there is none."""
    while (start := buffer.find(MAGIC, start)) >= 0:
        if _record_at(buffer, start)[0] >= 0:
            return start
        start += 1
    return len(buffer)
