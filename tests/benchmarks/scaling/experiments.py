"""All experiments by name, and one call of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import machine
from tests.benchmarks.report import table
from tests.benchmarks.scaling import backlog, latency, processes, report, text, vocabulary
from tests.benchmarks.scaling.lab import Lab
from tests.benchmarks.scaling.result import Result
from tests.benchmarks.session import Say, Session, interruptible

EXPERIMENTS: dict[str, Callable[[Lab], Result]] = {
    "workers": processes.workers,
    "instances": processes.instances,
    "text-length": text.text_length,
    "vocabulary": vocabulary.vocabulary,
    "batch-size": text.batch_size,
    "backlog": backlog.backlog,
    "redis-latency": latency.redis_latency,
}


def run(
    results: Path, store: Path | None, names: Sequence[str], *, seconds: float, rounds: int, say: Say
) -> list[Result]:
    """The experiments one after the other, each shown when it is done; then everything is written.

    Raises:
        SystemFailed, LoadFailed, OSError: a system or the load failed as a whole.
    """
    found: list[Result] = []
    with interruptible():
        session = Session(results, store, say)
        described = machine.describe()
        with session.folder() as folder, Lab(session, folder, seconds=seconds, rounds=rounds) as lab:
            for name in names:
                say(f"{name}:")
                found.append(EXPERIMENTS[name](lab))
                for shown in report.tables(found[-1]):
                    table.console().print(shown)
    path = report.write(results / "scaling", found, described)
    say(f"results: {path}, {path.with_suffix('.md').name} and plots/ beside it")
    return found
