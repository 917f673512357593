"""Runs the micro-benchmarks and shows each as a ratio to the calibration loop, beside the stored baseline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.benchmarks import machine

BASELINE = Path(__file__).with_name("baseline.json")
_BENCHMARKS = Path(__file__).parent
_ROOT = Path(__file__).resolve().parents[3]
_TIMEOUT_S = 300
# A change that is worth a look. Even ratios move by a tenth from run to run.
_NOTABLE = 0.25


class MicroFailed(OSError):
    """A micro-benchmark raised; pytest has said which."""


def run(store: Path) -> dict[str, dict[str, float]]:
    """`us` (of the fastest round) and `ratio` by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        command = [
            *(sys.executable, "-m", "pytest", str(_BENCHMARKS), f"--benchmark-json={out}"),
            *("-o", "python_files=bench_*.py", "-o", "python_functions=bench_*"),
            *("--import-mode=prepend", "--benchmark-max-time=0.2", "--benchmark-min-rounds=20"),
            *("--benchmark-disable-gc", "--benchmark-quiet", "-p", "no:cacheprovider"),
        ]
        environment = {**os.environ, "BENCHMARK_STORE": str(store), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
        if done.returncode != 0:
            raise MicroFailed(f"the micro-benchmarks failed:\n{(done.stdout + done.stderr)[-3000:]}")
        content = json.loads(out.read_text())
    return {each["name"].removeprefix("bench_"): each["extra_info"] for each in content["benchmarks"]}


def baseline() -> dict[str, float]:
    ratios: dict[str, float] = json.loads(BASELINE.read_text())["ratios"] if BASELINE.exists() else {}
    return ratios


def store_baseline(found: dict[str, dict[str, float]]) -> None:
    described = machine.describe()
    kept = ("date", "processor", "python", "packages")
    content: dict[str, Any] = {
        "measured": {name: described[name] for name in kept},
        "ratios": {name: round(each["ratio"], 4) for name, each in sorted(found.items())},
    }
    BASELINE.write_text(json.dumps(content, indent=2) + "\n")


def table(found: dict[str, dict[str, float]], stored: dict[str, float]) -> Table:
    shown = Table(title="Fastest round; ratios are to the calibration loop of the same run")
    shown.add_column("function")
    for name in ("us", "ratio", "baseline", "change"):
        shown.add_column(name, justify="right")
    for name, each in found.items():
        former = stored.get(name)
        change = each["ratio"] / former - 1 if former else None
        style = None if change is None or abs(change) < _NOTABLE else "red" if change > 0 else "green"
        shown.add_row(
            name.replace("_", " "),
            f"{each['us']:.2f}",
            f"{each['ratio']:.3f}",
            "new" if former is None else f"{former:.3f}",
            "" if change is None else f"{change:+.0%}",
            style=style,
        )
    for name in stored.keys() - found.keys():
        shown.add_row(name.replace("_", " "), "", "", f"{stored[name]:.3f}", "gone", style="dim")
    return shown
