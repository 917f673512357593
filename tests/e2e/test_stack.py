"""The bare-metal stack: nothing is lost through nginx whatever is reloaded, restarted or killed behind it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from falcon_wsgi.launch import processes
from tests.e2e.balancer import nginx_program
from tests.e2e.instance import Client, wait_until
from tests.e2e.load import Load
from tests.e2e.stack import Stack
from tests.e2e.toy_models import write_model
from tests.e2e.traffic import Traffic

RESTART_S = 60.0
# A program that the stack finds by its name and runs like the real one.
EXPORTER = "#!/bin/sh\nexec /bin/sleep 600\n"


@pytest.fixture(scope="module")
def stack(servers_folder: Path) -> Iterator[Stack]:
    """Two instances of two workers each, which are replaced every 100 requests or so."""
    nginx_program("tests/e2e/test_stack.py")
    folder = servers_folder / "stack"
    programs = folder / "programs"
    programs.mkdir(parents=True)
    folder.chmod(0o711)
    exporter = programs / "prometheus-nginx-exporter"
    exporter.write_text(EXPORTER)
    exporter.chmod(0o755)
    write_model(folder / "store")
    stack = Stack(folder, folder / "store", workers=2, max_requests=100, graceful_shutdown_timeout_seconds=10)
    stack.environment["PATH"] = str(programs)  # no real Prometheus, which would only take time
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def serves(stack: Stack, name: str, former: int) -> Callable[[], bool]:
    """Whether another process than `former` is ready behind the name."""

    def asked() -> bool:
        part = stack.part(name)
        if part["pid"] in (None, former):
            return False
        client = Client(part["port"])
        try:
            return client.request("GET", "/readyz").status == 200
        except OSError:
            return False
        finally:
            client.close()

    return asked


def more_answers(traffic: Traffic | Load, count: int) -> None:
    def answered() -> int:
        return traffic.answered if isinstance(traffic, Traffic) else len(traffic.history)

    before = answered()
    wait_until(lambda: answered() >= before + count, RESTART_S, f"{count} more answers")


def test_status_shows_every_part_with_pid_and_port(stack: Stack) -> None:
    done = stack.falcon("stack", "status")
    assert done.returncode == 1, "the fake exporter listens on no port, so not all is well"
    shown = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    for name in ("redis", "postgres", "instance-1", "instance-2", "nginx"):
        part = stack.part(name)
        assert shown[name][1:4] == ["ready", str(part["pid"]), str(part["port"])]
    assert shown["nginx-exporter"][1:3] == ["not", "ready"]


def test_requests_are_spread_over_the_instances_and_get_the_same_event_id_in_the_log(stack: Stack) -> None:
    client = Client(stack.port)
    answers = [client.infer(f"good {number}") for number in range(10)]
    client.close()
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["worker_id"][:10] for answer in answers} == {"instance-1", "instance-2"}
    logged = {line["event_id"] for line in stack.access_log()}
    assert {answer.headers["X-Request-ID"] for answer in answers} <= logged


def test_reloads_and_recycling_lose_no_request(stack: Stack) -> None:
    masters = [stack.part(f"instance-{number}")["pid"] for number in (1, 2)]
    with Traffic(stack.port) as traffic:
        more_answers(traffic, 50)
        former = stack.workers(1)
        done = stack.falcon("reload", port=stack.port + 1)
        assert done.returncode == 0, done.stderr
        assert set(stack.workers(1)).isdisjoint(former)
        former = stack.workers(2)
        os.kill(masters[1], signal.SIGHUP)
        wait_until(lambda: stack.workers(2) and set(stack.workers(2)).isdisjoint(former), RESTART_S, "SIGHUP")
        more_answers(traffic, 600)
    assert traffic.failures == {}
    for number in (1, 2):
        assert "worker_recycled" in stack.log_of(f"instance-{number}")
    assert [stack.part(f"instance-{number}")["pid"] for number in (1, 2)] == masters


def test_a_rolling_restart_loses_no_request(stack: Stack) -> None:
    former = {name: stack.part(name)["pid"] for name in ("instance-1", "instance-2")}
    with Traffic(stack.port, kept=2, fresh=1, pause_s=0.01) as traffic:
        more_answers(traffic, 50)
        done = stack.falcon("stack", "restart")
        more_answers(traffic, 50)
    assert done.returncode == 0, done.stderr
    assert traffic.failures == {}
    for name, pid in former.items():
        assert stack.part(name)["pid"] not in (None, pid)
        assert f"falcon: {name}: pid {pid} replaced by {stack.part(name)['pid']}" in done.stderr


def test_a_killed_worker_and_a_killed_instance_lose_no_request_and_each_answer_is_one_row(
    stack: Stack,
) -> None:
    with Load(stack.port, clients=6, keyed=True, pause_s=0.005) as load:
        more_answers(load, 100)
        for worker in processes.children(stack.part("instance-1")["pid"]):
            processes.send(worker, signal.SIGKILL)  # one that is being recycled may be gone already
        more_answers(load, 200)
        killed = stack.part("instance-2")["pid"]
        os.killpg(killed, signal.SIGKILL)
        more_answers(load, 200)
        wait_until(serves(stack, "instance-2", killed), RESTART_S, "the instance's return")
        more_answers(load, 100)
    assert load.failed() == []
    sent = {attempt.request_id for attempt in load.history}
    retried = [line for line in stack.access_log() if line["request_id"] in sent and "," in line["upstream"]]
    assert retried, "the kills met no request, so nothing was proved"
    expected = {attempt.request_id: attempt.rows for attempt in load.answered()}

    def rows() -> Counter[str]:
        with psycopg.connect(stack.state()["database_url"]) as connection:
            found = connection.execute("SELECT request_id FROM inference_logs").fetchall()
        return Counter(request_id for (request_id,) in found if request_id in sent)

    wait_until(lambda: sum(rows().values()) >= sum(expected.values()), 30, "the rows of all answers")
    assert rows() == expected


def test_nginx_and_what_else_dies_is_started_again(stack: Stack) -> None:
    former = {name: stack.part(name)["pid"] for name in ("nginx", "nginx-exporter", "redis")}
    for pid in former.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in former.items():
        wait_until(lambda name=name, pid=pid: stack.part(name)["pid"] not in (None, pid), RESTART_S, name)

    def answers() -> bool:
        client = Client(stack.port)
        try:
            return client.infer("good").status == 200
        except OSError:
            return False
        finally:
            client.close()

    wait_until(answers, RESTART_S, "an answer through the new nginx")
    assert "nginx ended (SIGKILL); starting it again" in stack.log_of("stack")


def test_a_second_stack_on_the_port_is_refused(stack: Stack) -> None:
    done = stack.falcon("stack", "start")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"falcon: this stack runs already (pid {stack.state()['pid']}); `falcon stack status` shows it\n"
    )


def test_stop_ends_everything_that_was_started(stack: Stack) -> None:
    state = stack.state()
    started = [state["pid"], *(part["pid"] for part in state["parts"])]
    family = started + [child for pid in started for child in processes.children(pid)]
    done = stack.stop()
    assert done.returncode == 0, done.stderr
    assert [pid for pid in family if processes.alive(pid)] == []
    assert stack.falcon("stack", "status").returncode == 3
    assert stack.stop().returncode == 3
