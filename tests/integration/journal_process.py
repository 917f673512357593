"""A worker reduced to its request log: a journal, and with a database also the shipper behind its guard.

Started by tests as a process of its own, so that it can be killed. It reads commands, one a line, and answers each
with a line of JSON; `stream` prints the id of each row once it is in the journal, until the process dies.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import json
import os
import resource
import subprocess
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from falcon_wsgi import log_rows

ROOT = Path(__file__).parents[2]


def log_row(event_id: str, **values: Any) -> bytes:
    """One row of the request log as the journal holds it."""
    return line(row_values(event_id, **values))


def json_row(event_id: str, **values: Any) -> bytes:
    """The same as journals of earlier versions hold it."""
    return json.dumps(row_values(event_id, **values)).encode()


def line(row: Mapping[str, Any]) -> bytes:
    """Field by field: what the row encoder must arrive at in its faster way."""
    fields = [_field(row.get(name), kind) for name, kind in log_rows.COLUMNS.items()]
    return "\t".join(fields).encode(errors="surrogatepass") + b"\n"


def _field(value: Any, kind: str) -> str:
    if value is None:
        return log_rows.NULL
    if kind == "jsonb":
        return log_rows.document(value)
    return log_rows.boolean(value) if isinstance(value, bool) else log_rows.text(str(value))


def row_values(event_id: str, **values: Any) -> dict[str, Any]:
    row = {
        "event_id": event_id,
        "batch_index": 0,
        "created_at": "2026-03-04T05:06:07.890123+00:00",
        "request_id": event_id,
        "worker_id": "worker-1",
        "model": "sentiment",
        "model_version": "1.0.0",
        "text_hash": "0" * 64,
        "text_length": 12,
        "prediction": "positive",
        "confidence": 0.9234,
        "probabilities": {"negative": 0.0123, "neutral": 0.0643, "positive": 0.9234},
        "cache_hit": False,
        "idempotency_hit": False,
        "success": True,
        "status": 200,
        "processing_time_ms": 4.21,
        "inference_time_ms": 1.2,
        "client_ip": "127.0.0.1",
    }
    return {**row, **values}


class JournalProcess:
    """The test's side of one such process."""

    def __init__(self, root: Path, worker_id: str, **options: Any) -> None:
        arguments = {"root": str(root), "worker_id": worker_id, **options}
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.pid = self._process.pid

    def ask(self, command: str, *arguments: Any) -> Any:
        self.tell(command, *arguments)
        return json.loads(self.line())

    def tell(self, command: str, *arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has died"
        return line

    def kill(self) -> str:
        """SIGKILL; what it had printed until then and nobody has read."""
        self._process.kill()
        return self.end()

    def end(self) -> str:
        """Wait for its end. Without a command `close` before, it is killed."""
        if self._process.poll() is None:
            self._process.kill()
        return self._process.communicate()[0]

    def close(self) -> None:
        assert self.ask("close") is not None
        assert self._process.wait(20) == 0


class Events(Counter[str]):
    def event(self, kind: str, count: int) -> None:
        self[kind] += count

    def depth(self, rows: int) -> None:
        pass


def main(
    root: str,
    worker_id: str,
    database_url: str | None = None,
    max_records: int = 1_000_000,
    sync: str = "none",
    timeout_s: float = 1.0,
) -> None:
    import gevent
    from gevent.fileobject import FileObjectThread

    from falcon_wsgi.backends.journal_files import JournalWriter
    from falcon_wsgi.backends.postgres import TRANSIENT, PostgresSink
    from falcon_wsgi.pipeline.shipper import Shipper
    from falcon_wsgi.resilience.guard import Guard

    events = Events()
    journal = JournalWriter.open(Path(root), worker_id, max_records=max_records, sync=sync, observer=events)
    shipper = None
    if database_url is not None:
        sink = PostgresSink(database_url, timeout_s=timeout_s)
        guard = Guard("postgres", TRANSIENT, reset_timeout_s=0.5)
        shipper = Shipper(journal.backlog, sink, guard, events)
        shipper.start()

    longest_block_s = 0.0

    def watch_hub() -> None:
        nonlocal longest_block_s
        while True:
            before = gevent.get_hub().loop.now()
            gevent.sleep(0.01)
            longest_block_s = max(longest_block_s, gevent.get_hub().loop.now() - before - 0.01)

    def write(count: int) -> list[str]:
        ids = [str(uuid.uuid4()) for _ in range(count)]
        for number, event_id in enumerate(ids):
            journal.append(log_row(event_id), 1)
            if number % 100 == 0:
                gevent.sleep(0)
        return ids

    def status() -> dict[str, Any]:
        return {
            "events": dict(events),
            "depth": journal.backlog.depth,
            "rss_mb": int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6,
            "longest_block_s": longest_block_s,
            "cpu_s": sum(os.times()[:2]),
        }

    gevent.spawn(watch_hub)
    commands = FileObjectThread(sys.stdin)
    while line := commands.readline():
        command, *arguments = json.loads(line)
        answer: Any = "done"
        if command == "write":
            answer = write(*arguments)
        elif command == "status":
            answer = status()
        elif command == "maintain":
            journal.backlog.maintain()
        elif command == "append":
            journal.append(arguments[0].encode(), arguments[1])
        elif command == "limit_file_size":
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard if arguments[0] is None else arguments[0], hard))
        elif command == "stream":
            while True:
                event_id = str(uuid.uuid4())
                journal.append(log_row(event_id), 1)
                print(event_id, flush=True)
                gevent.sleep(0)
        elif command == "flush":
            assert shipper is not None
            answer = shipper.flush(*arguments)
        elif command == "close":
            if shipper is not None:
                shipper.stop()
                sink.close()
            journal.close()
        print(json.dumps(answer), flush=True)
        if command == "close":
            return


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
