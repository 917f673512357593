"""Candidates in the shadow of live traffic: they answer the same inputs, later, elsewhere, only to be compared.

A request leaves a copy of its inputs and answers in a short queue and goes on; a queue that is full drops it. A
greenlet asks the candidate in a process of its own, which has the lowest priority, and which may hang or die.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import gevent
from gevent.event import Event

from falcon_wsgi.errors import DeadlineExceeded, PredictionFailed
from falcon_wsgi.models.comparison import Difference, difference
from falcon_wsgi.models.forms import Input
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.models.trials import place
from falcon_wsgi.pipeline.request import InferenceRequest, Outcome

log = logging.getLogger(__name__)

# Inputs, not requests: at the longest text there is, some 10 MB a worker.
_MOST_WAITING = 256
# Inputs of one call; a larger request goes alone.
_BATCH = 32
# A candidate whose process died or had to be ended rests before it gets the next one: to fork it takes some 10 ms
# of the worker's time.
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 30.0
_BUSY_POLL_S = 0.05


class Process(Protocol):
    """The candidate, outside of this process (`models.offload.PredictorProcess`).

    `pid` is None while there is no process: not yet, or not any more.
    """

    pid: int | None

    def predict(self, inputs: Sequence[Input], timeout_s: float) -> list[Prediction]:
        """Raises DeadlineExceeded, after ending what overran, or PredictionFailed."""

    def close(self) -> None: ...


class ShadowObserver(Protocol):
    """Told what became of each prediction of one candidate."""

    def compared(self, live: Prediction, candidate: Prediction, found: Difference) -> None: ...

    def failed(self, outcome: str, predictions: int) -> None:
        """`outcome` is "dropped", "error" or "timeout"."""

    def duration(self, side: str, seconds: float) -> None:
        """Of a call, which may be of several predictions. `side` is "live" or "candidate"."""


class ShadowCandidate:
    """One candidate in one worker.

    Args:
        version: the live one, whose answers it is compared with. Others, such as a canary's, it is not given.
        fraction: of the requests; which ones is decided by their event id, so the same ones in every attempt.
        translate: a live input to one of the candidate.
        timeout_s: time of one call.
        tolerance: see `models.comparison.difference`.
        busy: whether the worker has better things to do.
        rest: waits so many seconds.
        idle: waits until the event loop has nothing else to do.
    """

    def __init__(
        self,
        name: str,
        version: str,
        fraction: float,
        process: Process,
        observer: ShadowObserver,
        *,
        translate: Callable[[Input], Input],
        timeout_s: float,
        tolerance: float,
        busy: Callable[[], bool],
        rest: Callable[[float], object] = gevent.sleep,
        idle: Callable[[], object] = gevent.idle,
    ) -> None:
        self.name = name
        self.version = version
        self._fraction = fraction
        self._process = process
        self._observer = observer
        self._translate = translate
        self._timeout_s = timeout_s
        self._tolerance = tolerance
        self._busy = busy
        self._rest = rest
        self._idle = idle
        self._samples: deque[_Sample] = deque()
        self._waiting = 0
        self._arrived = Event()
        self._rest_s = _FIRST_REST_S
        self._worker: gevent.Greenlet | None = None

    def start(self) -> None:
        self._worker = gevent.spawn(self._work)

    def close(self) -> None:
        """End the greenlet and the process. What still waits counts as dropped."""
        if self._worker is not None:
            self._worker.kill()
        self._process.close()
        self._samples.clear()
        self._give_up("dropped")

    def offer(
        self, event_id: str, inputs: Sequence[Input], answers: Sequence[Prediction], live_s: float | None
    ) -> None:
        """Take a copy, or drop it. Returns at once, and never raises."""
        if self._fraction < 1 and place(f"shadow {self.name}", event_id) >= self._fraction:
            return
        if (self._waiting and self._waiting + len(inputs) > _MOST_WAITING) or self._busy():
            self._observer.failed("dropped", len(inputs))
            return
        self._samples.append(_Sample(inputs, answers, live_s))
        self._waiting += len(inputs)
        self._arrived.set()

    def _work(self) -> None:
        while True:
            self._arrived.wait()
            while self._busy():
                self._rest(_BUSY_POLL_S)
            self._idle()
            try:
                self._compare(self._next())
            except Exception:  # the edge of a greenlet that has to outlive whatever a candidate answers
                log.exception("shadow_failed", extra={"model": self.name})
                self._give_up("error")

    def _give_up(self, outcome: str) -> None:
        """Count what was taken from the queue and has come to nothing."""
        queued = sum(len(sample.inputs) for sample in self._samples)
        if lost := self._waiting - queued:
            self._observer.failed(outcome, lost)
        self._waiting = queued

    def _next(self) -> list[_Sample]:
        taken = [self._samples.popleft()]
        size = len(taken[0].inputs)
        while self._samples and size + len(self._samples[0].inputs) <= _BATCH:
            taken.append(self._samples.popleft())
            size += len(taken[-1].inputs)
        if not self._samples:
            self._arrived.clear()
        return taken

    def _compare(self, samples: list[_Sample]) -> None:
        """Ask for all at once; where that fails, for each alone, so that one does not speak for the others."""
        outcome = self._asked(samples)
        size = sum(len(sample.inputs) for sample in samples)
        if outcome is not None and len(samples) > 1:
            for sample in samples:
                self._compare([sample])
            return
        self._waiting -= size
        if outcome is not None:
            self._observer.failed(outcome, size)

    def _asked(self, samples: list[_Sample]) -> str | None:
        """None if the candidate answered, and it was compared; else why not."""
        inputs = [self._translate(input_) for sample in samples for input_ in sample.inputs]
        started = time.perf_counter()
        try:
            answers = self._process.predict(inputs, self._timeout_s)
        except (DeadlineExceeded, PredictionFailed) as error:
            self._rest_if_it_died()
            return "timeout" if isinstance(error, DeadlineExceeded) else "error"
        self._rest_s = _FIRST_REST_S
        self._observer.duration("candidate", time.perf_counter() - started)
        found = iter(answers)
        for sample in samples:
            if sample.live_s is not None:
                self._observer.duration("live", sample.live_s)
            for live in sample.answers:
                answer = next(found)
                self._observer.compared(live, answer, difference(live, answer, self._tolerance))
        return None

    def _rest_if_it_died(self) -> None:
        if self._process.pid is None:
            log.warning("shadow_rests", extra={"model": self.name, "seconds": self._rest_s})
            rest_s, self._rest_s = self._rest_s, min(2 * self._rest_s, _LONGEST_REST_S)
            self._rest(rest_s)


@dataclass(frozen=True, slots=True)
class _Sample:
    inputs: Sequence[Input]
    answers: Sequence[Prediction]
    live_s: float | None


class Shadow:
    """All candidates of a worker, by the model's name."""

    def __init__(self, candidates: Mapping[str, ShadowCandidate] | None = None) -> None:
        self._candidates = dict(candidates or {})

    def start(self) -> None:
        for candidate in self._candidates.values():
            candidate.start()

    def close(self) -> None:
        for candidate in self._candidates.values():
            candidate.close()

    def offer(self, request: InferenceRequest, outcome: Outcome) -> None:
        """Show the candidate of the model, if there is one, what was asked and answered. Returns at once.

        Answers from the cache count like others, so that the comparison weighs inputs as the traffic does; stored
        answers to a repeated idempotency key do not, for they may be of another version.
        """
        if not self._candidates or outcome.replayed:
            return
        served = request.served
        candidate = self._candidates.get(served.name)
        if candidate is not None and served.version == candidate.version:
            candidate.offer(request.event_id, request.normalised, outcome.predictions, outcome.inference_s)
