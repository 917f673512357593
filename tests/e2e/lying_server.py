"""The benchmark with one more system: `python -m tests.e2e.lying_server run --systems liar ...`. Its server answers
every request with 200 in the right form, and with the same prediction whatever it is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks.models import Answer
from tests.benchmarks.systems import FlaskHello, answers_of
from tests.benchmarks.workloads import Workload

LIE = {
    "prediction": "positive",
    "confidence": 0.9,
    "probabilities": {"negative": 0.05, "neutral": 0.05, "positive": 0.9},
}


class Liar(FlaskHello):
    name = "liar"
    about = "right in form, wrong in substance"
    predicts = True
    ready_path = "/"

    def command(self) -> list[str]:
        command = super().command()
        return [*command[:-1], "tests.e2e.lying_server:app"]

    def answers(self, workload: Workload, body: bytes) -> list[Answer]:
        return answers_of(workload, body)


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [orjson.dumps(LIE)]


if __name__ == "__main__":
    benchmarks.SYSTEMS[Liar.name] = Liar
    # What the options accept was collected before the liar was known.
    for option in benchmarks.run.params:
        if option.name == "systems":
            option.type = benchmarks.Names((Liar.name,))
    sys.argv[0] = str(Path(__file__).name)
    benchmarks.main()
