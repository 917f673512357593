"""The supervisor with a small application in Falcon's place: order, signals, deaths, and what people read."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from falcon_wsgi import resources
from falcon_wsgi.launch import processes
from falcon_wsgi.launch.server import free_port
from tests.e2e.serving import PATIENCE_S, Started, nothing_left, until

APPLICATION = """
import json, os, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        open("asked", "w").close()
        time.sleep(1.5)
    names = ("REDIS_URL", "DATABASE_URL")
    body = json.dumps({"worker_id": "worker-1", "pid": os.getpid(), **{n: os.environ.get(n) for n in names}})
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body.encode()]
"""
CONF = """
import os
bind = ["127.0.0.1:" + os.environ["PORT"]]
workers = 2
worker_class = "gthread"
control_socket_disable = True
print("falcon log begins", flush=True)
if os.path.exists("broken"):
    raise SystemExit("falcon: model sentiment 1.0.0: digest differs")
"""
RUN = """
import sys
from pathlib import Path
from falcon_wsgi import settings
from falcon_wsgi.errors import FalconError
from falcon_wsgi.launch.supervisor import Application, Supervisor
application = Application("small:app", Path("small.conf.py"), imports="gunicorn", needs_model=False)
try:
    sys.exit(Supervisor(settings.load(), application, log_to_stderr="--log-stderr" in sys.argv).run())
except FalconError as error:
    sys.exit(f"falcon: {error}")
"""


Starter = Callable[..., Started]


@pytest.fixture
def start(home: Path) -> Iterator[Starter]:
    """Starts supervisors with the small application; all of them are stopped after the test."""
    for name, text in (("small.py", APPLICATION), ("small.conf.py", CONF), ("run.py", RUN)):
        (home / name).write_text(text)
    running: list[Started] = []

    def starter(*arguments: str, **environment: str) -> Started:
        path = f"{resources.ROOT}:{home}"
        running.append(Started(home, sys.executable, "run.py", *arguments, PYTHONPATH=path, **environment))
        return running[-1]

    yield starter
    for each in running:
        each.clean_up()


def test_standard_output_is_the_url_and_one_request_that_works(start: Starter) -> None:
    started = start().ready()
    url, curl = started.out.read_text().splitlines()
    assert url == f"http://127.0.0.1:{started.port}"
    assert curl == (
        f"curl -s {url}/infer -H 'Content-Type: application/json' -d '{{\"text\": \"The food was great\"}}'"
    )
    done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["worker_id"] == "worker-1"


def test_ctrl_c_ends_everything_with_code_0_and_the_next_start_finds_the_data(start: Starter) -> None:
    started = start().ready()
    urls = started.state()
    with (
        closing(redis.Redis.from_url(urls["redis_url"])) as client,
        psycopg.connect(urls["database_url"]) as database,
    ):
        client.set("kept", "yes")
        database.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with nothing_left(started):
        assert started.interrupt() == 0
    said = started.said()
    assert re.findall(r"stopping (Postgres|Redis)", said) == ["Postgres", "Redis"]
    assert not (started.data / "instance.json").exists()
    again = start(PORT=str(started.port)).ready()
    urls = again.state()
    with (
        closing(redis.Redis.from_url(urls["redis_url"])) as client,
        psycopg.connect(urls["database_url"]) as database,
    ):
        assert client.get("kept") == b"yes"
        assert database.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_migrations_are_applied_before_the_url_is_printed(start: Starter) -> None:
    started = start().ready()
    with psycopg.connect(started.state()["database_url"]) as database:
        assert database.execute("SELECT to_regclass('inference_logs') IS NOT NULL").fetchone() == (True,)


def test_request_in_flight_is_answered_before_the_end(start: Starter, home: Path) -> None:
    started = start().ready()
    command = ["curl", "-s", "-w", "%{http_code}", "-o", "/dev/null", f"http://127.0.0.1:{started.port}/slow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as slow:
        until((home / "asked").exists, "the request")
        started.process.send_signal(signal.SIGTERM)
        assert slow.communicate(timeout=PATIENCE_S)[0] == "200"
    assert started.process.wait(PATIENCE_S) == 0


def test_second_signal_does_not_wait_for_requests(start: Starter) -> None:
    started = start(GRACEFUL_SHUTDOWN_TIMEOUT_SECONDS="60").ready()
    gunicorn = started.state()["gunicorn_pid"]
    with nothing_left(started) as pids:
        for pid in (gunicorn, *processes.children(gunicorn)):
            os.kill(pid, signal.SIGSTOP)  # nothing that it is asked for will ever happen
        started.process.send_signal(signal.SIGTERM)
        until(lambda: "finished first" in started.said(), "stopping")
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(PATIENCE_S) == 0
        assert gunicorn in pids
    assert "by force" in started.said()


def test_killed_supervisor_leaves_nothing_running(start: Starter) -> None:
    started = start().ready()
    with nothing_left(started):
        started.process.kill()
        started.process.wait()
    status = started.falcon("status")
    assert (status.returncode, status.stdout) == (3, "")


def test_start_right_after_a_kill_takes_over(start: Starter) -> None:
    started = start().ready()
    started.process.kill()
    again = start(PORT=str(started.port)).ready()
    assert again.get()["pid"] not in started.pids()[:1]


def test_gunicorn_that_ends_by_itself_is_one_line_and_an_exit_code(start: Starter) -> None:
    started = start().ready()
    with nothing_left(started):
        os.kill(started.state()["gunicorn_pid"], signal.SIGKILL)
        assert started.process.wait(PATIENCE_S) == 1
    assert started.said().splitlines()[-1].startswith("falcon: ")


def test_start_that_gunicorn_refuses_gives_its_reason_as_the_last_line(start: Starter, home: Path) -> None:
    (home / "broken").touch()
    started = start()
    assert started.process.wait(PATIENCE_S) == 1
    assert started.said().splitlines()[-1] == "falcon: model sentiment 1.0.0: digest differs"
    assert started.out.read_text() == ""


@pytest.mark.parametrize(("name", "url"), [("Redis", "redis_url"), ("Postgres", "database_url")])
def test_server_that_dies_is_started_again_at_the_same_address(start: Starter, name: str, url: str) -> None:
    started = start().ready()
    before = started.state()
    os.kill(before[f"{name.lower()}_pid"], signal.SIGKILL)
    until(lambda: f"{name} died and was started again" in started.said(), "restart")
    after = until(
        lambda: (s := started.state())[f"{name.lower()}_pid"] != before[f"{name.lower()}_pid"] and s, "pid"
    )
    assert after[url] == before[url]
    assert started.get()["worker_id"] == "worker-1"


def test_suspended_server_is_left_alone_and_does_not_hold_up_the_end(start: Starter) -> None:
    started = start().ready()
    redis_pid = started.state()["redis_pid"]
    with nothing_left(started):
        os.kill(redis_pid, signal.SIGSTOP)
        time.sleep(1.5)
        assert started.state()["redis_pid"] == redis_pid
        assert "died" not in started.said()
        assert started.interrupt() == 0


def test_sighup_reloads_gunicorn(start: Starter) -> None:
    started = start().ready()
    before = set(processes.children(started.state()["gunicorn_pid"]))
    started.process.send_signal(signal.SIGHUP)
    gunicorn = started.state()["gunicorn_pid"]
    until(
        lambda: before.isdisjoint(processes.children(gunicorn)) and processes.children(gunicorn),
        "new workers",
    )
    until(lambda: started.get()["pid"] not in before, "answer of a new worker")
    assert started.interrupt() == 0


def test_servers_that_the_user_names_are_used_and_left_running(
    start: Starter, redis_server: Any, postgres_server: Any
) -> None:
    started = start(REDIS_URL=redis_server.url, DATABASE_URL=postgres_server.url).ready()
    seen = started.get()
    assert (seen["REDIS_URL"], seen["DATABASE_URL"]) == (redis_server.url, postgres_server.url)
    status = json.loads(started.falcon("status", "--json").stdout)
    assert (status["redis_url"], status["redis_pid"]) == (redis_server.url, None)
    assert (status["database_url"], status["postgres_pid"]) == (postgres_server.url, None)
    with psycopg.connect(postgres_server.url) as database:
        assert database.execute("SELECT to_regclass('inference_logs') IS NOT NULL").fetchone() == (True,)
    assert started.interrupt() == 0
    assert redis_server.running
    assert not (started.data / "redis").exists()


def test_database_that_is_down_delays_only_the_migrations(
    start: Starter, private_postgres_server: Any
) -> None:
    private_postgres_server.stop()
    started = start(DATABASE_URL=private_postgres_server.url).ready()
    assert "WARNING: migrations are not applied yet" in started.said()
    private_postgres_server.start()
    until(lambda: "falcon: applied " in started.said(), "migrations")
    assert started.said().count("WARNING") == 1


def test_server_that_cannot_be_had_is_one_loud_line_and_the_instance_serves(
    start: Starter, home: Path
) -> None:
    """Its data folder is a file, which no server can use."""
    port = free_port()
    (home / "data" / str(port)).mkdir(parents=True)
    (home / "data" / str(port) / "redis").write_text("")
    started = start(PORT=str(port)).ready()
    warnings = [line for line in started.said().splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("falcon: WARNING: serving without Redis (")
    assert started.get()["REDIS_URL"] is None
    assert json.loads(started.falcon("status", "--json").stdout)["redis_url"] is None


def test_two_instances_run_side_by_side_from_one_folder(start: Starter) -> None:
    first, second = start(), start()
    assert first.ready().port != second.ready().port
    urls = {each.state()[name] for each in (first, second) for name in ("redis_url", "database_url")}
    assert len(urls) == 4
    with nothing_left(second):
        assert second.interrupt() == 0
    assert first.get()["worker_id"] == "worker-1"


def _refused(start: Starter, **environment: str) -> str:
    """The one line of a start that is refused."""
    started = start(**environment)
    assert started.process.wait(PATIENCE_S) == 1
    lines = started.said().splitlines()
    assert len(lines) == 1, lines
    assert started.out.read_text() == ""
    return lines[0]


def test_port_of_another_falcon_is_refused(start: Starter, home: Path) -> None:
    port = str(start().ready().port)
    expected = f"falcon: port {port} is taken by another Falcon; choose another one, for example PORT={int(port) + 1}"
    assert _refused(start, PORT=port, DATA_DIR=str(home / "elsewhere")) == expected


def test_port_of_another_program_is_refused(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert _refused(start, PORT=str(port)) == (
            f"falcon: port {port} is taken by another program; choose another one, for example PORT={port + 1}"
        )


def test_host_of_another_machine_is_refused(start: Starter) -> None:
    assert _refused(start, HOST="192.0.2.1").startswith("falcon: HOST=192.0.2.1 cannot be listened on: ")


def test_data_folder_that_cannot_be_written_is_refused(start: Starter, home: Path) -> None:
    (home / "file").write_text("")
    assert re.match(
        r"falcon: DATA_DIR \(.*\) cannot be written: ", _refused(start, DATA_DIR=str(home / "file" / "x"))
    )


def test_full_disk_is_refused(start: Starter, full_disk: Callable[[int], Path]) -> None:
    data = full_disk(600_000)
    line = _refused(start, DATA_DIR=str(data))
    assert line in (
        f"falcon: the disk that holds DATA_DIR ({data}) is full",
        f"falcon: DATA_DIR ({data}) cannot be written: File too large",
    )


def test_log_passes_through_on_request(start: Starter) -> None:
    started = start("--log-stderr")
    until(lambda: "Listening at" in started.said(), "log")
    assert not (started.data / "log" / "falcon.log").exists()


def test_log_goes_to_a_file_that_is_named(start: Starter) -> None:
    started = start().ready()
    named = re.search(r"logs go to (.*)", started.said())
    assert named is not None
    assert "Listening at" in Path(named.group(1)).read_text()
    assert "Listening at" not in started.said()


def test_signal_during_the_start_ends_it_with_nothing_left(start: Starter) -> None:
    started = start()
    until(lambda: "Redis runs" in started.said(), "first server")
    with nothing_left(started):
        assert started.interrupt() == 0
    assert started.out.read_text() == ""
