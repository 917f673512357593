"""API keys on a running instance: who gets in, and keys that come, go and break while it serves."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from falcon_wsgi.backends.api_keys.file import KeyFile
from falcon_wsgi.launch.embedded import EmbeddedRedis
from tests.e2e import warm
from tests.e2e.instance import Answer, Instance, running, wait_until
from tests.e2e.scrape import Scrape
from tests.e2e.toy_models import write_model
from tests.e2e.workers import answers_of_each

ROUTES = [
    ("POST", "/infer"),
    ("POST", "/infer/batch"),
    ("GET", "/infer"),
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
    ("DELETE", "/healthz/x"),
]


class Guarded:
    """An instance that asks for keys, and the commands that change them."""

    def __init__(self, instance: Instance, path: Path) -> None:
        self.instance = instance
        self.path = path
        self.key = self.create("main")

    def falcon(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.instance.environment}
        return warm.run(["falcon_wsgi", *arguments], environment, self.instance.folder)

    def create(self, *arguments: str) -> str:
        done = self.falcon("keys", "create", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ask(
        self, key: str, method: str = "GET", path: str = "/health", body: object = None, **more: str
    ) -> Answer:
        headers = {"X-API-Key": key} | {name.replace("_", "-"): value for name, value in more.items()}
        return self.instance.request(method, path, body, headers)

    def status(self, key: str) -> set[int]:
        """What each worker says."""
        answers = answers_of_each(self.instance, "GET", "/health", headers={"X-API-Key": key})
        return {answer.status for answer in answers}

    def scrape(self) -> Scrape:
        return Scrape.parse(self.ask(self.key, path="/metrics").body.decode())


@pytest.fixture(scope="module")
def guarded(module_folder: Path) -> Iterator[Guarded]:
    """One instance with a Redis for the module. A test that breaks the key file mends it."""
    # Not below pytest's own folder, which the server's user cannot enter.
    with tempfile.TemporaryDirectory(prefix="falcon-test-") as home:
        Path(home).chmod(0o711)
        redis = EmbeddedRedis(Path(home))
        try:
            redis.start()
            write_model(module_folder / "store")
            path = module_folder / "keys.json"
            instance = Instance(
                module_folder, module_folder / "store", api_keys_file=path, redis_url=redis.url
            )
            guarded = Guarded(instance, path)
            with running(instance):
                wait_until(lambda: instance.get("/readyz").json["checks"]["redis_available"], what="Redis")
                yield guarded
        finally:
            redis.stop()


@pytest.fixture
def broken(guarded: Guarded) -> Iterator[Callable[[str | None], None]]:
    """Breaks the key file: other text, or none at all. Mended after the test."""
    good = guarded.path.read_bytes()

    def valid(value: int) -> Callable[[], bool]:
        return lambda: guarded.scrape().total("api_keys_file_valid") == 2 * value

    def break_it(text: str | None) -> None:
        guarded.path.unlink() if text is None else guarded.path.write_text(text)
        wait_until(valid(0), what="the break to be noticed")

    yield break_it
    guarded.path.write_bytes(good)
    wait_until(valid(1), what="the file to be valid again")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_key_is_taken_as_bearer_token_as_header_and_from_a_browser(guarded: Guarded) -> None:
    for headers in (
        {"Authorization": f"Bearer {guarded.key}"},
        {"X-API-Key": guarded.key},
        {"Authorization": basic("anyone", guarded.key)},
    ):
        assert guarded.instance.request("POST", "/infer", {"text": "good"}, headers).status == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_valid_key_every_route_is_401(guarded: Guarded, method: str, path: str) -> None:
    none = guarded.instance.request(method, path)
    wrong = guarded.ask(guarded.key[:-1] + ("A" if guarded.key[-1] != "A" else "B"), method, path)
    for answer in (none, wrong):
        assert (answer.status, answer.headers["Content-Type"]) == (401, "application/problem+json")
        assert answer.json["request_id"] == answer.headers["X-Request-ID"]
        assert answer.json["instance"] == path
    assert none.headers.get_all("WWW-Authenticate") == [
        'Bearer realm="falcon"',
        'Basic realm="falcon", charset="UTF-8"',
    ]
    assert 'error="invalid_token"' in wrong.headers.get_all("WWW-Authenticate")[0]


def test_liveness_and_readiness_are_open(guarded: Guarded) -> None:
    assert [guarded.instance.get(path).status for path in ("/healthz", "/readyz")] == [200, 200]


def test_a_refused_request_is_counted_and_leaves_no_row(guarded: Guarded) -> None:
    before = guarded.scrape()
    for _ in range(5):
        assert guarded.instance.infer("good").status == 401
        assert guarded.instance.infer("good", X_API_Key="falcon_x").status == 401
    assert guarded.ask(guarded.key, "POST", "/infer", {"text": "good"}).status == 200
    after = guarded.scrape()

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    assert grown("auth_failures_total", reason="missing") == 5
    assert grown("auth_failures_total", reason="malformed") == 5
    assert grown("flask_http_request_total", status="401") == 10
    assert grown("inference_requests_total") == 1
    assert grown("journal_records_total", event="written") == 1
    assert grown("requests_shed_total") == 0


def test_a_refused_body_is_not_read_and_the_connection_goes_on(guarded: Guarded) -> None:
    client = guarded.instance.client()
    assert client.request("POST", "/infer", b"x" * 2_000_000).status == 401
    assert client.request("GET", "/health", headers={"X-API-Key": guarded.key}).status == 200
    client.close()


def test_a_key_made_while_running_becomes_valid_and_a_revoked_one_invalid(
    guarded: Guarded,
) -> None:
    key = guarded.create("newcomer", "--expires", "1h")
    wait_until(lambda: guarded.status(key) == {200}, what="the new key")
    assert guarded.falcon("keys", "revoke", "newcomer").returncode == 0
    wait_until(lambda: guarded.status(key) == {401}, what="the revocation")
    assert guarded.status(guarded.key) == {200}


def test_two_clients_with_one_idempotency_key_never_see_each_others_answer(guarded: Guarded) -> None:
    one, other = guarded.create("one"), guarded.create("other")
    again = guarded.create("one")
    wait_until(lambda: guarded.status(again) == {200}, what="the new keys")

    def infer(key: str, text: str) -> Answer:
        return guarded.ask(key, "POST", "/infer", {"text": text}, Idempotency_Key="order-17")

    first = infer(one, "good of one")
    second = infer(other, "bad of other")
    assert (first.status, second.status) == (200, 200)
    assert "Idempotency-Replayed" not in second.headers
    assert second.json["request_id"] != first.json["request_id"]
    replay = infer(again, "good of one")
    assert replay.headers["Idempotency-Replayed"] == "true"
    assert replay.json["request_id"] == first.json["request_id"]
    assert infer(other, "bad of other").json["request_id"] == second.json["request_id"]


@pytest.mark.parametrize("text", [None, "", '{"keys": [{}]}'], ids=["gone", "empty", "invalid"])
def test_a_broken_file_leaves_the_keys_in_force_also_for_a_new_worker(
    guarded: Guarded, broken: Callable[[str | None], None], text: str | None
) -> None:
    broken(text)
    assert guarded.status(guarded.key) == {200}
    assert guarded.status("falcon_x") == {401}
    pids = set(guarded.instance.worker_pids())
    os.kill(min(pids), signal.SIGKILL)
    wait_until(
        lambda: len(now := set(guarded.instance.worker_pids())) == 2 and now != pids, what="a new worker"
    )
    assert guarded.status(guarded.key) == {200}


def test_an_emptied_list_lets_nobody_in(guarded: Guarded) -> None:
    good = guarded.path.read_bytes()
    guarded.path.write_text('{"keys": []}')
    try:
        wait_until(lambda: guarded.status(guarded.key) == {401}, what="the empty list")
        assert guarded.instance.get("/readyz").status == 200
    finally:
        guarded.path.write_bytes(good)
    wait_until(lambda: guarded.status(guarded.key) == {200}, what="the former list")


def test_the_access_record_names_the_client_and_no_log_line_a_key(guarded: Guarded) -> None:
    request_id = f"of-main-{time.time_ns()}"
    assert guarded.ask(guarded.key, X_Request_ID=request_id).status == 200
    refused = guarded.ask(guarded.key + "x", X_Request_ID=request_id + "-refused")
    assert refused.status == 401

    def logged() -> dict[str, dict[str, Any]]:
        return {
            record["request_id"]: record
            for record in guarded.instance.log_records()
            if record["logger"] == "falcon_wsgi.access"
        }

    wait_until(lambda: {request_id, request_id + "-refused"} <= set(logged()), what="the access records")
    records = logged()
    assert records[request_id]["client"] == "main"
    assert records[request_id + "-refused"]["client"] == "anonymous"
    secret = guarded.key.split("_", 2)[2]
    assert secret not in guarded.instance.log_text()
    (record,) = [record for record in KeyFile(guarded.path).read() if record.client == "main"]
    assert record.sha256 not in guarded.instance.log_text()


def test_the_file_can_be_set_and_unset_by_a_reload(
    module_folder: Path, guarded: Guarded, tmp_path: Path
) -> None:
    """A reload to a file that is not there is refused, and what was in force stays."""
    environment_file = tmp_path / ".env"
    instance = Instance(tmp_path, module_folder / "store", workers=1)
    with running(instance):
        assert instance.get("/health").status == 200
        for line, expected in (
            (f"API_KEYS_FILE={guarded.path}", 401),
            (f"API_KEYS_FILE={tmp_path / 'none.json'}", 401),
            ("", 200),
        ):
            environment_file.write_text(line + "\n")
            former = instance.worker_pids()
            instance.signal_master(signal.SIGHUP)
            wait_until(lambda: len(now := instance.worker_pids()) == 1 and now != former, what="a new worker")  # noqa: B023
            wait_until(lambda: instance.get("/health").status == expected, what=line)  # noqa: B023
    assert "settings_refused" in instance.log_text()


def test_a_file_that_cannot_be_used_stops_the_start_with_one_line(
    module_folder: Path, tmp_path: Path
) -> None:
    instance = Instance(tmp_path, module_folder / "store", api_keys_file=tmp_path / "none.json")
    instance.start(wait=False)
    wait_until(lambda: instance.exited, what="the end")
    assert instance.process is not None
    assert instance.process.returncode != 0
    (line,) = [line for line in instance.log_text().splitlines() if line]
    assert line.startswith("falcon: API_KEYS_FILE: ")
    assert "does not exist" in line
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", instance.port)) != 0
