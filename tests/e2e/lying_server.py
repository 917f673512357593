"""The benchmark with one more system, which lies: `python -m tests.e2e.lying_server run --systems liar ...`.

On its Falcon the shortest of the scaling experiments is run too, which spares a start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.models import Answer
from tests.benchmarks.scaling import report, text
from tests.benchmarks.scaling.lab import Lab
from tests.benchmarks.session import Session
from tests.benchmarks.systems import Factory, FlaskHello, System, answers_of
from tests.benchmarks.workloads import Workload

LENGTHS = (10, 2000)


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


class ScalingSession(Session):
    """After all else, the length of texts on the Falcon that runs already; what is found goes beside the results."""

    @contextmanager
    def started(self, folder: Path, factories: Sequence[Factory]) -> Iterator[list[System]]:
        with super().started(folder, factories) as systems:
            yield systems
            (falcon,) = (system for system in systems if isinstance(system, Falcon))
            with Lab(self, folder, seconds=1, rounds=1, warm_up_s=0) as lab:
                found = text.text_length(lab, falcon, LENGTHS)
            report.write(self.results.with_name("scaling"), [found], {"cores": 2})


if __name__ == "__main__":
    benchmarks.Session = ScalingSession  # type: ignore[misc]
    benchmarks.SYSTEMS[Liar.name] = Liar
    # What the options accept was collected before the liar was known.
    for option in benchmarks.run.params:
        if option.name == "systems":
            option.type = benchmarks.Names(tuple(benchmarks.SYSTEMS))
    sys.argv[0] = str(Path(__file__).name)
    benchmarks.main()
