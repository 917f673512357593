"""Models of users' own are served with no code: by one function, or by one command. One instance serves them all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from skops.io import dump

import falcon_wsgi
from falcon_wsgi.models.store import ModelStore
from tests.e2e.instance import Answer, Client, Instance, running
from tests.e2e.users_models import MODELS, Users
from tests.e2e.workers import wait_for_replacement

DOCUMENT = Path(__file__).parents[2] / "docs" / "MODELS.md"
FALCON = f'falcon() {{ "{sys.executable}" -m falcon_wsgi "$@"; }}\n'


@cache
def users(name: str) -> Users:
    return MODELS[name]()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


def shell(script: str, folder: Path, store: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a user would, with `falcon` on the path."""
    environment = {
        "PATH": os.environ["PATH"],
        "MODEL_STORE": str(store),
        "DATA_DIR": str(folder / "data"),
        "PYTHONPATH": str(DOCUMENT.parents[1]),
    }
    return subprocess.run(
        ["bash", "-ec", FALCON + script], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Path:
    """With the users' models, and those of the document as its own code and commands make them."""
    root = module_folder / "store"
    for name in MODELS:
        one = users(name)
        falcon_wsgi.add_model(name, one.estimator, one.examples, store=root, **one.options)
    follow_the_document(module_folder, root)
    return root


def follow_the_document(folder: Path, root: Path) -> None:
    (folder / "document.py").write_text("\n".join(blocks("python")))
    done = shell(f'"{sys.executable}" -W error document.py', folder, root)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1.0.0 ['number', 'integer', 'category']\n"
    for name, content in re.findall(
        r"^`([^`\n]+\.json)`:\n\n```json\n(.*?)^```", DOCUMENT.read_text(), re.S | re.M
    ):
        (folder / name).write_text(content)
    for block in blocks("sh"):
        if "curl " not in block:
            done = shell(block, folder, root)
            assert done.returncode == 0, f"{block}{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def instance(module_folder: Path, store: Path) -> Iterator[Instance]:
    with running(Instance(module_folder, store, workers=1)) as started:
        yield started


@pytest.fixture
def client(instance: Instance) -> Iterator[Client]:
    with contextlib.closing(instance.client()) as one:
        yield one


def ask(client: Client, name: str, input_: Any) -> Answer:
    if isinstance(input_, str):
        return client.request("POST", f"/infer?model={name}", {"text": input_})
    return client.request("POST", f"/predict?model={name}", input_)


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_the_estimator(client: Client, name: str) -> None:
    estimator = users(name).estimator
    inputs, given = users(name).asked()
    own = estimator.predict(given).tolist()
    probabilities = estimator.predict_proba(given).tolist() if hasattr(estimator, "predict_proba") else None
    for i, input_ in enumerate(inputs):
        answer = ask(client, name, input_)
        assert answer.status == 200, answer.body
        body = answer.json
        assert (body["model"], body["model_version"]) == (name, "1.0.0")
        assert_same(body["prediction"], own[i])
        served = body.get("prediction_probabilities", body.get("probabilities"))
        if probabilities is None:
            assert served is None
        else:
            assert list(served.values()) == pytest.approx(probabilities[i], rel=1e-9, abs=1e-9)
            assert body["confidence"] == max(served.values())


def assert_same(served: Any, own: Any) -> None:
    if isinstance(own, float):
        assert served == pytest.approx(own, rel=1e-9, abs=1e-9)
    else:
        assert (served, type(served)) == (own, type(own))


@pytest.mark.parametrize("name", ["price", "forest", "boosted"])
def test_fields_alone_name_the_model(client: Client, name: str) -> None:
    inputs, _ = users(name).asked()
    assert client.request("POST", "/predict", inputs[0]).json["model"] == name


@pytest.mark.parametrize("name", ["near", "twin"])
def test_models_with_equal_fields_are_told_apart_by_the_query(client: Client, name: str) -> None:
    row = {"x": 0.5, "y": 0, "z": 0}
    assert client.request("POST", f"/predict?model={name}", row).json["model"] == name
    unclear = client.request("POST", "/predict", row)
    assert unclear.status == 422
    assert "?model=near or twin" in unclear.json["detail"]


GOOD = {"age": 40, "income": 51.5, "city": "Rome", "member": True}


def test_missing_values_may_be_null_or_left_out(client: Client) -> None:
    frame = pd.DataFrame([GOOD | {"income": float("nan"), "city": float("nan")}])
    own = users("price").estimator.predict(frame.astype({"city": "str"}))[0]
    for row in (GOOD | {"income": None, "city": None}, {"age": 40, "member": True}):
        assert_same(ask(client, "price", row).json["prediction"], float(own))


@pytest.mark.parametrize(
    ("row", "pointer", "kind"),
    [
        (GOOD | {"city": "Vienna"}, "/city", "literal_error"),
        (GOOD | {"city": 1}, "/city", "literal_error"),
        (GOOD | {"age": 121}, "/age", "less_than_equal"),
        (GOOD | {"age": -1}, "/age", "greater_than_equal"),
        (GOOD | {"age": 40.5}, "/age", "int_from_float"),
        (GOOD | {"age": "40"}, "/age", "float_type"),
        (GOOD | {"income": 1e300}, "/income", "less_than_equal"),
        (GOOD | {"member": None}, "/member", "bool_type"),
        (GOOD | {"member": 1}, "/member", "bool_type"),
        ({"age": 40}, "/member", "missing"),
        (GOOD | {"street": "x"}, "/street", "extra_forbidden"),
    ],
)
def test_row_outside_of_the_signature_is_422_with_a_pointer(
    client: Client, row: dict[str, Any], pointer: str, kind: str
) -> None:
    answer = ask(client, "price", row)
    assert answer.status == 422, answer.body
    assert [(issue["pointer"], issue["type"]) for issue in answer.json["errors"]] == [(pointer, kind)]


def test_every_curl_line_of_the_document_is_answered(
    instance: Instance, module_folder: Path, store: Path
) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl ")]
    assert len(lines) == 2
    for line in lines:
        done = shell(line.replace("127.0.0.1:8000", f"127.0.0.1:{instance.port}"), module_folder, store)
        answer = json.loads(done.stdout)
        assert (answer["model"], answer["model_version"]) == ("rent", "1.1.0"), line
        assert answer["prediction"] > 0


def test_signatures_of_the_document_are_valid() -> None:
    from falcon_wsgi.models import offer

    found = [offer.parsed(json.loads(block), "the document") for block in blocks("json signature")]
    assert [signature.type for signature in found] == ["text", "tabular"]


def test_xgboost_file_of_the_document_answers_as_its_labels(client: Client) -> None:
    assert ask(client, "dear", {"area": 75.0, "rooms": 3}).json["prediction"] in ("cheap", "dear")


def test_model_added_by_one_command_is_served_after_a_reload(
    instance: Instance, tmp_path: Path, store: Path
) -> None:
    one = users("twin")
    dump(one.estimator, tmp_path / "model.skops")
    fields = [{"name": name, "type": "number", "minimum": -9, "maximum": 9} for name in ("u", "v", "w")]
    (tmp_path / "signature.json").write_text(json.dumps({"type": "tabular", "fields": fields}))
    row = {"u": 1, "v": 2, "w": 3}
    own = float(one.estimator.predict([[1, 2, 3]])[0])
    (tmp_path / "example.json").write_text(json.dumps({"input": row, "prediction": own}))
    done = shell(
        "falcon models add late model.skops --signature signature.json --golden example.json", tmp_path, store
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "added late 1.0.0: tabular_regression, 3 fields",
        "golden examples: 1 answered as expected, 0 without an expected answer, recorded from this load",
        "late 1.0.0 is the served version; a running instance takes it with: falcon reload",
    ]
    former = instance.worker_pids()
    instance.signal_master(signal.SIGHUP)
    wait_for_replacement(instance, former)
    assert_same(instance.request("POST", "/predict", row).json["prediction"], own)


def test_joblib_file_is_refused_with_the_way_to_convert_it(tmp_path: Path, store: Path) -> None:
    joblib.dump(users("twin").estimator, tmp_path / "model.joblib")
    (tmp_path / "signature.json").write_text(
        '{"type": "tabular", "fields": [{"name": "u", "type": "number"}]}'
    )
    (tmp_path / "example.json").write_text('{"u": 1}')
    done = shell(
        "falcon models add pickled model.joblib --signature signature.json --golden example.json",
        tmp_path,
        store,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("falcon: model.joblib is a pickle")
    assert "skops.io.dump" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "pickled" not in ModelStore(store).names()
