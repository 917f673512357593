"""Steady traffic of every kind of client, with each request's outcome counted."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from types import TracebackType

from tests.e2e.instance import JSON


class Traffic:
    """Clients that send one request after the other until the block ends.

    `kept` of them use a connection for as long as the server lets them, `fresh` a new one for each request.
    `outcomes` counts "200" and other statuses, and "kept: ConnectionResetError" and the like for requests that
    got no whole answer; a client that finds its connection closed by an announced close simply opens another.
    """

    def __init__(self, port: int, *, kept: int = 3, fresh: int = 2, pause_s: float = 0.004) -> None:
        self.outcomes: Counter[str] = Counter()
        self.versions: list[str] = []
        self.slowest_s = 0.0
        self._port = port
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        kinds = [("kept", number) for number in range(kept)] + [("fresh", number) for number in range(fresh)]
        self._threads = [threading.Thread(target=self._client, args=kind, daemon=True) for kind in kinds]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    @property
    def failures(self) -> dict[str, int]:
        """All outcomes but the good one."""
        with self._lock:
            return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}

    @property
    def answered(self) -> int:
        return self.outcomes["200"]

    def _client(self, kind: str, number: int) -> None:
        connection = self._connect()
        sent = 0
        while not self._stop.is_set():
            sent += 1
            started = time.monotonic()
            outcome, version = self._request(connection, kind, f"good {kind} {number} {sent % 50}")
            with self._lock:
                self.outcomes[outcome] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                if version and (not self.versions or self.versions[-1] != version):
                    self.versions.append(version)
            if kind == "fresh" or outcome != "200":
                connection.close()
                connection = self._connect()
            time.sleep(self._pause_s)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)

    def _request(self, connection: http.client.HTTPConnection, kind: str, text: str) -> tuple[str, str]:
        version = ""
        try:
            connection.request("POST", "/infer", json.dumps({"text": text}), JSON)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            return f"{kind}: {type(error).__name__}", ""
        with contextlib.suppress(ValueError, KeyError):
            version = json.loads(body)["model_version"]
        return str(response.status), version
