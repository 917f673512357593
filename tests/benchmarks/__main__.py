"""`python -m tests.benchmarks`: see `make benchmark`, `make profile` and `make microbenchmark`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import click

from falcon_wsgi import resources
from tests.benchmarks import machine, models, profiling
from tests.benchmarks.falcon import Falcon
from tests.benchmarks.micro import report as micro_report
from tests.benchmarks.report import targets
from tests.benchmarks.report.table import console
from tests.benchmarks.run import Plan
from tests.benchmarks.scaling import experiments
from tests.benchmarks.session import EXPECTED, Session, interruptible, measure, show, write
from tests.benchmarks.systems import Factory, FastApiInline, FlaskHello
from tests.benchmarks.workloads import WORKLOADS
from tests.benchmarks.wrk import LoadFailed, Wrk

RESULTS = resources.ROOT / ".falcon" / "benchmark"
SYSTEMS: dict[str, Factory] = {system.name: system for system in (Falcon, FastApiInline, FlaskHello)}
PEERS = ("mlserver", "litserve", "bentoml")
VIAS = ("direct", "nginx")


class Names(click.ParamType[tuple[str, ...]]):
    """Comma-separated, each one of those that are known."""

    name = "names"

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        names = tuple(filter(None, value.split(",")))
        for name in names:
            if name not in self._known:
                self.fail(f"{name!r} is none of: {', '.join(self._known)}", param, ctx)
        return names


class Numbers(click.ParamType[tuple[int, ...]]):
    """Comma-separated whole numbers, each at least 1."""

    name = "numbers"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        try:
            numbers = tuple(map(int, value.split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers", param, ctx)
        if min(numbers) < 1:
            self.fail("each must be at least 1", param, ctx)
        return numbers


@click.group(context_settings={"max_content_width": 110})
def main() -> None:
    """Measure Falcon and what it is compared with."""


@main.command()
@click.option("--systems", type=Names(tuple(SYSTEMS)), default=",".join(SYSTEMS), show_default=True)
@click.option("--peers", type=Names(PEERS), default="", help=f"More systems: {', '.join(PEERS)}.")
@click.option("--workloads", type=Names(tuple(WORKLOADS)), default=",".join(WORKLOADS), show_default=True)
@click.option("--connections", type=Numbers(), default="8,32,256", show_default=True)
@click.option("--via", type=Names(VIAS), default=",".join(VIAS), show_default=True)
@click.option("--repetitions", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 600), default=5, show_default=True, help="Of each load.")
@click.option("--starts", type=click.IntRange(0, 50), default=5, show_default=True, help="Timed starts.")
@click.option("--recycles", type=click.IntRange(0, 500), default=50, show_default=True)
@click.option(
    "--long", "long_requests", type=click.IntRange(0), default=0, help="Requests to watch memory over."
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder for the results.")
@click.option("--store", type=click.Path(path_type=Path, exists=True), help="Trained models to serve.")
def run(
    systems: Sequence[str],
    peers: Sequence[str],
    workloads: Sequence[str],
    connections: Sequence[int],
    via: Sequence[str],
    repetitions: int,
    seconds: int,
    starts: int,
    recycles: int,
    long_requests: int,
    results: Path,
    store: Path | None,
) -> None:
    """Every system under every load. Exits with 1 if an answer, the request log or a connection was wrong."""
    plan = Plan(workloads, connections, via, repetitions, seconds)
    try:
        factories = [SYSTEMS[name] for name in systems] + _peers(peers)
        session = Session(results.resolve(), store.resolve() if store else None, _say)
        runs, found = measure(
            session, factories, plan, starts=starts, recycles=recycles, long_requests=long_requests
        )
        summary, verdicts, path = write(results.resolve(), runs, found)
    except EXPECTED as error:
        sys.exit(f"benchmark: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark: interrupted; everything is stopped")
    show(summary, verdicts, found, path)
    sys.exit(1 if targets.failures(runs) else 0)


@main.command()
@click.option("--workloads", type=Names(tuple(WORKLOADS)), default="cold,hot,keyed,batch", show_default=True)
@click.option("--connections", type=click.IntRange(1), default=32, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 600), default=10, show_default=True)
@click.option(
    "--how",
    type=click.Choice(["auto", "py-spy", "cprofile"]),
    default="auto",
    help="auto: py-spy, or cProfile where it may not look into other processes.",
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder for the results.")
@click.option("--store", type=click.Path(path_type=Path, exists=True), help="Trained models to serve.")
def profile(
    workloads: Sequence[str], connections: int, seconds: int, how: str, results: Path, store: Path | None
) -> None:
    """Where the workers' processor time goes, by stage of the request's path."""
    try:
        session = Session(results.resolve(), store.resolve() if store else None, _say)
        profiles = _profiles(session, workloads, connections, seconds, how)
    except EXPECTED as error:
        sys.exit(f"benchmark: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark: interrupted; everything is stopped")
    written = {
        "machine": machine.describe(),
        "connections": connections,
        "profiles": [asdict(each) | {"us": each.us} for each in profiles],
    }
    path = results.resolve() / "profile.json"
    path.write_text(json.dumps(written, indent=1))
    console().print(profiling.table(profiles))
    _say(f"results: {path}")


def _profiles(
    session: Session, workloads: Sequence[str], connections: int, seconds: int, how: str
) -> list[profiling.Profile]:
    found = []
    with interruptible(), session.folder() as folder, session.started(folder, [Falcon]) as (falcon,):
        assert isinstance(falcon, Falcon)
        wrk = Wrk(folder)
        for workload in workloads:
            if how != "cprofile":
                try:
                    found.append(profiling.sampled(falcon, wrk, folder, workload, connections, seconds))
                    continue
                except LoadFailed as error:
                    if how == "py-spy":
                        raise
                    session.say(f"{error}; going on with cProfile")
                    how = "cprofile"
            found.append(profiling.called(falcon, folder, workload))
    return found


@main.command()
@click.option(
    "--only",
    type=Names(tuple(experiments.EXPERIMENTS)),
    default=",".join(experiments.EXPERIMENTS),
    show_default=True,
)
@click.option("--seconds", type=click.IntRange(1, 600), default=3, show_default=True, help="Of each load.")
@click.option(
    "--rounds", type=click.IntRange(1, 20), default=2, show_default=True, help="Loads for each point."
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder for the results.")
@click.option("--store", type=click.Path(path_type=Path, exists=True), help="Trained models to serve.")
def scaling(only: Sequence[str], seconds: int, rounds: int, results: Path, store: Path | None) -> None:
    """How cost grows with what it depends on. Exits with 1 if an answer or the request log was wrong."""
    try:
        found = experiments.run(
            results.resolve(),
            store.resolve() if store else None,
            only,
            seconds=seconds,
            rounds=rounds,
            say=_say,
        )
    except EXPECTED as error:
        sys.exit(f"scaling: {error}")
    except KeyboardInterrupt:
        sys.exit("scaling: interrupted; everything is stopped")
    sys.exit(1 if any(result.faults for result in found) else 0)


@main.command()
@click.option("--store-baseline", is_flag=True, help="Make this run the baseline.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the models.")
@click.option("--store", type=click.Path(path_type=Path, exists=True), help="Trained models to use.")
def micro(store_baseline: bool, results: Path, store: Path | None) -> None:
    """The hot functions one by one, as ratios to a calibration loop, beside the stored baseline."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        found = micro_report.run((store or models.prepared_store(results)).resolve())
    except EXPECTED as error:
        sys.exit(f"benchmark: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark: interrupted")
    console().print(micro_report.table(found, micro_report.baseline()))
    if store_baseline:
        micro_report.store_baseline(found)
        _say(f"stored: {micro_report.BASELINE}")


def _peers(names: Sequence[str]) -> list[Factory]:
    """Their environment is made only now. Raises OSError where that fails."""
    if not names:
        return []
    if subprocess.run([resources.ROOT / "scripts" / "setup.sh", "peers"], check=False).returncode != 0:
        raise OSError("the environment of the peers could not be set up")
    peers = import_module("tests.benchmarks.peers")
    return [peers.SYSTEMS[name] for name in names]


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
