"""Micro-batching: the requests of a worker that wait at the same moment are predicted together.

A batch never waits for company. The first request to arrive wakes the runner; whatever else has arrived by the
time the runner gets its turn goes into the same batch, and what arrives while it runs goes into the next.
Where company saves nothing, a request does not even wait for the runner (`at_once`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import gevent
from gevent.event import AsyncResult, Event

from falcon_wsgi.errors import DeadlineExceeded, FalconError, PredictionFailed
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.predictor import Predictor

log = logging.getLogger(__name__)

# On the event loop, other greenlets get a turn after about this many characters (some 2 ms of the compiled form),
# or values of rows, which are predicted in one call for all.
_SLICE_SIZE = 12_000
# Off the loop, a batch holds what usually takes at most this share of the timeout.
_BATCH_SHARE = 0.1
# A call is waited for this many times longer than it usually takes, but no longer than this share of the timeout
# and, for what is quick, no less than this many seconds: that alone may be the machine being busy.
_SLOW = 10
_PATIENCE_SHARE = 0.25
_PATIENCE_S = 0.1


class OffLoop(Protocol):
    """A predictor outside of this process (`models.offload.PredictorPool`)."""

    def predict(self, inputs: Sequence[Input], timeout_s: float) -> list[Prediction]:
        """May be called again before a call has returned.

        Raises DeadlineExceeded, after ending what overran, or PredictionFailed.
        """

    def close(self) -> None: ...


class BatchObserver(Protocol):
    def batch(self, model: str, size: int) -> None:
        """`size` inputs were predicted in one call."""

    def stuck(self, model: str) -> None:
        """A request's prediction did not end in time and was killed; this process should be replaced."""


class NullBatchObserver:
    def batch(self, model: str, size: int) -> None:
        pass

    def stuck(self, model: str) -> None:
        pass


class _Job:
    __slots__ = ("begun_at", "ended", "expires_at", "inputs", "result")

    def __init__(self, inputs: Sequence[Input], asked_at: float, timeout_s: float) -> None:
        self.inputs = inputs
        self.expires_at = asked_at + timeout_s
        self.begun_at = 0.0
        self.result: AsyncResult = AsyncResult()
        self.ended = False  # answered, failed, or its caller has gone


class MicroBatcher:
    """Runs one model's predictions for all greenlets of this process.

    Args:
        off_loop: predicts in place of `predictor`, so that a long prediction leaves the event loop free and a
            stuck one can be ended. On the loop nothing can: that is for predictors whose time is known.
        at_once: each request is predicted in its own greenlet, at once: for a predictor on the loop that would gain
            less from several inputs in a call than their wait for each other costs, some 10 microseconds each.
        max_rows: most inputs in one call of the predictor; a larger request is not split, it goes alone.
        timeout_s: time that a prediction may take before it counts as stuck.
    """

    def __init__(
        self,
        model: str,
        predictor: Predictor,
        *,
        timeout_s: float,
        off_loop: OffLoop | None = None,
        at_once: bool = False,
        max_rows: int = 64,
        observer: BatchObserver | None = None,
    ) -> None:
        self._model = model
        self._predictor = predictor
        self._timeout_s = timeout_s
        self._max_rows = max_rows
        self._observer = observer or NullBatchObserver()
        self._off_loop = off_loop
        self._at_once = at_once
        self._row_s = 0.0  # recent seconds for one input, off the loop
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._work = Event()
        self._runner = gevent.spawn(self._run)

    def predict(
        self, inputs: Sequence[Input], timeout_s: float, timings: dict[str, float]
    ) -> list[Prediction]:
        """One prediction for each input, in order. Blocks this greenlet only.

        Adds to `timings` the seconds spent waiting for the model ("queue") and in it ("predict").

        Raises:
            DeadlineExceeded: `timeout_s` seconds passed first. What was not begun by then never is.
            PredictionFailed: the model raised.
        """
        if self._at_once:
            return self._predict_at_once(inputs, timeout_s, timings)
        asked_at = time.perf_counter()
        job = _Job(inputs, asked_at, timeout_s)
        self._waiting.append(job)
        self._work.set()
        try:
            # On the loop a timer could fire only between two slices; `_take` looks at the time there.
            return job.result.get(timeout=timeout_s if self._off_loop else None)  # type: ignore[no-any-return]
        except gevent.Timeout:
            raise DeadlineExceeded(f"the prediction took longer than {timeout_s:.3g} s") from None
        finally:
            job.ended = True
            now = time.perf_counter()
            begun_at = job.begun_at or now
            timings["queue"] = timings.get("queue", 0.0) + begun_at - asked_at
            timings["predict"] = timings.get("predict", 0.0) + now - begun_at

    def _predict_at_once(
        self, inputs: Sequence[Input], timeout_s: float, timings: dict[str, float]
    ) -> list[Prediction]:
        if timeout_s <= 0:
            raise DeadlineExceeded("the time for the prediction passed before it began")
        began_at = time.perf_counter()
        try:
            predictions = self._predict(inputs, timeout_s)
        finally:
            timings.setdefault("queue", 0.0)
            timings["predict"] = timings.get("predict", 0.0) + time.perf_counter() - began_at
        self._observer.batch(self._model, len(inputs))
        return predictions

    def close(self) -> None:
        """End the runner and what runs off the loop. Jobs not yet answered are failed."""
        self._runner.kill()
        for job in (*self._running, *self._waiting):
            _fail(job, PredictionFailed("the worker is shutting down"))
        self._waiting.clear()
        if self._off_loop is not None:
            self._off_loop.close()

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._running = jobs = self._take()
            if not jobs:
                self._work.clear()
            elif len(jobs) == 1 or not self._answer_together(jobs):
                for job in jobs:
                    self._answer_alone(job)

    def _take(self) -> list[_Job]:
        """What is there, up to the rows that a batch may have; a single larger job comes alone."""
        now = time.perf_counter()
        allowed = self._max_rows
        if self._row_s:
            allowed = min(allowed, int(self._timeout_s * _BATCH_SHARE / self._row_s))
        jobs: list[_Job] = []
        rows = 0
        while self._waiting:
            job = self._waiting[0]
            if not job.ended and now >= job.expires_at:
                _fail(job, DeadlineExceeded("the time for the prediction passed before the model was free"))
            if job.ended:
                self._waiting.popleft()
                continue
            if jobs and rows + len(job.inputs) > allowed:
                break
            jobs.append(self._waiting.popleft())
            job.begun_at = now
            rows += len(job.inputs)
        return jobs

    def _answer_together(self, jobs: list[_Job]) -> bool:
        """False where an input fails or holds up the others; each has to be asked for alone then."""
        inputs = [input_ for job in jobs for input_ in job.inputs]
        try:
            self._deliver(jobs, self._predict(inputs, self._patience_s(len(inputs))))
        except (PredictionFailed, DeadlineExceeded) as error:
            log.warning(
                "batch_split", extra={"model": self._model, "requests": len(jobs), "reason": error.code}
            )
            return False
        return True

    def _answer_alone(self, job: _Job) -> None:
        """Off the loop, a prediction that takes much longer than usual is left to itself after a while."""
        if self._off_loop is None:
            self._settle(job)
        else:
            gevent.spawn(self._settle, job).join(self._patience_s(len(job.inputs)))

    def _patience_s(self, rows: int) -> float:
        longest_s = self._timeout_s * _PATIENCE_SHARE
        if not self._row_s:
            return longest_s
        return min(longest_s, max(_PATIENCE_S, self._row_s * rows * _SLOW))

    def _settle(self, job: _Job) -> None:
        try:
            if not job.ended:
                self._deliver([job], self._predict(job.inputs, self._timeout_s))
        except DeadlineExceeded as error:
            log.error("prediction_stuck", extra={"model": self._model, "rows": len(job.inputs)})
            self._observer.stuck(self._model)
            _fail(job, error)
        except FalconError as error:
            _fail(job, error)

    def _deliver(self, jobs: list[_Job], predictions: list[Prediction]) -> None:
        self._observer.batch(self._model, len(predictions))
        start = 0
        for job in jobs:
            end = start + len(job.inputs)
            job.result.set(predictions[start:end])
            start = end

    def _predict(self, inputs: Sequence[Input], timeout_s: float) -> list[Prediction]:
        try:
            if self._off_loop is None:
                predictions = self._in_slices(inputs)
            else:
                predictions = self._elsewhere(self._off_loop, inputs, timeout_s)
        except FalconError:
            raise
        except Exception as error:
            # The runner outlives whatever a model raises; the error goes to the callers.
            log.exception("prediction_failed", extra={"model": self._model})
            raise PredictionFailed("the model could not answer this input") from error
        if len(predictions) != len(inputs):
            raise PredictionFailed("the model gave another number of answers than it was asked for")
        return predictions

    def _elsewhere(self, off_loop: OffLoop, inputs: Sequence[Input], timeout_s: float) -> list[Prediction]:
        started = time.perf_counter()
        predictions = off_loop.predict(inputs, timeout_s)
        # A slow call is remembered for a while, so that batches shrink at once and grow with care.
        self._row_s = max((time.perf_counter() - started) / len(inputs), self._row_s * 0.9)
        return predictions

    def _in_slices(self, inputs: Sequence[Input]) -> list[Prediction]:
        if len(inputs) == 1 or sum(map(len, inputs)) <= _SLICE_SIZE:
            return self._predictor.predict(inputs)
        predictions: list[Prediction] = []
        for part in _slices(inputs):
            if predictions:
                gevent.sleep(0)
            predictions += self._predictor.predict(part)
        return predictions


def _slices(inputs: Sequence[Input]) -> Iterator[Sequence[Input]]:
    """All inputs, in order, in parts of at most `_SLICE_SIZE` or of one input."""
    start = size = 0
    for i, input_ in enumerate(inputs):
        if size and size + len(input_) > _SLICE_SIZE:
            yield inputs[start:i]
            start, size = i, 0
        size += len(input_)
    yield inputs[start:]


def _fail(job: _Job, error: FalconError) -> None:
    job.ended = True
    job.result.set_exception(error)
