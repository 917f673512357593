"""`falcon serve` with the real application, and the commands beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from falcon_wsgi.launch import processes
from tests.e2e.serving import FALCON, Started, nothing_left, until

SERVE = (*FALCON, "serve")


@pytest.fixture(scope="module")
def served(servers_folder: Path, model_store: Path) -> Iterator[Started]:
    """One instance for the module."""
    folder = servers_folder / "served"
    folder.mkdir()
    folder.chmod(0o711)
    # One model: the commands that verify the store load each of them in a process of its own.
    shutil.copytree(model_store / "sentiment", folder / "store" / "sentiment")
    started = Started(folder, *SERVE, MODEL_STORE=str(folder / "store"), WORKERS="2")
    try:
        yield started.ready()
    finally:
        started.clean_up()


def test_printed_request_gets_a_prediction(served: Started) -> None:
    curl = served.out.read_text().splitlines()[1]
    done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["prediction"] == "positive"


def test_status_names_every_part(served: Started) -> None:
    done = served.falcon("status", "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert list(status) == [
        "url",
        "workers",
        "models_refused",
        "redis_url",
        "redis_pid",
        "database_url",
        "postgres_pid",
        "ready",
    ]
    assert status["url"] == f"http://127.0.0.1:{served.port}"
    assert status["ready"] is True
    assert [worker["worker_id"] for worker in status["workers"]] == ["worker-1", "worker-2"]
    for pid in (
        status["redis_pid"],
        status["postgres_pid"],
        *(worker["pid"] for worker in status["workers"]),
    ):
        assert processes.alive(pid)
    with psycopg.connect(status["database_url"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_status_for_people_shows_the_same_without_passwords(served: Started) -> None:
    shown = served.falcon("status").stdout
    for word in (
        f"http://127.0.0.1:{served.port} (ready)",
        "worker-1",
        "worker-2",
        "redis://:***@",
        "falcon:***@",
    ):
        assert word in shown


def test_reload_recycles_the_workers_below_the_supervisor(served: Started) -> None:
    former = json.loads(served.falcon("status", "--json").stdout)
    done = served.falcon("reload")
    assert done.returncode == 0, done.stderr
    now = json.loads(served.falcon("status", "--json").stdout)
    assert now["ready"] is True
    assert now["models_refused"] is None
    assert [worker["worker_id"] for worker in now["workers"]] == ["worker-1", "worker-2"]
    pids = [{worker["pid"] for worker in status["workers"]} for status in (former, now)]
    assert not pids[0] & pids[1]
    for worker in now["workers"]:
        assert worker["models"]["sentiment"] == "1.0.0"
        assert f"{worker['worker_id']}  pid {worker['pid']}  " in done.stdout


def test_answered_request_is_in_the_database_that_status_names(served: Started) -> None:
    text = f"a row for this {time.monotonic_ns()}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{served.port}/infer",
        json.dumps({"text": text}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        request_id = response.headers["X-Request-ID"]

    def rows() -> bool:
        with psycopg.connect(served.state()["database_url"]) as connection:
            found = connection.execute(
                "SELECT count(*) FROM inference_logs WHERE request_id = %s", (request_id,)
            )
            return found.fetchone() == (1,)

    until(rows, "the row")


def test_check_of_a_running_instance_is_all_ok(served: Started) -> None:
    done = served.falcon("check")
    assert done.returncode == 0, done.stdout
    names = [line.split(":")[0] for line in done.stdout.splitlines()]
    expected = ("settings", "data folder", "models", "api keys", "port", "redis", "postgres", "migrations")
    assert names == [f"ok    {name}" for name in expected]


def test_check_fails_where_a_server_is_away(served: Started) -> None:
    served.environment["REDIS_URL"] = "redis://:secret@127.0.0.1:1/0"
    try:
        done = served.falcon("check")
    finally:
        del served.environment["REDIS_URL"]
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert len(failed) == 1
    assert failed[0].startswith("FAIL  redis: ")
    assert "secret" not in failed[0]


def test_migrate_and_prune_use_the_running_instance(served: Started) -> None:
    migrated = served.falcon("db", "migrate")
    assert (migrated.returncode, migrated.stdout) == (0, "the database is up to date\n")
    pruned = served.falcon("db", "prune", "--older-than", "30d")
    assert (pruned.returncode, pruned.stdout) == (0, "nothing is older than 30d\n")


def test_models_are_listed_shown_and_verified(served: Started) -> None:
    assert "sentiment" in served.falcon("models", "list").stdout
    assert json.loads(served.falcon("models", "show", "sentiment").stdout)["name"] == "sentiment"
    verified = served.falcon("models", "verify")
    assert verified.returncode == 0
    assert "ok    sentiment 1.0.0" in verified.stdout.splitlines()


def test_second_instance_on_the_port_is_one_line(served: Started, home: Path) -> None:
    for data in (served.environment["DATA_DIR"], str(home)):
        environment = served.environment | {"DATA_DIR": data}
        done = subprocess.run(SERVE, env=environment, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"falcon: port {served.port} is taken by another Falcon")
        assert done.stderr.count("\n") == 1


@pytest.fixture
def start(home: Path, model_store: Path) -> Iterator[Callable[..., Started]]:
    running: list[Started] = []

    def starter(**environment: str) -> Started:
        environment = {"MODEL_STORE": str(model_store), "WORKERS": "2", **environment}
        running.append(Started(home, *SERVE, **environment))
        return running[-1]

    yield starter
    for each in running:
        each.clean_up()


def test_damaged_model_stops_the_start_with_one_line_that_says_so(
    start: Callable[..., Started], model_store: Path, home: Path
) -> None:
    copy = home / "store"
    subprocess.run(["cp", "-r", str(model_store), str(copy)], check=True)
    for path in copy.glob("sentiment/*/*"):
        if path.name != "manifest.json":
            path.write_bytes(path.read_bytes()[:-1] + b"x")
    started = start(MODEL_STORE=str(copy))
    assert started.process.wait(60) == 1
    last = started.said().splitlines()[-1]
    assert last.startswith("falcon: ")
    assert "sentiment" in last
    assert started.out.read_text() == ""


def test_killed_supervisor_takes_workers_and_servers_with_it(start: Callable[..., Started]) -> None:
    started = start().ready()
    with nothing_left(started) as pids:
        assert len(pids) > 5
        started.process.kill()
        started.process.wait()


def test_ctrl_c_ends_everything_with_code_0(start: Callable[..., Started]) -> None:
    started = start().ready()
    with nothing_left(started):
        assert started.interrupt() == 0
    assert not list(started.data.glob("*.json"))


def test_training_on_a_bad_file_is_one_line(served: Started, home: Path) -> None:
    (home / "bad.csv").write_text("a,b\n1,2\n")
    store = home / "store"
    served.environment["MODEL_STORE"], former = str(store), served.environment["MODEL_STORE"]
    try:
        done = served.falcon("train", "sentiment", "--data", str(home / "bad.csv"))
    finally:
        served.environment["MODEL_STORE"] = former
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("falcon: ")
    assert not list(store.glob("*/*/manifest.json"))
