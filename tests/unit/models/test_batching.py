"""Micro-batching: what waits together is predicted together, and every caller gets its own answer."""

from __future__ import annotations

import random

import gevent
import pytest
from gevent.event import Event

from falcon_wsgi.errors import DeadlineExceeded, PredictionFailed
from falcon_wsgi.models.batching import MicroBatcher
from falcon_wsgi.models.prediction import Prediction
from tests.e2e.instance import wait_until


class Echo:
    """Answers each input with itself; refuses "poison", crashes on "crash"."""

    name = "echo"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def predict(self, inputs):
        self.calls.append(list(inputs))
        if "poison" in inputs:
            raise PredictionFailed("poison")
        if "crash" in inputs:
            raise OSError("unforeseen")
        return [Prediction(text, 1.0, {text: 1.0}) for text in inputs]


class FakePool:
    """Asks a predictor here. A call waits while `free` is cleared, and for its whole time if "stuck" is in it."""

    def __init__(self, predictor: Echo) -> None:
        self.predictor = predictor
        self.free = Event()
        self.free.set()
        self.allowed_s: list[float] = []
        self.closed = False

    def predict(self, inputs, timeout_s):
        self.allowed_s.append(timeout_s)
        done = Event() if "stuck" in inputs else self.free
        if not done.wait(timeout_s):
            self.predictor.calls.append(list(inputs))
            raise DeadlineExceeded("ended")
        return self.predictor.predict(inputs)

    def close(self) -> None:
        self.closed = True


class Recorder:
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.stuck_models: list[str] = []

    def batch(self, model: str, size: int) -> None:
        self.sizes.append(size)

    def stuck(self, model: str) -> None:
        self.stuck_models.append(model)


class Bench:
    """A batcher and what it is made of."""

    def __init__(self, *, off_loop: bool, at_once: bool = False, timeout_s: float = 5.0) -> None:
        self.predictor, self.recorder = Echo(), Recorder()
        self.pool = FakePool(self.predictor) if off_loop else None
        self.batcher = MicroBatcher(
            "echo",
            self.predictor,
            timeout_s=timeout_s,
            off_loop=self.pool,
            at_once=at_once,
            max_rows=8,
            observer=self.recorder,
        )

    def ask(self, *texts: str, timeout_s: float = 5.0) -> gevent.Greenlet:
        return gevent.spawn(self.batcher.predict, texts, timeout_s, {})


@pytest.fixture(params=[False, True], ids=["on the loop", "off the loop"])
def bench(request):
    made = Bench(off_loop=request.param)
    yield made
    made.batcher.close()


@pytest.fixture(params=["on the loop", "off the loop", "at once"])
def any_bench(request):
    """Of each way of predicting; `bench` only of those in which requests wait for each other."""
    made = Bench(off_loop=request.param == "off the loop", at_once=request.param == "at once")
    yield made
    made.batcher.close()


@pytest.fixture
def at_once():
    made = Bench(off_loop=False, at_once=True)
    yield made
    made.batcher.close()


@pytest.fixture
def off_loop():
    made = Bench(off_loop=True)
    yield made
    made.batcher.close()


def outputs(predictions) -> list[str]:
    return [p.output for p in predictions]


def test_requests_that_wait_together_share_a_call(bench) -> None:
    waiting = [bench.ask(str(i)) for i in range(8)]
    gevent.joinall(waiting, raise_error=True)
    assert bench.recorder.sizes == [8]
    assert [outputs(g.value) for g in waiting] == [[str(i)] for i in range(8)]


def test_a_lone_request_does_not_wait_for_company(any_bench) -> None:
    assert outputs(any_bench.batcher.predict(["a"], 5, {})) == ["a"]
    assert any_bench.recorder.sizes == [1]


def test_ten_thousand_distinct_inputs_each_get_their_own_answer(bench) -> None:
    draw = random.Random(1)
    wrong: list[object] = []

    def client(number: int) -> None:
        for i in range(100):
            texts = [f"{number}-{i}-{j}" for j in range(draw.randint(1, 3))]
            found = outputs(bench.batcher.predict(texts, 5, {}))
            if found != texts:
                wrong.append((texts, found))

    gevent.joinall([gevent.spawn(client, n) for n in range(100)], raise_error=True)
    assert wrong == []
    assert max(bench.recorder.sizes) > 1


def test_no_call_holds_more_rows_than_allowed_unless_one_request_does(bench) -> None:
    waiting = [bench.ask(*["x"] * n) for n in (3, 3, 3, 20, 1)]
    gevent.joinall(waiting, raise_error=True)
    sizes = [len(call) for call in bench.predictor.calls]
    assert sum(sizes) == 30
    assert [size for size in sizes if size > 8] == [20]


@pytest.mark.parametrize("bad", ["poison", "crash"])
def test_an_input_that_fails_does_not_fail_its_neighbours(any_bench, bad: str) -> None:
    waiting = [any_bench.ask(text) for text in ("a", bad, "b")]
    gevent.joinall(waiting)
    assert outputs(waiting[0].value) == ["a"]
    assert isinstance(waiting[1].exception, PredictionFailed)
    assert outputs(waiting[2].value) == ["b"]
    assert outputs(any_bench.batcher.predict(["still alive"], 5, {})) == ["still alive"]


def test_a_model_with_too_few_answers_is_an_error_not_a_mix_up(any_bench) -> None:
    any_bench.predictor.predict = lambda inputs: []
    with pytest.raises(PredictionFailed, match="another number"):
        any_bench.batcher.predict(["a"], 5, {})


def test_a_request_whose_time_passes_in_the_queue_is_refused_and_not_predicted(any_bench) -> None:
    with pytest.raises(DeadlineExceeded):
        any_bench.batcher.predict(["late"], 0.0, {})
    assert outputs(any_bench.batcher.predict(["after"], 5, {})) == ["after"]
    assert any_bench.predictor.calls == [["after"]]
    assert any_bench.recorder.stuck_models == []


def test_time_in_the_queue_and_in_the_model_is_told_apart(bench) -> None:
    timings = {"queue": 1.0}
    bench.batcher.predict(["a"], 5, timings)
    assert 1.0 < timings["queue"] < 2.0
    assert 0.0 < timings["predict"] < 1.0


def test_a_request_answered_at_once_waits_for_nobody(at_once) -> None:
    others = [gevent.spawn(at_once.batcher.predict, [text], 5, {}) for text in ("b", "c")]
    timings = {"queue": 1.0}
    assert outputs(at_once.batcher.predict(["a"], 5, timings)) == ["a"]
    assert at_once.predictor.calls == [["a"]]
    assert timings["queue"] == 1.0
    assert 0.0 < timings["predict"] < 1.0
    gevent.joinall(others, raise_error=True)
    assert at_once.recorder.sizes == [1, 1, 1]


def test_time_in_the_model_is_told_of_a_request_that_fails_too(any_bench) -> None:
    timings: dict[str, float] = {}
    with pytest.raises(PredictionFailed):
        any_bench.batcher.predict(["crash"], 5, timings)
    assert timings["queue"] >= 0.0
    assert timings["predict"] > 0.0
    assert any_bench.recorder.sizes == []


def test_closing_fails_what_waits_and_what_runs(off_loop) -> None:
    off_loop.pool.free.clear()
    running = off_loop.ask("running")
    gevent.idle()
    waiting = off_loop.ask("waiting")
    gevent.idle()
    off_loop.batcher.close()
    gevent.joinall([running, waiting], timeout=2)
    assert isinstance(running.exception, PredictionFailed)
    assert isinstance(waiting.exception, PredictionFailed)
    assert off_loop.pool.closed


def test_a_request_that_gave_up_waiting_is_not_predicted_any_more(off_loop) -> None:
    off_loop.pool.free.clear()
    first = off_loop.ask("first")
    gevent.idle()
    with pytest.raises(DeadlineExceeded):
        off_loop.batcher.predict(["abandoned"], 0.01, {})
    off_loop.pool.free.set()
    assert outputs(first.get(timeout=2)) == ["first"]
    assert outputs(off_loop.batcher.predict(["after"], 5, {})) == ["after"]
    assert off_loop.predictor.calls == [["first"], ["after"]]


def test_a_stuck_prediction_ends_at_its_deadline_and_is_reported() -> None:
    bench = Bench(off_loop=True, timeout_s=0.05)
    with pytest.raises(DeadlineExceeded):
        bench.batcher.predict(["stuck"], 5, {})
    assert bench.recorder.stuck_models == ["echo"]
    assert outputs(bench.batcher.predict(["after"], 5, {})) == ["after"]
    bench.batcher.close()


def test_a_stuck_input_does_not_take_its_neighbours_with_it() -> None:
    bench = Bench(off_loop=True, timeout_s=0.4)
    waiting = [bench.ask(text, timeout_s=0.4) for text in ("a", "stuck", "b", "c")]
    gevent.joinall(waiting, timeout=5)
    assert [outputs(waiting[i].value) for i in (0, 2, 3)] == [["a"], ["b"], ["c"]]
    assert isinstance(waiting[1].exception, DeadlineExceeded)
    wait_until(lambda: bench.recorder.stuck_models == ["echo"])
    bench.batcher.close()


def test_those_behind_a_stuck_input_are_answered_before_it_is_given_up() -> None:
    bench = Bench(off_loop=True, timeout_s=0.4)
    stuck = bench.ask("stuck", timeout_s=0.4)
    gevent.idle()
    assert outputs(bench.batcher.predict(["after"], 0.4, {})) == ["after"]
    assert not stuck.ready()
    stuck.join(5)
    assert isinstance(stuck.exception, DeadlineExceeded)
    bench.batcher.close()


def test_a_batch_that_overran_is_not_taken_for_stuck_if_each_of_its_requests_is_answered() -> None:
    bench = Bench(off_loop=True, timeout_s=0.4)
    bench.pool.free.clear()
    gevent.spawn_later(0.12, bench.pool.free.set)
    waiting = [bench.ask(text) for text in ("a", "b")]
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert [outputs(g.value) for g in waiting] == [["a"], ["b"]]
    assert bench.recorder.stuck_models == []
    bench.batcher.close()


def test_a_request_that_takes_longer_than_usual_still_has_its_whole_time() -> None:
    bench = Bench(off_loop=True, timeout_s=0.4)
    bench.batcher.predict(["usual"], 0.4, {})
    bench.pool.free.clear()
    slow = bench.ask("slow", timeout_s=0.4)
    gevent.spawn_later(0.3, bench.pool.free.set)
    assert outputs(slow.get(timeout=5)) == ["slow"]
    assert bench.recorder.stuck_models == []
    bench.batcher.close()


def test_batches_shrink_to_what_a_slow_model_can_answer_in_a_fraction_of_the_timeout() -> None:
    bench = Bench(off_loop=True, timeout_s=1.0)
    bench.pool.free.clear()
    gevent.spawn_later(0.1, bench.pool.free.set)
    bench.batcher.predict(["slow"], 5, {})
    waiting = [bench.ask(str(i)) for i in range(8)]
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert max(bench.recorder.sizes) <= 4
    assert sum(bench.recorder.sizes) == 9
    bench.batcher.close()


@pytest.mark.parametrize("straight", [False, True], ids=["on the loop", "at once"])
def test_long_texts_on_the_loop_let_others_run_in_between(straight: bool) -> None:
    bench = Bench(off_loop=False, at_once=straight)
    turns: list[int] = []
    texts = [f"{i}" * 10_000 for i in range(6)]
    waiting = bench.ask(*texts)
    ticker = gevent.spawn(
        lambda: [(turns.append(len(bench.predictor.calls)), gevent.sleep(0)) for _ in range(30)]
    )
    gevent.joinall([waiting, ticker], raise_error=True)
    assert outputs(waiting.value) == texts
    assert len(set(turns)) > 3
    bench.batcher.close()


def test_a_short_text_is_answered_at_once_between_the_slices_of_long_ones(at_once) -> None:
    long = at_once.ask(*[f"{i}" * 10_000 for i in range(6)])
    short = at_once.ask("short")
    assert outputs(short.get(timeout=5)) == ["short"]
    assert not long.ready()
    long.get(timeout=5)


@pytest.mark.parametrize("straight", [False, True], ids=["on the loop", "at once"])
def test_many_short_texts_are_one_call(straight: bool) -> None:
    bench = Bench(off_loop=False, at_once=straight)
    texts = [f"{i} " * 40 for i in range(50)]
    assert outputs(bench.batcher.predict(texts, 5, {})) == texts
    assert bench.predictor.calls == [texts]
    bench.batcher.close()
