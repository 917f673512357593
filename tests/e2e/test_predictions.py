"""Answers are right under concurrency; a heavy model leaves the service responsive, a stuck one does not stop it."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.models import loading, manifest
from falcon_wsgi.models.forms import normalise_text
from falcon_wsgi.models.predictor import labels_of, plain
from tests.e2e import heavy_model
from tests.e2e.instance import Answer, Instance, wait_until

Start = Callable[..., Instance]

WORDS = re.findall(
    r"\S+",
    """
    good bad not never great awful the a it was is very food service room staff price slow quick clean dirty love
    hate nice isn't wasn't won't but though however terrible fine okay tuesday arrived parcel naïve café
    """,
)


def distinct_texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"{i} " + " ".join(draw.choices(WORDS, k=draw.randint(3, 25))) for i in range(count)]


def reference(store: Path, texts: Sequence[str]) -> list[dict[str, float]]:
    """Probabilities by scikit-learn itself, in this process."""
    versions = sorted((store / "sentiment").glob("[0-9]*"))
    estimator = loading.load_estimator(versions[-1], manifest.read(versions[-1]))
    answers = plain(estimator, labels_of(estimator.classes_), list).predict(
        [normalise_text(text) for text in texts]
    )
    return [answer.probabilities or {} for answer in answers]


def assert_equal(answer: dict[str, Any], expected: dict[str, float]) -> None:
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-9)
    assert expected[answer["prediction"]] == pytest.approx(max(expected.values()), abs=1e-9)
    assert answer["confidence"] == answer["probabilities"][answer["prediction"]]


@contextlib.contextmanager
def clients(instance: Instance, count: int, texts: Iterator[str]) -> Iterator[list[tuple[str, Answer]]]:
    """`count` connections that send the texts one after the other, until the block ends or no text is left."""
    answers: list[tuple[str, Answer]] = []
    stop = threading.Event()

    def run() -> None:
        with contextlib.closing(instance.client()) as client:
            for text in texts:
                if stop.is_set():
                    return
                answers.append((text, client.infer(text)))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


def test_ten_thousand_concurrent_texts_each_get_their_own_answer(
    plain_instance: Instance, model_store: Path
) -> None:
    texts = distinct_texts(10_000, seed=1)
    wanted = dict(zip(texts, reference(model_store, texts), strict=True))
    with clients(plain_instance, 100, iter(texts)) as answers:
        wait_until(lambda: len(answers) == len(texts), timeout_s=180, what="the last answer")
    assert {text for text, _ in answers} == set(texts)
    for text, answer in answers:
        assert answer.status == 200
        assert_equal(answer.json, wanted[text])
    assert {answer.headers["X-Worker-ID"] for _, answer in answers} == {"worker-1", "worker-2"}


def test_a_batch_predicts_only_what_is_missing_and_equal_texts_once(
    start_instance: Start, model_store: Path
) -> None:
    instance = start_instance(workers=1)
    known, new = distinct_texts(5, seed=2), distinct_texts(6, seed=3)
    for text in known:
        assert instance.infer(text).json["cache_hit"] is False
    before = instance.metric("model_inference_batch_size_sum")
    # One text twice among the new ones, one that differs from another in white space only, hits in between.
    texts = [new[0], known[0], new[1], new[2], known[3], new[1], f"  {new[3]}\n", new[3], known[0], new[4]]
    answer = instance.request("POST", "/infer/batch", {"texts": texts})
    assert answer.status == 200
    body = answer.json
    for result, expected in zip(body["results"], reference(model_store, texts), strict=True):
        assert_equal(result, expected)
    assert [result["cache_hit"] for result in body["results"]] == [text in known for text in texts]
    assert (body["batch_size"], body["cache_hits"]) == (10, 3)
    assert instance.metric("model_inference_batch_size_sum") - before == 5
    again = instance.request("POST", "/infer/batch", {"texts": texts}).json
    assert again["cache_hits"] == 10
    assert instance.metric("model_inference_batch_size_sum") - before == 5


def test_concurrent_batches_do_not_mix_up_their_answers(plain_instance: Instance, model_store: Path) -> None:
    texts = distinct_texts(2_000, seed=4)
    wanted = dict(zip(texts, reference(model_store, texts), strict=True))
    draw = random.Random(5)
    wrong: list[str] = []

    def client() -> None:
        with contextlib.closing(plain_instance.client()) as connection:
            for _ in range(10):
                batch = draw.sample(texts, draw.randint(1, 50))
                results = connection.request("POST", "/infer/batch", {"texts": batch}).json["results"]
                for text, result in zip(batch, results, strict=True):
                    if result["probabilities"] != pytest.approx(wanted[text], abs=1e-9):
                        wrong.append(text)

    threads = [threading.Thread(target=client) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


@pytest.fixture(scope="module")
def heavy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavy_model.store(tmp_path_factory.mktemp("heavy-store"), heavy_model.heavy())


@pytest.fixture(scope="module")
def stuck_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavy_model.store(tmp_path_factory.mktemp("stuck-store"), heavy_model.stuck())


def test_liveness_does_not_wait_for_a_heavy_model_that_is_busy(
    start_instance: Start, heavy_store: Path
) -> None:
    instance = start_instance(model_store=heavy_store, workers=2)
    texts = distinct_texts(100_000, seed=6)
    seconds: list[float] = []
    with clients(instance, 8, iter(texts)) as answers:
        wait_until(lambda: len(answers) > 20, what="the first answers")
        for _ in range(300):
            with contextlib.closing(instance.client()) as probe:
                started = time.perf_counter()
                assert probe.request("GET", "/healthz").status == 200
                seconds.append(time.perf_counter() - started)
            time.sleep(0.01)
        wait_until(lambda: len(answers) > 100, what="a model that is busy")
    seconds.sort()
    # A probe that waited for the model would take half of a prediction's time and more; how long that is, the
    # machine's other work decides.
    took = sorted(answer.json["processing_time_ms"] / 1000 for _, answer in answers)
    assert seconds[len(seconds) // 2] < took[len(took) // 2] / 3, f"slowest probes: {seconds[-6:]}"
    for (_, answer), expected in zip(answers, reference(heavy_store, [t for t, _ in answers]), strict=True):
        assert answer.status == 200
        assert_equal(answer.json, expected)
    calls = instance.metric("model_inference_batch_size_count")
    assert 0 < calls < len(answers), "no two requests shared a call of the model"


def test_a_stuck_prediction_is_answered_504_at_its_deadline_and_its_worker_replaced(
    start_instance: Start, stuck_store: Path
) -> None:
    instance = start_instance(model_store=stuck_store, workers=2, inference_timeout_seconds=1)
    before = instance.workers()
    started = time.monotonic()
    answer = instance.infer(heavy_model.STUCK_TEXT)
    seconds = time.monotonic() - started
    assert answer.status == 504
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["type"].endswith("deadline_exceeded")
    assert seconds > 0.9
    stuck_worker = answer.headers["X-Worker-ID"]

    def replaced() -> bool:
        return instance.workers().get(stuck_worker, before[stuck_worker]) != before[stuck_worker]

    wait_until(replaced, what="the replacement of the worker")
    after = instance.workers()
    assert {name for name in before if after[name] != before[name]} == {stuck_worker}
    for text in distinct_texts(10, seed=7):
        assert instance.infer(text).status == 200


def test_other_clients_are_answered_while_a_prediction_is_stuck(
    start_instance: Start, stuck_store: Path
) -> None:
    instance = start_instance(model_store=stuck_store, workers=1, inference_timeout_seconds=2)
    texts = distinct_texts(100_000, seed=8)
    probes = 0
    with clients(instance, 6, iter(texts)) as answers:
        wait_until(lambda: len(answers) > 20, what="the first answers")
        stuck: list[Answer] = []
        thread = threading.Thread(target=lambda: stuck.append(instance.infer(heavy_model.STUCK_TEXT)))
        thread.start()
        while thread.is_alive():
            assert instance.get("/healthz").status == 200
            probes += 1
            time.sleep(0.02)
        count = len(answers)
        wait_until(lambda: len(answers) > count + 20, what="answers after the stuck one")
    assert [answer.status for answer in stuck] == [504]
    assert probes > 5, "held up by the stuck one"
    statuses = [answer.status for _, answer in answers]
    assert set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
    for (_, answer), expected in zip(answers, reference(stuck_store, [t for t, _ in answers]), strict=True):
        assert_equal(answer.json, expected)


def test_a_request_whose_deadline_passes_in_the_queue_is_not_predicted(
    start_instance: Start, stuck_store: Path
) -> None:
    instance = start_instance(
        model_store=stuck_store, workers=1, inference_timeout_seconds=16, request_timeout_seconds=1
    )
    blocking = threading.Thread(target=lambda: instance.infer(heavy_model.STUCK_TEXT))
    blocking.start()
    # The model is waited for a quarter of its time, 4 s, before others get a turn.
    wait_until(lambda: instance.metric("requests_in_flight") == 1, what="the stuck request")
    assert instance.infer("a good day").status == 504
    blocking.join(60)
    later: list[int] = []
    wait_until(
        lambda: later.append(instance.infer("a fine day").status) or later[-1] == 200, what="the next answer"
    )
    # Each of the later requests may have been predicted, also one that was answered too late; the first was not.
    assert 1 <= instance.metric("model_inference_batch_size_sum") <= len(later)
