"""Logged inputs through a candidate, and what its answers have in common with the live ones."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any, Protocol

from pydantic import ValidationError

from falcon_wsgi.errors import DeadlineExceeded, PredictionFailed
from falcon_wsgi.models.comparison import Classes, Difference, difference, wilson
from falcon_wsgi.models.forms import Input, issues_of
from falcon_wsgi.models.offload import PredictorProcess
from falcon_wsgi.models.prediction import Prediction, label_text
from falcon_wsgi.models.served import ServedModel
from falcon_wsgi.models.sketch import Sketch

_CHUNK = 64
# So many rows are asked alone, and timed; after them one of each chunk.
_TIMED_FIRST = 1000
# A candidate whose process ends this often is not asked any further.
_MOST_ENDS = 10
_MOST_KINDS = 50
_EXAMPLES = 10


class Logged(Protocol):
    """A logged prediction (`backends.request_log.LoggedPrediction`)."""

    @property
    def event_id(self) -> str: ...
    @property
    def batch_index(self) -> int: ...
    @property
    def version(self) -> str: ...
    @property
    def prediction(self) -> str: ...
    @property
    def probabilities(self) -> dict[str, float] | None: ...
    @property
    def inference_ms(self) -> float | None: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Example:
    """One logged prediction and the candidate's answer to the same input."""

    event_id: str
    batch_index: int
    live: str
    candidate: str
    found: Difference
    payload: Mapping[str, Any]

    @property
    def weight(self) -> tuple[bool, float, str, int]:
        """Disagreements first, then by distance; the rest only makes the order one."""
        return not self.found.agree, self.found.distance or 0.0, self.event_id, self.batch_index


@dataclass
class Report:
    """Figures of one replay.

    Attributes:
        candidate, against: the versions.
        logged, afresh: rows whose live answer is the logged one, and those whose was computed now, because another
            version than `against` had answered.
        agreed: rows with the same label, or a number within the tolerance.
        confusion: rows by (live class, candidate class).
        distance, absolute: see `models.comparison.Difference`.
        errors: rows that the candidate did not answer, by reason.
        skipped: rows for which there is no live answer, by reason. They count nowhere else.
        candidate_ms, logged_ms: of one prediction. The candidate's hold the way to its process and back.
        stopped: why the replay ended before the rows did; None if it did not.
    """

    model: str
    candidate: str
    against: str
    logged: int = 0
    afresh: int = 0
    agreed: int = 0
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    distance: Sketch = field(default_factory=Sketch)
    absolute: Sketch = field(default_factory=Sketch)
    errors: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    candidate_ms: Sketch = field(default_factory=Sketch)
    logged_ms: Sketch = field(default_factory=Sketch)
    stopped: str | None = None
    _examples: list[tuple[tuple[bool, float, str, int], Example]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Those with a live answer. One that the candidate did not answer counts as a disagreement."""
        return self.logged + self.afresh

    @property
    def agreement(self) -> float | None:
        return self.agreed / self.rows if self.rows else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, of the agreement."""
        return wilson(self.agreed, self.rows)

    @property
    def examples(self) -> list[Example]:
        """The largest differences, the largest first."""
        return [example for _, example in sorted(self._examples, reverse=True)]

    def note(self, example: Example) -> None:
        if example.found.agree and not example.found.distance:
            return
        heapq.heappush(self._examples, (example.weight, example))
        if len(self._examples) > _EXAMPLES:
            heapq.heappop(self._examples)


class Replay:
    """Compares a candidate with the served version on logged rows. Both answer in processes of their own.

    Args:
        timeout_s: for one call.
        tolerance: see `models.comparison.difference`.
    """

    def __init__(
        self, candidate: ServedModel, current: ServedModel, *, timeout_s: float, tolerance: float
    ) -> None:
        self._candidate = _Answering(candidate, timeout_s)
        self._current = _Answering(current, timeout_s)
        self._classes = Classes(current.manifest.labels, candidate.manifest.labels)
        self._classifies = current.manifest.classifies
        self._tolerance = tolerance
        self.report = Report(current.name, candidate.version, current.version)

    def run(self, rows: Iterable[Logged]) -> Report:
        """Read all rows, unless the candidate's process ends too often: then the report says so."""
        self._candidate.start()  # now, so that the first call's time is that of an answer
        try:
            for chunk in _chunks(rows):
                self._compare(chunk)
                if self._candidate.ends + self._current.ends >= _MOST_ENDS:
                    self.report.stopped = (
                        f"a model's process died or overran {_MOST_ENDS} times; the rest was not asked"
                    )
                    break
        finally:
            self._candidate.close()
            self._current.close()
        return self.report

    def _compare(self, chunk: Sequence[Logged]) -> None:
        report = self.report
        known = self._live_answers(chunk)
        inputs: list[tuple[Logged, Prediction, Input]] = []
        for row, live in known:
            if row.inference_ms is not None and row.version == report.against:
                report.logged_ms.add(row.inference_ms)
            input_ = self._candidate.read(row)
            if isinstance(input_, _Failure):
                _count(report.errors, input_.reason)
            else:
                inputs.append((row, live, input_))
        alone = len(inputs) if report.candidate_ms.count < _TIMED_FIRST else 1
        answers = [
            *(self._timed(input_) for _, _, input_ in inputs[:alone]),
            *self._candidate.answers([input_ for _, _, input_ in inputs[alone:]]),
        ]
        for (row, live, _), answer in zip(inputs, answers, strict=True):
            if isinstance(answer, _Failure):
                _count(report.errors, answer.reason)
            else:
                self._note(row, live, answer)

    def _timed(self, input_: Input) -> Prediction | _Failure:
        started = perf_counter()
        answer = self._candidate.answers([input_])[0]
        if isinstance(answer, Prediction):
            self.report.candidate_ms.add((perf_counter() - started) * 1000)
        return answer

    def _live_answers(self, chunk: Sequence[Logged]) -> list[tuple[Logged, Prediction]]:
        report, found = self.report, []
        foreign: list[tuple[Logged, Input]] = []
        for row in chunk:
            if row.version == report.against:
                found.append((row, self._as_logged(row)))
            elif isinstance(input_ := self._current.read(row), _Failure):
                _count(report.skipped, input_.reason)
            else:
                foreign.append((row, input_))
        report.logged += len(found)
        answers = self._current.answers([input_ for _, input_ in foreign])
        for (row, _), answer in zip(foreign, answers, strict=True):
            if isinstance(answer, _Failure):
                _count(report.skipped, answer.reason)
            else:
                report.afresh += 1
                found.append((row, answer))
        return found

    def _as_logged(self, row: Logged) -> Prediction:
        if self._classifies:
            return Prediction(row.prediction, None, row.probabilities)
        return Prediction(float(row.prediction))

    def _note(self, row: Logged, live: Prediction, answer: Prediction) -> None:
        report = self.report
        found = difference(live, answer, self._tolerance)
        report.agreed += found.agree
        report.confusion[self._classes.pair(live, answer, found.agree)] += 1
        if found.distance is not None:
            report.distance.add(found.distance)
        if found.absolute is not None:
            report.absolute.add(found.absolute)
        texts = label_text(live.output), label_text(answer.output)
        report.note(Example(row.event_id, row.batch_index, *texts, found, row.payload))


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str


class _Answering:
    """One version, asked in a process of its own. `ends` counts how often that died or had to be ended."""

    def __init__(self, model: ServedModel, timeout_s: float) -> None:
        self._form = model.form
        self._text = model.manifest.signature.type == "text"
        self._process = PredictorProcess(model.name, model.predictor)
        self._timeout_s = timeout_s
        self.ends = 0

    def start(self) -> None:
        self._process.start()

    def read(self, row: Logged) -> Input | _Failure:
        """The logged input as this version takes it."""
        try:
            sent = row.payload["text"] if self._text else row.payload
            return self._form.normalise(self._form.validate(sent))
        except KeyError:
            return _Failure("invalid: /text missing")
        except ValidationError as error:
            first = issues_of(error.errors(include_url=False, include_context=False, include_input=False))[0]
            return _Failure(f"invalid: {first['pointer'] or '/'} {first['type']}")

    def answers(self, inputs: Sequence[Input]) -> list[Prediction | _Failure]:
        """All in one call; if that fails, each alone."""
        if not inputs:
            return []
        try:
            return list(self._process.predict(inputs, self._timeout_s))
        except (PredictionFailed, DeadlineExceeded) as error:
            self.ends += self._process.pid is None
            if len(inputs) == 1:
                return [_Failure(error.code)]
        return [self._alone(input_) for input_ in inputs]

    def _alone(self, input_: Input) -> Prediction | _Failure:
        return _Failure("not asked") if self.ends >= _MOST_ENDS else self.answers([input_])[0]

    def close(self) -> None:
        self._process.close()


def _count(kinds: Counter[str], reason: str) -> None:
    kinds[reason if reason in kinds or len(kinds) < _MOST_KINDS else "other"] += 1


def _chunks(rows: Iterable[Logged]) -> Iterator[list[Logged]]:
    left = iter(rows)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk
