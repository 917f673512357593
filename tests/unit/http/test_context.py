"""Ids, client address and entry time from the headers, and only from those who may set them."""

from __future__ import annotations

import ipaddress
import time
import uuid

import pytest

from falcon_wsgi.http.context import ContextFactory, uuid7

TRUSTED = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8"))
EVENT = "0190b0c0-0000-7000-8000-000000000001"


@pytest.fixture
def build():
    factory = ContextFactory(TRUSTED, request_timeout_s=30)
    return lambda peer="127.0.0.1", **headers: factory.build({"REMOTE_ADDR": peer, **headers})


def test_uuid7_is_of_version_7_and_sorts_by_time() -> None:
    first = uuid7()
    time.sleep(0.002)
    second = uuid7()
    parsed = uuid.UUID(first)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert first < second
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_a_valid_request_id_is_kept(build) -> None:
    assert build(HTTP_X_REQUEST_ID="order-17/3").request_id == "order-17/3"


@pytest.mark.parametrize("bad", ["", " ", "a b", "x" * 129, "é", "a\r\nX-Evil: 1", "a\n", "<script>"])
def test_an_invalid_request_id_is_replaced(build, bad: str) -> None:
    assert uuid.UUID(build(HTTP_X_REQUEST_ID=bad).request_id)


def test_the_event_id_is_never_the_clients(build) -> None:
    context = build(peer="203.0.113.9", HTTP_X_EVENT_ID=EVENT, HTTP_X_REQUEST_ID=EVENT)
    assert context.event_id != EVENT
    assert not context.from_trusted_balancer


def test_a_trusted_balancers_event_id_and_entry_time_are_believed(build) -> None:
    entered = time.time() - 2.5
    context = build(HTTP_X_EVENT_ID=EVENT.replace("-", ""), HTTP_X_EVENT_TIME=f"{entered:.3f}")
    assert context.event_id == EVENT
    assert context.from_trusted_balancer
    assert context.entered_at == pytest.approx(entered, abs=0.001)


@pytest.mark.parametrize("bad", ["", "soon", "nan", "inf", "-1", "99999999999"])
def test_an_entry_time_that_cannot_be_is_replaced_by_now(build, bad: str) -> None:
    context = build(HTTP_X_EVENT_ID=EVENT, HTTP_X_EVENT_TIME=bad)
    assert context.entered_at == pytest.approx(time.time(), abs=5)


def test_an_event_id_that_is_no_uuid_is_replaced(build) -> None:
    context = build(HTTP_X_EVENT_ID="'; drop table--")
    assert uuid.UUID(context.event_id)
    assert not context.from_trusted_balancer


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "198.51.100.1, nonsense", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1, nonsense, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "fe80::1%eth0", "fe80::1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6, " * 100 + "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "," * 8000, "127.0.0.1"),
        ("", "", None),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(build, peer, forwarded, client) -> None:
    assert build(peer=peer, HTTP_X_FORWARDED_FOR=forwarded).client_ip == client


def test_traceparent_gives_the_trace_id(build) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert build(HTTP_TRACEPARENT=f"00-{trace}-00f067aa0ba902b7-01").trace_id == trace


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "00-xyz-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ],
)
def test_an_invalid_traceparent_is_ignored(build, bad: str) -> None:
    assert build(HTTP_TRACEPARENT=bad).trace_id is None
