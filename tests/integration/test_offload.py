"""A predictor in a process of its own: answers, deadlines, crashes, and that it never outlives its worker."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gevent
import pytest

from falcon_wsgi.errors import DeadlineExceeded, PredictionFailed
from falcon_wsgi.launch import processes
from falcon_wsgi.models.offload import PredictorPool, PredictorProcess
from falcon_wsgi.models.prediction import Prediction
from tests.e2e.instance import wait_until

EVIL = re.compile("(a+)+$")


def open_files() -> list[str]:
    """What this process holds open beside the standard streams, an event loop's own files left out."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing itself
            target = os.readlink(f"/proc/self/fd/{number}")
            if int(number) > 2 and not target.startswith("anon_inode:"):
                found.append(target.partition(":")[0])
    return found


class Model:
    """Does what its input says, else answers with its length."""

    name = "model"

    def predict(self, inputs):
        return [self.answer(text) for text in inputs]

    def answer(self, text: str) -> Prediction:
        match text:
            case "refuse":
                raise PredictionFailed("it is refused")
            case "crash":
                raise OSError("unforeseen")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hold the interpreter lock":
                EVIL.match("a" * 40 + "b")
            case "release the interpreter lock":
                threading.Event().wait(30)
            case "wait":
                threading.Event().wait(0.01)
            case "threads":
                thread = threading.Thread(target=lambda: None)
                thread.start()
                thread.join()
            case "pid":
                return Prediction(os.getpid())
            case "files":
                return Prediction(" ".join(sorted(open_files())))
            case "nan":
                return Prediction(float("nan"))
        return Prediction(text[:20], 0.1 + 0.2, {"length": float(len(text)), "third": 1 / 3})


@pytest.fixture
def process():
    made = PredictorProcess("model", Model())
    made.start()
    yield made
    made.close()


@pytest.fixture
def pool():
    made = PredictorPool("model", Model(), most=2)
    yield made
    made.close()


def test_it_answers_as_the_model_does_to_the_last_bit(process) -> None:
    texts = ["a", "naïve 日本語 \U0001f600", "line\nbreak \x00 \u2028", ""]
    assert process.predict(texts, 5) == Model().predict(texts)
    assert process.predict([], 5) == []


def test_it_is_another_process_that_lives_on_between_calls(process) -> None:
    first = process.predict(["pid"], 5)[0].output
    assert first == process.pid != os.getpid()
    assert process.predict(["pid"], 5)[0].output == first


def test_large_messages_arrive_whole(process) -> None:
    texts = [f"{i}" + "\U0001f600" * 10_000 for i in range(50)]
    answers = process.predict(texts, 20)
    assert [a.probabilities["length"] for a in answers] == [float(len(text)) for text in texts]


@pytest.mark.parametrize("while_it", ["hold the interpreter lock", "release the interpreter lock"])
def test_a_call_that_overruns_is_ended(process, while_it: str) -> None:
    former = process.pid
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        process.predict([while_it], 0.3)
    assert 0.25 < time.monotonic() - started < 1.5
    wait_until(lambda: not processes.alive(former), what="the end of the process")
    assert process.predict(["next"], 5)[0].output == "next"
    assert process.pid != former


def test_the_event_loop_turns_while_the_model_holds_the_interpreter_lock(process) -> None:
    longest, last = 0.0, time.monotonic()
    waiting = gevent.spawn(process.predict, ["hold the interpreter lock"], 0.5)
    while not waiting.ready():
        gevent.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert isinstance(waiting.exception, DeadlineExceeded)
    assert longest < 0.2


def test_what_the_model_refuses_is_told(process) -> None:
    with pytest.raises(PredictionFailed, match="it is refused"):
        process.predict(["a", "refuse"], 5)
    assert process.predict(["next"], 5)[0].output == "next"


def test_a_crash_of_the_model_is_a_failed_prediction_without_its_words(process) -> None:
    former = process.pid
    with pytest.raises(PredictionFailed, match=r"^the model could not answer this input$"):
        process.predict(["crash"], 5)
    assert process.predict(["pid"], 5)[0].output == former


def test_a_prediction_that_is_no_number_is_a_failed_one(process) -> None:
    with pytest.raises(PredictionFailed, match="not finite"):
        process.predict(["nan"], 5)
    assert process.predict(["next"], 5)[0].output == "next"


def test_a_process_that_dies_is_replaced_at_the_next_call(process) -> None:
    with pytest.raises(PredictionFailed):
        process.predict(["die"], 5)
    assert process.predict(["next"], 5)[0].output == "next"


def test_a_process_that_was_killed_between_calls_is_replaced_too(process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(PredictionFailed):
        process.predict(["one"], 5)
    assert process.predict(["two"], 5)[0].output == "two"


def test_signals_to_the_whole_group_do_not_end_it(process) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(process.pid, number)
    assert process.predict(["a"], 5)[0].output == "a"


def test_models_may_wait_and_start_threads(process) -> None:
    assert [p.output for p in process.predict(["wait", "threads"], 5)] == ["wait", "threads"]


def test_it_holds_none_of_the_workers_files_open(process, tmp_path: Path) -> None:
    """Else a journal's lock would outlive its worker, and a connection would not close with it."""
    with (tmp_path / "lock").open("w") as lock:
        process.close()
        assert process.predict(["files"], 5)[0].output == "socket"
        assert lock.name in open_files()


def test_closing_ends_it_and_leaves_no_zombie(process) -> None:
    former = process.pid
    process.close()
    process.close()
    assert process.pid is None
    wait_until(lambda: not processes.alive(former), what="the end of the process")
    process.predict(["a"], 5)
    with pytest.raises(ProcessLookupError):
        os.kill(former, 0)


def test_a_pool_uses_one_process_as_long_as_it_is_free(pool) -> None:
    assert len({pool.predict(["pid"], 5)[0].output for _ in range(5)}) == 1


def test_a_pool_answers_beside_a_call_that_is_left_to_itself(pool) -> None:
    stuck = gevent.spawn(pool.predict, ["hold the interpreter lock"], 1.0)
    gevent.idle()
    assert pool.predict(["next"], 5)[0].output == "next"
    assert not stuck.ready()
    stuck.join(5)
    assert isinstance(stuck.exception, DeadlineExceeded)


def test_a_pool_that_is_all_busy_keeps_to_the_deadline(pool) -> None:
    stuck = [gevent.spawn(pool.predict, ["release the interpreter lock"], 1.0) for _ in range(2)]
    gevent.idle()
    with pytest.raises(DeadlineExceeded):
        pool.predict(["next"], 0.1)
    gevent.joinall(stuck, timeout=5)
    assert pool.predict(["after"], 5)[0].output == "after"


def test_closing_a_pool_fails_what_runs_in_it(pool) -> None:
    running = gevent.spawn(pool.predict, ["release the interpreter lock"], 30)
    gevent.idle()
    pool.close()
    running.join(5)
    assert isinstance(running.exception, PredictionFailed)


WORKER = """
from gevent import monkey; monkey.patch_all()
import sys, time
from tests.integration.test_offload import Model
from falcon_wsgi.models.offload import PredictorProcess
import gevent
process = PredictorProcess("model", Model())
process.start()
print(process.pid, flush=True)
if sys.argv[1] == "busy":
    process.predict(["hold the interpreter lock"], 60)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_it_dies_with_a_worker_that_is_killed(state: str) -> None:
    root = Path(__file__).parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, state], stdout=subprocess.PIPE, cwd=root, text=True
    )
    try:
        pid = int(worker.stdout.readline())
        assert processes.alive(pid)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    wait_until(lambda: not processes.alive(pid), what="the end of the process")
