"""Promotions of a served model under load: what every answer has to hold, and what it may cost in memory."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.e2e import warm
from tests.e2e.instance import JSON, Instance


class Judges:
    """Clients that send one text and batches of it by turns, some new and some repeated, until the block ends.

    Every answer has to be that of the version it names, in each of its results. `mixed` holds those that were not,
    `failures` every request without a 200; `versions` counts the answers of each version.

    Args:
        expected: what each version says of `text`.
    """

    def __init__(self, port: int, text: str, expected: Mapping[str, str], clients: int = 4) -> None:
        self.failures: list[str] = []
        self.mixed: list[str] = []
        self.versions: Counter[str] = Counter()
        self._port = port
        self._text = text
        self._expected = expected
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(clients)
        ]

    def __enter__(self) -> Judges:
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

    def _client(self, client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        sent = 0
        while not self._stop.is_set():
            sent += 1
            texts = [f"{self._text} {client} {(sent + i) % 60}" for i in range(20)]
            batch = sent % 2 == 0
            path, payload = ("/infer/batch", {"texts": texts}) if batch else ("/infer", {"text": texts[0]})
            try:
                connection.request("POST", path, json.dumps(payload), JSON)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if response.status != 200:
                self.failures.append(f"{response.status} {body!r}")
            else:
                self._judge(json.loads(body))
            time.sleep(0.005)
        connection.close()

    def _judge(self, answer: dict[str, object]) -> None:
        version = str(answer["model_version"])
        results = answer.get("results", [answer])
        assert isinstance(results, list)
        self.versions[version] += 1
        if {result["prediction"] for result in results} != {self._expected[version]}:
            self.mixed.append(json.dumps(answer))


def falcon(instance: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `falcon` with the instance's environment."""
    return warm.run(["falcon_wsgi", *arguments], instance.environment, instance.folder)


def succeed(instance: Instance, *arguments: str) -> str:
    done = falcon(instance, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def footprint(instance: Instance) -> dict[str, int]:
    """Memory of the master and its workers in KiB: resident, and anonymous with shared pages counted once.

    Pages of files are left out of the second: how many processes of the whole machine share them says nothing here.
    """
    assert instance.process is not None
    total = Counter({"Rss": 0, "Pss_Anon": 0})
    for pid in (instance.process.pid, *instance.worker_pids()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in total:
                total[name] += int(rest.split()[0])
    return dict(total)
