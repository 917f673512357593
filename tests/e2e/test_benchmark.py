"""The benchmark itself, on the shortest of loads: that it measures, and that it sees what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.benchmarks.checks import Checked
from tests.benchmarks.falcon import LoggedRows
from tests.benchmarks.models import Answer
from tests.benchmarks.report.targets import failures
from tests.benchmarks.run import Cell, LogOfRun, Run
from tests.benchmarks.systems import NotAnAnswer, answers_of
from tests.benchmarks.workloads import WORKLOADS
from tests.benchmarks.wrk import Load

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (
    *(sys.executable, "-m", "tests.e2e.lying_server", "run", "--systems", "falcon,flask-hello,liar"),
    *("--workloads", "cold,batch", "--connections", "8", "--via", "direct", "--repetitions", "1"),
    *("--seconds", "1", "--starts", "0", "--recycles", "0"),
)
TIMEOUT_S = 180

Measured = tuple[subprocess.CompletedProcess[str], dict[str, Any], Path]


@pytest.fixture(scope="module")
def measured(model_store: Path, servers_folder: Path) -> Measured:
    """One short benchmark of Falcon, of Flask, and of a server that lies: how it ended, its JSON, its folder."""
    programs.require("wrk", "wrk", "tests/e2e/test_benchmark.py")
    results = servers_folder / "benchmark"
    command = [*COMMAND, "--store", str(model_store), "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (results / "latest.json").exists(), done.stderr
    return done, json.loads((results / "latest.json").read_text()), results


def test_measures_each_system_and_finds_a_row_for_each_answer(measured: Measured) -> None:
    _, found, _ = measured
    runs = {(run["system"], run["cell"]["workload"]): run for run in found["runs"]}
    del runs["liar", "cold"]
    assert runs.keys() == {("falcon", "cold"), ("falcon", "batch"), ("flask-hello", "cold")}
    for run in runs.values():
        assert run["faults"] == []
        assert run["load"]["requests"] > 0
        assert run["checked"] > 48
        assert run["wrong"] == 0
        assert run["cpu_us"]["app"] > 0
        assert run["pss_mb"]["app"] > 10
    for workload in ("cold", "batch"):
        run = runs["falcon", workload]
        assert run["rows"] >= (run["load"]["requests"] + run["checked"]) * run["items"]
        assert run["cpu_us"].keys() == {"app", "redis", "postgres"}
    (ratio,) = found["ratios"]
    assert (ratio["of"], ratio["to"]) == ("falcon", "flask-hello")


def test_writes_one_page_that_needs_nothing_else_and_leaves_nothing_else_behind(measured: Measured) -> None:
    _, _, results = measured
    page = (results / "latest.html").read_text()
    assert page.count("<svg") >= 4
    assert "://" not in page
    assert "<script" not in page
    assert {path.suffix for path in results.iterdir()} == {".json", ".html"}


def test_scaling_measures_points_and_writes_a_page_tables_and_plots(measured: Measured) -> None:
    _, _, results = measured
    scaling = results.with_name("scaling")
    (experiment,) = json.loads((scaling / "scaling.json").read_text())["experiments"]
    short, long = experiment["points"]
    assert (short["x"], long["x"]) == (10, 2000)
    for point in (short, long):
        assert point["faults"] == []
        assert point["requests_per_s"] > 0
        assert point["apart_us"].keys() == {"redis", "postgres"}
    assert long["cpu_us"] > short["cpu_us"] > 0
    assert experiment["verdicts"] == ["as it should"]
    page = (scaling / "scaling.html").read_text()
    assert page.count("<svg") == 1
    assert "://" not in page
    tables = (scaling / "scaling.md").read_text()
    assert "![Length of a text](plots/text-length.svg)" in tables
    assert (scaling / "plots" / "text-length.svg").stat().st_size < 20_000


def test_a_server_that_answers_wrongly_fails_the_benchmark(measured: Measured) -> None:
    done, found, _ = measured
    (run,) = (run for run in found["runs"] if run["system"] == "liar")
    assert run["load"]["refused"] == 0
    assert run["wrong"] == run["checked"] > 0
    assert "the model says" in run["faults"][0]
    assert all(fault.startswith("liar") for fault in found["faults"])
    assert "WRONG: liar" in done.stdout
    assert done.returncode == 1


def test_only_runs_that_were_wrong_fail_the_benchmark() -> None:
    load = Load(90, 1.0, 0, 0, 1.0, 1.0, 1.0, 1.0, 0.1)
    sound = Run(
        "falcon", Cell("cold", 32, "direct"), 0, load, 1, {"app": 1.0}, {"app": 999.0}, 0.0, 0.0, 1, 0
    )
    assert failures([sound]) == 0
    assert failures([sound, replace(sound, faults=["1 answer with a status of 400 or more"])]) == 1


def test_a_confidence_that_is_not_the_labels_probability_is_no_answer() -> None:
    body = (
        b'{"prediction": "positive", "confidence": 0.9, "probabilities": {"positive": 0.8, "negative": 0.2}}'
    )
    with pytest.raises(NotAnAnswer):
        answers_of(WORKLOADS["cold"], body)


def test_answers_are_compared_by_every_probability() -> None:
    one = Answer("a", {"a": 0.6, "b": 0.3, "c": 0.1})
    assert one.equals(Answer("a", {"a": 0.6 + 1e-12, "b": 0.3, "c": 0.1}), 1e-9)
    assert not one.equals(Answer("a", {"a": 0.6, "b": 0.2, "c": 0.2}), 1e-9)
    assert not one.equals(Answer("b", {"a": 0.6, "b": 0.3, "c": 0.1}), 1e-9)
    assert not one.equals(Answer("a", {"a": 0.6, "b": 0.3}), 1e-9)


class FakeFalcon:
    """Holds what the log and the counters would say of a run of 100 answers, 10 of them checked."""

    def __init__(self, logged: LoggedRows, answered: int = 100, missing: str | None = None) -> None:
        self._logged = logged
        self._answers = [0, answered]
        self._missing = missing

    def settle(self, path: str) -> float:
        return 0.0

    def empty_log(self) -> None:
        pass

    def answered(self, path: str) -> int:
        return self._answers.pop(0)

    def logged(self, run: str) -> LoggedRows:
        return self._logged

    def rows_of(self, request_ids: list[str]) -> dict[str, int]:
        return {request_id: int(request_id != self._missing) for request_id in request_ids}


@pytest.mark.parametrize(
    ("falcon", "fault"),
    [
        (FakeFalcon(LoggedRows(100, 100, 1, 1, 0)), None),
        (FakeFalcon(LoggedRows(99, 99, 1, 1, 0)), "99 rows of 99 requests for 100 answers"),
        (FakeFalcon(LoggedRows(100, 101, 1, 2, 0)), "1 to 2 rows for a request, not 1"),
        (FakeFalcon(LoggedRows(99, 99, 1, 1, 0), answered=99), "99 requests are logged, 100 answers arrived"),
        (FakeFalcon(LoggedRows(109, 109, 1, 1, 0), answered=109), "109 requests are logged, 100 answers"),
        (FakeFalcon(LoggedRows(100, 100, 1, 1, 0), missing="b-c3"), "not 1 rows each: b-c3"),
    ],
)
def test_a_log_that_does_not_hold_every_answer_once_is_a_fault(falcon: Any, fault: str | None) -> None:
    load = Load(90, 1.0, 0, 0, 1.0, 1.0, 1.0, 1.0, 0.1)
    checked = Checked(requests=10, ids=[f"b-c{i}" for i in range(10)])
    log = LogOfRun(falcon, "/infer", WORKLOADS["cold"], "b")
    _, faults = log.compare(load, checked, connections=8)
    if fault is None:
        assert faults == []
    else:
        assert any(fault in each for each in faults)
