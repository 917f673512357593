"""Where the processor time of Falcon's workers goes, by stage: py-spy's samples, else cProfile in one process."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from tests.benchmarks import proc
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.stages import STAGES, stage_of_stack
from tests.benchmarks.systems import ROOT
from tests.benchmarks.workloads import WORKLOADS
from tests.benchmarks.wrk import LoadFailed, Wrk

_RATE = 250
_FRAME = re.compile(r"(.*) \((.*):(\d+)\)")
# A thread of gevent's pool that waits for work; py-spy takes it for a busy one.
_ASLEEP = re.compile(r"acquire_with_timeout \(gevent/_threading\.py:\d+\)$")
_CALLS = 3000
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Profile:
    """Of one workload: microseconds of a request by stage, in one worker's code; `how` it was measured."""

    workload: str
    how: str
    us_by_stage: dict[str, float]
    samples: int

    @property
    def us(self) -> float:
        return sum(self.us_by_stage.values())


def sampled(falcon: Falcon, wrk: Wrk, folder: Path, workload: str, connections: int, seconds: int) -> Profile:
    """Under load. The samples say how the workers' processor time divides, /proc how much there is of it.

    Raises:
        LoadFailed: py-spy is missing, or may not look into the workers.
    """
    program = Path(sys.executable).with_name("py-spy")
    found = str(program) if program.exists() else shutil.which("py-spy")
    if found is None:
        raise LoadFailed("py-spy is not installed")
    load, spec = WORKLOADS[workload], folder / f"{workload}.raw"
    master = {"workers": [falcon.gunicorn_pid()]}
    command = [found, "record", "--pid", str(falcon.gunicorn_pid()), "--subprocesses", "--format", "raw"]
    command += ["--rate", str(_RATE), "--duration", str(seconds), "--output", str(spec)]

    def drive(duration: int) -> int:
        run = f"p{secrets.token_hex(5)}"
        path, frame = falcon.path(load), falcon.frame(load)
        counted = wrk.run(falcon.port, path, load, frame, run, connections=connections, seconds=duration)
        return counted.answered

    drive(1)
    with ThreadPoolExecutor(1) as pool:
        before = proc.cpu_s(master)["workers"]
        driving = pool.submit(drive, seconds)
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        answered = driving.result()
        spent_s = proc.cpu_s(master)["workers"] - before
    falcon.settle(falcon.path(load))
    if done.returncode != 0 or not spec.exists():
        raise LoadFailed(f"py-spy: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    counts = _stages_of_samples(spec.read_text())
    total = sum(counts.values())
    if not (total and answered):
        raise LoadFailed("py-spy took no sample")
    us = 1e6 * spent_s / answered
    return Profile(workload, "py-spy", {s: us * n / total for s, n in counts.items()}, total)


def _stages_of_samples(raw: str) -> Counter[str]:
    """Samples by stage, from lines of `frame;frame;... count`, the outermost frame first."""
    counts: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if _ASLEEP.search(stack):
            continue
        matches = map(_FRAME.fullmatch, reversed(stack.split(";")))
        frames = [(match[2], match[1]) for match in matches if match]
        counts[stage_of_stack(frames)] += int(count)
    return counts


def called(falcon: Falcon, folder: Path, workload: str) -> Profile:
    """The WSGI app called in a process of its own, under cProfile, with the Redis and Postgres of `falcon`.

    Without HTTP and sockets; and cProfile makes calls of small functions look dearer than they are.
    """
    out = folder / f"{workload}.json"
    state = falcon.state
    command = [sys.executable, "-m", "tests.benchmarks.apps.profiled", workload, str(_CALLS), str(out)]
    environment = falcon.environment() | {
        "REDIS_URL": state["redis_url"],
        "DATABASE_URL": state["database_url"],
        "DATA_DIR": str(folder / "profiled"),
    }
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S
    )
    if done.returncode != 0:
        raise LoadFailed(f"the profiled process failed: {done.stderr.strip()[-300:]}")
    return Profile(workload, "cProfile", json.loads(out.read_text()), _CALLS)


def table(profiles: Sequence[Profile]) -> Table:
    how = ", ".join(sorted({profile.how for profile in profiles}))
    found = Table(title=f"Processor time of the workers, microseconds a request ({how})")
    found.add_column("stage")
    for profile in profiles:
        found.add_column(profile.workload, justify="right")
    stages = [*STAGES, *sorted({s for p in profiles for s in p.us_by_stage} - set(STAGES))]
    for stage in stages:
        if any(stage in profile.us_by_stage for profile in profiles):
            found.add_row(stage, *(f"{p.us_by_stage.get(stage, 0.0):.1f}" for p in profiles))
    found.add_section()
    found.add_row("in all", *(f"{p.us:.0f}" for p in profiles))
    return found
