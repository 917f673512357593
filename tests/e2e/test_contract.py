"""The HTTP contract of DESIGN.md, section 3: bodies, headers, statuses, as a client sees them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from falcon_wsgi import __version__
from falcon_wsgi.launch.embedded import EmbeddedRedis
from tests.conftest import FreshDatabase
from tests.e2e import heavy_model
from tests.e2e.instance import Answer, Client, Instance, running, wait_until

Start = Callable[..., Instance]

PREDICTION_KEYS = {"prediction", "confidence", "probabilities", "cache_hit"}
ORIGIN_KEYS = {
    "idempotency_hit",
    "worker_id",
    "processing_time_ms",
    "model",
    "model_version",
    "request_id",
}
PROBLEM_KEYS = {"type", "title", "status", "detail", "instance", "request_id", "error"}
STAGES = ["queue", "cache", "predict", "log"]
ROUTES = ["/health", "/healthz", "/infer", "/infer/batch", "/metrics", "/predict", "/readyz"]


@pytest.fixture
def client(plain_instance: Instance) -> Iterator[Client]:
    with contextlib.closing(plain_instance.client()) as made:
        yield made


@pytest.fixture(scope="module")
def stuck_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One worker that takes one model request at a time, whose model gets stuck on one text."""
    store = heavy_model.store(tmp_path_factory.mktemp("stuck-store"), heavy_model.stuck())
    settings = {"workers": 1, "max_concurrent_requests": 1, "inference_timeout_seconds": 4}
    with running(Instance(tmp_path_factory.mktemp("instance"), store, **settings)) as instance:
        yield instance


def assert_prediction(result: dict[str, Any]) -> None:
    assert set(result["probabilities"]) == {"negative", "neutral", "positive"}
    assert sum(result["probabilities"].values()) == pytest.approx(1)
    assert result["prediction"] in result["probabilities"]
    assert result["confidence"] == max(result["probabilities"].values())
    assert type(result["cache_hit"]) is bool


def assert_origin(answer: Answer) -> None:
    body = answer.json
    assert type(body["idempotency_hit"]) is bool
    assert body["worker_id"] == answer.headers["X-Worker-ID"]
    assert body["model"] == "sentiment"
    assert re.fullmatch(r"\d+\.\d+\.\d+", body["model_version"])
    assert 0 < body["processing_time_ms"] < 10_000


def assert_common_headers(answer: Answer) -> None:
    assert answer.headers.get_all("X-Request-ID") != []
    assert len(answer.headers.get_all("X-Request-ID")) == 1
    assert re.fullmatch(r"worker-[12]", answer.headers["X-Worker-ID"])
    assert "Flask" not in str(answer.headers)
    assert "Werkzeug" not in str(answer.headers)


def assert_problem(answer: Answer, status: int, path: str, **more: Any) -> dict[str, Any]:
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert_common_headers(answer)
    body = answer.json
    assert set(body) - {"errors"} == PROBLEM_KEYS
    assert body["status"] == status
    assert body["instance"] == path
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert body["error"] == body["detail"] != ""
    assert re.fullmatch(r"urn:falcon:problem:[a-z_]+", body["type"])
    assert body["title"][0].isupper()
    for key, value in more.items():
        assert body[key] == value
    return body


def stages(answer: Answer) -> list[str]:
    parts = answer.headers["Server-Timing"].split(", ")
    assert all(re.fullmatch(r"[a-z]+;dur=\d+\.\d{3}", part) for part in parts)
    return [part.partition(";")[0] for part in parts]


def test_a_prediction_has_the_documented_shape(client: Client) -> None:
    answer = client.infer(f"The food was great {uuid4()}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json) == PREDICTION_KEYS | ORIGIN_KEYS
    assert_prediction(answer.json)
    assert_origin(answer)
    assert_common_headers(answer)
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert stages(answer) == STAGES


def test_a_batch_has_the_documented_shape_and_keeps_the_order(client: Client) -> None:
    texts = [f"{word} {uuid4()}" for word in ("great", "awful", "tuesday")]
    answer = client.request("POST", "/infer/batch", {"texts": texts})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json
    assert set(body) == {"results", "batch_size", "cache_hits"} | ORIGIN_KEYS
    assert_origin(answer)
    assert stages(answer) == STAGES
    assert (len(body["results"]), body["batch_size"], body["cache_hits"]) == (3, 3, 0)
    for text, result in zip(texts, body["results"], strict=True):
        assert set(result) == PREDICTION_KEYS
        assert_prediction(result)
        alone = client.infer(text).json
        assert result["probabilities"] == alone["probabilities"]


def test_liveness(client: Client) -> None:
    answer = client.request("GET", "/healthz")
    assert answer.status == 200
    assert set(answer.json) == {"status", "worker_id", "timestamp", "uptime_seconds"}
    assert answer.json["status"] == "healthy"
    assert answer.json["worker_id"] == answer.headers["X-Worker-ID"]
    assert datetime.fromisoformat(answer.json["timestamp"]).utcoffset() is not None
    assert 0 < answer.json["uptime_seconds"] < 3600
    assert "Server-Timing" not in answer.headers
    assert_common_headers(answer)


def test_readiness_without_redis_and_postgres(client: Client) -> None:
    answer = client.request("GET", "/readyz")
    assert answer.status == 200
    assert set(answer.json) == {"ready", "worker_id", "checks", "timestamp"}
    assert answer.json["ready"] is True
    assert answer.json["checks"] == {
        "model_loaded": True,
        "redis_available": False,
        "database_available": False,
    }
    assert datetime.fromisoformat(answer.json["timestamp"])


def test_health(client: Client) -> None:
    answer = client.request("GET", "/health")
    assert answer.status == 200
    assert set(answer.json) == {"status", "message", "models"}
    assert answer.json["status"] == "healthy"
    assert answer.json["message"] == "serving, without redis and postgres"
    model = answer.json["models"]["sentiment"]
    assert set(model) == {"version", "digest", "predictor", "loaded"}
    assert re.fullmatch(r"[0-9a-f]{64}", model["digest"])
    assert model["loaded"] is True


def test_the_index_lists_the_routes_there_are(client: Client) -> None:
    for accept in ("*/*", "application/json"):
        answer = client.request("GET", "/", headers={"Accept": accept})
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert set(answer.json) == {"status", "service", "version", "endpoints"}
        assert (answer.json["status"], answer.json["version"]) == ("ok", __version__)
    assert set(ROUTES) <= set(answer.json["endpoints"])
    for path in answer.json["endpoints"]:
        if "<" not in path:
            assert client.request("OPTIONS", path).status == 200, path


def test_metrics_are_prometheus_text(client: Client) -> None:
    client.infer("good")
    answer = client.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"\ninference_requests_total{" in answer.body
    assert_common_headers(answer)


@pytest.mark.parametrize("sent", ["order-17/3", "a", "x" * 128, str(uuid4()), "A.b_c:d/e+f=g@h-i"])
def test_a_valid_request_id_is_echoed(client: Client, sent: str) -> None:
    for path in ("/healthz", "/nowhere"):
        assert client.request("GET", path, headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent
    answer = client.infer("good", X_Request_ID=sent)
    assert answer.headers["X-Request-ID"] == answer.json["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "<script>", "a,b", "é", '"quoted"'])
def test_another_request_id_is_replaced_by_a_new_one(client: Client, sent: str) -> None:
    answer = client.request("GET", "/healthz", headers={"X-Request-ID": sent.encode("utf-8")})  # type: ignore[dict-item]
    assert answer.status == 200
    assert UUID(answer.headers["X-Request-ID"]).version == 7


def test_each_request_gets_an_id_of_its_own(client: Client) -> None:
    assert len({client.request("GET", "/healthz").headers["X-Request-ID"] for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "path", ["/nowhere", "/infer/", "/infer/batch/", "/healthz/", "/Infer", "/infer/x", "/static/x"]
)
def test_an_unknown_route_is_404(client: Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert_problem(client.request(method, path), 404, path, title="Not Found")
    assert client.request("HEAD", path).status == 404


@pytest.mark.parametrize(
    ("path", "wrong", "allowed"),
    [
        ("/infer", ["GET", "PUT", "DELETE", "PATCH", "HEAD"], {"POST", "OPTIONS"}),
        ("/infer/batch", ["GET", "PUT"], {"POST", "OPTIONS"}),
        ("/healthz", ["POST", "DELETE", "TRACE", "FROBNICATE"], {"GET", "HEAD", "OPTIONS"}),
        ("/", ["POST"], {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_405_and_told_the_right_ones(
    client: Client, path: str, wrong: list[str], allowed: set[str]
) -> None:
    for method in wrong:
        answer = client.request(method, path)
        assert set(answer.headers["Allow"].split(", ")) == allowed
        if method != "HEAD":
            assert_problem(answer, 405, path, title="Method Not Allowed")
    options = client.request("OPTIONS", path)
    assert (options.status, options.body) == (200, b"")
    assert set(options.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/", "/health", "/healthz", "/readyz", "/metrics"])
def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    head = client.request("HEAD", path)
    get = client.request("GET", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert int(head.headers["Content-Length"]) > 0
    assert client.request("GET", "/healthz").status == 200  # the connection is still in step


def test_reason_phrases_are_the_usual_ones(plain_instance: Instance) -> None:
    for path, reason in (("/healthz", "OK"), ("/nowhere", "Not Found"), ("/infer", "Method Not Allowed")):
        with contextlib.closing(plain_instance.client()) as client:
            client.connection.request("GET", path)
            assert client.connection.getresponse().reason == reason


def test_validation_names_each_violation(client: Client) -> None:
    answer = client.request("POST", "/infer", {"text": "x" * 10_001})
    body = assert_problem(answer, 422, "/infer", type="urn:falcon:problem:validation_failed")
    assert body["errors"] == [
        {
            "pointer": "/text",
            "message": "String should have at most 10000 characters",
            "type": "string_too_long",
        }
    ]
    assert stages(answer) == STAGES
    answer = client.request("POST", "/infer/batch", {"texts": ["fine", " ", 5]})
    body = assert_problem(answer, 422, "/infer/batch")
    assert [error["pointer"] for error in body["errors"]] == ["/texts/1", "/texts/2"]
    assert client.infer("x" * 10_000).status == 200


def test_400_413_and_415(client: Client) -> None:
    body = assert_problem(client.request("POST", "/infer", b"{"), 400, "/infer", title="Bad Request")
    assert body["type"] == "urn:falcon:problem:malformed_request"
    too_large = b'{"text": "' + b"x" * 1024 * 1024 + b'"}'
    assert_problem(client.request("POST", "/infer", too_large), 413, "/infer")
    client.close()
    for declared in ("text/plain", "application/jsonx", "application/json; charset=latin-1", ""):
        answer = client.request("POST", "/infer", b'{"text": "good"}', {"Content-Type": declared})
        assert_problem(answer, 415, "/infer", title="Unsupported Media Type")


@pytest.mark.parametrize(
    "declared", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
def test_json_may_be_declared_in_any_of_its_forms(client: Client, declared: str) -> None:
    answer = client.request("POST", "/infer", '{"text": "très bon"}'.encode(), {"Content-Type": declared})
    assert answer.status == 200


def test_429_comes_at_once_and_says_when_to_retry(stuck_instance: Instance) -> None:
    stuck: list[Answer] = []

    refused: list[Answer] = []

    def hold() -> None:
        # A probe below may be in the one place when this comes, or come too late for it.
        while not stuck or stuck[0].status == 429 or not refused or refused[-1].status != 429:
            stuck[:] = [stuck_instance.infer(heavy_model.STUCK_TEXT)]

    blocking = threading.Thread(target=hold)
    blocking.start()

    def is_refused() -> bool:
        refused[:] = [stuck_instance.infer(f"good {uuid4()}")]
        return refused[0].status == 429

    wait_until(is_refused, what="the refusal")
    assert_problem(refused[0], 429, "/infer", type="urn:falcon:problem:overloaded")
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert stuck_instance.get("/healthz").status == 200
    blocking.join(60)
    assert_problem(stuck[0], 504, "/infer", type="urn:falcon:problem:deadline_exceeded")
    assert stages(stuck[0]) == STAGES


def test_503_without_redis_where_keys_must_be_honoured(start_instance: Start) -> None:
    instance = start_instance(workers=1, idempotency_on_outage="closed")
    answer = instance.infer("good", Idempotency_Key="key-1")
    assert_problem(answer, 503, "/infer", type="urn:falcon:problem:idempotency_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert instance.infer("good").status == 200


def test_keys_are_served_unprotected_without_redis_and_the_answer_says_so(client: Client) -> None:
    answer = client.infer("good", Idempotency_Key=str(uuid4()))
    assert answer.status == 200
    assert answer.headers["Idempotency-Status"] == "unavailable"
    assert "Idempotency-Replayed" not in answer.headers


def test_with_redis_and_postgres(
    start_instance: Start, redis_server: EmbeddedRedis, postgres_server: FreshDatabase
) -> None:
    instance = start_instance(redis_url=redis_server.url, database_url=postgres_server.url)
    # The tables are not there, yet the database is; what is shipped later is none of the client's business.
    wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"], what="Redis")
    key = f'"{uuid4()}"'
    first = instance.infer("good food", Idempotency_Key=key)
    assert "Idempotency-Replayed" not in first.headers
    again = instance.infer("good food", Idempotency_Key=key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.body == first.body.replace(b'"idempotency_hit":false', b'"idempotency_hit":true')
    assert stages(again) == STAGES
    bare = instance.infer("good food", X_Idempotency_Key=key.strip('"'))
    assert bare.headers["Idempotency-Replayed"] == "true"
    body = assert_problem(instance.infer("another", Idempotency_Key=key), 422, "/infer")
    assert body["type"] == "urn:falcon:problem:idempotency_key_reused"


def test_409_while_the_key_is_in_progress(
    start_instance: Start, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    store = heavy_model.store(tmp_path / "store", heavy_model.stuck())
    instance = start_instance(model_store=store, redis_url=redis_server.url, inference_timeout_seconds=6)
    wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"], what="Redis")
    first: list[Answer] = []
    blocking = threading.Thread(
        target=lambda: first.append(instance.infer(heavy_model.STUCK_TEXT, Idempotency_Key="one"))
    )
    blocking.start()
    wait_until(lambda: instance.metric("requests_in_flight") == 1, what="the request that holds the key")
    conflict = instance.infer(heavy_model.STUCK_TEXT, Idempotency_Key="one")
    assert_problem(conflict, 409, "/infer", type="urn:falcon:problem:idempotency_in_progress")
    assert int(conflict.headers["Retry-After"]) >= 1
    blocking.join(60)
    # The failure is not kept: the key is free again.
    assert first[0].status == 504
