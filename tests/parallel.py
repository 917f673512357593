"""Runs the whole suite as a few pytest processes side by side, and reports as one: `python -m tests.parallel`.

Much of the suite waits for real servers, so one process for each core leaves the cores idle. pytest-xdist cannot be
used: its workers run tests beside a thread of their own, which does not survive the gevent patches that the suite
needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PARTS = 4
# In the environment of each part: a folder for what one of them makes for all.
SHARED_FOLDER = "FALCON_SUITE_FOLDER"
# Seconds, roughly, as measured one after the other; what is not listed takes some ten. Only the balance hangs on them.
COSTS = {
    "make_run": 95,
    "score": 90,
    "lifecycle": 75,
    "stack": 60,
    "make_run_supervisor": 55,
    "predictions": 55,
    "metrics": 35,
    "openapi": 35,
    "benchmark": 30,
    "bring_your_own": 30,
    "cli": 30,
    "exactly_once": 30,
    "trials": 30,
    "contract": 25,
    "docs_page": 25,
    "idempotency": 25,
    "redis_outage": 25,
    "reload": 25,
    "bad_input": 20,
    "balancer": 20,
    "models_in_service": 15,
}
_USUAL_COST = 10
_UNIT_AND_INTEGRATION_COST = 240
_POLL_S = 0.2
_SIGN_OF_LIFE_S = 60.0
_OUTCOMES = ("failures", "errors", "skipped")


@dataclass
class Part:
    """One pytest process: its output, and its report as JUnit XML."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    report: Path

    @property
    def progress(self) -> str:
        shown = [line for line in self.output.read_text(errors="replace").splitlines() if line.endswith("%]")]
        return shown[-1][-7:].strip("[ ]") if shown else "0%"

    def counts(self) -> dict[str, int]:
        """Tests in all and by outcome; one error if the process did not come to its report."""
        try:
            suite = ElementTree.parse(self.report).getroot().find("testsuite")
        except (OSError, ElementTree.ParseError):
            suite = None
        if suite is None:
            return {"tests": 1, "failures": 0, "errors": 1, "skipped": 0}
        return {name: int(suite.get(name, 0)) for name in ("tests", *_OUTCOMES)}


def groups() -> dict[str, list[str]]:
    """Paths by the name of the part that runs them: the next costly module of e2e to the part that has least to do."""
    paths: list[list[str]] = [["tests/unit", "tests/integration"], *([] for _ in range(PARTS - 1))]
    costs = [_UNIT_AND_INTEGRATION_COST, *[0] * (PARTS - 1)]
    for module in sorted((TESTS / "e2e").glob("test_*.py"), key=lambda path: (-_cost(path), path.name)):
        least = costs.index(min(costs))
        costs[least] += _cost(module)
        paths[least].append(str(module.relative_to(ROOT)))
    return {f"part {number}": each for number, each in enumerate(paths, start=1)}


def _cost(module: Path) -> int:
    return COSTS.get(module.stem.removeprefix("test_"), _USUAL_COST)


@contextlib.contextmanager
def started(folder: Path, options: list[str]) -> Iterator[list[Part]]:
    """The parts, running; what still runs at the end of the block is ended."""
    parts: list[Part] = []
    try:
        for number, (name, paths) in enumerate(groups().items()):
            output, report = folder / f"{number}.txt", folder / f"{number}.xml"
            command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *options, *paths]
            with output.open("wb") as sink:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**os.environ, SHARED_FOLDER: str(folder)},
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                )
            parts.append(Part(name, process, output, report))
        yield parts
    finally:
        for part in parts:
            if part.process.poll() is None:
                part.process.terminate()
        for part in parts:
            part.process.wait()


def wait(parts: list[Part]) -> None:
    """Until all have ended. Each one's output is shown when it has; until then a line a minute."""
    running = list(parts)
    told_at = time.monotonic()
    while running:
        for part in [each for each in running if each.process.poll() is not None]:
            running.remove(part)
            print(f"--- {part.name}", part.output.read_text(errors="replace"), sep="\n", flush=True)
        if running and time.monotonic() - told_at >= _SIGN_OF_LIFE_S:
            told_at = time.monotonic()
            print("; ".join(f"{part.name}: {part.progress}" for part in running), flush=True)
        time.sleep(_POLL_S)


def closing_line(counts: list[dict[str, int]], seconds: float) -> str:
    """As pytest ends a run."""
    total = {name: sum(each[name] for each in counts) for name in ("tests", *_OUTCOMES)}
    passed = total["tests"] - sum(total[name] for name in _OUTCOMES)
    told = [f"{passed} passed"]
    for name, word in zip(_OUTCOMES, ("failed", "error", "skipped"), strict=True):
        if total[name]:
            told.append(f"{total[name]} {word}")
    minutes, rest = divmod(round(seconds), 60)
    return f"{', '.join(told)} in {seconds:.2f}s ({minutes // 60}:{minutes % 60:02}:{rest:02})"


def main(options: list[str]) -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="falcon-suite-") as folder:
        with started(Path(folder), options) as parts:
            wait(parts)
        print(closing_line([part.counts() for part in parts], time.monotonic() - begun))
        return max(abs(part.process.returncode) for part in parts)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit that ends the parts on its way
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
