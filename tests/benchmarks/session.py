"""One call of the benchmark: what it starts, and that all of it is stopped, whatever happens."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from falcon_wsgi.launch.account import Account
from tests.benchmarks import balancer, lifecycle, machine, models
from tests.benchmarks.balancer import Balancer
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.lifecycle import Lifecycle
from tests.benchmarks.models import DirectModel
from tests.benchmarks.report import page, table, targets
from tests.benchmarks.report.summary import Summary
from tests.benchmarks.report.targets import Verdict
from tests.benchmarks.run import Matrix, Plan, Run
from tests.benchmarks.systems import Factory, System, SystemFailed, stop_all
from tests.benchmarks.wrk import LoadFailed, Wrk

Say = Callable[[str], None]
EXPECTED = (SystemFailed, LoadFailed, OSError, subprocess.SubprocessError)
"""What ends a benchmark with one line rather than a traceback."""


class Session:
    """Systems, models and the load generator, in a folder that is deleted at the end.

    Args:
        results: folder for the results, the trained store and the systems' files.
    """

    def __init__(self, results: Path, store: Path | None, say: Say) -> None:
        results.mkdir(parents=True, exist_ok=True)
        self.results = results
        self.say = say
        if store is None:
            say("models: training those that are not there yet")
            store = models.prepared_store(results)
        self.store = store
        self.direct = _Loaded(store)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Everything the systems write. The embedded servers' user has to get through it."""
        folder = Path(tempfile.mkdtemp(prefix="systems-", dir=self.results))
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            for instance in folder.glob("**/data/[0-9]*"):
                for name in ("redis", "postgres"):  # put elsewhere if their user could not get here
                    moved = Account(0, 0, switch=True).moved(instance / name).parent
                    shutil.rmtree(moved, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def started(self, folder: Path, factories: Sequence[Factory]) -> Iterator[list[System]]:
        systems = [factory(folder, self.store) for factory in factories]
        try:
            for system in systems:
                system.start()
                self.say(f"{system.name}: ready after {system.ready_s:.1f} s on port {system.port}")
            yield systems
        finally:
            stop_all(systems)

    @contextmanager
    def balanced(self, folder: Path, systems: Sequence[System], wanted: bool) -> Iterator[Balancer | None]:
        """nginx before the systems; None where it is not wanted or not to be had, which is said aloud."""
        program = balancer.find() if wanted else None
        if program is None:
            yield None
            return
        nginx = Balancer(program, folder, systems)
        try:
            nginx.start()
            yield nginx
        finally:
            nginx.stop()


class _Loaded(dict[str, DirectModel]):
    """The models by name, each loaded when it is first asked for."""

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store = store

    def __missing__(self, name: str) -> DirectModel:
        self[name] = model = models.load(self._store, name)
        return model


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the session as Ctrl-C does, through every `finally`."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def measure(
    session: Session,
    factories: Sequence[Factory],
    plan: Plan,
    *,
    starts: int,
    recycles: int,
    long_requests: int,
) -> tuple[list[Run], Lifecycle]:
    """All that one call measures, in the order in which nothing disturbs anything else.

    Raises:
        SystemFailed, LoadFailed, OSError: a system or the load failed as a whole.
    """
    found = Lifecycle()
    with interruptible(), session.folder() as folder:
        if starts:
            found.first_ready_s, found.ready_s = lifecycle.starts(folder, session.store, starts)
            session.say(f"start to ready: {', '.join(f'{s:.2f}' for s in found.ready_s)} s")
        with (
            session.started(folder, factories) as systems,
            session.balanced(folder, systems, "nginx" in plan.vias) as nginx,
        ):
            runs = _matrix(session, folder, systems, nginx, plan)
            for system in systems:
                if isinstance(system, Falcon):
                    _falcons_life(session, folder, system, found, recycles, long_requests)
    return runs, found


def _matrix(
    session: Session, folder: Path, systems: Sequence[System], nginx: Balancer | None, plan: Plan
) -> list[Run]:
    if "nginx" in plan.vias and nginx is None:
        session.say(
            "NOT MEASURED: nginx is missing, so nothing goes through it; as root: apt-get install nginx"
        )
        vias = [via for via in plan.vias if via != "nginx"]
        plan = Plan(plan.workloads, plan.connections, vias, plan.repetitions, plan.seconds)
    total = plan.runs(systems)
    if not total:
        raise SystemFailed("there is nothing to measure: none of the systems serves any of the workloads")
    session.say(f"{total} runs of {plan.seconds:g} s, about {plan.estimate_s(systems) / 60:.0f} minutes")
    done = 0

    def progress(run: Run) -> None:
        nonlocal done
        done += 1
        wrong = f"  WRONG: {run.faults[0]}" if run.faults else ""
        cell = run.cell
        session.say(
            f"[{done}/{total}] {cell.workload:11} {cell.connections:3} {cell.via:6} {run.system:11} "
            f"{run.requests_per_s:8,.0f}/s  p99 {run.load.p99_ms:7.1f} ms  {run.cpu_us_in_all:7,.0f} us{wrong}"
        )

    return Matrix(Wrk(folder), systems, session.direct, nginx).run(plan, progress)


def _falcons_life(
    session: Session, folder: Path, falcon: Falcon, found: Lifecycle, recycles: int, long_requests: int
) -> None:
    found.scrape_ms, found.scrape_bytes = lifecycle.scrape_ms(falcon)
    if long_requests:
        found.memory = lifecycle.long_load(falcon, Wrk(folder), long_requests, session.say)
    if recycles:
        session.say(f"recycling {recycles} workers")
        lifecycle.recycle(falcon, recycles)
        found.recycles = recycles
        found.scrape_after_ms, _ = lifecycle.scrape_ms(falcon)


def write(results: Path, runs: Sequence[Run], found: Lifecycle) -> tuple[Summary, list[Verdict], Path]:
    """Write `NAME.json` and `NAME.html`, and both again as `latest`; the HTML's path is returned."""
    summary = Summary(runs)
    verdicts = targets.judge(summary, found)
    described = machine.describe()
    content: dict[str, Any] = {
        "machine": described,
        "targets": [{**asdict(verdict), "verdict": verdict.word} for verdict in verdicts],
        "faults": summary.faults(),
        "lifecycle": asdict(found),
        **summary.json,
    }
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    html = page.render(summary, verdicts, found, described)
    for stem in (name, "latest"):
        (results / f"{stem}.json").write_text(json.dumps(content, indent=1))
        (results / f"{stem}.html").write_text(html)
    return summary, verdicts, results / f"{name}.html"


def show(summary: Summary, verdicts: Sequence[Verdict], found: Lifecycle, path: Path) -> None:
    console = table.console()
    console.print(table.runs_table(summary))
    if found.first_ready_s is not None:
        console.print(f"first start, with a new data folder: ready after {found.first_ready_s:.2f} s")
    console.print(table.targets_table(verdicts))
    for fault in summary.faults():
        console.print(f"WRONG: {fault}", style="bold red", markup=False, highlight=False)
    console.print(f"results: {path.with_suffix('.json')} and {path}", highlight=False, soft_wrap=True)
