"""Workers of an instance that come and go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.e2e.instance import Answer, Client, Instance, wait_until


def is_running(pid: int) -> bool:
    """False for a zombie too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_replacement(instance: Instance, former: Iterable[int], timeout_s: float = 60) -> None:
    """Wait until the processes `former` have ended and all workers serve."""
    gone = set(former)
    workers = int(instance.environment["WORKERS"])

    def replaced() -> bool:
        serving = set(instance.worker_pids())
        return not gone & serving and len(serving) == workers and not any(map(is_running, gone))

    wait_until(replaced, timeout_s, f"the replacement of {gone}")


@contextlib.contextmanager
def connected_to_each(instance: Instance, fewest: int = 1) -> Iterator[list[Client]]:
    """Kept connections, `fewest` or more, of which each worker has one at least."""
    with contextlib.ExitStack() as stack:
        clients: list[Client] = []
        reached: set[str] = set()

        def connect() -> bool:
            clients.append(stack.enter_context(contextlib.closing(instance.client())))
            reached.add(clients[-1].request("GET", "/healthz").headers["X-Worker-ID"])
            return len(clients) >= fewest and reached >= set(instance.workers())

        wait_until(connect, what="a connection to each worker")
        yield clients


def answers_of_each(
    instance: Instance, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> list[Answer]:
    """To the same request, from each worker at least once."""
    with connected_to_each(instance) as clients:
        return [client.request(method, path, body, headers) for client in clients]
