"""Whether the answers under load are right: requests of the harness, whose bodies are compared with the model's own.

wrk counts answers and their status and does not read bodies. So for each run a client of the harness sends requests
like wrk's: some at once before it and after it, and one each 50 ms while it runs. Each of these answers must hold
the label and every probability that the estimator gives when it is asked directly.
"""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

from tests.benchmarks.models import WITHIN, DirectModel
from tests.benchmarks.systems import System
from tests.benchmarks.workloads import FEW, Drawn, Workload

_INTERVAL_S = 0.05
_AT_ONCE = 8
_TIMEOUT_S = 20
_SHOWN = 3


@dataclass(frozen=True)
class Exchange:
    """A request and what came back: status 0 and the reason where nothing did."""

    drawn: Drawn
    request_id: str
    status: int
    body: bytes


@dataclass
class Checked:
    """Results of the checked requests of one run.

    Attributes:
        ids: of those answered with 200.
        faults: of the others, and of those with a wrong body, in words; at most three.
    """

    requests: int = 0
    wrong: int = 0
    ids: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Checker:
    """Sends the checked requests of one run, through `port`.

    Args:
        run: begins the request id of each, as in the load, and its key.
    """

    def __init__(self, system: System, port: int, workload: Workload, run: str, seed: int) -> None:
        self._system = system
        self._port = port
        self._workload = workload
        self._run = run
        self._rng = random.Random(seed)
        self._numbers = count(1)
        self._exchanges: list[Exchange] = []
        self._stop = threading.Event()

    def prime(self) -> None:
        """Send each of the few texts and keys once, so that the load only repeats them."""
        if self._workload.fresh:
            return
        drawn: dict[object, Drawn] = {}
        while len(drawn) < FEW:
            one = self._workload.draw(self._rng)
            drawn[one.key if one.key is not None else one.inputs[0]] = one
        self._send_each(list(drawn.values()), at_once=1)

    def burst(self, requests: int) -> None:
        """Several at a time, so that answers can be mixed up."""
        self._send_each([self._workload.draw(self._rng) for _ in range(requests)], at_once=_AT_ONCE)

    def _send_each(self, all_drawn: Sequence[Drawn], at_once: int) -> None:
        shares = [all_drawn[i::at_once] for i in range(at_once)]
        with ThreadPoolExecutor(at_once) as pool:
            for sent in pool.map(self._send, shares):
                self._exchanges += sent

    def _send(self, all_drawn: Sequence[Drawn]) -> list[Exchange]:
        with _connection(self._port) as connection:
            return [self._exchange(connection, drawn) for drawn in all_drawn]

    def begin(self) -> None:
        """Send one each 50 ms from now on, beside the load."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        with _connection(self._port) as connection:
            while not self._stop.wait(_INTERVAL_S):
                self._exchanges.append(self._exchange(connection, self._workload.draw(self._rng)))

    def end(self) -> None:
        self._stop.set()
        self._thread.join(_TIMEOUT_S + 5)

    def _exchange(self, connection: http.client.HTTPConnection, drawn: Drawn) -> Exchange:
        request_id = f"{self._run}-c{next(self._numbers)}"
        headers = {"Content-Type": "application/json", "X-Request-ID": request_id}
        if self._workload.keys == "new":
            headers["Idempotency-Key"] = request_id
        elif drawn.key is not None:
            headers["Idempotency-Key"] = f"{self._run}-k{drawn.key}"
        try:
            body = self._system.body(self._workload, drawn)
            connection.request("POST", self._system.path(self._workload), body, headers)
            response = connection.getresponse()
            return Exchange(drawn, request_id, response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Exchange(drawn, request_id, 0, type(error).__name__.encode())

    def verdict(self, models: Mapping[str, DirectModel]) -> Checked:
        """Compare every body. Not while the load runs: the model costs as much here as there."""
        checked = Checked(requests=len(self._exchanges))
        for exchange in self._exchanges:
            if exchange.status == 200:
                checked.ids.append(exchange.request_id)
            if (fault := self._fault(exchange, models[self._workload.model])) is not None:
                checked.wrong += 1
                checked.faults.append(f"{exchange.request_id}: {fault}")
        del checked.faults[_SHOWN:]
        return checked

    def _fault(self, exchange: Exchange, model: DirectModel) -> str | None:
        if exchange.status != 200:
            return f"status {exchange.status}: {exchange.body[:200]!r}"
        try:
            found = self._system.answers(self._workload, exchange.body)
        except (LookupError, TypeError, ValueError) as error:
            return f"{error!r} in {exchange.body[:200]!r}"
        if not self._system.predicts:
            return None
        expected = model.answers(exchange.drawn.inputs)
        within = WITHIN[self._workload.model]
        if len(found) == len(expected) and all(
            a.equals(b, within) for a, b in zip(found, expected, strict=True)
        ):
            return None
        return f"the model says {expected[0]}, the answer {found[:1]} ({len(found)} of {len(expected)})"


class _connection:
    """One kept-alive connection, closed at the end of the block."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)

    def __enter__(self) -> http.client.HTTPConnection:
        return self._connection

    def __exit__(self, *exc: object) -> None:
        self._connection.close()
