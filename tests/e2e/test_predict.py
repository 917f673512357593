"""`POST /predict`: rows go the way that texts go, through the same cache, keys, log, metrics and deadlines."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
import redis

from falcon_wsgi.launch.embedded import EmbeddedRedis
from falcon_wsgi.models.store import ModelStore
from tests.conftest import FreshDatabase
from tests.e2e.instance import Answer, Client, Instance, running, wait_until
from tests.e2e.workers import connected_to_each

IRIS = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
PERFORMANCE = dict.fromkeys((f"feat{i}" for i in range(1, 37)), 0) | {
    "feat1": 55,
    "feat2": 2,
    "feat3": 6750,
    "feat4": 33,
    "feat5": 32,
    "feat6": 22,
    "feat7": 2,
    "feat9": 14,
    "feat10": 66,
    "feat28": 1,
    "feat31": 1,
    "feat34": 1,
}
KEYS = {
    "prediction",
    "predicted_class",
    "confidence",
    "prediction_probabilities",
    "model",
    "model_version",
    "features_used",
    "cache_hit",
    "idempotency_hit",
    "worker_id",
    "processing_time_ms",
    "request_id",
}


@pytest.fixture(scope="module")
def database(module_database: FreshDatabase) -> FreshDatabase:
    return module_database


@pytest.fixture(scope="module")
def instance(
    module_folder: Path, model_store: Path, database: FreshDatabase, module_redis: EmbeddedRedis
) -> Iterator[Instance]:
    """Two workers with Redis and Postgres that log payloads."""
    settings = {"redis_url": module_redis.url, "database_url": database.url, "log_payloads": "true"}
    with running(Instance(module_folder, model_store, **settings)) as started:
        yield started


@pytest.fixture
def client(instance: Instance) -> Iterator[Client]:
    with contextlib.closing(instance.client()) as made:
        yield made


def predict(client: Client, row: Any, query: str = "", **headers: str) -> Answer:
    return client.request("POST", f"/predict{query}", row, headers)


def new_iris() -> dict[str, float]:
    """A row that no other test sends."""
    return IRIS | {"sepal_length": 5.0 + (uuid4().int % 10**9) / 10**9}


def logged(database: FreshDatabase, request_id: str) -> dict[str, Any]:
    def rows() -> list[dict[str, Any]]:
        with psycopg.connect(database.url, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(
                "SELECT * FROM inference_logs WHERE request_id = %s", (request_id,)
            ).fetchall()

    wait_until(rows, what="the row")
    (row,) = rows()
    return row


def test_the_iris_example_is_a_setosa(client: Client) -> None:
    answer = predict(client, IRIS)
    body = answer.json
    assert answer.status == 200
    assert set(body) == KEYS
    assert (body["prediction"], body["predicted_class"], body["features_used"]) == (0, 0, 4)
    assert (body["model"], body["model_version"]) == ("iris", "1.0.0")
    assert set(body["prediction_probabilities"]) == {"0", "1", "2"}
    assert sum(body["prediction_probabilities"].values()) == pytest.approx(1)
    assert body["confidence"] == body["prediction_probabilities"]["0"]
    assert body["worker_id"] == answer.headers["X-Worker-ID"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert "predict;dur=" in answer.headers["Server-Timing"]


def test_the_reference_example_of_36_features_is_rated(client: Client) -> None:
    body = predict(client, PERFORMANCE).json
    assert set(body) == KEYS
    assert body["features_used"] == 36
    assert body["predicted_class"] in (1, 2, 3, 4, 5)
    assert body["prediction"] == body["predicted_class"]
    assert set(body["prediction_probabilities"]) == {"1", "2", "3", "4", "5"}
    assert body["confidence"] == max(body["prediction_probabilities"].values())
    assert (body["model"], body["model_version"]) == ("performance", "1.0.0")


@pytest.mark.parametrize("name", ["iris", "performance"])
def test_golden_examples_get_their_recorded_answers(client: Client, model_store: Path, name: str) -> None:
    for example in ModelStore(model_store).manifest(name, "1.0.0").golden:
        body = predict(client, example.input).json
        assert body["prediction"] == example.prediction
        assert example.probabilities is not None
        assert body["prediction_probabilities"] == pytest.approx(example.probabilities, abs=1e-6)


def test_the_order_of_fields_does_not_matter(client: Client) -> None:
    row = new_iris()
    first = predict(client, row).json
    second = predict(client, dict(reversed(row.items()))).json
    assert second["cache_hit"]
    assert second["prediction_probabilities"] == first["prediction_probabilities"]


def test_equal_numbers_are_one_cache_entry_for_all_workers(
    instance: Instance, module_redis: EmbeddedRedis
) -> None:
    row = new_iris() | {"petal_length": 2}
    with (
        connected_to_each(instance) as clients,
        contextlib.closing(redis.Redis.from_url(module_redis.url)) as shared,
    ):
        before = shared.dbsize()
        assert not predict(clients[0], row).json["cache_hit"]
        wait_until(
            lambda: shared.dbsize() > before, what="the entry in Redis, which is written behind the answer"
        )
        assert all(predict(client, row | {"petal_length": 2.0}).json["cache_hit"] for client in clients)


def test_a_key_replays_the_answer_and_is_bound_to_its_row(client: Client) -> None:
    row, key = new_iris(), str(uuid4())
    first = predict(client, row, **{"Idempotency-Key": key})
    again = predict(client, row, **{"Idempotency-Key": key})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.body == first.body.replace(b'"idempotency_hit":false', b'"idempotency_hit":true')
    other = predict(client, new_iris(), **{"Idempotency-Key": key})
    assert other.status == 422
    assert "different request" in other.json["detail"]


def test_a_prediction_is_one_row_with_hash_and_payload(client: Client, database: FreshDatabase) -> None:
    row = new_iris()
    body = predict(client, row).json
    kept = logged(database, body["request_id"])
    canonical = orjson.dumps([row[name] for name in IRIS])
    assert (kept["model"], kept["model_version"], kept["prediction"]) == ("iris", "1.0.0", "0")
    assert kept["text_hash"] == hashlib.sha256(canonical).hexdigest()
    assert kept["text_length"] is None
    assert kept["payload"] == row
    assert kept["probabilities"] == pytest.approx(body["prediction_probabilities"])
    assert (kept["success"], kept["status"], kept["batch_index"]) == (True, 200, 0)


@pytest.mark.parametrize(
    ("changes", "model"),
    [({"petal_width": "wide"}, "iris"), ({"colour": "blue"}, None)],
    ids=["value", "field"],
)
def test_a_refused_row_is_logged_with_the_model_if_one_was_found(
    client: Client, database: FreshDatabase, changes: dict[str, Any], model: str | None
) -> None:
    answer = predict(client, IRIS | changes)
    kept = logged(database, answer.json["request_id"])
    assert (answer.status, kept["status"], kept["success"]) == (422, 422, False)
    assert kept["model"] == model
    assert kept["error_type"] == "validation_failed"


def test_every_request_is_counted_under_its_model(instance: Instance, client: Client) -> None:
    def counted(model: str, status: str) -> float:
        return instance.metric("inference_requests_total", model=model, status=status)

    before = counted("iris", "success"), counted("iris", "error"), counted("unknown", "error")
    predict(client, IRIS)
    predict(client, IRIS | {"petal_width": -1})
    predict(client, {"colour": "blue"})
    wait_until(
        lambda: (
            (counted("iris", "success"), counted("iris", "error"), counted("unknown", "error"))
            == tuple(count + 1 for count in before)
        ),
        what="the counters",
    )


def test_rows_that_arrive_together_are_predicted_together(instance: Instance) -> None:
    """Whatever batches come about, each client gets the answer to its own row."""
    rows = [IRIS | {"petal_length": 1 + i / 20, "petal_width": 0.1 + i / 40} for i in range(100)]
    with contextlib.closing(instance.client()) as client:
        alone = [predict(client, row).json["prediction_probabilities"] for row in rows]
    together: dict[int, Any] = {}

    def ask(number: int) -> None:
        with contextlib.closing(instance.client()) as client:
            # The white space makes no other row, but the small difference does: nothing comes from the cache.
            body = predict(client, rows[number] | {"sepal_width": 3.5 + 1e-13}).json
            together[number] = body["prediction_probabilities"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, probabilities in enumerate(alone):
        assert together[number] == pytest.approx(probabilities, abs=1e-9)


@pytest.mark.parametrize(
    ("row", "pointer", "kind"),
    [
        (IRIS | {"sepal_length": "5.1"}, "/sepal_length", "float_type"),
        (IRIS | {"sepal_length": True}, "/sepal_length", "float_type"),
        (IRIS | {"sepal_length": None}, "/sepal_length", "float_type"),
        (IRIS | {"sepal_length": [5.1]}, "/sepal_length", "float_type"),
        (IRIS | {"sepal_length": -0.1}, "/sepal_length", "greater_than_equal"),
        (IRIS | {"sepal_length": 100.5}, "/sepal_length", "less_than_equal"),
        (PERFORMANCE | {"feat28": 0.5}, "/feat28", "int_from_float"),
        (PERFORMANCE | {"feat28": 2}, "/feat28", "less_than_equal"),
    ],
)
def test_a_bad_value_is_pointed_at(client: Client, row: dict[str, Any], pointer: str, kind: str) -> None:
    answer = predict(client, row)
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    (issue,) = answer.json["errors"]
    assert (issue["pointer"], issue["type"]) == (pointer, kind)


def test_fields_of_no_model_name_the_nearest_and_what_differs(client: Client) -> None:
    row = {name: value for name, value in IRIS.items() if name != "petal_width"} | {"petal_widht": 0.2}
    answer = predict(client, row)
    assert answer.status == 422
    assert "nearest is iris (missing: petal_width; unknown: petal_widht)" in answer.json["detail"]
    assert {(issue["pointer"], issue["type"]) for issue in answer.json["errors"]} == {
        ("/petal_width", "missing"),
        ("/petal_widht", "extra_forbidden"),
    }
    missing = predict(client, {f"feat{i}": 0 for i in range(1, 36)})
    assert "nearest is performance (missing: feat36)" in missing.json["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b'{"sepal_length": NaN}', 400), (b"[]", 422), (b'"text"', 422), (b"{}", 422)],
)
def test_what_is_no_row_is_refused(client: Client, body: bytes, status: int) -> None:
    assert predict(client, body).status == status


def test_the_query_can_name_the_model(client: Client) -> None:
    assert predict(client, IRIS, "?model=iris").json["prediction"] == 0
    assert client.request("POST", "/infer?model=sentiment", {"text": "good"}).status == 200
    wrong = predict(client, IRIS, "?model=performance")
    assert wrong.status == 422
    assert {issue["type"] for issue in wrong.json["errors"]} == {"missing", "extra_forbidden"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/predict?model=roses", 404),
        ("/predict?model=sentiment", 404),
        ("/predict?model=iris&model=iris", 400),
        ("/predict?modell=iris", 400),
        ("/predict?model", 400),
        ("/infer?model=iris", 404),
    ],
)
def test_a_query_that_names_no_fitting_model_is_refused(client: Client, path: str, status: int) -> None:
    answer = client.request("POST", path, IRIS)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_health_lists_every_model_with_what_predicts_it(client: Client) -> None:
    models = client.request("GET", "/health").json["models"]
    assert {name: model["predictor"] for name, model in models.items()} == {
        "iris": "compiled",
        "performance": "compiled",
        "sentiment": "compiled",
    }
