"""The request log's side of a request: written before the answer leaves, whatever the answer is."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from falcon_wsgi.pipeline.request import InferenceRequest, Outcome
from falcon_wsgi.pipeline.rows import RowEncoder

StatusOf = Callable[[BaseException], int]


class RowWriter(Protocol):
    def append(self, rows: bytes, count: int) -> None:
        """Keep `count` rows. Returns when they survive this process; a full or broken disk raises nothing."""


class EntryObserver(Protocol):
    def answered(self, request: InferenceRequest, outcome: Outcome, seconds: float) -> None: ...

    def failed(self, request: InferenceRequest, error: BaseException, seconds: float) -> None: ...


class Journal:
    """Logs each request that reaches a model route.

    Args:
        status_of: the HTTP status that an exception is answered with.
    """

    def __init__(
        self, writer: RowWriter, encoder: RowEncoder, status_of: StatusOf, observer: EntryObserver
    ) -> None:
        self.writer = writer
        self.encoder = encoder
        self.status_of = status_of
        self.observer = observer

    def entry(self, request: InferenceRequest) -> JournalEntry:
        return JournalEntry(self, request)


class JournalEntry:
    """Writes when its block ends, from `outcome` or else from the exception that ends the block."""

    __slots__ = ("_journal", "_request", "outcome")

    def __init__(self, journal: Journal, request: InferenceRequest) -> None:
        self._journal = journal
        self._request = request
        self.outcome: Outcome | None = None

    def __enter__(self) -> JournalEntry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        journal, request = self._journal, self._request
        now = time.perf_counter()
        seconds = now - request.context.started
        if self.outcome is not None:
            rows, count = journal.encoder.answer(request, self.outcome, seconds)
            journal.observer.answered(request, self.outcome, seconds)
        else:
            assert error is not None, "a block that ends well sets the outcome"
            status = journal.status_of(error)
            rows, count = journal.encoder.failure(request, error, status, seconds), 1
            journal.observer.failed(request, error, seconds)
        journal.writer.append(rows, count)
        request.context.timings["log"] = time.perf_counter() - now
