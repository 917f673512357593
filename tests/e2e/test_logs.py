"""What an operator finds on stderr: one JSON object a line, tied to requests, without anybody's data."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from falcon_wsgi import resources
from falcon_wsgi.backends import migrations
from falcon_wsgi.launch.embedded import EmbeddedRedis
from tests.conftest import FreshDatabase
from tests.e2e import heavy_model
from tests.e2e.instance import Instance, wait_until

Start = Callable[..., Instance]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
COMMON = {"timestamp", "level", "logger", "message", "worker_id", "request_id", "trace_id"}


def access_records(instance: Instance, request_id: str | None = None) -> list[dict[str, Any]]:
    return [
        record
        for record in instance.log_records()
        if record["logger"] == "falcon_wsgi.access" and request_id in (None, record["request_id"])
    ]


def one_access_record(instance: Instance, request_id: str) -> dict[str, Any]:
    wait_until(lambda: access_records(instance, request_id), what="the access record")
    (record,) = access_records(instance, request_id)
    return record


def test_every_line_is_a_json_object_with_the_common_fields(start_instance: Start) -> None:
    instance = start_instance()
    instance.infer("good")
    instance.request("POST", "/infer", b"{")
    with contextlib.closing(socket.create_connection(("127.0.0.1", instance.port))) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        connection.recv(1000)
    instance.stop()
    lines = instance.log_text().splitlines()
    assert len(lines) > 5
    for line in lines:
        record = json.loads(line)
        assert set(record) >= COMMON, line
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() is not None
        assert record["level"] in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    assert {json.loads(line)["worker_id"] for line in lines} == {"worker-1", "worker-2"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "level"),
    [
        ("POST", "/infer", {"text": "good"}, 200, "INFO"),
        ("POST", "/infer/batch", {"texts": ["good", "bad"]}, 200, "INFO"),
        ("GET", "/healthz", None, 200, "INFO"),
        ("POST", "/infer", {"text": ""}, 422, "WARNING"),
        ("GET", "/nowhere?password=hunter2", None, 404, "WARNING"),
        ("BREW", "/infer", None, 405, "WARNING"),
    ],
)
def test_each_request_has_one_access_record(
    plain_instance: Instance, method: str, path: str, body: Any, status: int, level: str
) -> None:
    request_id = uuid4().hex
    answer = plain_instance.request(method, path, body, {"X-Request-ID": request_id})
    record = one_access_record(plain_instance, request_id)
    own = {"method", "path", "status", "duration_ms", "client", "client_ip", "event_id"}
    assert set(record) == COMMON | own
    assert record["client"] == "anonymous"
    assert (record["method"], record["path"]) == (method, path.partition("?")[0])
    assert (record["status"], record["level"]) == (status, level)
    assert record["message"] == "request"
    assert record["client_ip"] == "127.0.0.1"
    assert 0 < record["duration_ms"] < 10_000
    assert record["worker_id"] == answer.headers["X-Worker-ID"]


def test_traceparent_is_honoured_and_nonsense_is_not(plain_instance: Instance) -> None:
    for given, expected in ((f"00-{TRACE}-00f067aa0ba902b7-01", TRACE), ("00-zz-1-01", None)):
        request_id = uuid4().hex
        plain_instance.infer("good", Traceparent=given, X_Request_ID=request_id)
        assert one_access_record(plain_instance, request_id)["trace_id"] == expected


def test_records_of_a_request_carry_its_ids_and_no_other_requests(start_instance: Start) -> None:
    # Without Redis the first model request opens the circuit, which is logged from within it.
    instance = start_instance(workers=1)
    request_id = uuid4().hex
    with contextlib.closing(instance.client()) as client:
        client.request("GET", "/healthz")
        client.infer("bad", X_Request_ID=request_id, Traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
        client.infer("fine")
    wait_until(lambda: len(access_records(instance)) == 3, what="the access records")
    within = [r for r in instance.log_records() if r["message"] == "circuit_transition"]
    assert [(r["request_id"], r["trace_id"]) for r in within] == [(request_id, TRACE)]
    outside = [r for r in instance.log_records() if r["message"] == "worker_started"]
    assert [(r["request_id"], r["trace_id"]) for r in outside] == [(None, None)]


@pytest.mark.parametrize(("sample", "fewest", "most"), [(0, 0, 0), (0.1, 10, 80)])
def test_sampling_keeps_every_error(start_instance: Start, sample: float, fewest: int, most: int) -> None:
    instance = start_instance(workers=1, access_log_sample=sample)
    with contextlib.closing(instance.client()) as client:
        for _ in range(400):
            client.request("GET", "/healthz")
        for _ in range(50):
            client.request("POST", "/infer", {"text": ""})
    wait_until(lambda: [r["status"] for r in access_records(instance)].count(422) == 50, what="the errors")
    assert fewest <= [r["status"] for r in access_records(instance)].count(200) <= most


@pytest.mark.parametrize(
    ("level", "allowed", "statuses"),
    [
        ("WARNING", {"WARNING", "ERROR", "CRITICAL"}, {404, 504}),
        ("ERROR", {"ERROR", "CRITICAL"}, {504}),
    ],
)
def test_nothing_below_the_level_is_logged(
    start_instance: Start, tmp_path: Path, level: str, allowed: set[str], statuses: set[int]
) -> None:
    store = heavy_model.store(tmp_path / "store", heavy_model.stuck())
    instance = start_instance(model_store=store, workers=1, log_level=level, inference_timeout_seconds=0.5)
    instance.get("/healthz")
    instance.get("/nowhere")
    instance.infer(heavy_model.STUCK_TEXT)
    wait_until(lambda: 504 in {r["status"] for r in access_records(instance)}, what="the error's record")
    assert {r["level"] for r in instance.log_records()} <= allowed
    assert {r["status"] for r in access_records(instance)} == statuses


@pytest.fixture
def secrets() -> dict[str, str]:
    return {name: f"canary-{name}-{uuid4().hex}" for name in ("text", "batch", "key", "refused", "long")}


@pytest.mark.parametrize("log_payloads", [False, True])
def test_no_log_line_holds_a_text_a_key_or_a_password(
    start_instance: Start,
    redis_server: EmbeddedRedis,
    postgres_server: FreshDatabase,
    secrets: dict[str, str],
    log_payloads: bool,
) -> None:
    migrations.migrate(postgres_server.url, resources.MIGRATIONS)
    password = re.search(r":([^:@/]+)@", postgres_server.url)
    instance = start_instance(
        redis_url=redis_server.url,
        database_url=postgres_server.url,
        log_level="DEBUG",
        log_payloads=log_payloads,
    )
    instance.infer(secrets["text"], Idempotency_Key=secrets["key"])
    instance.infer("another text", Idempotency_Key=secrets["key"])
    instance.request("POST", "/infer/batch", {"texts": [secrets["batch"], "b"]})
    instance.request("POST", "/infer", {"text": [secrets["refused"]]})
    instance.request("POST", "/infer", b'{"text": "' + secrets["refused"].encode() + b'" broken')
    instance.request("POST", "/infer", {"text": secrets["long"] * 1000})
    instance.infer("fine", Idempotency_Key=f'"{secrets["key"]}')

    def rows() -> list[tuple[Any, ...]]:
        with psycopg.connect(postgres_server.url) as connection:
            return connection.execute("SELECT payload, inference_logs::text FROM inference_logs").fetchall()

    wait_until(lambda: len(rows()) >= 8, what="the rows")
    payloads = [payload["text"] for payload, _ in rows() if payload is not None]
    assert (secrets["text"] in payloads) is log_payloads
    assert (secrets["batch"] in payloads) is log_payloads
    assert bool(payloads) is log_payloads
    for _, row in rows():
        assert secrets["key"] not in row
        assert secrets["refused"] not in row
    instance.stop()
    text = instance.log_text()
    assert all(json.loads(line) for line in text.splitlines())
    for name, secret in secrets.items():
        assert secret[:40] not in text, name
    assert password is None or password[1] not in text


def test_records_of_concurrent_requests_are_whole_lines(plain_instance: Instance) -> None:
    ids = [uuid4().hex for _ in range(400)]
    queue = iter(ids)

    def run() -> None:
        with contextlib.closing(plain_instance.client()) as client:
            for request_id in queue:
                client.request("GET", "/" + "x" * 300, headers={"X-Request-ID": request_id})

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    def recorded() -> list[str]:
        return [record["request_id"] for record in access_records(plain_instance)]

    wait_until(lambda: set(ids) <= set(recorded()), what="the records")
    assert len([request_id for request_id in recorded() if request_id in set(ids)]) == len(ids)
