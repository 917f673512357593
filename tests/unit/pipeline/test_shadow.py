"""The shadow takes what it can, compares it exactly, and never holds up a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from falcon_wsgi.errors import DeadlineExceeded, PredictionFailed
from falcon_wsgi.models.comparison import Difference
from falcon_wsgi.models.prediction import Prediction
from falcon_wsgi.pipeline.shadow import Shadow, ShadowCandidate

SURE = {"a": 1.0}


class FakeProcess:
    """Answers "a"; an input may ask for something else."""

    def __init__(self) -> None:
        self.pid: int | None = 1
        self.calls: list[list[Any]] = []

    def predict(self, inputs: Sequence[Any], timeout_s: float) -> list[Prediction]:
        self.calls.append(list(inputs))
        self.pid = 1
        for input_ in inputs:
            match input_:
                case "refuse":
                    raise PredictionFailed("no")
                case "die":
                    self.pid = None
                    raise PredictionFailed("gone")
                case "hang":
                    self.pid = None
                    raise DeadlineExceeded("late")
                case "surprise":
                    raise RuntimeError("a fault of this program")
        return [Prediction("b" if input_ == "differ" else "a", 1.0, SURE) for input_ in inputs]

    def close(self) -> None:
        self.pid = None


class Observed:
    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.durations: list[tuple[str, float]] = []

    def compared(self, live: Prediction, candidate: Prediction, found: Difference) -> None:
        self.outcomes["agree" if found.agree else "disagree"] += 1

    def failed(self, outcome: str, predictions: int) -> None:
        self.outcomes[outcome] += predictions

    def duration(self, side: str, seconds: float) -> None:
        self.durations.append((side, seconds))


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def seen() -> Observed:
    return Observed()


@pytest.fixture
def rests() -> list[float]:
    return []


Make = Callable[..., ShadowCandidate]


@pytest.fixture
def make(process: FakeProcess, seen: Observed, rests: list[float]) -> Iterator[Make]:
    made: list[ShadowCandidate] = []

    def candidate(fraction: float = 1.0, busy: Callable[[], bool] = lambda: False) -> ShadowCandidate:
        def rest(seconds: float) -> None:
            rests.append(seconds)
            gevent.sleep(0)

        made.append(
            ShadowCandidate(
                "m",
                "1.0.0",
                fraction,
                process,
                seen,
                translate=lambda input_: input_,
                timeout_s=1,
                tolerance=0,
                busy=busy,
                rest=rest,
                idle=lambda: gevent.sleep(0),
            )
        )
        return made[-1]

    yield candidate
    for each in made:
        each.close()


def offer(candidate: ShadowCandidate, *inputs: str, event: str = "e", live_s: float | None = 0.5) -> None:
    candidate.offer(event, inputs, [Prediction("a", 1.0, SURE)] * len(inputs), live_s)


def settle() -> None:
    """Let the greenlets run until none has anything to do."""
    for _ in range(300):
        gevent.sleep(0)


def test_each_prediction_is_compared(make: Make, seen: Observed) -> None:
    candidate = make()
    candidate.start()
    offer(candidate, "x", "differ", "x")
    offer(candidate, "differ")
    settle()
    assert seen.outcomes == {"agree": 2, "disagree": 2}


def test_an_offer_does_not_ask_the_candidate(make: Make, process: FakeProcess) -> None:
    candidate = make()
    candidate.start()
    offer(candidate, "x")
    assert process.calls == []


def test_what_has_gathered_is_asked_in_one_call(make: Make, process: FakeProcess) -> None:
    candidate = make()
    for number in range(40):
        offer(candidate, f"x{number}")
    offer(candidate, *["y"] * 50)
    candidate.start()
    settle()
    assert [len(call) for call in process.calls] == [32, 8, 50]


def test_a_full_queue_drops_and_counts(make: Make, seen: Observed) -> None:
    candidate = make()
    for _ in range(300):
        offer(candidate, "x")
    assert seen.outcomes == {"dropped": 44}
    candidate.start()
    settle()
    assert seen.outcomes == {"dropped": 44, "agree": 256}
    offer(candidate, "x")
    settle()
    assert seen.outcomes["agree"] == 257, "there is room again"


def test_a_request_larger_than_the_queue_is_taken_by_an_empty_one(make: Make, seen: Observed) -> None:
    candidate = make()
    candidate.start()
    offer(candidate, *["x"] * 300)
    settle()
    assert seen.outcomes == {"agree": 300}


def test_a_busy_worker_drops_the_shadow_first(make: Make, seen: Observed) -> None:
    offer(make(busy=lambda: True), "x", "y")
    assert seen.outcomes == {"dropped": 2}


def test_what_was_taken_waits_while_the_worker_is_busy(
    make: Make, process: FakeProcess, seen: Observed
) -> None:
    state = SimpleNamespace(busy=False)
    candidate = make(busy=lambda: state.busy)
    offer(candidate, "x")
    state.busy = True
    candidate.start()
    settle()
    assert process.calls == []
    state.busy = False
    settle()
    assert seen.outcomes == {"agree": 1}


def test_one_bad_input_does_not_speak_for_its_neighbours(
    make: Make, seen: Observed, rests: list[float]
) -> None:
    candidate = make()
    for text in ("x", "refuse", "differ", "x"):
        offer(candidate, text)
    candidate.start()
    settle()
    assert seen.outcomes == {"agree": 2, "disagree": 1, "error": 1}
    assert rests == []


@pytest.mark.parametrize(("fault", "outcome"), [("die", "error"), ("hang", "timeout")])
def test_a_candidate_that_ends_is_counted_and_rests(
    make: Make, seen: Observed, rests: list[float], fault: str, outcome: str
) -> None:
    candidate = make()
    candidate.start()
    for _ in range(8):
        offer(candidate, fault)
        settle()
    assert seen.outcomes == {outcome: 8}
    assert rests == [0.5, 1, 2, 4, 8, 16, 30, 30]
    offer(candidate, "x")
    settle()
    offer(candidate, fault)
    settle()
    assert rests[-1] == 0.5, "an answer ends the doubling"


def test_a_fault_of_the_program_is_logged_counted_and_outlived(
    make: Make, seen: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    candidate = make()
    candidate.start()
    offer(candidate, "surprise", "x")
    settle()
    offer(candidate, "x")
    settle()
    assert seen.outcomes == {"error": 2, "agree": 1}
    assert [(r.message, r.exc_info is not None) for r in caplog.records] == [("shadow_failed", True)]


def test_which_requests_are_in_the_share_follows_from_their_event_ids(make: Make, seen: Observed) -> None:
    candidate = make(fraction=0.25)
    candidate.start()
    for _ in range(2):
        for number in range(2000):
            offer(candidate, "x", event=f"event-{number}")
            settle() if number % 200 == 0 else None
    settle()
    assert seen.outcomes["dropped"] == 0
    assert seen.outcomes["agree"] / 4000 == pytest.approx(0.25, abs=0.03)
    assert seen.outcomes["agree"] % 2 == 0, "the same ones in every attempt"


def test_what_still_waits_at_the_end_counts_as_dropped(
    make: Make, seen: Observed, process: FakeProcess
) -> None:
    candidate = make()
    offer(candidate, "x", "y")
    candidate.close()
    candidate.close()
    assert seen.outcomes == {"dropped": 2}
    assert process.pid is None


def test_calls_of_both_sides_are_timed(make: Make, seen: Observed) -> None:
    candidate = make()
    candidate.start()
    offer(candidate, "x", live_s=0.25)
    offer(candidate, "x", live_s=None)
    settle()
    assert sorted(side for side, _ in seen.durations) == ["candidate", "live"]
    assert ("live", 0.25) in seen.durations


def asked(version: str = "1.0.0", name: str = "m") -> Any:
    return SimpleNamespace(served=SimpleNamespace(name=name, version=version), event_id="e", normalised=["x"])


def answered(replayed: bool = False) -> Any:
    return SimpleNamespace(replayed=replayed, predictions=[Prediction("a")], inference_s=None)


def test_answers_of_the_live_version_are_offered(make: Make, seen: Observed) -> None:
    shadow = Shadow({"m": make()})
    shadow.start()
    shadow.offer(asked(), answered())
    settle()
    shadow.close()
    assert seen.outcomes == {"agree": 1}


def test_answers_of_a_canary_of_another_model_or_of_a_store_are_not(make: Make, seen: Observed) -> None:
    shadow = Shadow({"m": make()})
    shadow.start()
    shadow.offer(asked(version="1.1.0"), answered())
    shadow.offer(asked(name="other"), answered())
    shadow.offer(asked(), answered(replayed=True))
    settle()
    shadow.close()
    assert seen.outcomes == {}


def test_without_candidates_nothing_happens() -> None:
    Shadow().offer(asked(), answered())
