"""A small load client that keeps the history of every request."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from uuid import uuid4


@dataclass(frozen=True)
class Attempt:
    """One request and what became of it. `status` is 0 where the connection was lost."""

    request_id: str
    status: int
    seconds: float
    at: float
    body: Any
    rows: int


class Load:
    """Clients that send distinct texts until stopped, or until `total` requests are made.

    Every tenth request is a batch of three. A lost connection is noted and the client goes on with a new one.

    Args:
        keyed: send an idempotency key with each request.
    """

    def __init__(
        self,
        port: int,
        clients: int = 8,
        total: int = 100_000,
        *,
        keyed: bool = False,
        batches: bool = True,
        pause_s: float = 0.0,
    ) -> None:
        self.history: list[Attempt] = []
        self._port = port
        self._keyed = keyed
        self._batches = batches
        self._pause_s = pause_s
        self._numbers = iter(range(total))
        self._run = uuid4().hex[:8]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self.join()

    def join(self, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a client hangs"

    def answered(self) -> list[Attempt]:
        return [attempt for attempt in list(self.history) if attempt.status == 200]

    def failed(self) -> list[Attempt]:
        return [attempt for attempt in list(self.history) if attempt.status != 200]

    def slowest_s(self, since: float = 0.0, until: float = float("inf")) -> float:
        times = [a.seconds for a in list(self.history) if since <= a.at < until]
        return max(times)

    def _client(self) -> None:
        connection = self._connect()
        for number in self._numbers:
            if self._stop.is_set():
                break
            attempt = self._send(connection, number)
            self.history.append(attempt)
            if attempt.status == 0:
                connection.close()
                connection = self._connect()
            if self._pause_s:
                time.sleep(self._pause_s)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)

    def _send(self, connection: http.client.HTTPConnection, number: int) -> Attempt:
        request_id = f"{self._run}-{number}"
        texts = [f"the food was good {self._run} {number} {i}" for i in range(3)]
        batch = self._batches and number % 10 == 0
        path, payload = ("/infer/batch", {"texts": texts}) if batch else ("/infer", {"text": texts[0]})
        headers = {"Content-Type": "application/json", "X-Request-ID": request_id}
        if self._keyed:
            headers["Idempotency-Key"] = request_id
        started = time.perf_counter()
        status, body = 0, None
        try:
            connection.request("POST", path, json.dumps(payload), headers)
            response = connection.getresponse()
            raw = response.read()
            status = response.status
            body = json.loads(raw)
        except (OSError, http.client.HTTPException):
            pass
        return Attempt(
            request_id, status, time.perf_counter() - started, time.time(), body, 3 if batch else 1
        )


def duplicates(values: list[str]) -> list[str]:
    return [value for value, group in itertools.groupby(sorted(values)) if len(list(group)) > 1]
