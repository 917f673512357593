"""How answers slow down with the distance to Redis."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from urllib.parse import urlsplit

import redis

from tests.benchmarks.falcon import Falcon
from tests.benchmarks.run import Run
from tests.benchmarks.scaling.findings import Finding, slope_at_most
from tests.benchmarks.scaling.fit import Points
from tests.benchmarks.scaling.lab import CONNECTIONS, Lab, Step, there_or_back
from tests.benchmarks.scaling.relay import Relay
from tests.benchmarks.scaling.result import Panel, Point, Result
from tests.benchmarks.workloads import WORKLOADS

DELAYS_MS = (0, 1, 2, 5)
_ROUND_TRIPS = 2.0
_KEPT = 0.9  # two measured figures are compared
_PINGS = 51
_ALONE = ("cold", "keyed", "hot")
_TOGETHER = ("cold", "keyed")
_LOADS = [(name, 1) for name in _ALONE] + [(name, CONNECTIONS) for name in _TOGETHER]


def redis_latency(lab: Lab, delays_ms: Sequence[float] = DELAYS_MS) -> Result:
    url = lab.servers.redis.url
    relay = Relay(lab.servers.redis.port or 0)
    far = urlsplit(url)._replace(netloc=f"{urlsplit(url).netloc.rpartition(':')[0]}:{relay.port}").geturl()
    try:
        with lab.falcon(redis_url=far) as falcon:
            points = _points(lab, falcon, relay, far, delays_ms)
    finally:
        relay.stop()
    result = Result(
        "redis-latency",
        "Distance to Redis",
        "ms",
        f"x is the median round trip of a PING through a relay that delays replies; one connection shows what a "
        f"request waits for, {CONNECTIONS} what is left of the throughput.",
        points,
    )
    alone = {name: result.of(lambda p: p.p50_ms, f"{name}, 1") for name in _ALONE}
    together = {name: result.of(lambda p: p.requests_per_s, f"{name}, {CONNECTIONS}") for name in _TOGETHER}
    result.panels = [
        Panel("p50 of one connection, ms", "round trip, ms", dict(alone)),
        Panel(f"requests/s of {CONNECTIONS} connections", "round trip, ms", dict(together)),
    ]
    result.findings = [
        *(_trips(name, points, 0.0 if name == "hot" else _ROUND_TRIPS) for name, points in alone.items()),
        *(kept(name, points) for name, points in together.items()),
    ]
    return result


def _points(lab: Lab, falcon: Falcon, relay: Relay, url: str, delays_ms: Sequence[float]) -> list[Point]:
    """All distances in each round, so that they are compared within the same minutes."""
    trips_ms: dict[float, list[float]] = defaultdict(list)
    runs: dict[tuple[float, str], list[Run]] = defaultdict(list)
    for round_ in range(lab.rounds):
        for delay_ms in there_or_back(delays_ms, round_):
            relay.delay(delay_ms)
            trips_ms[delay_ms].append(trip_ms := _round_trip_ms(url))
            for name, connections in _LOADS:
                series = f"{name}, {connections}"
                step = Step(trip_ms, WORKLOADS[name], series, connections)
                runs[delay_ms, series].append(lab.run(falcon, step, round_))
    return [
        Point.of(round(median(trips_ms[delay_ms]), 2), series, each)
        for (delay_ms, series), each in sorted(runs.items())
    ]


def _trips(name: str, points: Points, limit: float) -> Finding:
    return slope_at_most(f"{name}: added latency", points, limit, "round trips a request")


def kept(name: str, points: Points) -> Finding:
    """Requests/s against what is left if each request holds its connection for two round trips more than near Redis.

    Args:
        points: round trip in milliseconds, requests/s.
    """
    what = f"{name}: requests/s of {CONNECTIONS} connections"
    expected = f"at least {_KEPT:g} of what {_ROUND_TRIPS:g} round trips more a request leave"
    if len(points) < 2:
        return Finding(what, expected, "", None)
    (near_ms, near), *others = sorted(points)
    shares = []
    for round_trip_ms, rate in others:
        held_s = CONNECTIONS / near + _ROUND_TRIPS * (round_trip_ms - near_ms) / 1000
        shares.append((rate * held_s / CONNECTIONS, round_trip_ms, rate))
    least, at_ms, rate = min(shares)
    measured = f"{near:,.0f} near, {rate:,.0f} at {at_ms:.2f} ms: {least:.2f} times that"
    return Finding(what, expected, measured, least >= _KEPT)


def _round_trip_ms(url: str) -> float:
    taken = []
    with redis.Redis.from_url(url) as client:
        client.ping()
        for _ in range(_PINGS):
            started = time.perf_counter()
            client.ping()
            taken.append((time.perf_counter() - started) * 1000)
    return median(taken)
