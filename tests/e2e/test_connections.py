"""How a worker treats its connections: reuse, pipelining, slow and broken clients."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.instance import Instance, running
from tests.e2e.toy_models import write_model


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder: Path = tmp_path_factory.mktemp("instance")
    write_model(folder / "store")
    with running(Instance(folder, folder / "store", keepalive_seconds=2)) as instance:
        yield instance


@pytest.fixture
def client(instance: Instance) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", instance.port), timeout=60) as connection:
        yield connection


def head(length: int, path: str = "/infer", content_type: str = "application/json") -> bytes:
    lines = f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {content_type}", f"Content-Length: {length}"
    return "\r\n".join((*lines, "", "")).encode()


def infer(text: str) -> bytes:
    body = json.dumps({"text": text}).encode()
    return head(len(body)) + body


def read_answer(client: socket.socket, rest: bytes = b"") -> tuple[int, dict[str, str], bytes, bytes]:
    """Status, headers in lower case, body, and what came after it. Status 0 if there is no answer."""
    while b"\r\n\r\n" not in rest:
        if not (data := client.recv(65536)):
            return 0, {}, b"", rest
        rest += data
    first, *lines = rest.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    rest = rest.partition(b"\r\n\r\n")[2]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    length = int(headers["content-length"])
    while len(rest) < length:
        rest += client.recv(65536)
    return int(first.split()[1]), headers, rest[:length], rest[length:]


def ends(client: socket.socket) -> bool:
    """Whether the server closes the connection in good order."""
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return False


def test_pipelined_requests_are_answered_in_order(client: socket.socket) -> None:
    client.sendall(b"".join(infer(f"good {number}") for number in range(20)) + infer("bad"))
    rest = b""
    predictions = []
    for _ in range(21):
        status, _headers, body, rest = read_answer(client, rest)
        assert status == 200
        predictions.append(json.loads(body)["prediction"])
    assert predictions == ["positive"] * 20 + ["negative"]


def test_a_request_that_arrives_byte_by_byte_is_answered(client: socket.socket) -> None:
    for byte in infer("good"):
        client.sendall(bytes([byte]))
        time.sleep(0.002)
    assert read_answer(client)[0] == 200


def test_a_body_that_nobody_read_does_not_spoil_the_next_request(client: socket.socket) -> None:
    client.sendall(head(300_000, content_type="text/plain") + b"x" * 300_000 + infer("good"))
    status, _, _, rest = read_answer(client)
    assert status == 415
    assert read_answer(client, rest)[0] == 200


def test_the_answer_to_an_oversized_body_arrives_though_the_body_is_still_being_sent(
    client: socket.socket,
) -> None:
    client.sendall(head(5_000_000))
    with contextlib.suppress(OSError):
        for _ in range(50):
            client.sendall(b"x" * 100_000)
            time.sleep(0.005)
    assert read_answer(client)[0] == 413


def test_an_idle_connection_is_closed_after_the_keep_alive_time(client: socket.socket) -> None:
    client.sendall(infer("good"))
    assert read_answer(client)[0] == 200
    idle_since = time.monotonic()
    assert ends(client)
    assert time.monotonic() - idle_since > 1.9


def test_a_connection_in_use_outlives_the_keep_alive_time(client: socket.socket) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 3:
        client.sendall(infer("good"))
        assert read_answer(client)[0] == 200
        time.sleep(0.3)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: made-up\r\n\r\n", 501),
    ],
)
def test_what_is_not_http_is_answered_with_a_problem_and_a_close(
    instance: Instance, client: socket.socket, sent: bytes, status: int
) -> None:
    client.sendall(sent + b"x" * 20_000)
    answered, headers, body, _ = read_answer(client)
    assert answered == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-worker-id"] in instance.workers()
    problem = json.loads(body)
    assert (problem["status"], problem["request_id"]) == (status, headers["x-request-id"])
    assert ends(client)


def test_a_head_that_never_ends_is_answered_with_408(client: socket.socket) -> None:
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    assert read_answer(client)[0] == 408
    assert ends(client)


def test_a_client_that_goes_away_in_the_middle_leaves_no_trace_but_its_own(instance: Instance) -> None:
    for sent in (b"POST", head(100), head(100) + b'{"te'):
        with socket.create_connection(("127.0.0.1", instance.port)) as client:
            client.sendall(sent)
    assert instance.infer("good").status == 200
    assert not [record for record in instance.log_records() if record["level"] in ("ERROR", "CRITICAL")]
