"""The context of a request from its headers: ids, client, deadline. Nothing a client sends can break it."""

from __future__ import annotations

import ipaddress
import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from falcon_wsgi.observability.trace import trace_id
from falcon_wsgi.pipeline.rate_limit import ANONYMOUS
from falcon_wsgi.pipeline.request import RequestContext
from falcon_wsgi.resilience.deadline import Deadline

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# Characters; longer lists of proxies are not remembered.
_USUAL_FORWARDED = 64
# A balancer's clock may differ from ours by this much; beyond it the header is not believed.
_CLOCK_TOLERANCE_S = 900.0


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits."""
    value = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76) | (0x7 << 76)) & ~(0x3 << 62) | (0x2 << 62)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@dataclass(slots=True)
class HttpContext(RequestContext):
    """What only the routes ask of a context.

    Attributes:
        admin: the request's key may load and unload models. False where no API keys are asked for.
    """

    admin: bool = False


class ContextFactory:
    """Builds the context of each request.

    Args:
        trusted: networks whose forwarding headers are believed.
        request_timeout_s: time a request may take.
    """

    def __init__(self, trusted: Sequence[Network], request_timeout_s: float) -> None:
        self._timeout_s = request_timeout_s
        self._is_trusted = lru_cache(4096)(lambda address: _within(address, trusted))
        self._usual_client_ip = lru_cache(4096)(self._client_ip)

    def build(self, environ: dict[str, Any]) -> HttpContext:
        peer = environ.get("REMOTE_ADDR", "")
        event_id, entered_at, repeats = None, time.time(), False
        if self._is_trusted(peer) and (given := environ.get("HTTP_X_EVENT_ID")):
            event_id = _uuid(given)
            repeats = event_id is not None
            entered_at = _entry_time(environ.get("HTTP_X_EVENT_TIME"), entered_at)
        event_id = event_id or uuid7()
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "")
        resolve = self._usual_client_ip if len(forwarded) <= _USUAL_FORWARDED else self._client_ip
        return HttpContext(
            request_id=request_id if _REQUEST_ID.fullmatch(request_id) else event_id,
            event_id=event_id,
            entered_at=entered_at,
            started=time.perf_counter(),
            deadline=Deadline.after(self._timeout_s),
            client=ANONYMOUS,
            client_ip=resolve(peer, forwarded),
            from_trusted_balancer=repeats,
            trace_id=trace_id(environ.get("HTTP_TRACEPARENT")),
        )

    def _client_ip(self, peer: str, forwarded: str) -> str | None:
        """The nearest address that is not a trusted proxy: each proxy appends the address that it saw.

        What stands before something that is no address was not written by a proxy, so it is not believed.
        """
        address = _address(peer)
        for hop in reversed(forwarded.split(",")) if forwarded else ():
            if address is None or not self._is_trusted(address) or (nearer := _address(hop.strip())) is None:
                break
            address = nearer
        return address


def _within(address: str, networks: Sequence[Network]) -> bool:
    return (plain := _address(address)) is not None and any(
        ipaddress.ip_address(plain) in network for network in networks
    )


def _address(text: str) -> str | None:
    """The address in its usual form, without an IPv6 zone; one of IPv4 that is mapped into IPv6 as IPv4."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _entry_time(text: str | None, now: float) -> float:
    """Unix seconds with a fraction, as nginx's $msec gives them."""
    try:
        given = float(text or "")
    except ValueError:
        return now
    return given if abs(given - now) <= _CLOCK_TOLERANCE_S else now
