"""Parquet in parts: row groups that are appended one by one, and the one footer that names them all.

A worker writes its rows as a small Parquet file. The bytes of its columns go to the output as they are; only the
offsets in its footer have to be moved. The footer is a Thrift structure in the compact protocol
(https://github.com/apache/parquet-format, FileMetaData), which is read and written here generically: what is not
an offset stays as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, TypeAlias

MAGIC = b"PAR1"
_TAIL = struct.Struct("<I4s")
_FRAME = struct.Struct("<QI")

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_VARINTS = (4, 5, 6)

# A structure is a list of [field id, type, value]; a list is (type of its elements, elements).
Fields: TypeAlias = list[list[Any]]

# Field ids of parquet.thrift.
_FILE_ROWS, _FILE_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_COLUMN_OFFSET, _COLUMN_META, _COLUMN_OFFSET_INDEX, _COLUMN_COLUMN_INDEX = 2, 3, 4, 6
_META_OFFSETS = (9, 10, 11, 14)  # data page, index page, dictionary page, bloom filter


def row_group(table: Any) -> tuple[bytes, bytes]:
    """Bytes of the columns, and the footer in which their offsets count from the first of these bytes plus 4."""
    contents = _as_file(table)
    length, _ = _TAIL.unpack(contents[-_TAIL.size :])
    end = len(contents) - _TAIL.size - length
    return contents[len(MAGIC) : end], contents[end : -_TAIL.size]


def framed(footer: bytes, offset: int) -> bytes:
    """A record of the list that `whole_footer` reads: a part's footer, and where in the file its bytes begin."""
    return _FRAME.pack(offset, len(footer)) + footer


def whole_footer(schema: Any, frames: BinaryIO) -> bytes:
    """Everything that comes after the last row group, from the parts' framed footers."""
    _, empty = row_group(schema.empty_table())
    whole = _Reader(empty).fields()
    groups = [group for footer, offset in _frames(frames) for group in _moved(footer, offset)]
    rows = sum(_value(group, _GROUP_ROWS) for group in groups)
    _put(whole, _FILE_ROWS, 6, rows)
    _put(whole, _FILE_GROUPS, _LIST, (_STRUCT, groups))
    encoded = b"".join(_encoded(whole))
    return encoded + _TAIL.pack(len(encoded), MAGIC)


def _as_file(table: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, row_group_size=max(1, table.num_rows), use_dictionary=_repetitive(table.schema)
    )
    contents: bytes = sink.getvalue().to_pybytes()
    return contents


def _repetitive(schema: Any) -> list[str]:
    """Columns that a dictionary may shorten; for floats building one costs time and is given up in the end."""
    from pyarrow import types

    return [field.name for field in schema if not types.is_floating(field.type)]


def _frames(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    while head := file.read(_FRAME.size):
        offset, length = _FRAME.unpack(head)
        yield file.read(length), offset


def _moved(footer: bytes, offset: int) -> list[Fields]:
    groups: list[Fields] = _value(_Reader(footer).fields(), _FILE_GROUPS)[1]
    distance = offset - len(MAGIC)
    for group in groups:
        # The ordinal has 16 bits and serves encryption only.
        group[:] = [field for field in group if field[0] != _GROUP_ORDINAL]
        _move(group, (_GROUP_OFFSET,), distance)
        for column in _value(group, _GROUP_COLUMNS)[1]:
            _move(column, (_COLUMN_OFFSET, _COLUMN_OFFSET_INDEX, _COLUMN_COLUMN_INDEX), distance)
            _move(_value(column, _COLUMN_META), _META_OFFSETS, distance)
    return groups


def _move(fields: Fields, ids: Iterable[int], distance: int) -> None:
    for field in fields:
        if field[0] in ids and field[2]:  # 0 stands for unknown
            field[2] += distance


def _value(fields: Fields, id_: int) -> Any:
    return next(value for found, _, value in fields if found == id_)


def _put(fields: Fields, id_: int, type_: int, value: Any) -> None:
    for field in fields:
        if field[0] == id_:
            field[1:] = [type_, value]


class _Reader:
    """Of the Thrift compact protocol."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._at = 0

    def fields(self) -> Fields:
        found: Fields = []
        id_ = 0
        while head := self._byte():
            id_ = id_ + (head >> 4) if head >> 4 else self._zigzag()
            type_ = head & 15
            value = type_ == _TRUE if type_ in (_TRUE, _FALSE) else self._read(type_)
            found.append([id_, type_, value])
        return found

    def _read(self, type_: int) -> Any:
        if type_ in _VARINTS:
            return self._zigzag()
        if type_ == _BINARY:
            return self._bytes(self._varint())
        if type_ == _STRUCT:
            return self.fields()
        if type_ in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            return head & 15, [self._read(head & 15) for _ in range(count)]
        if type_ in (_TRUE, _FALSE, _BYTE):  # an element of a list takes a byte
            return self._byte()
        if type_ == _DOUBLE:
            return self._bytes(8)
        raise ValueError(f"type {type_} of the Thrift compact protocol does not occur in Parquet")

    def _byte(self) -> int:
        self._at += 1
        return self._encoded[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._encoded[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def _encoded(fields: Fields) -> Iterator[bytes]:
    former = 0
    for id_, type_, value in fields:
        step = id_ - former
        if 0 < step <= 15:
            yield bytes([step << 4 | type_])
        else:
            yield bytes([type_]) + _varint(_zigzag(id_))
        former = id_
        if type_ not in (_TRUE, _FALSE):
            yield from _written(type_, value)
    yield b"\0"


def _written(type_: int, value: Any) -> Iterator[bytes]:
    if type_ in _VARINTS:
        yield _varint(_zigzag(value))
    elif type_ == _BINARY:
        yield _varint(len(value)) + value
    elif type_ == _STRUCT:
        yield from _encoded(value)
    elif type_ in (_LIST, _SET):
        inner, elements = value
        yield bytes([len(elements) << 4 | inner]) if len(elements) < 15 else bytes([0xF0 | inner])
        if len(elements) >= 15:
            yield _varint(len(elements))
        for element in elements:
            yield from _written(inner, element)
    elif type_ == _DOUBLE:
        yield value
    else:
        yield bytes([value])


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
