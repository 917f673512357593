"""The whole of `falcon score`, from its options to the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import orjson

from falcon_wsgi import __version__
from falcon_wsgi.errors import (
    InputUnreadable,
    OutputRefused,
    RunChanged,
    ScoringError,
    ScoringInterrupted,
    TooManyRejects,
)
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.scoring.checkpoint import Files, Progress, ResumableSink, Sink, StreamSink
from falcon_wsgi.scoring.chunk import Chunk, Part, Position
from falcon_wsgi.scoring.formats import Format, Place
from falcon_wsgi.scoring.layout import kept_columns, needed_columns, require_columns, require_types
from falcon_wsgi.scoring.parquet_parts import whole_footer
from falcon_wsgi.scoring.pool import Pool
from falcon_wsgi.scoring.reading import ParquetSource, Source, TextSource, fingerprint, open_source
from falcon_wsgi.scoring.reporting import Reporter, reporting
from falcon_wsgi.scoring.scorer import Job, Scorer

# Of fewer rows a share says little.
_ROWS_FOR_A_SHARE = 10_000

Scored: TypeAlias = Callable[[Position], Iterator[tuple[Chunk, Part]]]


@dataclass(frozen=True, slots=True)
class Limit:
    """How many rows may be rejected: a count, or a share (0 to 1) of the rows."""

    count: int | None = None
    share: float | None = None

    def check(self, at: Progress, *, final: bool) -> None:
        """Raises TooManyRejects."""
        found = f"{at.rejected} of {at.rows} rows are rejected; --max-rejects allows"
        if self.count is not None and at.rejected > self.count:
            raise TooManyRejects(f"{found} {self.count}")
        enough = final or at.rows >= _ROWS_FOR_A_SHARE
        if self.share is not None and enough and at.rejected > self.share * at.rows:
            raise TooManyRejects(f"{found} {self.share:.4g} of them")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    Attributes:
        version: the served one where None.
        rejects: where refused rows go; beside the output where None.
        keep: columns of the input for the output; all where None.
        checkpoint_s: seconds of work that a kill may cost.
    """

    store: Path
    model: str
    version: str | None
    input: Place
    output: Place
    rejects: Path | None
    keep: tuple[str, ...] | None
    text_column: str
    prefix: str
    row_number: str | None
    workers: int
    batch_rows: int
    limit: Limit
    restart: bool
    checkpoint_s: float
    engine: Literal["local", "ray"]
    ray_address: str | None

    @property
    def resumable(self) -> bool:
        """Neither end is a stream."""
        return self.input.path is not None and self.output.path is not None


@dataclass(frozen=True, slots=True)
class Summary:
    """What was done. `rows` and `seconds` count the runs that this one went on from; `rows_per_second` does not."""

    model: str
    version: str
    rows: int
    rejected: int
    seconds: float
    rows_per_second: float
    resumed_at_row: int
    output: str
    rejects: str | None


def run(order: Order, *, terminal: bool) -> Summary:
    """Score the input; progress goes to standard error.

    Raises:
        FalconError: a leaf of ScoringError or ModelError. Committed rows stay, and the same command goes on.
        KeyboardInterrupt: likewise.
    """
    source = open_source(order.input, order.batch_rows)
    job = _job(order, source)
    rejects = _rejects_path(order)
    identity = _identity(order, job, rejects)
    files = Files(order.output.path, rejects) if order.output.path else None
    if files is not None:
        files.check(identity, restart=order.restart)
    scorer = Scorer(job)
    with _engine(order, job, scorer, source) as scored:
        sink = _sink(order, files, identity, rejects, scorer.beginning())
        with closing(sink):
            before, started = sink.at, time.monotonic()
            if not before.complete:
                with reporting(source.size, before.rows, terminal=terminal) as report, _advice(order):
                    _write(order, sink, scored, report)
                _require_the_same(order, identity)
            seconds = before.seconds + time.monotonic() - started
            sink.finish(seconds, lambda footers: _ending(job, scorer, footers))
    return _summary(order, job, before, sink.at, rejects)


def _write(order: Order, sink: Sink, scored: Scored, report: Reporter) -> None:
    before, started = sink.at, time.monotonic()
    committed = started

    def commit() -> None:
        sink.commit(before.seconds + time.monotonic() - started)

    try:
        for chunk, part in scored(before.position):
            sink.append(chunk, part)
            report(chunk.done, sink.at.rows, sink.at.rejected)
            order.limit.check(sink.at, final=False)
            if time.monotonic() - committed >= order.checkpoint_s:
                commit()
                committed = time.monotonic()
        order.limit.check(sink.at, final=True)
    except (KeyboardInterrupt, InputUnreadable, TooManyRejects, ScoringInterrupted):
        commit()
        raise


@contextmanager
def _advice(order: Order) -> Iterator[None]:
    try:
        yield
    except (TooManyRejects, ScoringInterrupted, OutputRefused) as error:
        if not order.resumable:
            raise
        raise type(error)(f"{error}; what is scored so far is kept, and the same command goes on") from error


def _job(order: Order, source: Source) -> Job:
    store = ModelStore(order.store)
    manifest = store.manifest(order.model, order.version or store.current(order.model))
    columns = source.columns
    schema = None
    if columns is not None:
        require_columns(manifest, columns, order.text_column)
    if isinstance(source, ParquetSource):
        schema = source.schema
        require_types(manifest, schema, order.text_column)
    kept = _kept(order, source)
    if isinstance(source, ParquetSource):
        needed = {*needed_columns(manifest, order.text_column), *(kept or ())}
        source.wanted = [name for name in source.schema.names if name in needed]
    return Job(
        store=order.store,
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        input_format=order.input.format,
        output_format=order.output.format,
        output_gzipped=order.output.gzipped,
        columns=columns,
        input_schema=schema,
        kept=kept,
        text_column=order.text_column,
        prefix=order.prefix,
        row_number=order.row_number,
    )


def _kept(order: Order, source: Source) -> tuple[str, ...] | None:
    """Columns of the input that are written; for JSON Lines in another format those of the first line."""
    whole = order.input.format is order.output.format is Format.JSONL
    if source.columns is not None or whole or order.keep is not None:
        return kept_columns(source.columns, order.keep)
    assert isinstance(source, TextSource)
    if not source.first_line:
        return ()
    try:
        first = orjson.loads(source.first_line)
    except orjson.JSONDecodeError:
        first = None
    if not isinstance(first, dict):
        raise InputUnreadable(
            f"the first line of {order.input.shown} is not a JSON object, so it names no columns; say --keep"
        )
    return tuple(first)


def _rejects_path(order: Order) -> Path:
    if order.rejects is not None:
        return order.rejects
    if order.output.path is None:
        raise ScoringError("the output is a stream; say where bad rows go with --rejects PATH")
    return order.output.path.with_name(order.output.path.name + ".rejects.jsonl")


def _identity(order: Order, job: Job, rejects: Path) -> dict[str, Any]:
    """All that decides which bytes are written, by the names that a user knows. Empty for standard input."""
    if order.input.path is None:
        return {}
    paths = {order.input.path.resolve(), rejects.resolve()}
    if order.output.path is not None:
        paths.add(order.output.path.resolve())
    if len(paths) < 2 + (order.output.path is not None):
        raise OutputRefused("input, output and rejects have to be different files")
    return {
        "input": fingerprint(order.input.path),
        "model": [job.name, job.version, job.digest],
        "input format": [job.input_format, order.input.gzipped],
        "output format": [job.output_format, job.output_gzipped],
        "choice of columns": [job.text_column, job.prefix, job.row_number, job.kept and list(job.kept)],
        "--batch-rows": order.batch_rows,
        "--rejects": str(rejects.absolute()),
        "version of Falcon": __version__,
    }


@contextmanager
def _engine(order: Order, job: Job, scorer: Scorer, source: Source) -> Iterator[Scored]:
    if order.engine == "ray":
        from falcon_wsgi.scoring.ray_engine import RayEngine

        with RayEngine(job, source, order.workers, order.ray_address) as engine:
            yield engine.scored
    else:
        with Pool(scorer.score, order.workers) as pool:
            yield lambda position: pool.scored(source.chunks(position))


def _sink(
    order: Order, files: Files | None, identity: Mapping[str, Any], rejects: Path, beginning: bytes
) -> Sink:
    if files is not None:
        # Standard input cannot be read a second time, so what an earlier run left of it is of no use.
        return ResumableSink(
            files, identity, beginning, restart=order.restart, keep=order.input.path is not None
        )
    try:
        return StreamSink(sys.stdout.buffer, rejects.open("wb"), beginning)
    except OSError as error:
        raise OutputRefused(f"{rejects} cannot be written: {error.strerror}") from error


def _require_the_same(order: Order, identity: Mapping[str, Any]) -> None:
    if order.input.path is not None and fingerprint(order.input.path) != identity["input"]:
        raise RunChanged(
            f"{order.input.shown} was changed while it was scored; begin anew with --restart once it is whole"
        )


def _ending(job: Job, scorer: Scorer, footers: BinaryIO) -> bytes:
    return whole_footer(scorer.schema, footers) if job.output_format is Format.PARQUET else b""


def _summary(order: Order, job: Job, before: Progress, at: Progress, rejects: Path) -> Summary:
    own_s = max(at.seconds - before.seconds, 1e-9)
    return Summary(
        model=job.name,
        version=job.version,
        rows=at.rows,
        rejected=at.rejected,
        seconds=round(at.seconds, 3),
        rows_per_second=round((at.rows - before.rows) / own_s, 1),
        resumed_at_row=before.rows,
        output=order.output.shown,
        rejects=str(rejects) if at.rejected else None,
    )
