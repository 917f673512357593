"""`falcon score`, run as a user runs it: every format and kind of model, bad rows, kills, broken files, Ray."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from falcon_wsgi.cli import cli
from falcon_wsgi.library import add_model
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.models.training import train
from tests.e2e import warm

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
ROWS = 3000
FIELDS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SMALL_STEPS = ("--checkpoint", "0", "--batch-rows", "100")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of each kind; `heavy` takes a while."""
    root = tmp_path_factory.mktemp("store")
    train("iris", None, root, lambda *_: None)
    chance = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "area": chance.uniform(20, 200, 300),
            "rooms": chance.integers(1, 6, 300),
            "kind": chance.choice(["flat", "house"], 300),
            "age": np.where(chance.random(300) < 0.2, np.nan, chance.uniform(0, 90, 300)),
        }
    )
    price = frame["area"] * 3000 + (frame["kind"] == "house") * 50_000
    coded = ColumnTransformer([("kind", OrdinalEncoder(), ["kind"])], remainder="passthrough")
    boosted = make_pipeline(coded, HistGradientBoostingRegressor(max_iter=20)).fit(frame, price)
    add_model("price", boosted, frame, store=root)
    rows, names = chance.normal(size=(200, 3)), ["a", "b", "c"]
    add_model("label", RidgeClassifier().fit(rows, rows[:, 0] > 0), rows, field_names=names, store=root)
    heavy = HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=63, min_samples_leaf=2)
    add_model("heavy", heavy.fit(rows, np.arange(200) % 5), rows, field_names=names, store=root)
    texts, moods = ["good great", "bad awful", "table door"] * 10, ["good", "bad", "neither"] * 10
    words = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, moods)
    add_model("words", words, texts, store=root)
    letters = make_pipeline(TfidfVectorizer(analyzer="char_wb"), RidgeClassifier()).fit(texts, moods)
    add_model("letters", letters, texts, store=root)
    return root


Falcon = Callable[..., subprocess.CompletedProcess[str]]


def environment(store: Path) -> dict[str, str]:
    return {**os.environ, "MODEL_STORE": str(store), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def command(store: Path) -> Callable[..., dict[str, Any]]:
    """Arguments of subprocess.Popen for a run in a store of the module."""

    def made(*arguments: object) -> dict[str, Any]:
        return {
            "args": [sys.executable, "-m", "falcon_wsgi", "score", *map(str, arguments)],
            "env": environment(store),
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }

    return made


@pytest.fixture
def falcon(store: Path) -> Falcon:
    def run(
        *arguments: object, expect: int = 0, stdin: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = warm.run(
            ["falcon_wsgi", "score", *map(str, arguments)], environment(store), Path.cwd(), stdin
        )
        assert process.returncode == expect, process.stderr
        return process

    return run


@pytest.fixture
def refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What the command says where it ends before a worker is forked, run in this process; a line."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MODEL_STORE", str(store))

    def run(*arguments: object, exit_code: int = 1) -> str:
        said = CliRunner().invoke(cli, ["score", *map(str, arguments)])
        assert said.exit_code == exit_code, said.output
        assert exit_code != 1 or (said.output.startswith("falcon: ") and said.output.count("\n") == 1)
        return said.output

    return run


@pytest.fixture(scope="module")
def iris_rows() -> list[dict[str, float]]:
    chance = random.Random(5)
    return [{name: round(chance.uniform(0.1, 8), 1) for name in FIELDS} for _ in range(ROWS)]


@pytest.fixture(scope="module")
def expected(store: Path, iris_rows: list[dict[str, float]]) -> list[tuple[int, float]]:
    """What a server answers to each row."""
    model = ModelStore(store).load("iris")
    inputs = [model.form.normalise(model.form.validate(row)) for row in iris_rows]
    return [(each.output, each.confidence or 0.0) for each in model.predictor.predict(inputs)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, iris_rows: list[dict[str, float]]) -> Path:
    """The same rows as in.csv, in.jsonl, in.parquet and in.csv.gz, with a column that the model does not know."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = [{"id": f'{i}, "{i}"', **row} for i, row in enumerate(iris_rows)]
    with (folder / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "in.csv.gz").write_bytes(gzip.compress((folder / "in.csv").read_bytes()))
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet", row_group_size=700)
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    if ".csv" in path.name:
        return list(csv.DictReader(text.splitlines(keepends=True)))
    return [json.loads(line) for line in text.splitlines()]


def rejected(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"{output}.rejects.jsonl").read_text().splitlines()]


def csv_of(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("in.csv", "out.csv"),
        ("in.csv.gz", "out.parquet"),
        ("in.parquet", "out.jsonl.gz"),
        ("in.parquet", "out.parquet"),
        ("in.jsonl", "out.jsonl"),
        ("in.jsonl", "out.csv"),
    ],
)
def test_every_row_gets_the_servers_answer_in_its_place(
    falcon: Falcon,
    inputs: Path,
    tmp_path: Path,
    iris_rows: list[dict[str, float]],
    expected: list[tuple[int, float]],
    source: str,
    output: str,
) -> None:
    said = falcon(
        "iris@1.0.0", inputs / source, tmp_path / output, "--batch-rows", "400", "--row-number", "n", "--json"
    )
    summary = json.loads(said.stdout)
    assert (summary["rows"], summary["rejected"], summary["rejects"]) == (ROWS, 0, None)
    rows = read(tmp_path / output)
    assert list(rows[0]) == [
        "id",
        *FIELDS,
        "n",
        "prediction",
        "confidence",
        *(f"probability_{i}" for i in range(3)),
    ]
    for i, (row, given, (label, confidence)) in enumerate(zip(rows, iris_rows, expected, strict=True)):
        assert row["id"] == f'{i}, "{i}"'
        assert [float(row[name]) for name in FIELDS] == [given[name] for name in FIELDS]
        assert (int(row["n"]), int(row["prediction"])) == (i + 1, label)
        assert float(row["confidence"]) == pytest.approx(confidence, abs=1e-9)
        assert float(row[f"probability_{label}"]) == float(row["confidence"])
    assert [path.name for path in tmp_path.iterdir()] == [output]


def test_streams_are_read_and_written_but_not_resumed(
    falcon: Falcon, refused: Callable[..., str], inputs: Path, tmp_path: Path
) -> None:
    formats = ("--input-format", "csv", "--output-format", "jsonl")
    with (inputs / "in.csv").open("rb") as file:
        streamed = falcon(
            "iris", "-", "-", *formats, "--rejects", tmp_path / "bad", "--keep", "id", stdin=file
        )
    lines = [json.loads(line) for line in streamed.stdout.splitlines()]
    assert [line["id"] for line in lines] == [f'{i}, "{i}"' for i in range(ROWS)]
    assert "scored 3,000 rows" in streamed.stderr
    line = refused("iris", inputs / "in.csv", "-", "--output-format", "jsonl")
    assert line == "falcon: the output is a stream; say where bad rows go with --rejects PATH\n"


def test_bad_rows_go_to_the_reject_file_with_place_and_reason(falcon: Falcon, tmp_path: Path) -> None:
    source = csv_of(
        tmp_path / "in.csv",
        "\ufeffnote,sepal_length,sepal_width,petal_length,petal_width\r\n"
        'fine,5.1,3.5,1.4,0.2\r\n\r\n"two\nlines",x,3.5,1.4,0.2\r\n'
        "missing,5.1,,1.4,0.2\r\nlarge,5.1,3.5,1000,nan\r\nshort,1\r\n"
        "fine too, 6.0 ,2.9,4.5,1.5",
    )
    with source.open("ab") as file:
        file.write(b"\nb\xe9,1,1,1,1\n")
    said = falcon("iris", source, tmp_path / "out.csv")
    assert "scored 7 rows" in said.stdout
    assert "5 rejected" in said.stdout
    assert [row["note"] for row in read(tmp_path / "out.csv")] == ["fine", "fine too"]
    bad = rejected(tmp_path / "out.csv")
    assert [(each["row"], each["line"], each["pointer"]) for each in bad] == [
        (2, 4, "/sepal_length"),
        (3, 6, "/sepal_width"),
        (4, 7, "/petal_length"),
        (5, 8, ""),
        (7, 10, ""),
    ]
    assert [each["reason"] for each in bad] == [
        "Input should be a valid number",
        "Field required",
        "Input should be less than or equal to 100",
        "the row has 2 columns, the header 5",
        "the row is not UTF-8",
    ]
    assert [error["pointer"] for error in bad[2]["errors"]] == ["/petal_length", "/petal_width"]
    assert bad[0]["raw"] == '"two\nlines",x,3.5,1.4,0.2'
    assert "\\xe9" in bad[4]["raw"]


def test_json_lines_are_validated_as_strictly_as_by_a_server(falcon: Falcon, tmp_path: Path) -> None:
    good = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    lines = [
        json.dumps({**good, "more": [1.50, {}]}),
        json.dumps({**good, "sepal_width": "3.5"}),
        json.dumps({**good, "sepal_width": True}),
        json.dumps({**good, "prediction": 7}),
        "{",
        "[1]",
        "",
        json.dumps({key: good[key] for key in FIELDS[:3]}),
    ]
    source = csv_of(tmp_path / "in.jsonl", "\n".join(lines))
    falcon("iris", source, tmp_path / "out.jsonl")
    (row,) = read(tmp_path / "out.jsonl")
    assert row["more"] == [1.5, {}]
    assert [(each["row"], each["line"], each["pointer"]) for each in rejected(tmp_path / "out.jsonl")] == [
        (2, 2, "/sepal_width"),
        (3, 3, "/sepal_width"),
        (4, 4, "/prediction"),
        (5, 5, ""),
        (6, 6, ""),
        (7, 8, "/petal_width"),
    ]


def test_rejects_end_the_run_where_the_user_says_so(
    falcon: Falcon, refused: Callable[..., str], tmp_path: Path
) -> None:
    header = ",".join(FIELDS) + "\n"
    source = csv_of(tmp_path / "in.csv", header + "1,1,1,1\n" * 8 + "x,1,1,1\n" * 2)
    output = tmp_path / "out.csv"
    whole = falcon("iris", source, output, "--max-rejects", "20%", "--strict", expect=1)
    assert "scored 10 rows" in whole.stdout
    stopped = falcon("iris", source, output, "--restart", "--max-rejects", "1", expect=1)
    assert stopped.stderr == (
        "falcon: 2 of 10 rows are rejected; --max-rejects allows 1; "
        "what is scored so far is kept, and the same command goes on\n"
    )
    assert "2 rejected" in falcon("iris", source, output, "--max-rejects", "2").stdout
    usage = refused("iris", source, output, "--max-rejects", "many", exit_code=2)
    assert "neither a number nor a share" in usage


def test_a_regressor_on_frames_with_categories_and_missing_values(
    falcon: Falcon, store: Path, tmp_path: Path
) -> None:
    rows = [
        {"area": 80.5, "rooms": 3, "kind": "house", "age": 12.0},
        {"area": 50.0, "rooms": 2, "kind": "flat", "age": None},
    ]
    text = "area,rooms,kind,age\n80.5,3.0,house,12\n50,2,flat,\n50,2.5,flat,1\n50,2,castle,1\n"
    falcon("price", csv_of(tmp_path / "in.csv", text), tmp_path / "out.csv")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    falcon("price", tmp_path / "in.parquet", tmp_path / "out.parquet")
    model = ModelStore(store).load("price")
    answers = [each.output for each in model.predictor.predict([model.form.validate(row) for row in rows])]
    assert [float(row["prediction"]) for row in read(tmp_path / "out.csv")] == pytest.approx(answers)
    assert [row["prediction"] for row in read(tmp_path / "out.parquet")] == pytest.approx(answers)
    assert list(read(tmp_path / "out.parquet")[0]) == ["area", "rooms", "kind", "age", "prediction"]
    assert [each["pointer"] for each in rejected(tmp_path / "out.csv")] == ["/rooms", "/kind"]


def test_a_classifier_without_probabilities_has_a_prediction_only(falcon: Falcon, tmp_path: Path) -> None:
    source = csv_of(tmp_path / "in.csv", "a,b,c\n3,0,0\n-3,0,0\n")
    falcon("label", source, tmp_path / "out.parquet", "--keep", "")
    assert read(tmp_path / "out.parquet") == [{"prediction": True}, {"prediction": False}]


@pytest.mark.parametrize("model", ["words", "letters"])
def test_texts_of_a_named_column_are_validated_and_answered(
    falcon: Falcon, tmp_path: Path, model: str
) -> None:
    source = csv_of(tmp_path / "in.csv", 'review,n\n"good, great",1\n,2\n  ,3\nawful  bad,4\n')
    falcon(model, source, tmp_path / "out.jsonl", "--text-column", "review")
    assert [(row["n"], row["prediction"]) for row in read(tmp_path / "out.jsonl")] == [
        ("1", "good"),
        ("4", "bad"),
    ]
    assert [each["pointer"] for each in rejected(tmp_path / "out.jsonl")] == ["/review", "/review"]


def test_a_heavy_model_is_forked_before_any_thread_of_openmp(
    command: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    chance = np.random.default_rng(1)
    pq.write_table(
        pa.table(dict(zip("abc", chance.normal(size=(3, 4000)), strict=True))), tmp_path / "in.parquet"
    )
    files = tmp_path / "in.parquet", tmp_path / "out.parquet"
    cold = command("heavy", *files, "--batch-rows", "500", "--workers", "2")
    done = subprocess.run(**cold, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 4000


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        (
            "in.csv",
            b"a,b\n1,2\n",
            "the input has no column sepal_length, sepal_width, petal_length, petal_width",
        ),
        ("in.csv", b"", "is empty; its first line must name the columns"),
        ("in.parquet", b"PAR1", "cannot be read as Parquet"),
        ("in.txt", b"", "say the format with --input-format"),
        (
            "in.csv",
            b"sepal_length,sepal_width,petal_length,petal_width,prediction\n",
            "two columns named prediction",
        ),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_refused_in_a_line(
    refused: Callable[..., str], tmp_path: Path, name: str, contents: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(contents)
    assert reason in refused("iris", tmp_path / name, tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_gzip_file_that_breaks_off_ends_the_run_with_a_line(falcon: Falcon, tmp_path: Path) -> None:
    source = tmp_path / "in.csv.gz"
    source.write_bytes(gzip.compress(b",".join(map(str.encode, FIELDS)) + b"\n1,1,1,1\n" * 1000)[:-9])
    said = falcon("iris", source, tmp_path / "out.csv", expect=1)
    assert said.stderr == f"falcon: {source} is gzipped and breaks off\n"
    assert not (tmp_path / "out.csv").exists()


def test_no_such_model_is_one_line(refused: Callable[..., str], inputs: Path, tmp_path: Path) -> None:
    for model, reason in (("nothing", "no model nothing"), ("iris@9.9.9", "no model iris in version 9.9.9")):
        assert reason in refused(model, inputs / "in.csv", tmp_path / "out.csv")


class Killed:
    """Runs a command again and again, each time killed, until one ends by itself."""

    def __init__(self, start: dict[str, Any], state: Path, seed: int) -> None:
        self._start, self._state = start, state
        self._chance = random.Random(seed)
        self.kills = 0

    def run(self, kills: int) -> None:
        for _ in range(kills):
            if not self._once():
                return

    def _once(self) -> bool:
        """Whether it was killed. Most kills come at a random time after this run's first commit."""
        former = self._mark()
        with subprocess.Popen(**{**self._start, "start_new_session": True}) as process:
            deadline = time.monotonic() + PATIENCE_S
            while process.poll() is None and self._mark() == former and time.monotonic() < deadline:
                time.sleep(0.001)
            try:
                process.wait(self._chance.uniform(0, 0.12))
            except subprocess.TimeoutExpired:
                process.kill()
                self.kills += 1
                return True
            assert process.stderr is not None
            assert process.returncode == 0, process.stderr.read()
        return False

    def _mark(self) -> int | None:
        try:
            return self._state.stat().st_mtime_ns
        except FileNotFoundError:
            return None


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_run_killed_at_any_moment_ends_with_the_very_bytes_of_one_that_was_not(
    falcon: Falcon, command: Callable[..., dict[str, Any]], inputs: Path, tmp_path: Path, suffix: str
) -> None:
    rows = (inputs / "in.csv").read_text().splitlines(keepends=True)
    bad = "bad,x,1,1,1\n"
    source = csv_of(tmp_path / "in.csv", rows[0] + "".join([*rows[1:], bad] * 10))
    whole, output = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    falcon("iris", source, whole, "--batch-rows", "100")
    killed = Killed(command("iris", source, output, *SMALL_STEPS), Path(f"{output}.partial.json"), seed=11)
    killed.run(4)
    assert killed.kills
    if not output.exists():
        summary = json.loads(falcon("iris", source, output, "--batch-rows", "100", "--json").stdout)
        assert summary["rows"] == (ROWS + 1) * 10
        assert summary["resumed_at_row"] > 0
    assert output.read_bytes() == whole.read_bytes()
    assert rejected(output) == rejected(whole)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.fixture
def long_input(inputs: Path, tmp_path: Path) -> Path:
    rows = (inputs / "in.csv").read_text().splitlines(keepends=True)
    return csv_of(tmp_path / "long.csv", rows[0] + "".join(rows[1:]) * 20)


@pytest.fixture
def under_way(
    command: Callable[..., dict[str, Any]], long_input: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """A run that has committed something and has much to do."""
    output = tmp_path / "out.csv"
    with subprocess.Popen(**command("iris", long_input, output, *SMALL_STEPS), text=True) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not _rows_committed(output) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield process
        finally:
            process.kill()


def _rows_committed(output: Path) -> int:
    try:
        return int(json.loads(Path(f"{output}.partial.json").read_bytes())["progress"]["rows"])
    except FileNotFoundError:
        return 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_worker_that_dies_ends_the_run_with_a_line_and_the_same_command_goes_on(
    under_way: subprocess.Popen[str], falcon: Falcon, long_input: Path, tmp_path: Path
) -> None:
    os.kill(children(under_way.pid)[0], signal.SIGKILL)
    _, errors = under_way.communicate(timeout=PATIENCE_S)
    assert under_way.returncode == 1
    assert "a worker process was ended by SIGKILL (out of memory?" in errors
    assert "the same command goes on" in errors
    output = tmp_path / "out.csv"
    summary = json.loads(falcon("iris", long_input, output, "--batch-rows", "100", "--json").stdout)
    assert summary["resumed_at_row"] > 0
    assert summary["rows"] == ROWS * 20
    assert [row["id"] for row in read(output)] == [f'{i}, "{i}"' for i in range(ROWS)] * 20


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_commits_and_says_how_to_go_on(
    under_way: subprocess.Popen[str], tmp_path: Path, stop: signal.Signals
) -> None:
    workers = children(under_way.pid)
    under_way.send_signal(stop)
    _, errors = under_way.communicate(timeout=PATIENCE_S)
    assert under_way.returncode == 130
    assert errors == "falcon: stopped; what is scored so far is kept, and the same command goes on\n"
    assert _rows_committed(tmp_path / "out.csv") > 0
    assert gone(workers)


def test_after_a_kill_workers_end_too_and_only_the_same_run_goes_on(
    under_way: subprocess.Popen[str],
    falcon: Falcon,
    refused: Callable[..., str],
    long_input: Path,
    tmp_path: Path,
) -> None:
    workers = children(under_way.pid)
    assert workers
    under_way.kill()
    under_way.communicate(timeout=PATIENCE_S)
    assert gone(workers)
    output = tmp_path / "out.csv"
    other = refused("iris", long_input, output, "--batch-rows", "99")
    assert "was left by a run with another --batch-rows" in other
    with long_input.open("a") as file:
        file.write("more,1,1,1,1\n")
    assert "was left by a run with another input" in refused("iris", long_input, output, *SMALL_STEPS)
    said = falcon("iris", long_input, output, "--restart", "--json")
    assert json.loads(said.stdout)["rows"] == ROWS * 20 + 1
    assert "is there already; --restart replaces it" in refused("iris", long_input, output)


def test_a_full_disk_keeps_what_is_committed_and_the_run_goes_on_once_there_is_room(
    full_disk: Callable[[int], Path], falcon: Falcon, inputs: Path
) -> None:
    folder = full_disk(200_000)
    output = folder / "out.csv"
    small = ("--checkpoint", "0", "--batch-rows", "300")
    refused = falcon("iris", inputs / "in.csv", output, *small, expect=1)
    assert "cannot be written: " in refused.stderr
    assert "the same command goes on" in refused.stderr
    assert 0 < _rows_committed(output) < ROWS


def test_ray_gives_the_same_bytes_on_loopback_and_leaves_nothing(
    falcon: Falcon, command: Callable[..., dict[str, Any]], inputs: Path, tmp_path: Path
) -> None:
    rows = (inputs / "in.csv").read_text().splitlines(keepends=True)
    csv_of(tmp_path / "in.csv", "".join([*rows[:1500], "bad,x,1,1,1\n", *rows[1500:]]))
    shutil.copy(inputs / "in.parquet", tmp_path)
    for suffix in ("csv", "parquet"):
        arguments = ("iris", tmp_path / f"in.{suffix}"), ("--batch-rows", "500", "--workers", "2")
        falcon(*arguments[0], tmp_path / f"local.{suffix}", *arguments[1])
        distributed = command(*arguments[0], tmp_path / f"ray.{suffix}", *arguments[1], "--engine", "ray")
        seen: dict[int, set[str]] = {}
        with subprocess.Popen(**distributed) as process:
            deadline = time.monotonic() + PATIENCE_S
            while process.poll() is None and time.monotonic() < deadline:
                found = listening()
                seen |= {pid: seen.get(pid, set()) | addresses(pid, found) for pid in of_ray()}
                time.sleep(0.3)
            assert process.poll() == 0, process.stderr and process.stderr.read()
        assert (tmp_path / f"ray.{suffix}").read_bytes() == (tmp_path / f"local.{suffix}").read_bytes()
        assert set().union(*seen.values()) == {"127.0.0.1"}
        assert gone(list(seen))
    assert rejected(tmp_path / "ray.csv") == rejected(tmp_path / "local.csv")


def of_ray() -> list[int]:
    """Ray's daemons, which name the run's folder, and its workers, which name themselves."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if b"/falcon-ray-" in line or line.startswith(b"ray::"):
            found.append(int(path.parent.name))
    return found


def listening() -> dict[str, str]:
    """The address of each socket that accepts TCP connections, by its name among a process's descriptors."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    found = {}
    for columns in (line.split() for table in tables for line in table):
        if columns[3] == "0A":
            last = bytes.fromhex(columns[1].partition(":")[0])[-4:][::-1]  # also of an IPv4 address in IPv6
            found[f"socket:[{columns[9]}]"] = ".".join(map(str, last))
    return found


def addresses(pid: int, listening: dict[str, str]) -> set[str]:
    """Those at which a process accepts connections."""
    try:
        sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return set()
    return {listening[name] for name in sockets & set(listening)}


def test_without_ray_the_command_that_installs_it_is_named(
    refused: Callable[..., str], inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = refused("iris", inputs / "in.csv", tmp_path / "out.csv", "--engine", "ray")
    assert "pip install 'falcon-wsgi[ray]'" in line


def test_the_proof_passes_with_few_rows() -> None:
    proof = subprocess.run(
        [sys.executable, ROOT / "scripts" / "score_proof.py", "--rows", "200000"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert proof.returncode == 0, proof.stdout + proof.stderr
    assert proof.stdout.endswith("passed\n")
