"""The OpenAPI document against the running service: what it says is so, for any request that it allows or forbids."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import TypeAdapter

from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.backends.api_keys.record import issue
from falcon_wsgi.http.openapi import answers, protocol_answers
from falcon_wsgi.launch.embedded import EmbeddedRedis
from tests.e2e import mixed_model
from tests.e2e.instance import Answer, Client, Instance, running, wait_until

Json = dict[str, Any]

MODELS = ("iris", "performance", mixed_model.NAME, "sentiment")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
# The tensors of a request have to fit each other and the model, which a JSON Schema cannot say.
CONFIGURATION = f"""
hooks = "{HOOKS}"

[[operations]]
include-path-regex = "^/v2/models/.*infer$"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def store(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own models and one with every kind of field."""
    folder = tmp_path_factory.mktemp("store") / "models"
    shutil.copytree(model_store, folder, symlinks=True)
    mixed_model.write(folder)
    return folder


@pytest.fixture(scope="module")
def instance(module_folder: Path, store: Path, module_redis: EmbeddedRedis) -> Iterator[Instance]:
    with running(Instance(module_folder, store, redis_url=module_redis.url)) as started:
        wait_until(lambda: started.get("/readyz").json["checks"]["redis_available"], what="Redis")
        yield started


@pytest.fixture(scope="module")
def document(instance: Instance) -> Json:
    return dict(instance.get("/openapi.json").json)


@pytest.fixture
def client(instance: Instance) -> Iterator[Client]:
    with contextlib.closing(instance.client()) as made:
        yield made


def posted_examples(document: Json) -> Iterator[tuple[str, str, Any]]:
    """Path, name and body."""
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        for name, example in content.get("application/json", {}).get("examples", {}).items():
            yield path, name, example["value"]


def assert_described(document: Json, path: str, method: str, answer: Answer) -> None:
    """Status, headers and body are what the document says."""
    response = document["paths"][path][method]["responses"][str(answer.status)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    media = response["content"][answer.headers.get_content_type()]
    schema = media["schema"] | {"components": document["components"]}
    if answer.headers.get_content_type().endswith("json"):
        jsonschema_rs.validator_for(schema).validate(answer.json)
    for name, reference in response["headers"].items():
        header = document["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        assert not header["required"] or name in answer.headers, name


def test_every_example_is_answered_as_it_stands(client: Client, document: Json) -> None:
    examples = list(posted_examples(document))
    for path, name, body in examples:
        answer = client.request("POST", path, body)
        assert answer.status == 200, (path, name, answer.body)
        assert_described(document, path, "post", answer)
    assert {name.split(".")[0] for path, name, _ in examples} == set(MODELS)
    assert {f"/v2/models/{model}/infer" for model in MODELS} < {path for path, _, _ in examples}


def test_every_example_answer_is_the_one_that_comes(client: Client, document: Json) -> None:
    for path in ("/infer", "/predict"):
        operation = document["paths"][path]["post"]
        bodies = operation["requestBody"]["content"]["application/json"]["examples"]
        shown = operation["responses"]["200"]["content"]["application/json"]["examples"]
        for name, example in shown.items():
            answer = client.request("POST", path, bodies[name]["value"]).json
            assert answer["prediction"] == pytest.approx(example["value"]["prediction"])
            assert answer.keys() == example["value"].keys()


def test_the_routes_are_those_of_the_service(client: Client, document: Json) -> None:
    index = client.request("GET", "/").json["endpoints"]
    served = {rule: re.compile(re.sub(r"<\w+>", "[^/]+", rule)) for rule in [*index, "/"]}
    described: dict[str, set[str]] = {rule: set() for rule in served}
    for path, methods in document["paths"].items():
        # The narrowest: `/v2/models/iris/infer` is no `/v2/models/<name>/<anything>`.
        (rule,) = [rule for rule, pattern in served.items() if pattern.fullmatch(re.sub(r"[{}]", "", path))]
        described[rule] |= {method.upper() for method in methods}
    for rule, methods in described.items():
        path = rule.replace("<name>", "iris").replace("<version>", "1.0.0")
        allowed = set(client.request("OPTIONS", path).headers["Allow"].split(", "))
        assert methods == allowed - {"HEAD", "OPTIONS"}, rule


@pytest.mark.parametrize(
    ("method", "path", "body", "described"),
    [
        ("POST", "/infer", {"text": "good"}, answers.InferAnswer),
        ("POST", "/infer/batch", {"texts": ["good", "bad"]}, answers.InferBatchAnswer),
        ("POST", "/predict", mixed_model.ROWS[0], answers.PredictAnswer),
        ("POST", "/predict", {"nothing": 1}, answers.Problem),
        ("GET", "/nowhere", None, answers.Problem),
        ("GET", "/healthz", None, answers.LivenessAnswer),
        ("GET", "/readyz", None, answers.ReadinessAnswer),
        ("GET", "/health", None, answers.HealthAnswer),
        ("GET", "/", None, answers.IndexAnswer),
        ("GET", "/v2", None, protocol_answers.ServerMetadata),
        ("GET", "/v2/", None, protocol_answers.ServerMetadata),
        ("GET", "/v2/health/live", None, protocol_answers.Live),
        ("GET", "/v2/health/ready", None, protocol_answers.Ready),
        ("GET", "/v2/models/iris", None, protocol_answers.ModelMetadata),
        ("GET", "/v2/models/rent/versions/1.0.0", None, protocol_answers.ModelMetadata),
        ("GET", "/v2/models/iris/ready", None, protocol_answers.ModelReady),
        (
            "POST",
            "/v2/models/sentiment/infer",
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]}]},
            protocol_answers.InferenceAnswer,
        ),
        ("POST", "/v2/repository/index", {}, protocol_answers.RepositoryIndex),
        ("POST", "/v2/repository/models/iris/load", {}, answers.Problem),
    ],
)
def test_an_answer_has_exactly_the_fields_that_are_described(
    client: Client, method: str, path: str, body: Any, described: Any
) -> None:
    answer = client.request(method, path, body)
    TypeAdapter(described).validate_json(answer.body)


def test_problems_are_as_described(client: Client, document: Json) -> None:
    cases = [
        (400, b"{", {}),
        (400, b"{}", {"Idempotency-Key": ""}),
        (404, b"{}", {}),
        (413, b" " * (2**20 + 1), {}),
        (415, b"{}", {"Content-Type": "text/plain"}),
        (422, b"{}", {}),
    ]
    for status, body, headers in cases:
        query = "?model=tulip" if status == 404 else ""
        answer = client.request("POST", f"/predict{query}", body, headers)
        assert answer.status == status
        assert_described(document, "/predict", "post", answer)
        client.close()


def test_all_workers_have_the_same_document(instance: Instance) -> None:
    tags = {instance.get("/openapi.json").headers["ETag"] for _ in range(12)}
    (tag,) = tags
    assert instance.get("/openapi.json", **{"If-None-Match": tag}).status == 304


def schemathesis(instance: Instance, folder: Path, *options: str) -> str:
    """Run it with all of its checks; returns what it prints. The instance has failed nothing then."""
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    command = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            command,
            "--config-file",
            folder / "schemathesis.toml",
            "run",
            f"http://127.0.0.1:{instance.port}/openapi.json",
            "--seed=1",
            "--phases=examples,coverage,fuzzing",
            "--output-truncate=false",
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": ""},
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    failed = [
        record
        for record in instance.log_records()
        if record["message"] in ("request_failed", "request_crashed")
    ]
    assert failed == []
    return done.stdout


def test_schemathesis_finds_nothing(instance: Instance, tmp_path: Path) -> None:
    said = schemathesis(instance, tmp_path, "--max-examples=15")
    found = re.search(r"Tested: (\d+)", said)
    assert found, said
    assert int(found[1]) >= 28


def test_schemathesis_finds_nothing_where_keys_are_asked_for(
    tmp_path: Path, store: Path, module_redis: EmbeddedRedis
) -> None:
    key, record = issue("schemathesis", datetime.now(UTC))
    KeyFile(tmp_path / "keys.json").change(lambda records: [*records, record])
    settings = {"redis_url": module_redis.url, "api_keys_file": tmp_path / "keys.json"}
    with running(Instance(tmp_path, store, **settings)) as keyed:
        assert keyed.get("/openapi.json").status == 401
        # In each place for a key, so that none is generated beside it; without one, and with wrong ones, it asks too.
        keys = ["-H", f"X-API-Key: {key}", "-H", f"Authorization: Bearer {key}"]
        schemathesis(keyed, tmp_path, "--phases=examples,fuzzing", "--max-examples=3", *keys)
