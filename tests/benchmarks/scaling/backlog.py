"""How the request log behaves with a long backlog: while Postgres is away, and when it is back."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from falcon_wsgi.backends.journal_files import JournalWriter
from tests.benchmarks import proc
from tests.benchmarks.scaling.findings import Finding, flat, not_lower
from tests.benchmarks.scaling.instances import Instances
from tests.benchmarks.scaling.lab import CONNECTIONS, Lab
from tests.benchmarks.scaling.result import Panel, Point, Result
from tests.benchmarks.systems import SystemFailed
from tests.benchmarks.workloads import WORKLOADS
from tests.benchmarks.wrk import Load

ROWS = (0, 10_000, 100_000, 1_000_000)
# More than the backlog and what a load adds to it: dropping the oldest rows is not what is measured.
_BOUND = 4_000_000
_FOLDERS = 2
_ADOPTED_S = 30.0
_FIRST_ROW_S = 30.0
_DRAINED_S = 180.0
_POLL_S = 0.1
_ENOUGH_ROWS = 20_000
# Postgres takes a core meanwhile, and on two there are wrk and the workers besides.
_TAIL_WITHIN = 3
_COLD = WORKLOADS["cold"]
_FILLED = "filled-"
_ROW = (
    '{"event_id":"%s","request_id":"%s%d","created_at":"%s","worker_id":"worker-9","status":200,'
    '"processing_time_ms":4.21,"model":"sentiment","model_version":"1.0.0","client_ip":"127.0.0.1","success":true,'
    '"idempotency_hit":false,"inference_time_ms":1.2,"batch_index":0,"text_hash":"%064x","prediction":"positive",'
    '"confidence":0.9234,"probabilities":{"negative":0.0123,"neutral":0.0643,"positive":0.9234},"cache_hit":false,'
    '"text_length":71}'
)


def backlog(lab: Lab, sizes: Sequence[int] = ROWS) -> Result:
    points = [_point(lab, rows) for rows in sizes]
    result = Result(
        "backlog",
        "Log rows that wait in the journal",
        "rows",
        f"The rows lie in {_FOLDERS} folders of workers that died. First columns: new texts, {CONNECTIONS} "
        "connections, Postgres away; then the same with Postgres back; then without load until the journal is empty. "
        "CPU and memory are Gunicorn's.",
        points,
    )
    _show(result)
    return result


def _show(result: Result) -> None:
    cpu, p99 = result.of(lambda p: p.cpu_us), result.of(lambda p: p.p99_ms)
    memory, start = result.of(lambda p: p.pss_mb), result.of(lambda p: p.more["start s"])
    draining = result.of(lambda p: p.more["MB draining"])
    drained = [(p.x, rate) for p in result.points if (rate := p.more.get("rows/s drained")) is not None]
    p99_draining = result.of(lambda p: p.more["p99 draining"])
    result.panels = [
        Panel("p99, ms", "rows", {"Postgres away": p99, "draining": p99_draining}, log_x=True),
        Panel("memory, MB", "rows", {"Postgres away": memory, "draining": draining}, log_x=True),
    ]
    result.findings = [
        flat("CPU/request, Postgres away", cpu, "us", within=1.25),
        flat("p99, Postgres away", p99, "ms", within=1.5),
        flat("memory, Postgres away", memory, "MB", within=1.05),
        flat("memory, draining", draining, "MB", within=1.1),
        flat("start to ready", start, "s", within=1.5),
        not_lower("rows/s drained without load", drained, "rows", share=0.7),
        _tail(p99, p99_draining),
    ]


def _tail(before: Sequence[tuple[float, float]], draining: Sequence[tuple[float, float]]) -> Finding:
    what, expected = "p99 while draining, against Postgres away", f"at most {_TAIL_WITHIN} times"
    ratios = {x: y / former for (x, former), (_, y) in zip(before, draining, strict=True)}
    if not ratios:
        return Finding(what, expected, "", None)
    told = ", ".join(f"{ratio:.2f} at {x:,.0f} rows" for x, ratio in ratios.items())
    return Finding(what, expected, told, max(ratios.values()) <= _TAIL_WITHIN)


def _point(lab: Lab, rows: int) -> Point:
    """Raises SystemFailed where rows are not adopted, or not shipped in time."""
    with _postgres_away(lab, rows) as falcon:
        adopted_s = _wait(lambda: _counted(falcon, "adopted") >= rows, _ADOPTED_S, "the rows are not adopted")
        _drive(lab, falcon, 1.0)
        away = _measured(lab, falcon)
        lab.servers.postgres.start()
        before = _counted(falcon, "shipped")
        back_s = _wait(lambda: _counted(falcon, "shipped") > before, _FIRST_ROW_S, "nothing is shipped")
        back = _measured(lab, falcon)
        rows_per_s, peak_mb = _drained(falcon)
        faults = _faults(lab, falcon, rows, (away, back))
    lab.session.say(
        f"  {rows:>9,} rows  {away.rate:6,.0f}/s  p99 {away.load.p99_ms:6.2f} ms  {away.cpu_us:6,.0f} us; while "
        f"draining {back.rate:6,.0f}/s  p99 {back.load.p99_ms:6.2f} ms; then {rows_per_s or 0:,.0f} rows/s"
        + (f"  WRONG: {faults[0]}" if faults else "")
    )
    return Point(
        x=rows,
        series="",
        requests_per_s=away.rate,
        predictions_per_s=away.rate,
        p50_ms=away.load.p50_ms,
        p99_ms=away.load.p99_ms,
        cpu_us=away.cpu_us,
        apart_us={"redis": away.redis_us},
        pss_mb=away.pss_mb,
        more={
            "start s": falcon.ready_s,
            "adopted s": adopted_s,
            "back s": back_s,
            "requests/s draining": back.rate,
            "p99 draining": back.load.p99_ms,
            "MB draining": max(peak_mb, back.pss_mb),
            **({} if rows_per_s is None else {"rows/s drained": rows_per_s}),
        },
        faults=faults,
    )


@contextmanager
def _postgres_away(lab: Lab, rows: int) -> Iterator[Instances]:
    """An instance that starts on a journal with so many rows; Postgres does not run, its log table is empty."""
    postgres = lab.servers.postgres
    with psycopg.connect(postgres.url, autocommit=True) as database:
        database.execute("TRUNCATE public.inference_logs")
    postgres.stop()
    journal = lab.new_folder() / "journal"
    try:
        fill(journal, rows)
        with lab.falcon(journal_dir=journal, journal_max_records=_BOUND) as falcon:
            yield falcon
    finally:
        postgres.start()
        shutil.rmtree(journal, ignore_errors=True)


def fill(journal: Path, rows: int) -> None:
    """Write rows as workers would have that died afterwards."""
    made_at = datetime.now(UTC)
    stamp = made_at.isoformat()
    # In the order of time, as the service's own: an index takes random ones several times slower.
    milliseconds = f"{int(made_at.timestamp() * 1000):012x}"
    prefix = f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-"
    for folder in range(_FOLDERS if rows else 0):
        writer = JournalWriter.open(journal, f"worker-{folder + 1}", max_records=_BOUND)
        try:
            for i in range(folder, rows, _FOLDERS):
                writer.append((_ROW % (f"{prefix}{i:012x}", _FILLED, i, stamp, i)).encode(), 1)
        finally:
            writer.close()


@dataclass(frozen=True)
class _Loaded:
    """A load without a look at the log, which cannot be read meanwhile."""

    run: str
    load: Load
    cpu_us: float
    redis_us: float
    pss_mb: float

    @property
    def rate(self) -> float:
        return self.load.answered / self.load.seconds


def _measured(lab: Lab, falcon: Instances) -> _Loaded:
    groups = {**lab.servers.roots(), **falcon.serving()}
    before = proc.cpu_s(groups)
    run, load = _drive(lab, falcon, lab.seconds)
    after = proc.cpu_s(groups)
    app, redis = (1e6 * (after[name] - before[name]) / max(load.answered, 1) for name in ("app", "redis"))
    return _Loaded(run, load, app, redis, proc.pss_mb(falcon.serving())["app"])


def _drive(lab: Lab, falcon: Instances, seconds: float) -> tuple[str, Load]:
    run = f"b{secrets.token_hex(5)}"
    path, frame = falcon.path(_COLD), falcon.frame(_COLD)
    return run, lab.wrk.run(falcon.port, path, _COLD, frame, run, connections=CONNECTIONS, seconds=seconds)


def _drained(falcon: Instances) -> tuple[float | None, float]:
    """Rows a second until the journal is empty, None for too few to tell, and the most memory meanwhile, in MB.

    Raises:
        SystemFailed: it is not empty after 180 s.
    """
    started, first = time.monotonic(), _counted(falcon, "shipped")
    last, last_at, peak_mb = first, started, 0.0
    while _waiting(falcon) > 0:
        if time.monotonic() - started > _DRAINED_S:
            raise SystemFailed(f"{_waiting(falcon):,} rows are not in Postgres after {_DRAINED_S:.0f} s")
        time.sleep(_POLL_S)
        peak_mb = max(peak_mb, proc.pss_mb(falcon.serving())["app"])
        if (shipped := _counted(falcon, "shipped")) > last:
            last, last_at = shipped, time.monotonic()
    return (last - first) / (last_at - started) if last - first >= _ENOUGH_ROWS else None, peak_mb


def _counted(falcon: Instances, event: str) -> int:
    return falcon.counted("journal_records_total", event=event)


def _waiting(falcon: Instances) -> int:
    gone = sum(
        _counted(falcon, event) for event in ("shipped", "duplicate", "dropped", "corrupt", "rejected")
    )
    return _counted(falcon, "written") + _counted(falcon, "adopted") - gone


def _faults(lab: Lab, falcon: Instances, rows: int, loads: Sequence[_Loaded]) -> list[str]:
    """Refused answers, and rows that Postgres has not once each."""
    faults = [f"{each.load.errors} errors under load" for each in loads if each.load.errors]
    with psycopg.connect(lab.servers.postgres.url) as database:
        for what, run, least, most in (
            ("rows of the backlog", _FILLED, rows, rows),
            *(
                ("rows of a load", each.run, each.load.answered, each.load.answered + CONNECTIONS)
                for each in loads
            ),
        ):
            query = "SELECT count(*) FROM public.inference_logs WHERE starts_with(request_id, %s)"
            (found,) = database.execute(query, (run,)).fetchone() or (0,)
            if not least <= found <= most:
                faults.append(f"{found:,} {what} in Postgres, not {least:,} to {most:,}")
    if lost := falcon.counted("dropped_logs_total"):
        faults.append(f"{lost:,} rows were dropped")
    return faults


def _wait(holds: Callable[[], bool], timeout_s: float, otherwise: str) -> float:
    """Seconds until it holds."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > timeout_s:
            raise SystemFailed(f"{otherwise} within {timeout_s:.0f} s")
        time.sleep(_POLL_S)
    return time.monotonic() - started
