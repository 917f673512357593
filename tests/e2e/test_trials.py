"""Shadows, canaries and replays of a running instance, with versions whose differences are known."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from falcon_wsgi.launch import processes
from falcon_wsgi.launch.embedded import EmbeddedRedis
from falcon_wsgi.models.comparison import wilson
from falcon_wsgi.models.store import ModelStore
from tests.conftest import FreshDatabase
from tests.e2e import heavy_model, warm
from tests.e2e.instance import Answer, Client, Instance, running, wait_until
from tests.e2e.scrape import Scrape
from tests.e2e.traffic import Traffic
from tests.e2e.trial_models import serve, write_line, write_step
from tests.e2e.workers import connected_to_each, wait_for_replacement

CLIENTS = [f"10.{i // 250}.{i % 250}.7" for i in range(2000)]
CANARY_SHARE = 0.2


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Path:
    """`step` changes at 500, and its candidate at 600; `line` has slope 2, and its candidate 3."""
    root = module_folder / "store"
    write_step(root, "1.0.0", 500)
    write_step(root, "1.1.0", 600)
    write_step(root, "2.0.0", 600, maximum=800)
    write_line(root, "1.0.0", 2.0)
    write_line(root, "1.1.0", 3.0)
    for name in ("step", "line"):
        serve(root, name, "1.0.0")
    return root


@pytest.fixture(scope="module")
def instance(
    module_folder: Path, store: Path, module_database: FreshDatabase, module_redis: EmbeddedRedis
) -> Iterator[Instance]:
    settings = {
        "shadow": "step@1.1.0",
        "log_payloads": "true",
        "database_url": module_database.url,
        "redis_url": module_redis.url,
    }
    set_canary(module_folder, "1.1.0")
    with running(Instance(module_folder, store, **settings)) as made:
        yield made


def set_canary(folder: Path, version: str) -> None:
    """In a file, which a reload reads again."""
    (folder / ".env").write_text(f"CANARY=line@{version}:{CANARY_SHARE}\n")


def falcon(instance: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run(["falcon_wsgi", *arguments], instance.environment, instance.folder)


def predict(client: Client, address: str = "10.0.0.1", **row: float) -> Answer:
    return client.request("POST", "/predict", row, {"X-Forwarded-For": address})


def settled(instance: Instance, predictions: int, **labels: str) -> Scrape:
    """The metrics once the shadow has compared so many."""

    def found() -> Scrape | None:
        scrape = Scrape.of(instance)
        return scrape if scrape.total("shadow_predictions_total", **labels) >= predictions else None

    scrape = wait_until(found, 60, f"{predictions} comparisons")
    assert isinstance(scrape, Scrape)
    return scrape


@pytest.fixture(scope="module")
def stepped(instance: Instance) -> Scrape:
    """After one request for each x from 0 to 999: for 100 of them, the two versions differ."""
    with contextlib.closing(instance.client()) as client:
        for start in range(0, 1000, 100):  # never more on the way than the queue holds
            for x in range(start, start + 100):
                assert predict(client, x=x).status == 200
            scrape = settled(instance, start + 100)
    return scrape


def test_the_shadow_counts_exactly_the_differences_that_there_are(stepped: Scrape) -> None:
    pair = {"model": "step", "version": "1.1.0", "against": "1.0.0"}
    outcomes = {
        outcome: stepped.total("shadow_predictions_total", outcome=outcome, **pair)
        for outcome in ("agree", "disagree", "error", "timeout", "dropped")
    }
    assert outcomes == {"agree": 900, "disagree": 100, "error": 0, "timeout": 0, "dropped": 0}
    assert stepped.total("shadow_disagreements_total", live="high", candidate="low", **pair) == 100
    assert stepped.total("shadow_disagreements_total") == 100
    assert stepped.total("shadow_score_distance_bucket", le="0.75", **pair) == 900
    assert stepped.total("shadow_score_distance_count", **pair) == 1000
    assert stepped.total("shadow_duration_seconds_count", side="live", **pair) == 1000
    assert 0 < stepped.total("shadow_duration_seconds_count", side="candidate", **pair) <= 1000


def test_compare_tells_what_the_metrics_count(instance: Instance, stepped: Scrape) -> None:
    done = falcon(instance, "models", "compare", "step", "--json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["compared"], told["agree"], told["disagree"]) == (1000, 900, 100)
    assert told["agreement_interval_95"] == list(wilson(900, 1000))
    assert told["disagreements"] == [{"live": "high", "candidate": "low", "count": 100}]
    text = falcon(instance, "models", "compare")
    low, high = wilson(900, 1000)
    assert f"agreement  0.9000 (95 % interval {low:.4f} to {high:.4f})" in text.stdout
    assert "100  high -> low" in text.stdout


def test_compare_without_a_shadow_or_an_instance_says_so(instance: Instance) -> None:
    no_shadow = falcon(instance, "models", "compare", "line")
    assert (no_shadow.returncode, no_shadow.stdout) == (1, "")
    assert "line has no shadow on port" in no_shadow.stderr
    elsewhere = dict(instance.environment)
    instance.environment["PORT"] = "1"
    try:
        assert falcon(instance, "models", "compare").returncode == 3
    finally:
        instance.environment.update(elsewhere)


def test_health_says_what_is_on_trial(instance: Instance) -> None:
    models = instance.get("/health").json["models"]
    assert models["step"]["version"] == models["line"]["version"] == "1.0.0"
    shadow, canary = models["step"]["shadow"], models["line"]["canary"]
    assert (shadow["version"], shadow["fraction"]) == ("1.1.0", 1.0)
    assert (canary["version"], canary["fraction"]) == ("1.1.0", CANARY_SHARE)
    assert "canary" not in models["step"]


def answers_by_client(instance: Instance, clients: list[str]) -> tuple[dict[str, str], set[str]]:
    """Each client's version, asked over several connections, and the workers that answered.

    The input is the same for all, so but for the first ones of each version they are answered from the cache.
    """
    versions: dict[str, str] = {}
    workers = set()
    with connected_to_each(instance, 6) as connections:
        for connection, address in zip(itertools.cycle(connections), clients, strict=False):
            answer = predict(connection, address, y=10).json
            assert answer["prediction"] == pytest.approx({"1.0.0": 20, "1.1.0": 30}[answer["model_version"]])
            versions[address] = answer["model_version"]
            workers.add(answer["worker_id"])
    return versions, workers


@pytest.fixture(scope="module")
def versions(instance: Instance) -> dict[str, str]:
    """Which version each client got when it asked for the first time."""
    found, workers = answers_by_client(instance, CLIENTS)
    assert len(workers) == 2
    return found


def test_a_canary_answers_its_share_of_the_clients(instance: Instance, versions: dict[str, str]) -> None:
    on_trial = Counter(versions.values())["1.1.0"]
    deviation = math.sqrt(len(CLIENTS) * CANARY_SHARE * (1 - CANARY_SHARE))
    assert abs(on_trial - CANARY_SHARE * len(CLIENTS)) < 4 * deviation
    scrape = Scrape.of(instance)
    counted = {
        v: scrape.total("canary_requests_total", version=v, status="success") for v in ("1.0.0", "1.1.0")
    }
    assert counted == Counter(versions.values())
    assert scrape.total("cache_hits_total") >= len(CLIENTS) - 10


def test_the_request_log_says_which_version_answered(
    instance: Instance, versions: dict[str, str], module_database: FreshDatabase
) -> None:
    question = (
        "SELECT model_version, prediction, count(*) FROM inference_logs WHERE model = 'line' GROUP BY 1, 2"
    )
    counts = Counter(versions.values())
    expected = {("1.0.0", 20.0, counts["1.0.0"]), ("1.1.0", 30.0, counts["1.1.0"])}
    with psycopg.connect(module_database.url, autocommit=True) as connection:

        def logged() -> bool:
            rows = connection.execute(question).fetchall()
            return {(version, round(float(value), 6), n) for version, value, n in rows} == expected

        wait_until(logged, 30, "the rows in Postgres")


def test_a_repeated_key_gets_the_stored_answer_of_the_canary(
    instance: Instance, versions: dict[str, str]
) -> None:
    address = next(address for address, version in versions.items() if version == "1.1.0")
    headers = {"X-Forwarded-For": address, "Idempotency-Key": "k"}
    first, second = (instance.request("POST", "/predict", {"y": 4}, headers) for _ in range(2))
    assert first.json["model_version"] == "1.1.0"
    assert second.json == {**first.json, "idempotency_hit": True}


def test_clients_stay_with_their_version_over_a_refused_reload(
    instance: Instance, versions: dict[str, str], module_folder: Path
) -> None:
    some = CLIENTS[:300]
    expected = {address: versions[address] for address in some}
    assert answers_by_client(instance, some)[0] == expected
    set_canary(module_folder, "9.9.9")
    try:
        former = instance.worker_pids()
        instance.signal_master(signal.SIGHUP)
        wait_for_replacement(instance, former)
        found, workers = answers_by_client(instance, some)
    finally:
        set_canary(module_folder, "1.1.0")
    assert found == expected
    assert len(workers) == 2
    refused = [record for record in instance.log_records() if record["message"] == "models_refused"]
    assert [record["reason"] for record in refused] == ["the store has no model line in version 9.9.9"]


def test_the_replay_tells_what_was_sent(instance: Instance, stepped: Scrape, tmp_path: Path) -> None:
    wait_until(lambda: instance.metric("journal_depth_records") == 0, 30, "the rows in Postgres")
    page = tmp_path / "report.html"
    done = falcon(
        instance, "models", "replay", "step", "1.1.0", "--since", "1h", "--json", "--html", str(page)
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["agreed"], told["agreement"]) == (1000, 900, 0.9)
    assert told["live_answers"] == {"logged": 1000, "computed_afresh": 0}
    assert told["confusion"] == [
        {"live": "high", "candidate": "high", "count": 399},
        {"live": "high", "candidate": "low", "count": 100},
        {"live": "low", "candidate": "low", "count": 501},
    ]
    assert told["latency_ms"]["logged"]["rows"] == 1000
    assert (told["errors"], told["skipped"], told["stopped"]) == ({}, {}, None)
    assert len(told["largest_differences"]) == 10
    assert "input" not in told["largest_differences"][0]
    assert "900 of 1,000 agree" in page.read_text()


def test_the_gate_goes_by_the_lower_end_of_the_interval(
    instance: Instance, stepped: Scrape, store: Path
) -> None:
    """0.9 of 1000 agree, and the interval begins at 0.8799."""
    wait_until(lambda: instance.metric("journal_depth_records") == 0, 30, "the rows in Postgres")
    refused = falcon(instance, "models", "promote", "step", "1.1.0", "--gate", "0.89", "--since", "1h")
    assert refused.returncode == 1
    assert refused.stderr.startswith("falcon: step 1.1.0 is not promoted: 900 of 1000 logged answers")
    assert ModelStore(store).current("step") == "1.0.0"
    try:
        accepted = falcon(instance, "models", "promote", "step", "1.1.0", "--gate", "0.875", "--since", "1h")
        assert accepted.returncode == 0, accepted.stderr
        assert ModelStore(store).current("step") == "1.1.0"
    finally:
        serve(store, "step", "1.0.0")


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("shadow", "step@7.0.0", "the store has no model step in version 7.0.0"),
        ("shadow", "tree@1.0.0", "SHADOW: no model tree is served; there is: line, step"),
        ("canary", "step@2.0.0:0.5", "CANARY: step 2.0.0 takes other inputs than 1.0.0, which is served: "),
    ],
)
def test_a_trial_that_cannot_be_stops_the_start_with_one_line(
    store: Path, tmp_path: Path, setting: str, value: str, reason: str
) -> None:
    refused = Instance(tmp_path, store, log_level="WARNING", **{setting: value})
    refused.start(wait=False)
    assert refused.process is not None
    assert refused.process.wait(30) == 1
    (line,) = refused.log_text().splitlines()
    assert line.startswith(f"falcon: {reason}")


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Instance]:
    """A sound model with a candidate that hangs on one text. Its candidates' processes may also be killed."""
    root = heavy_model.store(tmp_path / "store", heavy_model.light())
    hanging = heavy_model.store(tmp_path / "other", heavy_model.stuck()) / "sentiment" / "1.0.0"
    manifest = json.loads((hanging / "manifest.json").read_text())
    (hanging / "manifest.json").write_text(json.dumps({**manifest, "version": "1.1.0"}))
    hanging.rename(root / "sentiment" / "1.1.0")
    serve(root, "sentiment", "1.0.0")
    with running(Instance(tmp_path, root, shadow="sentiment@1.1.0", inference_timeout_seconds=1)) as made:
        yield made


def candidates(instance: Instance) -> list[int]:
    return [pid for worker in instance.worker_pids() for pid in processes.children(worker)]


def test_a_candidate_that_hangs_or_is_killed_never_touches_the_live_path(fragile: Instance) -> None:
    workers = fragile.workers()
    with Traffic(fragile.port) as traffic:
        with contextlib.closing(fragile.client()) as client:
            for number in range(4):
                assert client.infer(f"{heavy_model.STUCK_TEXT} {number}").status == 200
        settled(fragile, 4, outcome="timeout")
        for pid in wait_until(lambda: candidates(fragile), what="a candidate's process"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        before = Scrape.of(fragile).total("shadow_predictions_total", outcome="agree")
        settled(fragile, int(before) + 50, outcome="agree")
    assert traffic.failures == {}
    assert traffic.answered > 0
    assert fragile.workers() == workers, "no worker was replaced"
    scrape = Scrape.of(fragile)
    assert scrape.total("shadow_predictions_total", outcome="timeout") == 4
    assert scrape.total("inference_errors_total") == 0
