"""Scores generated rows in bulk and proves the result: `make score-proof`.

Generates iris rows as Parquet and as CSV in a temporary folder, scores them with `falcon score`, and checks every
answer against the model's own `predict_proba`. Prints rows per second and the largest memory of all processes
together. From 5 million rows on, enough to fill every queue, a tenth of them is scored first. Fails where an answer
differs, a row is missing, or all rows took more memory than the tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
_BLOCK = 250_000
_GROWTH = 1.10  # what counts as equal memory; the kernel counts shared pages once for each process
_GROWTH_BYTES = 64 * 1024 * 1024
_ENOUGH = 5_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, help="where the files lie meanwhile; 3 GB for 10 million rows")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="falcon-score-", dir=chosen.folder))
    try:
        return prove(folder, chosen.rows, chosen.workers)
    finally:
        shutil.rmtree(folder)


def prove(folder: Path, rows: int, workers: int) -> int:
    from falcon_wsgi.models.training import train

    store = folder / "store"
    train("iris", None, store, lambda *_: None)
    failures = 0
    for suffix in ("parquet", "csv"):
        peaks = []
        for count in (rows // 10, rows) if rows >= _ENOUGH else (rows,):
            source, output = folder / f"in.{suffix}", folder / f"out.{suffix}"
            generate(source, count)
            summary, peak = score(store, source, output, workers)
            wrong = differing(store, output, count)
            peaks.append(peak)
            failures += wrong > 0 or summary["rows"] != count or summary["rejected"] > 0
            print(
                f"{suffix}: {summary['rows']:,} rows, {workers} workers, {summary['seconds']:.1f} s, "
                f"{summary['rows_per_second']:,.0f} rows/s, peak memory {peak / 2**20:.0f} MiB, {wrong} answers differ",
                flush=True,
            )
            source.unlink()
            output.unlink()
        if rows >= _ENOUGH and peaks[1] > max(peaks[0] * _GROWTH, peaks[0] + _GROWTH_BYTES):
            print(f"{suffix}: memory grew with the number of rows")
            failures += 1
    print("FAILED" if failures else "passed")
    return 1 if failures else 0


def generate(path: Path, rows: int) -> None:
    """The same rows each time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    chance = np.random.default_rng(1936)
    schema = pa.schema([(name, pa.float64()) for name in COLUMNS])
    writer: Any = (pq.ParquetWriter if path.suffix == ".parquet" else pa.csv.CSVWriter)(str(path), schema)
    with writer:
        for first in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - first)
            table = {name: np.round(chance.uniform(0.1, 8, count), 1) for name in COLUMNS}
            writer.write_table(pa.table(table, schema=schema))


def score(store: Path, source: Path, output: Path, workers: int) -> tuple[dict[str, Any], int]:
    """The summary, and the largest memory in bytes of the command and its workers together."""
    command = [sys.executable, "-m", "falcon_wsgi", "score", "iris", str(source), str(output)]
    process = subprocess.Popen(
        [*command, "--workers", str(workers), "--json"],
        stdout=subprocess.PIPE,
        env={**os.environ, "MODEL_STORE": str(store)},
    )
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, sum(map(resident, family(process.pid))))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"falcon score ended with exit code {process.returncode}")
    return json.loads(said), peak


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *map(int, children)]


def resident(pid: int) -> int:
    """Bytes of memory; of pages that several processes share each its part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def differing(store: Path, output: Path, rows: int) -> int:
    """How many answers are not those of the estimator, plus how many rows there are too few or too many."""
    import numpy as np

    from falcon_wsgi.models.loading import load_estimator
    from falcon_wsgi.models.store import ModelStore

    models = ModelStore(store)
    estimator = load_estimator(models.folder("iris") / "1.0.0", models.manifest("iris", "1.0.0"))
    wrong = found = 0
    chance = np.random.default_rng(1936)
    expected_rows = np.empty((0, len(COLUMNS)))
    for table in tables(output):
        given = np.column_stack([table[name] for name in COLUMNS])
        while len(expected_rows) < len(given):
            count = min(_BLOCK, rows - found - len(expected_rows))
            more = np.column_stack([np.round(chance.uniform(0.1, 8, count), 1) for _ in COLUMNS])
            expected_rows = np.concatenate([expected_rows, more])
        expected, expected_rows = expected_rows[: len(given)], expected_rows[len(given) :]
        probabilities = estimator.predict_proba(expected)
        answered = np.column_stack([table[f"probability_{label}"] for label in range(3)])
        same = (
            (given == expected).all(axis=1)
            & (np.abs(answered - probabilities) < 1e-12).all(axis=1)
            & (table["prediction"] == probabilities.argmax(axis=1))
            & (np.abs(table["confidence"] - probabilities.max(axis=1)) < 1e-12)
        )
        wrong += int((~same).sum())
        found += len(given)
    return wrong + abs(rows - found)


def tables(path: Path) -> Any:
    """The output's columns as arrays, a part at a time."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    batches = (
        pq.ParquetFile(path).iter_batches(100_000)
        if path.suffix == ".parquet"
        else pyarrow.csv.open_csv(path)
    )
    for batch in batches:
        yield {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}


if __name__ == "__main__":
    sys.exit(main())
