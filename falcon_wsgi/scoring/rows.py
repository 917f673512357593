"""Chunks as rows: what of them is to be validated, kept and shown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import orjson

from falcon_wsgi.models.signature import TabularField
from falcon_wsgi.scoring.cells import Column, from_arrow, from_text, from_values, json_value, lenient
from falcon_wsgi.scoring.chunk import Chunk, Rejection, issue
from falcon_wsgi.scoring.formats import Format
from falcon_wsgi.scoring.splitting import Records, records

Indexes: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
_NOT_UTF8 = issue("the row is not UTF-8", "not_utf8")


class Rows(Protocol):
    """The readable rows of a chunk.

    Attributes:
        indexes: of each among all rows of its chunk.
        broken: the rows of the chunk that cannot be read.
    """

    indexes: Indexes
    broken: list[Rejection]

    def checked(self, field: TabularField) -> Column:
        """The column of a field."""

    def sent(self, at: int, fields: Sequence[TabularField]) -> dict[str, Any]:
        """One row as a request would send it."""

    def texts(self, name: str) -> list[Any]:
        """A column's cells as they are; None where there is none."""

    def has(self, at: int, name: str) -> bool:
        """Whether the row has a cell of that name."""

    def rejection(self, at: int, issues: list[dict[str, str]]) -> Rejection:
        """That one row is refused."""

    def kept(self, name: str, places: Indexes) -> Any:
        """The cells of a column at `places` as an Arrow array; text where the file has no types."""


def rows_of(chunk: Chunk, format_: Format, columns: tuple[str, ...] | None) -> Rows:
    if format_ is Format.PARQUET:
        return ArrowRows(chunk)
    if format_ is Format.JSONL:
        return JsonRows(chunk)
    assert columns is not None
    return CsvRows(chunk, columns)


class _TextRows:
    """What CSV and JSON Lines have in common: a row is some bytes at a line."""

    indexes: Indexes

    def __init__(self, chunk: Chunk, quoted: bool) -> None:
        self._chunk = chunk
        self._quoted = quoted
        self._found: Records | None = None
        self.broken: list[Rejection] = []

    @property
    def _records(self) -> Records:
        if self._found is None:
            self._found = records(self._chunk.payload, self._quoted)
        return self._found

    def _raw(self, index: int) -> bytes:
        found = self._records
        return self._chunk.payload[found.starts[index] : found.ends[index]]

    def _refusal(self, index: int, issues: list[dict[str, str]]) -> Rejection:
        line = self._chunk.start.line + int(self._records.lines[index]) + 1
        return Rejection(index, issues, line, self._raw(index).decode(errors="backslashreplace"))

    def rejection(self, at: int, issues: list[dict[str, str]]) -> Rejection:
        return self._refusal(int(self.indexes[at]), issues)


class CsvRows(_TextRows):
    """Of CSV without its header. Every cell is text."""

    def __init__(self, chunk: Chunk, columns: tuple[str, ...]) -> None:
        super().__init__(chunk, quoted=True)
        self._places = {name: i for i, name in reversed(list(enumerate(columns)))}
        table = self._at_once(len(columns))
        if table is None:
            table = self._one_by_one(len(columns))
        else:
            self.indexes = np.arange(chunk.rows)
        self._columns = table

    def checked(self, field: TabularField) -> Column:
        place = self._places.get(field.name)
        if place is None:
            return from_values(field, [None] * len(self.indexes))
        return from_text(field, self._columns[place])

    def sent(self, at: int, fields: Sequence[TabularField]) -> dict[str, Any]:
        cells = {
            field.name: lenient(field, self._columns[self._places[field.name]][at].as_py())
            for field in fields
            if field.name in self._places
        }
        return {name: cell for name, cell in cells.items() if cell is not None}

    def texts(self, name: str) -> list[Any]:
        cells: list[Any] = self._columns[self._places[name]].to_pylist()
        return cells

    def has(self, at: int, name: str) -> bool:
        return name in self._places

    def kept(self, name: str, places: Indexes) -> Any:
        return _taken(self._columns[self._places[name]], places)

    def _at_once(self, width: int) -> list[Any] | None:
        """The columns, or None where a row is not as all should be."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        payload = self._chunk.payload
        if payload.count(b"\r") != payload.count(b"\r\n"):
            return None  # Arrow ends a row at a lone carriage return
        names = list(map(str, range(width)))
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(payload),
                read_options=arrow_csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=len(payload) + 1
                ),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != self._chunk.rows:
            return None
        return [_one_array(column) for column in table.columns]

    def _one_by_one(self, width: int) -> list[Any]:
        import pyarrow as pa

        csv.field_size_limit(len(self._chunk.payload) + 1)
        good: list[int] = []
        rows: list[list[str]] = []
        for index in range(self._chunk.rows):
            cells = _cells(self._raw(index), width)
            if isinstance(cells, list):
                good.append(index)
                rows.append(cells)
            else:
                self.broken.append(self._refusal(index, issue(cells, "malformed_row")))
        self.indexes = np.array(good, dtype=np.int64)
        columns = list(zip(*rows, strict=True)) if rows else [()] * width
        return [pa.array(column, type=pa.string()) for column in columns]


def _cells(record: bytes, width: int) -> list[str] | str:
    """The cells of one record, or what is wrong with it."""
    try:
        (cells,) = csv.reader(io.StringIO(record.decode(), newline=""))
    except UnicodeDecodeError:
        return _NOT_UTF8[0]["message"]
    except (csv.Error, ValueError):
        return "the row is not CSV: it holds a line break without quotation marks around it"
    if len(cells) != width:
        return f"the row has {len(cells)} columns, the header {width}"
    return cells


class JsonRows(_TextRows):
    """Of JSON Lines: an object a line."""

    def __init__(self, chunk: Chunk) -> None:
        super().__init__(chunk, quoted=False)
        payload, found = chunk.payload, self._records
        slices = zip(found.starts.tolist(), found.ends.tolist(), strict=True)
        lines = [payload[start:end] for start, end in slices]
        try:
            self.objects = list(map(orjson.loads, lines))
            whole = set(map(type, self.objects)) <= {dict}
        except orjson.JSONDecodeError:
            whole = False
        self.indexes = np.arange(len(lines))
        if not whole:
            self._one_by_one(lines)

    def _one_by_one(self, lines: Sequence[bytes]) -> None:
        good, self.objects = [], []
        for index, line in enumerate(lines):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                self.broken.append(
                    self._refusal(index, issue(f"the line is not JSON: {error.msg}", "not_json"))
                )
                continue
            if isinstance(value, dict):
                good.append(index)
                self.objects.append(value)
            else:
                self.broken.append(
                    self._refusal(index, issue("the line is not a JSON object", "not_an_object"))
                )
        self.indexes = np.array(good, dtype=np.int64)

    def checked(self, field: TabularField) -> Column:
        name = field.name
        return from_values(field, [row.get(name) for row in self.objects])

    def sent(self, at: int, fields: Sequence[TabularField]) -> dict[str, Any]:
        row = self.objects[at]
        return {field.name: row[field.name] for field in fields if field.name in row}

    def texts(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.objects]

    def has(self, at: int, name: str) -> bool:
        return name in self.objects[at]

    def written(self, names: tuple[str, ...] | None, places: Indexes) -> list[str]:
        """The text of the objects at `places`: as it is, or of the members `names`."""
        if names is None:
            return [self._raw(index).decode() for index in self.indexes[places].tolist()]
        rows = (self.objects[at] for at in places.tolist())
        return [orjson.dumps({name: row[name] for name in names if name in row}).decode() for row in rows]

    def kept(self, name: str, places: Indexes) -> Any:
        import pyarrow as pa

        cells = (self.objects[at].get(name) for at in places)
        return pa.array([_as_text(cell) for cell in cells], type=pa.string())


class ArrowRows:
    """Of a Parquet file."""

    def __init__(self, chunk: Chunk) -> None:
        import pyarrow as pa

        with pa.ipc.open_stream(pa.BufferReader(chunk.payload)) as stream:
            self._batch = stream.read_next_batch()
        self.indexes = np.arange(chunk.rows)
        self.broken: list[Rejection] = []
        self._names = set(self._batch.schema.names)

    def checked(self, field: TabularField) -> Column:
        if field.name not in self._names:
            return from_values(field, [None] * len(self.indexes))
        return from_arrow(field, self._batch.column(field.name))

    def sent(self, at: int, fields: Sequence[TabularField]) -> dict[str, Any]:
        row = {
            field.name: json_value(self._batch.column(field.name)[at].as_py())
            for field in fields
            if field.name in self._names
        }
        return {name: cell for name, cell in row.items() if cell is not None}

    def texts(self, name: str) -> list[Any]:
        cells: list[Any] = self._batch.column(name).to_pylist()
        return cells

    def has(self, at: int, name: str) -> bool:
        return name in self._names

    def rejection(self, at: int, issues: list[dict[str, str]]) -> Rejection:
        return Rejection(at, issues, None, self._batch.slice(at, 1).to_pylist()[0])

    def kept(self, name: str, places: Indexes) -> Any:
        return _taken(self._batch.column(name), places)


def _taken(column: Any, places: Indexes) -> Any:
    return column if len(places) == len(column) else column.take(places)


def _as_text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return orjson.dumps(cell).decode()


def _one_array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
