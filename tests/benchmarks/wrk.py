"""Load by wrk, with a Lua script made for each run."""

from __future__ import annotations

import json
import re
import resource
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import programs
from tests.benchmarks.workloads import Workload

_SCRIPT = Path(__file__).with_name("load.lua")
_SOCKET_TIMEOUT_S = 10
_GRACE_S = 30


class LoadFailed(Exception):
    """wrk is missing or did not do its work; one line."""


@dataclass(frozen=True)
class Load:
    """What wrk counted. `requests` are complete answers of any status; times are as its clients saw them.

    Attributes:
        refused: answers with a status from 400 on.
        broken: connections refused, broken or timed out.
        cpu_s: of wrk itself.
    """

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu_s: float

    @property
    def answered(self) -> int:
        """Answers with a status below 400."""
        return self.requests - self.refused

    @property
    def errors(self) -> int:
        return self.refused + self.broken


class Wrk:
    """Runs wrk; writes its scripts to `folder`."""

    def __init__(self, folder: Path) -> None:
        found = programs.find("wrk", "wrk")
        if found is None:
            raise LoadFailed(f"wrk is missing; as root: {programs.command_for('wrk')}")
        self._program = found
        self._folder = folder

    def run(
        self,
        port: int,
        path: str,
        workload: Workload,
        frame: tuple[str, str],
        run: str,
        *,
        connections: int,
        seconds: float,
    ) -> Load:
        """Keep `connections` busy for that long, in whole seconds.

        Args:
            frame: what stands in a body before and behind its texts.
            run: begins the request id of each request, and its key if it has one.

        Raises:
            LoadFailed: wrk gave no result.
        """
        config = {
            **workload.lua,
            **dict(zip(("before", "after"), frame, strict=True)),
            "run": run,
            "path": path,
            "seed": secrets.randbelow(2**31),
        }
        script = self._folder / f"{run}.lua"
        script.write_text(f"local config = {to_lua(config)}\n{_SCRIPT.read_text()}")
        command = [
            self._program,
            *("--threads", "1", "--connections", str(connections)),
            *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{_SOCKET_TIMEOUT_S}s"),
            *("--script", str(script), f"http://127.0.0.1:{port}{path}"),
        ]
        before = _children_cpu_s()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"wrk did not end within {seconds + _GRACE_S:.0f} s") from None
        finally:
            script.unlink()
        found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
        if found is None:
            raise LoadFailed(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
        return _load(json.loads(found[1]), _children_cpu_s() - before)


def to_lua(value: Any) -> str:
    """A Lua literal. Strings must be such that JSON and Lua write them alike: printable ASCII."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {to_lua(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "{" + ", ".join(map(to_lua, value)) + "}"
    if isinstance(value, str) and not (value.isascii() and value.isprintable()):
        raise ValueError(f"not printable ASCII: {value!r}")
    return json.dumps(value)


def _load(counted: dict[str, int], cpu_s: float) -> Load:
    return Load(
        requests=counted["requests"],
        seconds=counted["duration_us"] / 1e6,
        refused=counted["status"],
        broken=sum(counted[kind] for kind in ("connect", "read", "write", "timeout")),
        p50_ms=counted["p50_us"] / 1e3,
        p99_ms=counted["p99_us"] / 1e3,
        p999_ms=counted["p999_us"] / 1e3,
        max_ms=counted["max_us"] / 1e3,
        cpu_s=cpu_s,
    )


def _children_cpu_s() -> float:
    """Of the children that have ended: while wrk runs, that is wrk."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
