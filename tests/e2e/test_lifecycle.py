"""Replaced workers and stopped instances lose no request that a client has begun."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from falcon_wsgi.backends import migrations
from tests.e2e.instance import Answer, Instance, wait_until
from tests.e2e.toy_models import SLOW_TEXTS, write_model, write_slow_model
from tests.e2e.traffic import Traffic
from tests.e2e.workers import is_running, wait_for_replacement


@pytest.fixture(scope="module")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("toy-store")
    write_model(store)
    return store


@pytest.fixture
def start(start_instance: Callable[..., Instance], toy_store: Path) -> Callable[..., Instance]:
    def start_toy(**settings: object) -> Instance:
        return start_instance(**{"model_store": toy_store, **settings})

    return start_toy


class RawClient:
    """A connection on which bytes are sent and read one piece at a time."""

    def __init__(self, port: int, timeout_s: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, body. Status 0 if the connection ends without an answer."""
        received = b""
        while b"\r\n\r\n" not in received:
            if not (data := self.socket.recv(65536)):
                return 0, {}, received
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += self.socket.recv(65536)
        return int(status_line.split()[1]), headers, body

    def closed_by_server(self) -> bool:
        with contextlib.suppress(ConnectionResetError):
            return self.socket.recv(1) == b""
        return False

    def close(self) -> None:
        self.socket.close()


BODY = b'{"text": "good"}'
HEAD = (
    b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(BODY)
)


@contextlib.contextmanager
def raw_client(instance: Instance) -> Iterator[RawClient]:
    client = RawClient(instance.port)
    try:
        yield client
    finally:
        client.close()


# What nothing holds up has ended by then, on any machine; what waits for a graceful timeout of 60 s has not.
MUCH_LESS_S = 30


class Stopping:
    """SIGTERM to the master, and its end."""

    def __init__(self, instance: Instance, number: int = signal.SIGTERM) -> None:
        self._instance = instance
        instance.signal_master(number)

    def exit_code(self, timeout_s: float = 90) -> int:
        assert self._instance.process is not None
        return self._instance.process.wait(timeout_s)


def slow_request(instance: Instance, answers: list[Answer]) -> threading.Thread:
    """A request to the slow model, under way when this returns."""

    def send() -> None:
        answers.append(instance.request("POST", "/infer/batch", {"texts": SLOW_TEXTS}))

    thread = threading.Thread(target=send)
    thread.start()
    wait_for_a_request_in_flight(instance)
    assert not answers, "the model is not slow"
    return thread


def wait_for_a_request_in_flight(instance: Instance) -> None:
    wait_until(lambda: instance.metric("requests_in_flight") == 1, what="a request in flight")


# One worker after the other.


def test_sigterm_to_a_worker_fails_no_request(start: Callable[..., Instance]) -> None:
    instance = start()
    with Traffic(instance.port) as traffic:
        for turn in range(8):
            pid = instance.workers()[f"worker-{turn % 2 + 1}"]
            os.kill(pid, signal.SIGTERM)
            wait_for_replacement(instance, [pid])
        wait_until(lambda: traffic.answered > 200)
    assert traffic.failures == {}


def test_sigterm_to_the_only_worker_fails_no_request(start: Callable[..., Instance]) -> None:
    instance = start(workers=1)
    with Traffic(instance.port) as traffic:
        for _ in range(6):
            former = instance.worker_pids()
            os.kill(former[0], signal.SIGTERM)
            wait_for_replacement(instance, former)
        wait_until(lambda: traffic.answered > 200)
    assert traffic.failures == {}


def test_sighup_replaces_every_worker_and_fails_no_request(start: Callable[..., Instance]) -> None:
    instance = start()
    with Traffic(instance.port) as traffic:
        for _ in range(5):
            former = instance.worker_pids()
            instance.signal_master(signal.SIGHUP)
            wait_for_replacement(instance, former)
            assert sorted(instance.workers()) == ["worker-1", "worker-2"]
        wait_until(lambda: traffic.answered > 200)
    assert traffic.failures == {}


def test_recycling_by_max_requests_fails_no_request(start: Callable[..., Instance]) -> None:
    instance = start(max_requests=200)
    seen: set[int] = set()

    def ten_workers_have_served() -> bool:
        seen.update(instance.worker_pids())
        return len(seen) >= 10

    with Traffic(instance.port) as traffic:
        wait_until(ten_workers_have_served, 120)
    assert traffic.failures == {}


def test_a_replaced_worker_finishes_its_slow_prediction(
    start_instance: Callable[..., Instance], tmp_path: Path
) -> None:
    write_slow_model(tmp_path / "store")
    instance = start_instance(model_store=tmp_path / "store", workers=1)
    answers: list[Answer] = []
    former = instance.worker_pids()
    thread = slow_request(instance, answers)
    os.kill(former[0], signal.SIGTERM)
    thread.join(30)
    assert [answer.status for answer in answers] == [200]
    assert answers[0].headers["Connection"] == "close"
    wait_for_replacement(instance, former)


# The whole instance.


def test_a_stopped_instance_finishes_its_slow_prediction(
    start_instance: Callable[..., Instance], tmp_path: Path
) -> None:
    write_slow_model(tmp_path / "store")
    instance = start_instance(model_store=tmp_path / "store")
    answers: list[Answer] = []
    thread = slow_request(instance, answers)
    stopping = Stopping(instance)
    thread.join(30)
    assert [answer.status for answer in answers] == [200]
    assert answers[0].headers["Connection"] == "close"
    assert stopping.exit_code() == 0


def test_a_request_whose_body_is_still_arriving_is_answered(start: Callable[..., Instance]) -> None:
    instance = start()
    with raw_client(instance) as begun, raw_client(instance) as half_a_head:
        begun.send(HEAD + BODY[:5])
        half_a_head.send(HEAD[:30])
        wait_for_a_request_in_flight(instance)
        stopping = Stopping(instance)
        time.sleep(1.2)  # longer than an idle connection would get
        begun.send(BODY[5:])
        half_a_head.send(HEAD[30:] + BODY)
        for client in (begun, half_a_head):
            status, headers, _ = client.answer()
            assert (status, headers["connection"]) == (200, "close")
    assert stopping.exit_code() == 0


def test_connections_that_no_worker_has_accepted_yet_are_answered(start: Callable[..., Instance]) -> None:
    instance = start()
    workers = instance.worker_pids()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with contextlib.ExitStack() as clients:
        queued = [clients.enter_context(raw_client(instance)) for _ in range(20)]
        for client in queued:
            client.send(HEAD + BODY)
        stopping = Stopping(instance)
        wait_until(lambda: "Handling signal: term" in instance.log_text())
        time.sleep(0.3)  # the master has closed its listener and signalled
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert [client.answer()[0] for client in queued] == [200] * 20
    assert stopping.exit_code() == 0


def test_idle_connections_do_not_hold_the_stop(start: Callable[..., Instance]) -> None:
    instance = start(keepalive_seconds=75, graceful_shutdown_timeout_seconds=60)
    with contextlib.closing(instance.client()) as kept, raw_client(instance) as never_used:
        assert kept.infer("good").headers["Connection"] == "keep-alive"
        stopping = Stopping(instance)
        assert stopping.exit_code(MUCH_LESS_S) == 0
        assert never_used.closed_by_server()


def test_an_idle_connection_may_still_bring_a_request_while_the_stop_begins(
    start: Callable[..., Instance],
) -> None:
    instance = start(keepalive_seconds=75)
    with contextlib.closing(instance.client()) as kept:
        kept.infer("good")
        stopping = Stopping(instance)
        wait_until(lambda: "Handling signal: term" in instance.log_text())
        answer = kept.infer("good again")
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert stopping.exit_code() == 0


def test_readiness_fails_while_requests_are_still_answered(start: Callable[..., Instance]) -> None:
    instance = start(drain_delay_seconds=6)
    unready: set[str] = set()

    def every_worker_says_so() -> bool:
        answer = instance.get("/readyz")
        if answer.status == 503:
            unready.add(answer.headers["X-Worker-ID"])
        return len(unready) == 2

    with Traffic(instance.port, kept=1, fresh=1) as traffic:
        stopping = Stopping(instance)
        wait_until(every_worker_says_so)
        readiness = instance.get("/readyz")
        assert readiness.json["ready"] is False
        assert readiness.headers["Retry-After"]
        assert instance.get("/health").json["status"] == "unhealthy"
        assert instance.get("/healthz").status == 200
        before = traffic.answered
        for _ in range(20):
            answer = instance.infer("good")
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        wait_until(lambda: traffic.answered > before + 20)
        assert traffic.failures == {}
    assert stopping.exit_code() == 0


def test_a_client_that_never_finishes_is_cut_off_within_the_graceful_timeout(
    start: Callable[..., Instance],
) -> None:
    instance = start(graceful_shutdown_timeout_seconds=4)
    with raw_client(instance) as client:
        client.send(HEAD + BODY[:5])
        wait_for_a_request_in_flight(instance)
        stopping = Stopping(instance)
        assert stopping.exit_code() == 0
        assert client.answer()[0] != 200
    # Cut off by the workers themselves; at the end of the timeout the master would have killed them.
    messages = [record["message"] for record in instance.log_records()]
    assert "drain_incomplete" in messages
    assert messages.count("worker_stopped") == 2
    assert "SIGKILL" not in instance.log_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_waits_for_nobody_and_ends_in_good_order(
    start: Callable[..., Instance], number: signal.Signals
) -> None:
    instance = start(graceful_shutdown_timeout_seconds=60, request_timeout_seconds=60)
    with raw_client(instance) as client:
        client.send(HEAD + BODY[:5])
        wait_for_a_request_in_flight(instance)
        stopping = Stopping(instance, number)
        assert stopping.exit_code(MUCH_LESS_S) == 0
    messages = [record["message"] for record in instance.log_records()]
    assert messages.count("worker_stopped") == 2


def test_sigterm_is_obeyed_while_a_reload_waits_for_an_old_worker(start: Callable[..., Instance]) -> None:
    instance = start(graceful_shutdown_timeout_seconds=60, request_timeout_seconds=60)
    former = instance.worker_pids()
    with raw_client(instance) as client:
        client.send(HEAD + BODY[:5])
        wait_for_a_request_in_flight(instance)
        instance.signal_master(signal.SIGHUP)
        wait_until(lambda: not set(former) & set(instance.worker_pids()) and len(instance.worker_pids()) == 2)
        new = instance.worker_pids()
        stopping = Stopping(instance)
        wait_until(lambda: not any(is_running(pid) for pid in new), MUCH_LESS_S, "the end of the new workers")
        assert any(is_running(pid) for pid in former), "one of the old has a request to finish"
        client.send(BODY[5:])
        assert client.answer()[0] == 200
        assert stopping.exit_code() == 0


# The journal.


@pytest.fixture
def database_url(postgres_server) -> str:
    migrations.migrate(postgres_server.url)
    return str(postgres_server.url)


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM inference_logs").fetchone()
    assert found is not None
    return int(found[0])


def test_the_journal_is_in_postgres_when_the_instance_has_stopped(
    start: Callable[..., Instance], database_url: str
) -> None:
    instance = start(database_url=database_url)
    with contextlib.closing(instance.client()) as client:
        for number in range(300):
            assert client.infer(f"good {number}").status == 200
    assert Stopping(instance).exit_code() == 0
    assert rows(database_url) == 300
    assert not [path for path in instance.folder.glob("data/*/journal/*") if path.is_dir()]


def test_without_postgres_the_journal_stays_on_disk_for_the_next_start(
    start: Callable[..., Instance], database_url: str
) -> None:
    nobody = "postgresql://nobody:nothing@127.0.0.1:9/none"
    instance = start(database_url=nobody, graceful_shutdown_timeout_seconds=60)
    for number in range(20):
        assert instance.infer(f"good {number}").status == 200
    assert Stopping(instance).exit_code(MUCH_LESS_S) == 0
    instance.environment["DATABASE_URL"] = database_url
    instance.start()
    wait_until(lambda: rows(database_url) == 20)


# Violent ends.


def test_a_killed_worker_is_replaced_and_its_journal_adopted(
    start: Callable[..., Instance], database_url: str
) -> None:
    instance = start(database_url=database_url, workers=2)
    answered = 0
    for _ in range(3):
        with contextlib.closing(instance.client()) as client:
            for number in range(50):
                answered += client.infer(f"good {number}").status == 200
        former = instance.workers()
        os.kill(former["worker-1"], signal.SIGKILL)
        wait_for_replacement(instance, [former["worker-1"]])
        assert instance.workers()["worker-2"] == former["worker-2"], "the other one is left alone"
    wait_until(lambda: rows(database_url) == answered)
    assert answered == 150


def test_workers_whose_master_was_killed_finish_and_end(start: Callable[..., Instance]) -> None:
    instance = start()
    workers = instance.worker_pids()
    with raw_client(instance) as client:
        client.send(HEAD + BODY[:5])
        wait_for_a_request_in_flight(instance)
        instance.signal_master(signal.SIGKILL)
        wait_until(lambda: any(record["message"] == "master_gone" for record in instance.log_records()))
        client.send(BODY[5:])
        assert client.answer()[0] == 200
    wait_until(lambda: not any(is_running(pid) for pid in workers))


def test_a_worker_that_stands_still_says_where_and_is_replaced(start: Callable[..., Instance]) -> None:
    instance = start()
    former = instance.workers()
    os.kill(former["worker-1"], signal.SIGABRT)  # as the master does when the heartbeat stays away
    wait_for_replacement(instance, [former["worker-1"]])
    stood_still = [r for r in instance.log_records() if r["message"] == "worker_stood_still"]
    assert len(stood_still) == 1
    assert "File " in stood_still[0]["stack"]


# Failures of the master's own steps.


def test_a_worker_that_cannot_boot_does_not_end_an_instance_that_served(
    start: Callable[..., Instance], tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    instance = start(journal_dir=journal)
    former = instance.workers()
    journal.rename(tmp_path / "away")
    journal.write_text("not a folder")
    os.kill(former["worker-1"], signal.SIGKILL)
    time.sleep(2.5)
    assert not instance.exited
    assert instance.infer("good").status == 200
    journal.unlink()
    (tmp_path / "away").rename(journal)
    wait_for_replacement(instance, [former["worker-1"]])


@pytest.mark.parametrize("line", ["CACHE_TTL_SECONDS=soon", "JOURNAL_DIR=/elsewhere"])
def test_settings_that_cannot_be_used_are_refused_at_a_reload_and_the_former_stay(
    start: Callable[..., Instance], line: str
) -> None:
    instance = start()
    former = instance.worker_pids()
    (instance.folder / ".env").write_text(line)
    instance.signal_master(signal.SIGHUP)
    wait_for_replacement(instance, former)
    refused = [record for record in instance.log_records() if record["message"] == "settings_refused"]
    assert len(refused) == 1
    assert line.partition("=")[0] in refused[0]["reason"]
    assert instance.infer("good").status == 200


def test_new_settings_are_in_force_after_a_reload_and_not_before(start: Callable[..., Instance]) -> None:
    instance = start(workers=1)
    (instance.folder / ".env").write_text("CACHE_ENABLED=false")
    former = instance.worker_pids()
    os.kill(former[0], signal.SIGKILL)
    wait_for_replacement(instance, former)
    assert [instance.infer("good").json["cache_hit"] for _ in range(2)] == [False, True]
    former = instance.worker_pids()
    instance.signal_master(signal.SIGHUP)
    wait_for_replacement(instance, former)
    assert [instance.infer("good").json["cache_hit"] for _ in range(2)] == [False, False]


def test_a_second_instance_on_the_same_port_leaves_the_first_one_alone(
    start: Callable[..., Instance], toy_store: Path
) -> None:
    instance = start()
    instance.infer("good")
    workers = instance.workers()
    second = Instance(instance.folder, toy_store)
    second.port, second.environment["PORT"] = instance.port, str(instance.port)
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(30) != 0
    assert instance.workers() == workers
    assert instance.metric("inference_requests_total") == 1


def test_a_second_master_is_refused(start: Callable[..., Instance]) -> None:
    instance = start()
    instance.stop()
    instance.start(cold=True)  # with the command line that a second master would be started by
    instance.signal_master(signal.SIGUSR2)
    wait_until(lambda: any(record["message"] == "reexec_refused" for record in instance.log_records()))
    assert instance.infer("good").status == 200


def test_the_list_of_workers_is_gone_after_the_stop(start: Callable[..., Instance]) -> None:
    instance = start()
    assert Stopping(instance).exit_code() == 0
    assert instance.workers() == {}
    assert sorted(path.name for path in (instance.folder / "data" / str(instance.port)).iterdir()) == [
        "journal",
        "metrics",
    ]
