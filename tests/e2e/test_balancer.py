"""nginx as it is deployed: what it retries, refuses, limits, hides and logs."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from uuid import UUID

import pytest

from falcon_wsgi import settings as configuration
from falcon_wsgi.stack import balancer
from tests.e2e.balancer import Nginx, Seen, Upstream, nginx_program, read_answer
from tests.e2e.instance import Answer, Client, free_port, wait_until

STRANGER = {"X-Forwarded-For": "203.0.113.9"}
PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance", "request_id", "error"}
ORDINARY = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    return []


@pytest.fixture(scope="module")
def upstreams(seen: list[Seen]) -> Iterator[tuple[Upstream, Upstream]]:
    pair = Upstream(seen), Upstream(seen)
    for upstream in pair:
        upstream.start()
    yield pair
    for upstream in pair:
        upstream.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    command += [
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-out",
        str(made[0]),
        "-keyout",
        str(made[1]),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def nginx(
    tmp_path_factory: pytest.TempPathFactory,
    upstreams: tuple[Upstream, Upstream],
    certificate: tuple[Path, Path],
    tls_port: int,
) -> Iterator[Nginx]:
    """Addresses of others than this machine are told by X-Forwarded-For, and are limited."""
    settings = configuration.load(env_file=None, port=free_port())
    ports = [upstream.port for upstream in upstreams]
    values = balancer.variables(settings, ports, "run/temp") | {
        "BALANCER_SERVERS": balancer.servers(f"127.0.0.1:{port}" for port in ports).replace("=5s", "=1s"),
        "BALANCER_REAL_IP": "set_real_ip_from 127.0.0.1;",
        "BALANCER_ATTEMPT_TIMEOUT": "1500ms",
        "BALANCER_RETRY_WINDOW": "2900ms",
        "BALANCER_RATE": "1r/s",
        "BALANCER_BURST": "2",
        "BALANCER_CONNECTIONS": "2",
        "BALANCER_GRAFANA": f"127.0.0.1:{free_port()}",
        "BALANCER_TLS": "on",
        "BALANCER_TLS_LISTEN": f"127.0.0.1:{tls_port}",
        "BALANCER_TLS_CERTIFICATE": str(certificate[0]),
        "BALANCER_TLS_KEY": str(certificate[1]),
    }
    running = Nginx(nginx_program("tests/e2e/test_balancer.py"), tmp_path_factory.mktemp("nginx"), values)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(nginx: Nginx, seen: list[Seen]) -> Iterator[Client]:
    seen.clear()
    client = nginx.client()
    yield client
    client.close()


def assert_is_problem(answer: Answer, status: int) -> dict[str, object]:
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json.keys() == PROBLEM_FIELDS
    assert answer.json["status"] == status
    assert answer.json["error"] == answer.json["detail"]
    assert answer.headers["X-Request-ID"] == answer.json["request_id"]
    return answer.json


# Retries.


def test_a_post_whose_instance_died_is_repeated_elsewhere_as_the_same_event(
    client: Client, seen: list[Seen]
) -> None:
    answer = client.request("POST", "/die-once", {"text": "good"})
    assert answer.status == 200
    first, second = seen
    assert first.port != second.port
    for name in ("x-event-id", "x-event-time", "content-length", "x-forwarded-for"):
        assert first.headers[name] == second.headers[name]
    assert str(UUID(first.headers["x-event-id"])) == first.headers["x-event-id"]
    assert abs(float(first.headers["x-event-time"]) - time.time()) < 60


def test_an_instance_that_hangs_costs_one_attempt_and_no_request(client: Client, seen: list[Seen]) -> None:
    assert client.request("POST", "/hang-once", {"text": "good"}).status == 200
    first, second = seen
    assert first.port != second.port
    assert first.headers["x-event-id"] == second.headers["x-event-id"]


def test_no_attempt_begins_that_could_outlast_the_request(client: Client, seen: list[Seen]) -> None:
    problem = assert_is_problem(client.request("POST", "/hang", {}), 504)
    assert problem["type"] == "urn:falcon:problem:deadline_exceeded"
    assert 1 <= len(seen) <= 2, "1.5 s each, and none begins after 2.9 s"


def test_two_requests_are_two_events(client: Client, seen: list[Seen]) -> None:
    client.request("POST", "/infer", {})
    client.request("POST", "/infer", {})
    assert len({each.headers["x-event-id"] for each in seen}) == 2


def test_a_clients_own_event_headers_never_pass(client: Client, seen: list[Seen]) -> None:
    forged = {"X-Event-ID": "0" * 32, "X-Event-Time": "1", "X_Event_ID": "1" * 32}
    client.request("POST", "/infer", {}, forged)
    assert seen[0].headers["x-event-id"] != forged["X-Event-ID"]
    assert float(seen[0].headers["x-event-time"]) > 1
    assert "x_event_id" not in seen[0].headers


@pytest.mark.parametrize("status", [500, 503, 504])
def test_what_the_service_answers_on_purpose_is_not_repeated_and_ejects_nobody(
    client: Client, seen: list[Seen], status: int
) -> None:
    for _ in range(8):
        assert client.request("POST", f"/status/{status}", {}).status == status
    assert len(seen) == 8
    assert len({each.port for each in seen}) == 2


def test_a_request_that_every_instance_dies_of_is_tried_a_few_times_and_refused(
    client: Client, seen: list[Seen]
) -> None:
    problem = assert_is_problem(client.request("POST", "/die", {}), 503)
    assert problem["detail"] == "no instance could answer; try again"
    assert 2 <= len(seen) <= 4
    assert len({each.headers["x-event-id"] for each in seen}) == 1


def test_an_instance_that_is_not_ready_is_passed_over(
    client: Client, seen: list[Seen], upstreams: tuple[Upstream, Upstream]
) -> None:
    upstreams[0].ready = False

    def asked() -> bool:
        assert client.request("GET", "/readyz").status == 200
        return upstreams[0].port in {each.port for each in seen}

    wait_until(asked, 15, "a request to the instance that is not ready")
    upstreams[0].ready = True


def test_failures_of_every_instance_at_once_eject_not_all_of_them(client: Client) -> None:
    for _ in range(6):
        assert client.request("POST", "/die", {}).status == 503
    assert client.request("POST", "/infer", {}).status == 200


def test_an_instance_that_comes_back_gets_requests_again(
    client: Client, seen: list[Seen], upstreams: tuple[Upstream, Upstream]
) -> None:
    gone = upstreams[0]
    gone.stop()
    assert [client.request("POST", "/infer", {}).status for _ in range(12)] == [200] * 12
    gone.start()

    def asked() -> bool:
        client.request("POST", "/infer", {})
        return seen[-1].port == gone.port

    wait_until(asked, 15, "a request to the instance that came back")


def test_a_slow_client_holds_no_instance(nginx: Nginx, client: Client, seen: list[Seen]) -> None:
    """The body is awaited here; an instance is asked when it is whole."""
    with socket.create_connection(("127.0.0.1", nginx.port)) as slow:
        slow.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert client.request("POST", "/infer", {}).status == 200
        assert [each.path for each in seen] == ["/infer"]
        slow.sendall(b"+other")
        wait_until(lambda: [each.path for each in seen] == ["/infer", "/slow"])


# Refusals.


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (ORDINARY + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (ORDINARY + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (ORDINARY + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (ORDINARY + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"no HTTP at all\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
    ],
    ids=["two framings", "two lengths", "coding", "long header", "long line", "no host", "no HTTP", "TRACE", "version"],
)  # fmt: skip
def test_what_is_not_proper_http_gets_a_problem_and_reaches_no_instance(
    nginx: Nginx, seen: list[Seen], raw: bytes, status: int
) -> None:
    seen.clear()
    head, body = nginx.say(raw)
    assert head.split()[1] == str(status).encode()
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body).keys() == PROBLEM_FIELDS
    assert json.loads(body)["status"] == status
    assert seen == []


def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_passes(
    client: Client, seen: list[Seen]
) -> None:
    assert client.request("POST", "/infer", b"x" * 1024 * 1024).status == 200
    problem = assert_is_problem(client.request("POST", "/infer", b"x" * (1024 * 1024 + 1)), 413)
    assert problem["instance"] == "/infer"
    assert problem["type"] == "urn:falcon:problem:payload_too_large"
    assert len(seen) == 1


def test_a_chunked_body_over_the_limit_is_refused(nginx: Nginx) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head, body = nginx.say(
        b"POST /infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk * 17 + b"0\r\n\r\n"
    )  # fmt: skip
    assert head.split()[1] == b"413"
    assert json.loads(body)["status"] == 413


def test_what_a_client_puts_into_its_address_cannot_break_the_problem_document(nginx: Nginx) -> None:
    head, body = nginx.say(
        b'GET /grafana/"},\\x?secret=1 HTTP/1.1\r\nHost: x\r\nX-Request-ID: a"b\r\nConnection: close\r\n\r\n'
    )
    assert head.split()[1] == b"503"
    problem = json.loads(body)
    assert problem["instance"] == ""
    assert UUID(problem["request_id"])
    assert b"secret" not in body


def test_a_clients_request_id_is_in_the_problem(client: Client) -> None:
    answer = client.request("GET", "/grafana/", headers={"X-Request-ID": "order-17"})
    assert assert_is_problem(answer, 503)["request_id"] == "order-17"


# Limits.


def test_a_client_over_its_rate_gets_429_with_retry_after_and_others_do_not(client: Client) -> None:
    answers = [client.request("POST", "/infer", {}, STRANGER) for _ in range(10)]
    refused = [answer for answer in answers if answer.status != 200]
    assert 5 <= len(refused) <= 7
    for answer in refused:
        assert assert_is_problem(answer, 429)["type"] == "urn:falcon:problem:rate_limited"
        assert answer.headers["Retry-After"] == "1"
    assert client.request("POST", "/infer", {}, {"X-Forwarded-For": "203.0.113.10"}).status == 200
    assert client.request("GET", "/readyz", headers=STRANGER).status == 200, "health is never limited"


def test_connections_beyond_a_clients_limit_get_429(
    nginx: Nginx, client: Client, seen: list[Seen], upstreams: tuple[Upstream, Upstream]
) -> None:
    """Three requests are within the rate; two of them in flight are all that one address may have."""
    other = {"X-Forwarded-For": "203.0.113.11"}
    hold = b"GET /hold HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.11\r\n\r\n"
    held = [socket.create_connection(("127.0.0.1", nginx.port), timeout=20) for _ in range(2)]
    for connection in held:
        connection.sendall(hold)
    wait_until(lambda: len(seen) == 2)
    assert_is_problem(client.request("GET", "/infer", headers=other), 429)
    assert client.request("GET", "/readyz", headers=other).status == 200
    for upstream in upstreams:
        upstream.released.set()
    assert [read_answer(connection)[0].split()[1] for connection in held] == [b"200", b"200"]
    for connection in held:
        connection.close()


@pytest.mark.parametrize("path", ["/metrics", "/nginx_status"])
def test_metrics_and_status_are_for_private_addresses(client: Client, path: str) -> None:
    assert client.request("GET", path).status == 200
    assert client.request("GET", path, headers={"X-Forwarded-For": "10.1.2.3"}).status == 200
    assert_is_problem(client.request("GET", path, headers=STRANGER), 403)
    forged = {"X-Forwarded-For": "10.1.2.3, 203.0.113.9"}
    assert client.request("GET", path, headers=forged).status == 403, "only the nearest stranger counts"


# What an answer carries, and what is logged.


@pytest.mark.parametrize("path", ["/infer", "/grafana/", "/status/404"])
def test_security_headers_are_on_every_answer_once(client: Client, path: str) -> None:
    headers = client.request("GET", path).headers
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("Referrer-Policy") == ["no-referrer"]
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Server"] == "nginx"
    assert "Strict-Transport-Security" not in headers


def test_the_access_log_is_json_with_the_time_of_each_attempt_and_without_the_query(
    nginx: Nginx, client: Client
) -> None:
    client.request("POST", "/die-once", {}, {"User-Agent": 'a "quoted" \\ agent', "X-Request-ID": "logged-1"})
    client.request("GET", "/infer?secret=1")
    nginx.say(b'GET /"odd"?secret=2 HTTP/1.1\r\nHost: x\r\n\r\n')
    wait_until(lambda: nginx.access_log()[-1]["path"] == '/"odd"')
    retried = next(line for line in nginx.access_log() if line["request_id"] == "logged-1")
    assert retried["user_agent"] == 'a "quoted" \\ agent'
    assert retried["status"] == 200
    assert retried["upstream_status"] == "502, 200"
    assert len(retried["upstream_seconds"].split(", ")) == 2
    assert "secret" not in (nginx.prefix / "logs" / "access.log").read_text()


# TLS.


def tls_client(certificate: tuple[Path, Path], port: int, most: ssl.TLSVersion) -> HTTPSConnection:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, most
    return HTTPSConnection("localhost", port, timeout=10, context=context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_serves_the_same_and_asks_browsers_to_stay(
    nginx: Nginx, certificate: tuple[Path, Path], tls_port: int, version: ssl.TLSVersion
) -> None:
    connection = tls_client(certificate, tls_port, version)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    answer.read()
    connection.close()


def test_tls_below_1_2_is_refused(nginx: Nginx, tls_port: int) -> None:
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{tls_port}",
        "-tls1_1",
        "-cipher",
        "ALL:@SECLEVEL=0",
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0
    assert "alert protocol version" in done.stderr


def test_plain_http_on_the_tls_port_gets_a_problem(nginx: Nginx, tls_port: int) -> None:
    with socket.create_connection(("127.0.0.1", tls_port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, body = read_answer(plain)
    assert head.split()[1] == b"400"
    assert json.loads(body)["detail"] == "this port speaks TLS"
