from __future__ import annotations

import random
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
import pytest
from gevent.monkey import get_original
from gevent.server import StreamServer
from gevent.socket import SHUT_WR, create_connection
from redis.exceptions import ConnectionError, TimeoutError

from falcon_wsgi.backends.redis import TRANSIENT, RedisClient, ping
from falcon_wsgi.errors import ConfigurationError, DependencyUnavailable

block_the_hub = get_original("time", "sleep")


@pytest.fixture
def client(redis_server: Any) -> Iterator[RedisClient]:
    client = RedisClient(redis_server.url, timeout_s=2.0)
    yield client
    client.close()


@pytest.fixture
def server_that() -> Iterator[Callable[..., str]]:
    """Starts a server that does as a function of its socket says; gives its URL."""
    servers: list[Any] = []

    def start(behaves: Callable[[Any], None]) -> str:
        server = StreamServer(("127.0.0.1", 0), lambda socket, _: behaves(socket))
        server.start()
        servers.append(server)
        return f"redis://127.0.0.1:{server.server_port}/0"

    yield start
    for server in servers:
        server.stop(timeout=0)


def connections(client: RedisClient) -> int:
    listed: bytes = client.execute([("CLIENT", "LIST")])[0]
    return listed.count(b"name=falcon")


class TestSharing:
    def test_all_greenlets_share_one_connection(self, client: RedisClient) -> None:
        gevent.joinall([gevent.spawn(client.execute, [("GET", "k")]) for _ in range(100)], raise_error=True)
        assert connections(client) == 1

    def test_operations_of_ready_greenlets_go_out_in_one_write(self, server_that: Callable[..., str]) -> None:
        received: list[bytes] = []

        def count(socket: Any) -> None:
            while data := socket.recv(65536):
                received.append(data)
                socket.sendall(b"+OK\r\n" * data.count(b"*"))

        client = RedisClient(server_that(count), timeout_s=2.0)
        client.ping()
        received.clear()
        gevent.joinall([gevent.spawn(client.ping) for _ in range(32)], raise_error=True)
        client.close()
        assert [data.count(b"PING") for data in received] == [32]

    def test_10000_operations_get_their_own_replies_while_callers_are_killed(
        self, client: RedisClient
    ) -> None:
        wrong: list[str] = []
        killed: list[int] = []

        def caller(number: int) -> None:
            for turn in range(100):
                value = b"%d-%d" % (number, turn)
                timeout = random.random() / 5000 if (number + turn) % 3 == 0 else 5.0
                try:
                    with gevent.Timeout(timeout):
                        replies = client.execute([("SET", f"k{number}", value), ("ECHO", value)])
                        if replies != [b"OK", value]:
                            wrong.append(f"{replies} for {value!r}")
                except gevent.Timeout:
                    killed.append(1)

        gevent.joinall([gevent.spawn(caller, number) for number in range(100)], raise_error=True)
        assert wrong == []
        assert len(killed) > 100, "too few were killed to show anything"
        assert connections(client) == 1

    def test_large_and_many_values_arrive_whole(self, client: RedisClient) -> None:
        values = [bytes([n]) * (n * 40_000) for n in range(1, 20)]
        client.execute([("SET", f"k{n}", value) for n, value in enumerate(values)])
        assert client.execute([("MGET", *(f"k{n}" for n in range(len(values))))])[0] == values


class TestStreaming:
    def test_what_is_asked_is_sent_while_earlier_replies_are_still_to_come(
        self, server_that: Callable[..., str]
    ) -> None:
        def answer_both_when_the_second_has_come(socket: Any) -> None:
            received = b""
            while data := socket.recv(65536):
                received += data
                if b"CLIENT" in data or b"COMMAND" in data:
                    socket.sendall(b"+OK\r\n")
                elif b"second" in received:
                    socket.sendall(b"$5\r\nfirst\r\n$6\r\nsecond\r\n")

        client = RedisClient(server_that(answer_both_when_the_second_has_come), timeout_s=2.0)
        first = gevent.spawn(client.execute, [("ECHO", "first")])
        gevent.sleep(0.02)
        assert client.execute([("ECHO", "second")]) == [b"second"]
        assert first.get() == [b"first"]
        client.close()

    def test_a_reply_that_comes_byte_by_byte_is_put_together(self, server_that: Callable[..., str]) -> None:
        def dribble(socket: Any) -> None:
            while data := socket.recv(65536):
                for byte in b"+OK\r\n" if b"ECHO" not in data else b"$4\r\n\x00\r\n\xff\r\n:7\r\n":
                    socket.sendall(bytes([byte]))
                    gevent.sleep(0.001)

        client = RedisClient(server_that(dribble), timeout_s=2.0)
        assert client.execute([("ECHO", b"\x00\r\n\xff"), ("DBSIZE",)]) == [b"\x00\r\n\xff", 7]
        client.close()

    def test_more_than_the_socket_takes_waits_for_a_slow_reader_and_keeps_its_order(
        self, server_that: Callable[..., str]
    ) -> None:
        read: list[int] = []

        def read_slowly(socket: Any) -> None:
            while data := socket.recv(65536):
                read.append(len(data))
                gevent.sleep(0.001)
                socket.sendall(
                    b"+OK\r\n" * (data.count(b"CLIENT") + data.count(b"INFO") + data.count(b"end"))
                )

        client = RedisClient(server_that(read_slowly), timeout_s=5.0)
        client.execute([("PING", "end")])
        large = gevent.spawn(client.execute, [("SET", "a", b"x" * 8_000_000 + b"end")])
        gevent.sleep(0.005)
        after = gevent.spawn(client.execute, [("SET", "b", "end")])
        gevent.joinall([large, after], raise_error=True)
        assert sum(read) > 8_000_000
        assert large.value == after.value == [b"OK"]
        client.close()

    def test_a_timeout_counts_from_when_the_oldest_was_asked(self, server_that: Callable[..., str]) -> None:
        """However many are asked later, and answered never."""

        def fall_silent(socket: Any) -> None:
            for _ in range(2):
                socket.recv(65536)
                socket.sendall(b"+OK\r\n")
            while socket.recv(65536):
                pass

        client = RedisClient(server_that(fall_silent), timeout_s=0.2)
        asking = [gevent.spawn_later(n * 0.05, pytest.raises, TimeoutError, client.ping) for n in range(4)]
        with gevent.Timeout(0.35):
            gevent.joinall(asking, raise_error=True)
        client.close()

    def test_a_reply_to_nothing_means_out_of_step_and_the_connection_is_replaced(
        self, server_that: Callable[..., str]
    ) -> None:
        met: list[Any] = []

        def answer_twice_at_first(socket: Any) -> None:
            met.append(socket)
            while data := socket.recv(65536):
                socket.sendall(b"+OK\r\n" * (2 if b"PING" in data and len(met) == 1 else 1))

        client = RedisClient(server_that(answer_twice_at_first), timeout_s=2.0)
        client.ping()
        gevent.sleep(0.01)
        assert client.execute([("ECHO", "x")]) == [b"OK"]
        assert len(met) == 2
        client.close()

    def test_over_tls_replies_of_any_size_arrive_whole(self, redis_server: Any, tls_front: Any) -> None:
        url = urlsplit(redis_server.url)
        port, certificate = tls_front(url.port)
        client = RedisClient(
            f"rediss://:{url.password}@localhost:{port}/0?ssl_ca_certs={certificate}", timeout_s=5.0
        )
        values = [bytes([n]) * (n * 40_000) for n in range(1, 10)]
        client.execute([("SET", f"k{n}", value) for n, value in enumerate(values)])
        many = [gevent.spawn(client.execute, [("GET", f"k{n % 9}")]) for n in range(30)]
        gevent.joinall(many, raise_error=True)
        assert [greenlet.value for greenlet in many] == [[values[n % 9]] for n in range(30)]
        client.close()


@pytest.fixture
def tls_front(tmp_path: Path) -> Iterator[Callable[[int], tuple[int, Path]]]:
    """Starts a server that speaks TLS in front of a port; gives its own port and its certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request.split(), *names], check=True, capture_output=True)
    servers: list[Any] = []

    def start(port: int) -> tuple[int, Path]:
        def relay(front: Any, _: Any) -> None:
            with create_connection(("127.0.0.1", port)) as back:
                gevent.joinall([gevent.spawn(_copy, front, back), gevent.spawn(_copy, back, front)])

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = StreamServer(("127.0.0.1", 0), relay, ssl_context=context)
        server.start()
        servers.append(server)
        return server.server_port, certificate

    yield start
    for server in servers:
        server.stop(timeout=0)


def _copy(source: Any, target: Any) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(SHUT_WR)
    except OSError:
        pass  # the other end has gone


class TestFailure:
    def test_an_unanswered_operation_fails_after_the_timeout_and_takes_all_others_with_it(
        self, redis_server: Any
    ) -> None:
        client = RedisClient(redis_server.url, timeout_s=0.2)
        client.ping()
        redis_server.suspend()
        waited_s: list[float] = []

        def caller(delay_s: float) -> None:
            gevent.sleep(delay_s)
            started_s = gevent.get_hub().loop.now()
            with pytest.raises(TimeoutError):
                client.execute([("GET", "k")])
            gevent.get_hub().loop.update_now()
            waited_s.append(gevent.get_hub().loop.now() - started_s)

        gevent.joinall([gevent.spawn(caller, n * 0.004) for n in range(40)], raise_error=True)
        redis_server.resume()
        assert max(waited_s) < 0.25
        assert client.execute([("ECHO", "back")]) == [b"back"]
        client.close()

    def test_replies_that_come_after_the_timeout_reach_nobody(self, redis_server: Any) -> None:
        client = RedisClient(redis_server.url, timeout_s=0.1)
        client.execute([("SET", "k", "stale")])
        redis_server.suspend()
        with pytest.raises(TimeoutError):
            client.execute([("GET", "k")])
        redis_server.resume()
        assert client.execute([("ECHO", "fresh")]) == [b"fresh"]
        client.close()

    def test_a_killed_redis_is_refused_at_once_and_used_again_when_it_is_back(
        self, redis_server: Any, client: RedisClient
    ) -> None:
        client.ping()
        redis_server.kill()
        for _ in range(3):
            with pytest.raises(ConnectionError):
                client.execute([("GET", "k")])
        redis_server.start()
        assert client.execute([("ECHO", "back")]) == [b"back"]

    def test_an_idle_connection_that_the_server_closed_is_replaced_without_an_error(
        self, redis_server: Any, client: RedisClient
    ) -> None:
        client.ping()
        redis_server.stop()
        redis_server.start()
        gevent.sleep(0.6)
        assert client.execute([("ECHO", "back")]) == [b"back"]

    def test_a_reply_that_arrived_while_the_hub_was_busy_is_not_late(self, redis_server: Any) -> None:
        client = RedisClient(redis_server.url, timeout_s=0.1)
        client.ping()
        asked = gevent.spawn(client.execute, [("ECHO", "here")])
        gevent.sleep(0)
        while client._stream._unsent:  # until it is sent
            gevent.sleep(0)
        block_the_hub(0.3)
        assert asked.get() == [b"here"]
        client.close()

    def test_a_server_that_dribbles_is_given_up_at_the_timeout_of_the_whole(
        self, server_that: Callable[..., str]
    ) -> None:
        def dribble(socket: Any) -> None:
            socket.recv(4096)
            socket.sendall(b"+OK\r\n")  # CLIENT SETNAME
            socket.recv(4096)
            socket.sendall(b"$1000\r\n")
            while True:
                socket.sendall(b"x")
                gevent.sleep(0.03)

        client = RedisClient(server_that(dribble), timeout_s=0.2)
        with gevent.Timeout(0.3), pytest.raises(TimeoutError):
            client.execute([("GET", "k")])
        client.close()

    @pytest.mark.parametrize(
        "reply", [b"-LOADING Redis is loading the dataset in memory\r\n", b"?what\r\n", b""]
    )
    def test_a_server_that_loads_speaks_nonsense_or_hangs_up_is_away(
        self, server_that: Callable[..., str], reply: bytes
    ) -> None:
        def answer(socket: Any) -> None:
            socket.recv(4096)
            socket.sendall(b"+OK\r\n")  # CLIENT SETNAME
            socket.recv(4096)
            socket.sendall(reply)

        client = RedisClient(server_that(answer), timeout_s=1.0)
        with pytest.raises(TRANSIENT):
            client.ping()
        client.close()

    def test_each_caller_gets_an_exception_of_its_own(self, redis_server: Any, client: RedisClient) -> None:
        redis_server.kill()
        greenlets = [gevent.spawn(pytest.raises, ConnectionError, client.ping) for _ in range(5)]
        gevent.joinall(greenlets, raise_error=True)
        assert len({id(greenlet.value.value) for greenlet in greenlets}) == 5


class TestBackground:
    def test_writes_travel_with_what_is_asked_next_and_alone_if_nothing_is(
        self, server_that: Callable[..., str]
    ) -> None:
        received: list[bytes] = []

        def count(socket: Any) -> None:
            while data := socket.recv(65536):
                received.append(data)
                socket.sendall(b"+OK\r\n" * data.count(b"*"))

        client = RedisClient(server_that(count), timeout_s=2.0)
        client.ping()
        received.clear()
        client.submit([("SET", "a", "x")])
        client.submit([("SET", "b", "y")])
        client.ping()
        assert [(data.count(b"SET"), data.count(b"PING")) for data in received] == [(2, 1)]
        client.submit([("SET", "a", "z")])
        gevent.sleep(0.02)
        assert [(data.count(b"SET"), data.count(b"PING")) for data in received[1:]] == [(1, 0)]
        client.close()

    def test_writes_over_the_bound_are_dropped(self, redis_server: Any) -> None:
        client = RedisClient(redis_server.url, timeout_s=2.0, max_background=3)
        accepted = [client.submit([("INCR", "n")]) for _ in range(5)]
        assert accepted == [True, True, True, False, False]
        assert client.execute([("GET", "n")]) == [b"3"]
        assert client.submit([("INCR", "n")]), "the queue is empty again"
        client.close()

    def test_writes_lost_with_the_connection_are_reported(self, redis_server: Any) -> None:
        client = RedisClient(redis_server.url, timeout_s=0.1)
        client.ping()
        redis_server.suspend()
        lost: list[int] = []
        for n in range(10):
            client.submit([("SET", "k", n)], lambda: lost.append(1))
        gevent.sleep(0.2)
        redis_server.resume()
        assert len(lost) == 10
        client.close()

    def test_close_sends_what_is_queued_first(self, redis_server: Any, client: RedisClient) -> None:
        closing = RedisClient(redis_server.url, timeout_s=2.0)
        for n in range(10):
            closing.submit([("RPUSH", "list", n)])
        closing.close()
        assert client.execute([("LLEN", "list")]) == [10]

    def test_after_close_nothing_is_accepted_and_nobody_waits(self, redis_server: Any) -> None:
        client = RedisClient(redis_server.url, timeout_s=5.0)
        client.ping()
        redis_server.suspend()
        waiting = gevent.spawn(pytest.raises, ConnectionError, client.ping)
        gevent.sleep(0.02)
        client.close()
        waiting.get(timeout=1)
        redis_server.resume()
        assert not client.submit([("SET", "k", "x")])
        with pytest.raises(ConnectionError):
            client.ping()


class TestUrls:
    def test_the_database_of_the_url_is_selected(self, redis_server: Any, client: RedisClient) -> None:
        other = RedisClient(redis_server.url.removesuffix("/0") + "/3", timeout_s=2.0)
        other.execute([("SET", "only-in-3", "x")])
        assert client.execute([("GET", "only-in-3")]) == [None]
        other.close()

    def test_an_option_in_the_url_cannot_change_what_replies_look_like(self, redis_server: Any) -> None:
        client = RedisClient(redis_server.url + "?decode_responses=true", timeout_s=2.0)
        assert client.execute([("ECHO", b"\xff")]) == [b"\xff"]
        client.close()

    def test_ping_succeeds_on_a_healthy_server(self, redis_server: Any) -> None:
        ping(redis_server.url, timeout_s=2.0)

    def test_ping_explains_a_wrong_password_without_any(self, redis_server: Any) -> None:
        parts = urlsplit(redis_server.url)
        with pytest.raises(DependencyUnavailable) as raised:
            ping(f"redis://:wrong-secret@{parts.hostname}:{parts.port}/0")
        assert "wrong-secret" not in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_ping_explains_a_server_that_is_down(self, redis_server: Any) -> None:
        redis_server.kill()
        with pytest.raises(DependencyUnavailable, match="refused"):
            ping(redis_server.url)

    def test_ping_gives_up_on_a_hung_server(self, redis_server: Any) -> None:
        redis_server.suspend()
        with gevent.Timeout(1), pytest.raises(DependencyUnavailable):
            ping(redis_server.url, timeout_s=0.2)
        redis_server.resume()

    def test_a_bad_url_is_a_configuration_error_that_does_not_repeat_it(self) -> None:
        with pytest.raises(ConfigurationError) as raised:
            ping("redis://:secret@host:port/0")
        assert "secret" not in str(raised.value)


def test_a_failure_report_that_raises_harms_no_other_operation(
    redis_server: Any, client: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError

    client.submit([("SET", "no value")], broken)
    assert client.execute([("ECHO", "fine")]) == [b"fine"]
    assert client.execute([("ECHO", "still")]) == [b"still"]
    assert "redis_failure_report_failed" in caplog.messages


def test_a_database_that_does_not_exist_means_away(redis_server: Any) -> None:
    client = RedisClient(redis_server.url.removesuffix("/0") + "/999", timeout_s=2.0)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            client.ping()
    client.close()
