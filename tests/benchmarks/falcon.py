"""Falcon as its users run it, with its embedded Redis and Postgres and everything on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from falcon_wsgi.observability import metrics
from tests.benchmarks.systems import WORKERS, System, SystemFailed
from tests.benchmarks.workloads import Workload

_WORKERS_S = 20.0
_DRAIN_S = 240.0
_LOST = ("dropped", "corrupt", "rejected")
_STATEMENT_TIMEOUT = "SET statement_timeout = '120s'"

# For each request of a run: how many rows it left, and how many of them say that it was answered with 200.
_COUNT = """
    SELECT count(*), coalesce(sum(rows), 0)::bigint, coalesce(min(rows), 0), coalesce(max(rows), 0),
           coalesce(sum(failed), 0)::bigint
    FROM (
        SELECT count(*) FILTER (WHERE status = 200) AS rows, count(*) FILTER (WHERE status <> 200) AS failed
        FROM public.inference_logs WHERE starts_with(request_id, %s) GROUP BY request_id
    ) AS requests
"""
_COUNT_EACH = "SELECT request_id, count(*) FROM public.inference_logs WHERE request_id = ANY(%s) GROUP BY 1"


class Falcon(System):
    """`falcon serve`. What is measured apart: its Redis and its Postgres."""

    name = "falcon"
    about = "falcon serve: idempotency, cache, breakers, request log, metrics and JSON logs on"
    ready_path = "/readyz"

    def __init__(self, folder: Path, store: Path, **settings: object) -> None:
        super().__init__(folder, store)
        self._settings = {name.upper(): str(value) for name, value in settings.items()}
        self._workers = int(self._settings.get("WORKERS", WORKERS))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "falcon_wsgi", "serve"]

    def environment(self) -> dict[str, str]:
        return {
            "PORT": str(self.port),
            "WORKERS": str(self._workers),
            "DATA_DIR": str(self.folder / "data"),
            "MODEL_STORE": str(self.store),
            **self._settings,
        }

    def path(self, workload: Workload) -> str:
        return {1: "/infer", 0: "/predict"}.get(workload.texts, "/infer/batch")

    def wait_for_workers(self) -> None:
        deadline = time.monotonic() + _WORKERS_S
        while len(self.workers()) < self._workers:
            if time.monotonic() > deadline:
                raise SystemFailed(f"falcon has {len(self.workers())} workers after {_WORKERS_S:.0f} s")
            time.sleep(0.02)

    def workers(self) -> dict[str, int]:
        """Pids by worker id, of those that serve."""
        listed = self._read("workers.json").get("workers", [])
        return {worker["worker_id"]: worker["pid"] for worker in listed}

    def gunicorn_pid(self) -> int:
        return int(self.state["gunicorn_pid"])

    @property
    def state(self) -> dict[str, Any]:
        return self._read("instance.json")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.instance_dir / name).read_text())
        except (OSError, ValueError):
            return {}
        return content

    @property
    def instance_dir(self) -> Path:
        return self.folder / "data" / str(self.port)

    def roots(self) -> dict[str, list[int]]:
        found = super().roots()
        state = self.state
        for group in ("redis", "postgres"):
            if found and isinstance(pid := state.get(f"{group}_pid"), int):
                found[group] = [pid]
        # In a session of its own, so below the supervisor only until that dies.
        if found and isinstance(pid := state.get("gunicorn_pid"), int):
            found["app"].append(pid)
        return found

    # The request log.

    def counted(self, name: str, **labels: str) -> int:
        """A counter over all workers, read from their files: no request, and no time of a worker."""
        return round(
            sum(
                sample.value
                for metric in metrics.collect(self.instance_dir / "metrics")
                for sample in metric.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )
        )

    def answered(self, path: str) -> int:
        """Requests to a route that were answered with 200 since the start, as the HTTP layer counted them."""
        return self.counted("flask_http_request_duration_seconds_count", url_rule=path, status="200")

    def settle(self, path: str) -> float:
        """Wait until nothing is in flight any more and every row of the journal is in Postgres; seconds waited.

        Raises:
            SystemFailed: rows are still waiting after 240 s, or were lost.
        """
        started = time.monotonic()
        before = -1
        while (now := self.answered(path)) != before or self._waiting_rows() > 0:
            before = now
            if time.monotonic() - started > _DRAIN_S:
                raise SystemFailed(f"{self._waiting_rows()} rows are not in Postgres after {_DRAIN_S:.0f} s")
            time.sleep(0.2)
        if lost := self.counted("dropped_logs_total"):
            raise SystemFailed(f"the request log lost {lost} rows")
        return time.monotonic() - started

    def _waiting_rows(self) -> int:
        done = ("shipped", "duplicate", *_LOST)
        gone = sum(self.counted("journal_records_total", event=event) for event in done)
        return self.counted("journal_records_total", event="written") - gone

    def logged(self, run: str) -> LoggedRows:
        """What the log holds of the requests whose id begins with `run`."""
        with self._database() as database:
            row = database.execute(_COUNT, (run,)).fetchone()
        assert row is not None
        return LoggedRows(*row)

    def rows_of(self, request_ids: Sequence[str]) -> dict[str, int]:
        """The number of rows of each of these requests."""
        with self._database() as database:
            found = dict(database.execute(_COUNT_EACH, (list(request_ids),)).fetchall())
        return {request_id: found.get(request_id, 0) for request_id in request_ids}

    def empty_log(self) -> None:
        """So that a long matrix neither fills the disk nor measures the size of the table."""
        with self._database() as database:
            database.execute("TRUNCATE public.inference_logs")

    def _database(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.state["database_url"], autocommit=True, connect_timeout=10)
        connection.execute(_STATEMENT_TIMEOUT)
        return connection


class LoggedRows:
    """Of the requests of one run: their number, their rows with status 200, the fewest and most of one request."""

    def __init__(self, requests: int, rows: int, fewest: int, most: int, failed: int) -> None:
        self.requests = requests
        self.rows = rows
        self.fewest = fewest
        self.most = most
        self.failed = failed
