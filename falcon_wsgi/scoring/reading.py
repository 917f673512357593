"""Input files as chunks of whole rows, read once and in order, from any position that a chunk ended at."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, count
from pathlib import Path
from typing import IO, Any, Protocol

from falcon_wsgi.errors import InputUnreadable
from falcon_wsgi.scoring.chunk import Chunk, Position
from falcon_wsgi.scoring.formats import Format, Place
from falcon_wsgi.scoring.splitting import ends_open, line_ends, record_ends, records

MAX_CHUNK_BYTES = 8 * 1024 * 1024
MAX_RECORD_BYTES = 64 * 1024 * 1024
_BLOCK = 1024 * 1024
_WINDOW = 64 * 1024
_EDGE = 64 * 1024
_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_UTF8_BOM = b"\xef\xbb\xbf"


class Source(Protocol):
    """An input.

    Attributes:
        columns: names of its columns; None where each row says its own.
        size: of the whole, in the units of `Chunk.done`; None where nobody knows.
    """

    columns: tuple[str, ...] | None
    size: int | None
    place: Place

    def chunks(self, start: Position) -> Iterator[Chunk]:
        """Chunks from `start`, the default or the end of an earlier chunk; the same ones each time.

        Raises:
            InputUnreadable: see there.
        """


def open_source(place: Place, batch_rows: int) -> Source:
    """Raises InputUnreadable."""
    if place.path is not None and not place.path.is_file():
        kind = "is a folder" if place.path.is_dir() else "is not there"
        raise InputUnreadable(f"{place.shown} {kind}")
    if place.format is Format.PARQUET:
        return ParquetSource(place, batch_rows)
    return TextSource(place, batch_rows)


def fingerprint(path: Path) -> dict[str, int | str]:
    """What tells one content of a file from another without reading all of it."""
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(max(0, status.st_size - _EDGE))
        digest.update(file.read(_EDGE))
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256_of_edges": digest.hexdigest()}


class TextSource:
    """CSV or JSON Lines, UTF-8, plain or gzipped, from a file or standard input."""

    def __init__(self, place: Place, batch_rows: int) -> None:
        self.place = place
        self.columns: tuple[str, ...] | None = None
        self.size = place.path.stat().st_size if place.path else None
        self._batch_rows = batch_rows
        self._quoted = place.format is Format.CSV
        self._raw: IO[bytes] | None = None
        self._stream: IO[bytes] | None = None if place.path else _standard_input(place.gzipped)
        self._buffer = b""
        self._at_end = False
        self._window = _WINDOW  # in how many bytes the next chunk is looked for first
        self.first_line = b""  # of JSON Lines
        self._first = self._read_header()

    def chunks(self, start: Position) -> Iterator[Chunk]:
        if start == Position():
            start = self._first
        with self._opened(start.offset):
            while (text := self._next_records(start)) is not None:
                found = records(text, self._quoted)
                lines = len(line_ends(text))
                end = Position(start.offset + len(text), start.row + len(found), start.line + lines)
                yield Chunk(start, end, text, self._done(end))
                start = end

    def _read_header(self) -> Position:
        """Past the byte order mark and the header; what standard input gave beyond stays in the buffer."""
        with self._opened(0):
            self._fill(4)
            for mark, name in _BOMS:
                if self._buffer.startswith(mark):
                    raise InputUnreadable(f"{self.place.shown} is {name}; save it as UTF-8")
            skipped = len(_UTF8_BOM) if self._buffer.startswith(_UTF8_BOM) else 0
            self._buffer = self._buffer[skipped:]
            if self.place.format is Format.JSONL:
                self.first_line = next(filter(None, map(bytes.strip, self._buffer.split(b"\n", 8))), b"")
                return Position(offset=skipped)
            return self._csv_header(skipped)

    def _csv_header(self, skipped: int) -> Position:
        header = self._cut(Position(), rows=1)
        while header is not None and not header.strip(b"\r\n"):
            skipped += len(header)
            header = self._cut(Position(), rows=1)
        if header is None:
            raise InputUnreadable(f"{self.place.shown} is empty; its first line must name the columns")
        try:
            (self.columns,) = map(tuple, csv.reader(io.StringIO(header.decode(), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error, ValueError) as error:
            raise InputUnreadable(f"the header of {self.place.shown} cannot be read: {error}") from error
        return Position(offset=skipped + len(header), line=len(line_ends(header)))

    @contextmanager
    def _opened(self, offset: int) -> Iterator[None]:
        if self.place.path is None:  # a stream goes on where it is
            yield
            return
        try:
            with self.place.path.open("rb") as raw:
                self._raw = raw
                self._stream = gzip.GzipFile(fileobj=raw) if self.place.gzipped else raw  # type: ignore[assignment]
                assert self._stream is not None
                self._buffer, self._at_end = b"", False
                if self.place.gzipped:
                    self._skip(offset)
                else:
                    raw.seek(offset)
                yield
                self._raw = self._stream = None  # so that this object can be sent to another process
        except OSError as error:
            raise InputUnreadable(f"{self.place.shown} cannot be read: {error.strerror or error}") from error

    def _skip(self, length: int) -> None:
        while length > 0 and (block := self._read(min(length, _BLOCK))):
            length -= len(block)

    def _read(self, length: int) -> bytes:
        assert self._stream is not None
        try:
            return self._stream.read(length)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            reason = "breaks off" if isinstance(error, EOFError) else f"is damaged: {error}"
            raise InputUnreadable(f"{self.place.shown} is gzipped and {reason}") from error

    def _fill(self, length: int) -> None:
        """Have at least so many bytes in the buffer, as far as there are any."""
        while not self._at_end and len(self._buffer) < length:
            block = self._read(max(_BLOCK, length - len(self._buffer)))
            self._at_end = not block
            self._buffer += block

    def _next_records(self, start: Position) -> bytes | None:
        return self._cut(start, self._batch_rows)

    def _cut(self, start: Position, rows: int) -> bytes | None:
        """The next `rows` records, or as many as `MAX_CHUNK_BYTES` hold, but at least one.

        It depends on the contents alone, not on how they were read: a run that goes on makes the same chunks.
        """
        window = self._window
        while True:
            self._fill(window + 1)  # one more tells whether this is all
            ends = record_ends(self._buffer[:window], self._quoted)
            within = ends[ends < MAX_CHUNK_BYTES]
            is_all = len(self._buffer) <= window
            if len(within) >= rows:
                return self._take(int(within[rows - 1]) + 1)
            if is_all and len(self._buffer) <= MAX_CHUNK_BYTES:
                return self._rest(start)
            if window >= MAX_CHUNK_BYTES and len(ends):
                return self._take(int(within[-1] if len(within) else ends[0]) + 1)
            if is_all:
                return self._rest(start)
            if window >= MAX_RECORD_BYTES:
                raise InputUnreadable(
                    f"{self.place.shown}: the record at line {start.line + 1} is over "
                    f"{MAX_RECORD_BYTES // 2**20} MiB; a closing quotation mark may be missing"
                )
            window *= 2

    def _take(self, length: int) -> bytes:
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        self._window = max(_WINDOW, length * 5 // 4)
        return taken

    def _rest(self, start: Position) -> bytes | None:
        if self._quoted and self._buffer and ends_open(self._buffer):
            ends = record_ends(self._buffer, quoted=True)
            line = start.line + 1 + (len(line_ends(self._buffer[: int(ends[-1]) + 1])) if len(ends) else 0)
            raise InputUnreadable(
                f"{self.place.shown} ends inside a quoted field of the record at line {line}"
            )
        return self._take(len(self._buffer)) or None

    def _done(self, end: Position) -> int:
        return self._raw.tell() if self.place.gzipped and self._raw else end.offset


class ParquetSource:
    """A Parquet file, one row group after the other."""

    def __init__(self, place: Place, batch_rows: int) -> None:
        self.place = place
        with _parquet_errors(place), self._file() as file:
            self.schema = file.schema_arrow
            metadata = file.metadata
            self._groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        self.columns: tuple[str, ...] | None = tuple(self.schema.names)
        self.size: int | None = sum(self._groups)
        row_bytes = max(1, size // max(1, self.size))
        self._batch_rows = max(1, min(batch_rows, MAX_CHUNK_BYTES // row_bytes))

        self.wanted: list[str] | None = None  # the columns to read; all by default

    def chunks(self, start: Position) -> Iterator[Chunk]:
        for group, first, rows in self.groups():
            if first + rows > start.offset:
                yield from self.group(group, first, start.offset)

    def groups(self) -> Iterator[tuple[int, int, int]]:
        """Number, first row and rows of every row group."""
        firsts = accumulate(self._groups, initial=0)
        return zip(count(), firsts, self._groups, strict=False)

    def group(self, group: int, first: int, skip_to: int = 0) -> Iterator[Chunk]:
        """The chunks of one row group. Those that end at or before `skip_to` are left out."""
        with _parquet_errors(self.place), self._file() as file:
            batches = file.iter_batches(
                batch_size=self._batch_rows, row_groups=[group], columns=self.wanted, use_threads=False
            )
            for batch in batches:
                end = first + batch.num_rows
                if batch.num_rows and end > skip_to:
                    yield Chunk(Position(first, first), Position(end, end), _serialised(batch), end)
                first = end

    def _file(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.place.path, pre_buffer=False, buffer_size=_BLOCK)


def _standard_input(gzipped: bool) -> IO[bytes]:
    stream = sys.stdin.buffer
    return gzip.GzipFile(fileobj=stream) if gzipped else stream  # type: ignore[return-value]


def _serialised(batch: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    contents: bytes = sink.getvalue().to_pybytes()
    return contents


@contextmanager
def _parquet_errors(place: Place) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0][:300]
        raise InputUnreadable(f"{place.shown} cannot be read as Parquet: {reason}") from error
