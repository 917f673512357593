"""`falcon models add` and `falcon models signature`: what is refused before a model file is loaded."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.linear_model import Ridge
from skops.io import dumps

from falcon_wsgi.cli import cli
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.settings import Settings

Falcon = Callable[..., Result]
SIGNATURE = {"type": "tabular", "fields": [{"name": "a", "type": "number"}]}
GIVEN = ("--signature", "signature.json", "--golden", "example.json")


@pytest.fixture
def falcon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Falcon:
    """Runs a command in a folder that holds a model and the two files beside it."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "model.skops").write_bytes(dumps(Ridge().fit([[0.0], [1.0]], [0, 1])))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "signature.json").write_text(json.dumps(SIGNATURE))
    (tmp_path / "example.json").write_text('{"a": 1}')
    runner = CliRunner(env={"MODEL_STORE": str(tmp_path / "store")})
    return lambda *arguments: runner.invoke(cli, ["models", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Mine", "model.skops", *GIVEN), "'Mine' is no name for a model"),
        (("mine", "model.skops", *GIVEN, "--version", "1"), "'1' is no version"),
        (("mine", *GIVEN), "give either the model as a skops file, or an XGBoost model with --booster"),
        (("mine", "model.skops", *GIVEN, "--booster", "model.ubj"), "give either the model"),
        (("mine", "model.skops", *GIVEN, "--transform", "model.skops"), "--transform goes with --booster"),
        (("mine", "model.ubj", *GIVEN), "model.ubj is not named like a skops file"),
        (("mine", *GIVEN, "--booster", "model.bin"), "--booster: model.bin must end in .ubj or .json"),
        (("mine", "nothing.skops", *GIVEN), "nothing.skops cannot be read: No such file or directory"),
        (("mine", "model.pkl", *GIVEN), "model.pkl is a pickle"),
        (("mine", "model.skops", *GIVEN, "--labels", "no,yes"), "--labels: give a JSON array"),
        (("mine", "model.skops", *GIVEN[:3], "signature.json"), "signature.json: /a: Field required"),
        (("mine", "model.skops", "--signature", "example.json", *GIVEN[2:]), "example.json: /type: "),
    ],
)
def test_fault_is_one_line_and_nothing_is_written(
    falcon: Falcon, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = falcon("add", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"falcon: {message}"), result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_number_that_is_taken_is_refused_before_anything_else(falcon: Falcon, tmp_path: Path) -> None:
    (tmp_path / "store" / "mine" / "1.0.0").mkdir(parents=True)
    result = falcon("add", "mine", "nothing.skops", *GIVEN, "--version", "1.0.0")
    assert result.stderr.startswith("falcon: mine 1.0.0 is there already")
    assert ModelStore(tmp_path / "store").versions("mine") == ["1.0.0"]


FRAME = pd.DataFrame(
    {
        "age": [30, 41, 52],
        "income": [1.5, np.nan, 2.5],
        "city": ["Rome", "Oslo", "Rome"],
        "member": [True, False, True],
        "price": [1, 2, 3],
    }
)
FIELDS = [
    {"name": "age", "type": "integer"},
    {"name": "income", "nullable": True, "type": "number"},
    {"name": "city", "type": "category", "categories": ["Oslo", "Rome"], "dtype": "str"},
    {"name": "member", "type": "boolean"},
]
WRITERS: dict[str, Callable[[Path], Any]] = {
    "rows.csv": lambda path: FRAME.to_csv(path, index=False),
    "rows.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "rows.parquet": FRAME.to_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_signature_is_told_from_a_file_of_rows(falcon: Falcon, tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    result = falcon("signature", name, "--target", "price")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"type": "tabular", "fields": FIELDS, "input": "frame"}


def test_numbers_alone_are_taken_as_an_array_and_texts_alone_as_texts(falcon: Falcon, tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("a,b\n1,2.5\n")
    assert json.loads(falcon("signature", "numbers.csv").stdout)["input"] == "array"
    (tmp_path / "texts.csv").write_text("text,label\ngood,1\nbad,0\n")
    assert json.loads(falcon("signature", "texts.csv", "--target", "label").stdout) == {"type": "text"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.xlsx", "", "rows.xlsx must end in one of .csv, .jsonl, .ndjson, .parquet"),
        ("rows.csv", "", "rows.csv cannot be read: "),
        ("rows.csv", "a\n", "rows.csv: there is no example"),
        ("rows.csv", "price\n1\n", "rows.csv: "),
        ("rows.csv", "a,b\n1\n", "rows.csv has no column price; it has a, b"),
        ("rows.jsonl", '{"a": 1}\n{', "rows.jsonl cannot be read: line 2 is not JSON: "),
        ("rows.jsonl", "[1]", "rows.jsonl cannot be read: line 1 is not a JSON object"),
        ("rows.jsonl", "\n", "rows.jsonl: "),
        ("rows.parquet", "PAR1", "rows.parquet cannot be read: "),
        ("nothing.csv", None, "nothing.csv cannot be read: No such file or directory"),
    ],
)
def test_file_that_is_no_table_is_one_line(
    falcon: Falcon, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    result = falcon(
        "signature", name, *(("--target", "price") if "price" in message + (content or "") else ())
    )
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith(f"falcon: {message}"), result.stderr
    assert result.stderr.count("\n") == 1
