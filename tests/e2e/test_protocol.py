"""The Open Inference Protocol on a running instance: clients that others wrote, and what they cannot send."""

from __future__ import annotations

import ast
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.backends.api_keys.record import issue
from falcon_wsgi.launch.embedded import EmbeddedRedis
from falcon_wsgi.models.store import ModelStore
from tests.e2e.instance import Answer, Instance, running, wait_until
from tests.e2e.protocol_models import write_models
from tests.e2e.toy_models import LABELS, write_model
from tests.e2e.workers import answers_of_each

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "interop"
PYTHON = ROOT / ".venv-interop" / "bin" / "python"
OTHER_LABELS = tuple({"positive": "negative", "negative": "positive"}.get(label, label) for label in LABELS)

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/sentiment/infer"
IRIS = "/v2/models/iris/infer"


def run_program(name: str, *arguments: str) -> str:
    assert PYTHON.exists(), "the clients are not installed; run: scripts/setup.sh test"
    done = subprocess.run(
        [PYTHON, PROGRAMS / name, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def checks_of(name: str) -> list[str]:
    tree = ast.parse((PROGRAMS / name).read_text())
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    ]


@pytest.fixture(scope="module")
def instance(module_folder: Path, model_store: Path) -> Iterator[Instance]:
    """The project's own models and three more; with Redis, without API keys."""
    store = module_folder / "store"
    shutil.copytree(model_store, store)
    write_models(store)
    module_folder.chmod(0o711)
    redis = EmbeddedRedis(module_folder)
    redis.start()
    try:
        with running(Instance(module_folder, store, redis_url=redis.url)) as instance:
            yield instance
    finally:
        redis.stop()


@pytest.fixture(scope="module")
def triton(instance: Instance) -> dict[str, str]:
    return json.loads(run_program("triton_client.py", str(instance.port)).splitlines()[-1])


@pytest.fixture(scope="module")
def mlserver(instance: Instance) -> dict[str, str]:
    return json.loads(run_program("mlserver_codecs.py", str(instance.port)).splitlines()[-1])


@pytest.mark.parametrize("check", checks_of("triton_client.py"))
def test_tritons_client(triton: dict[str, str], check: str) -> None:
    assert triton[check] == "ok"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there is no MLServer for this Python")
@pytest.mark.parametrize("check", checks_of("mlserver_codecs.py"))
def test_mlservers_codecs(mlserver: dict[str, str], check: str) -> None:
    assert mlserver[check] == "ok"


# What these clients do not do.


def text_request(*texts: str, **more: Any) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {"inputs": [tensor], **more}


def binary_body(text: str, **more: Any) -> tuple[bytes, dict[str, str]]:
    """A request with the text as binary data, and its header."""
    raw = len(text.encode()).to_bytes(4, "little") + text.encode()
    tensor = {
        "name": "text",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **more}).encode()
    return head + raw, {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def problem(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["error"] == answer.json["detail"]
    return answer.json


def test_a_replay_with_binary_data_is_the_first_answer_byte_for_byte(instance: Instance) -> None:
    body, headers = binary_body("binary replay", id="\u00e9 42")
    headers["Idempotency-Key"] = "binary-replay"
    first, second = (instance.request("POST", INFER, body, headers) for _ in range(2))
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.body == first.body
    for name in (LENGTH, "Content-Type"):
        assert second.headers[name] == first.headers[name]
    head = json.loads(second.body[: int(second.headers[LENGTH])])
    assert head["id"] == "\u00e9 42"


@pytest.mark.parametrize(
    "changed",
    [{"id": "other"}, {"outputs": [{"name": "predict"}]}, {"parameters": {"binary_data_output": True}}],
    ids=["id", "outputs", "binary"],
)
def test_a_key_belongs_to_what_shapes_the_answer_too(instance: Instance, changed: dict[str, Any]) -> None:
    key = {"Idempotency-Key": f"shape-{sorted(changed)}"}
    assert instance.request("POST", INFER, text_request("a shape"), key).status == 200
    problem(instance.request("POST", INFER, text_request("a shape", **changed), key), 422)


@pytest.mark.parametrize("path", [INFER, "/v2/models/sentiment/versions/1.0.0/infer"])
def test_both_paths_of_a_model_share_cache_and_answers_with_the_native_routes(
    instance: Instance, path: str
) -> None:
    native = instance.infer("the cache is shared").json

    def hit() -> Answer | None:
        answer = instance.request("POST", path, text_request("the  cache is shared "))
        return answer if answer.json["parameters"]["cache_hits"] else None

    answer = wait_until(hit, what="a hit")  # the other worker may be asked before the shared cache is written
    label, probabilities = answer.json["outputs"]
    assert label["data"] == [native["prediction"]]
    assert probabilities["data"] == list(native["probabilities"].values())
    assert answer.json["parameters"]["request_id"] == answer.headers["X-Request-ID"]
    assert "Server-Timing" in answer.headers


def test_a_request_of_n_rows_is_n_rows_of_the_log(instance: Instance) -> None:
    before = instance.metric("journal_records_total", event="written")
    assert instance.request("POST", INFER, text_request(*"abcdefg")).status == 200
    assert instance.metric("journal_records_total", event="written") - before == 7


def test_issues_point_into_the_request(instance: Instance) -> None:
    tensor = {
        "name": "x",
        "shape": [2, 4],
        "datatype": "FP64",
        "data": [[5.1, 3.5, 1.4, 0.2], [1, -1, 1, 700]],
    }
    errors = problem(instance.request("POST", IRIS, {"inputs": [tensor]}), 422)["errors"]
    assert [issue["pointer"] for issue in errors] == ["/inputs/0/data/1/1", "/inputs/0/data/1/3"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({LENGTH: "x"}, 400),
        ({LENGTH: "-1"}, 400),
        ({LENGTH: "99999"}, 400),
        ({LENGTH: "10"}, 400),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "gzip"}, 400),
        ({"Idempotency-Key": ""}, 400),
    ],
    ids=str,
)
def test_headers_that_do_not_fit_are_refused(
    instance: Instance, headers: dict[str, str], status: int
) -> None:
    problem(instance.request("POST", INFER, text_request("good"), headers), status)


def test_a_small_body_that_inflates_to_a_large_one_is_refused(instance: Instance) -> None:
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    assert len(bomb) < 100_000
    detail = problem(instance.request("POST", INFER, bomb, {"Content-Encoding": "gzip"}), 413)["detail"]
    assert "inflated" in detail


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/iris/", 404),
        ("GET", "/v2/models/iris/versions/1.0.1", 404),
        ("GET", "/v2/models/unknown/ready", 404),
        ("POST", "/v2/models/unknown/infer", 404),
    ],
)
def test_other_paths_and_methods_are_refused(instance: Instance, method: str, path: str, status: int) -> None:
    problem(instance.request(method, path), status)


def test_the_index_can_be_limited_to_what_is_ready(instance: Instance) -> None:
    names = set(ModelStore(Path(instance.environment["MODEL_STORE"])).names())
    for body in (b"", {"ready": True}):
        answer = instance.request("POST", "/v2/repository/index", body)
        assert {entry["name"] for entry in answer.json if entry["state"] == "READY"} == names
    problem(instance.request("POST", "/v2/repository/index", {"ready": 1}), 422)


# Loading a model needs an instance that has keys.


class Loaded:
    """An instance of which 1.0.0 is served and 1.1.0, which says the opposite, can be promoted."""

    def __init__(self, instance: Instance, store: ModelStore, admin: str, other: str) -> None:
        self.instance, self.store, self.admin, self.other = instance, store, admin, other

    def post(self, path: str, key: str, body: Any = None) -> Answer:
        headers = {"X-API-Key": key} if key else {}
        return self.instance.request("POST", f"/v2/repository{path}", body, headers)

    def versions(self) -> set[str]:
        """What each worker serves."""
        headers = {"X-API-Key": self.other}
        answers = answers_of_each(self.instance, "POST", INFER, text_request("good"), headers)
        return {answer.json["model_version"] for answer in answers}


def made_key(file: Path, *, admin: bool) -> str:
    key, record = issue("admin" if admin else "client", datetime.now(UTC), admin=admin)
    KeyFile(file).change(lambda records: [*records, record])
    return key


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("loaded")
    write_model(folder / "store", "1.0.0")
    write_model(folder / "store", "1.1.0", OTHER_LABELS)
    store = ModelStore(folder / "store")
    store.point("sentiment", "1.0.0")
    admin, other = (made_key(folder / "keys.json", admin=admin) for admin in (True, False))
    with running(Instance(folder, store.root, api_keys_file=folder / "keys.json")) as instance:
        yield Loaded(instance, store, admin, other)


def test_only_an_administrator_loads_and_unloads(loaded: Loaded) -> None:
    for action in ("load", "unload"):
        path = f"/models/sentiment/{action}"
        assert loaded.post(path, "").status == 401
        problem(loaded.post(path, loaded.other), 403)
    problem(loaded.post("/models/sentiment/unload", loaded.admin), 400)
    problem(loaded.post("/models/unknown/unload", loaded.admin), 404)
    problem(loaded.post("/models/unknown/load", loaded.admin), 404)
    problem(loaded.post("/models/sentiment/load", loaded.admin, {"parameters": {"config": "{}"}}), 400)
    assert loaded.versions() == {"1.0.0"}


def test_a_load_takes_the_promoted_version_over_or_refuses_it(loaded: Loaded) -> None:
    workers = loaded.instance.worker_pids()
    assert loaded.post("/models/sentiment/load", loaded.admin).status == 200
    assert loaded.instance.worker_pids() == workers  # nothing to take over

    loaded.store.point("sentiment", "1.1.0")
    arguments = (str(loaded.instance.port), loaded.admin, "sentiment")
    assert run_program("triton_load.py", *arguments) == ""
    wait_until(lambda: loaded.versions() == {"1.1.0"}, what="the takeover")
    index = loaded.post("/index", loaded.other).json
    states = {entry["version"]: entry["state"] for entry in index}
    assert states == {"1.1.0": "READY", "1.0.0": "UNAVAILABLE"}

    (loaded.store.folder("sentiment") / "1.0.0" / "model.skops").write_bytes(b"damaged")
    loaded.store.point("sentiment", "1.0.0")
    told = run_program("triton_load.py", *arguments)
    assert told.startswith("[400]")
    assert "is refused" in told or "are refused" in told
    assert loaded.versions() == {"1.1.0"}
