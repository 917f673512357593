"""The benchmark with one more system, which lies: `python -m tests.e2e.lying_server run --systems liar ...`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.models import Answer
from tests.benchmarks.systems import FlaskHello, answers_of
from tests.benchmarks.workloads import Workload


class Liar(FlaskHello):
    name = "liar"
    about = "right in form, wrong in substance"
    predicts = True
    ready_path = "/"

    def command(self) -> list[str]:
        command = super().command()
        return [*command[:-1], "tests.e2e.lying_app:app"]

    def answers(self, workload: Workload, body: bytes) -> list[Answer]:
        return answers_of(workload, body)


if __name__ == "__main__":
    benchmarks.SYSTEMS[Liar.name] = Liar
    # What the options accept was collected before the liar was known.
    for option in benchmarks.run.params:
        if option.name == "systems":
            option.type = benchmarks.Names(tuple(benchmarks.SYSTEMS))
    sys.argv[0] = str(Path(__file__).name)
    benchmarks.main()
