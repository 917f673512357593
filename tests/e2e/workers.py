"""Workers of an instance that come and go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.e2e.instance import Instance, wait_until


def is_running(pid: int) -> bool:
    """False for a zombie too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_replacement(instance: Instance, former: Iterable[int], timeout_s: float = 15) -> None:
    """Wait until the processes `former` have ended and all workers serve."""
    gone = set(former)
    workers = int(instance.environment["WORKERS"])

    def replaced() -> bool:
        serving = set(instance.worker_pids())
        return not gone & serving and len(serving) == workers and not any(map(is_running, gone))

    wait_until(replaced, timeout_s, f"the replacement of {gone}")
