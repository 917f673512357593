"""Columns as the bytes of a part: CSV, JSON Lines, or a row group of Parquet."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from typing import Any

import orjson

_GZIP_LEVEL = 6
_NOT_PLAIN = re.compile(rb'["\\\x00-\x1f]')
_STRUCTURAL = '[",\r\n]'


def csv_header(names: Sequence[str]) -> bytes:
    import pyarrow as pa

    return csv_body([pa.array([name]) for name in names])


def csv_body(columns: Sequence[Any]) -> bytes:
    """Rows of CSV: quotation marks where RFC 4180 wants them, numbers as short as they read back exactly.

    Lines end with a line feed. What is missing is nothing between two commas.
    """
    import pyarrow.compute as pc

    lines = pc.binary_join_element_wise(
        *map(_csv_cells, columns), ",", null_handling="replace", null_replacement=""
    )
    ended = pc.binary_join_element_wise(lines, "\n", "")
    return _characters(ended)


def json_body(names: Sequence[str], columns: Sequence[Any]) -> bytes:
    """An object a line. A float that is not finite is null."""
    return _json_joined(names, columns, [])


def json_objects(objects: Sequence[str], names: Sequence[str], columns: Sequence[Any]) -> bytes:
    """The columns as more members of objects, of each of which the text is given."""
    import pyarrow as pa

    bodies = (text.rstrip()[:-1].rstrip() for text in objects)
    opened = [body + "," if len(body) > 1 else body for body in bodies]
    return _json_joined(names, columns, [pa.array(opened, type=pa.string())])


def _json_joined(names: Sequence[str], columns: Sequence[Any], pieces: list[Any]) -> bytes:
    import pyarrow.compute as pc

    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        mark = "," if i else "" if pieces else "{"
        pieces += [mark + orjson.dumps(name).decode() + ":", _json_cells(column)]
    lines = pc.binary_join_element_wise(*pieces, "}\n", "", null_handling="replace", null_replacement="null")
    return _characters(lines)


def _json_cells(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_floating(column.type):
        return pc.if_else(pc.is_finite(column), pc.cast(column, pa.string()), None)
    if types.is_integer(column.type) or types.is_boolean(column.type):
        return pc.cast(column, pa.string())
    if _is_text(column.type) and not _NOT_PLAIN.search(_characters(text := pc.cast(column, pa.string()))):
        return pc.binary_join_element_wise('"', text, '"', "")
    written = (
        None if cell is None else orjson.dumps(cell, default=_plain).decode() for cell in column.to_pylist()
    )
    return pa.array(list(written), type=pa.string())


def gzipped(body: bytes) -> bytes:
    """A gzip member of its own: members one after the other are one gzip file (RFC 1952). Equal for equal bytes."""
    return gzip.compress(body, _GZIP_LEVEL, mtime=0) if body else b""


def _csv_cells(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_nested(column.type) or types.is_binary(column.type) or types.is_large_binary(column.type):
        column = pa.array(
            [None if cell is None else json.dumps(cell, default=_plain) for cell in column.to_pylist()],
            type=pa.string(),
        )
    if not _is_text(column.type):
        return pc.cast(column, pa.string())
    text = pc.cast(column, pa.string())
    if not any(mark in _characters(text) for mark in (b'"', b",", b"\r", b"\n")):
        return text
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(text, _STRUCTURAL), quoted, text)


def _is_text(type_: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_))


def _characters(strings: Any) -> bytes:
    """The UTF-8 of an Arrow array of strings, one after the other."""
    import numpy as np

    if not len(strings):
        return b""
    _, offsets, characters = strings.buffers()
    if characters is None:
        return b""
    at = np.frombuffer(offsets, dtype=np.int32)
    first, last = int(at[strings.offset]), int(at[strings.offset + len(strings)])
    contents: bytes = characters.slice(first, last - first).to_pybytes()
    return contents


def _plain(value: Any) -> Any:
    """What JSON has no word for: bytes and decimals as text, like dates."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
