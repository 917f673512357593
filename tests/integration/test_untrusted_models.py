"""A model file with anything changed in it is refused, or predicts; it never ends the process."""

from __future__ import annotations

import collections
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skops.io import dumps

from falcon_wsgi.errors import UntrustedModel
from falcon_wsgi.models import archive
from falcon_wsgi.models.loading import deserialise
from tests.integration import mutated_models
from tests.unit.models import fitted_models

ROOT = Path(__file__).parents[2]
CHANGED_COPIES = 72  # two of each model

Members = dict[str, bytes]


def members_of(contents: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(contents)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(members: Members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, contents in members.items():
            opened.writestr(name, contents)
    return buffer.getvalue()


def with_array(contents: bytes, fits: Callable[[Any], bool], change: Callable[[Any], Any]) -> bytes:
    """The archive with the first array that fits rewritten."""
    members = members_of(contents)
    for name, stored in members.items():
        if name.endswith(".npy"):
            array = np.load(io.BytesIO(stored))
            if fits(array):
                buffer = io.BytesIO()
                np.save(buffer, change(array.copy()))
                members[name] = buffer.getvalue()
                return zipped(members)
    raise AssertionError("no array fits")


def refused(contents: bytes, match: str) -> None:
    with pytest.raises(UntrustedModel, match=match) as caught:
        deserialise(contents, "flowers/1.0.0/model.skops")
    message = str(caught.value)
    assert message.startswith("flowers/1.0.0/model.skops")
    assert "\n" not in message


def stored(name: str) -> bytes:
    return dumps(fitted_models.compiled()[name][0])


def set_field(field: str, at: int, value: int) -> Callable[[Any], Any]:
    def change(nodes: Any) -> Any:
        nodes[field][at] = value
        return nodes

    return change


@pytest.mark.parametrize("name", list(fitted_models.compiled()))
def test_a_file_as_it_was_saved_loads_and_answers_the_same(name: str) -> None:
    estimator, rows = fitted_models.compiled()[name]
    loaded = deserialise(dumps(estimator), name)
    method = "predict" if hasattr(estimator, "predict") else "transform"
    before, after = getattr(estimator, method)(rows), getattr(loaded, method)(rows)
    if hasattr(before, "toarray"):
        before, after = before.toarray(), after.toarray()
    assert np.array_equal(before, after)


@pytest.mark.parametrize("name", ["tree", "forest", "extra trees", "boosting", "isolation forest"])
@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("left_child", 10**6, "child"),
        ("right_child", -7, "child"),
        ("left_child", 0, "child"),
        ("feature", 4, "feature"),
        ("feature", -1, "feature"),
        ("feature", 2**40, "feature"),
    ],
)
def test_a_tree_that_points_outside_of_itself_is_refused(
    name: str, field: str, value: int, match: str
) -> None:
    contents = with_array(
        stored(name), lambda a: a.dtype.names is not None and len(a) > 2, set_field(field, 0, value)
    )
    refused(contents, match)


@pytest.mark.parametrize("name", ["histogram boosting", "histogram boosting by category"])
@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("left", 10**6, "child"),
        ("right", 0, "child"),
        ("feature_idx", 99, "feature"),
        ("feature_idx", -1, "feature"),
        ("is_leaf", 1, "child"),
    ],
)
def test_a_histogram_tree_that_points_outside_of_itself_is_refused(
    name: str, field: str, value: int, match: str
) -> None:
    contents = with_array(
        stored(name), lambda a: a.dtype.names is not None and len(a) > 2, set_field(field, 0, value)
    )
    refused(contents, match)


def test_a_number_split_as_if_it_were_a_category_is_refused() -> None:
    nodes = lambda a: a.dtype.names is not None and len(a) > 2  # noqa: E731
    refused(
        with_array(stored("histogram boosting"), nodes, set_field("is_categorical", 0, 1)), "by categories"
    )


@pytest.mark.parametrize("index", [4, -1, 2**31 - 1])
def test_a_sparse_matrix_that_points_outside_of_itself_is_refused(index: int) -> None:
    for name in ("sparse neighbours", "sparse support vectors"):
        members = members_of(stored(name))
        (matrix,) = [member for member in members if member.endswith(".npz")][:1]
        parts = members_of(members[matrix])
        indices = np.load(io.BytesIO(parts["indices.npy"]))
        indices[0] = index
        buffer = io.BytesIO()
        np.save(buffer, indices)
        members[matrix] = zipped({**parts, "indices.npy": buffer.getvalue()})
        refused(zipped(members), "sparse matrix")


def test_changed_support_vectors_are_refused() -> None:
    contents = stored("support vectors")
    refused(
        with_array(contents, lambda a: a.dtype == np.int32 and a.shape == (3,), lambda a: a + 1), "_n_support"
    )
    refused(with_array(contents, lambda a: a.ndim == 2 and len(a) == 2, lambda a: a[:1]), "coefficients")


def test_truth_values_and_text_that_numpy_could_not_have_written_are_refused() -> None:
    members = members_of(dumps({"a": np.zeros(8, bool), "b": np.array(["word"])}))
    for name, contents in list(members.items()):
        if name.endswith(".npy"):
            refused(zipped({**members, name: contents[:-4] + b"\xff\xff\xff\xff"}), "holds")


def test_an_array_that_is_longer_than_its_header_says_is_refused() -> None:
    members = members_of(stored("support vectors"))
    name = next(name for name in members if name.endswith(".npy"))
    refused(zipped({**members, name: members[name] + b"\x00"}), "not as long as its header says")


def test_an_archive_that_unpacks_beyond_the_limit_is_refused_before_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    contents = zipped({**members_of(stored("tree")), "bomb.npy": b"\x00" * (2 << 20)})
    assert len(contents) < 1 << 20
    refused(contents, "unpacks to")


def test_one_array_named_very_often_counts_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    members = members_of(dumps([np.zeros(1000)]))
    schema = json.loads(members["schema.json"])
    (array,) = schema["content"]
    schema["content"] = [{**array, "__id__": number} for number in range(1, 1000)]
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    refused(zipped({**members, "schema.json": json.dumps(schema).encode()}), "its arrays take more than")


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_schema_nested_very_deeply_is_refused(depth: int) -> None:
    node = '{"__class__":"list","__module__":"builtins","__loader__":"ListNode","content":['
    schema = '{"protocol":2,' + node[1:] + node * depth + "]}" * depth + "]}"
    refused(zipped({"schema.json": schema.encode()}), "RecursionError|nested")


def test_a_part_within_itself_is_refused() -> None:
    node = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "__id__": 1}
    schema = {"protocol": 2, **node, "content": [{**node, "content": []}]}
    refused(zipped({"schema.json": json.dumps(schema).encode()}), "RecursionError")


def test_an_old_protocol_cannot_be_claimed() -> None:
    members = members_of(stored("tree"))
    for protocol in (0, -1, 3, True, "2", None):
        schema = {**json.loads(members["schema.json"]), "protocol": protocol}
        refused(zipped({**members, "schema.json": json.dumps(schema).encode()}), "protocol")


@pytest.mark.parametrize(
    ("loader", "module", "name"),
    [
        ("ConstructorFromReduceNode", "numpy", "ndarray"),
        ("ConstructorFromReduceNode", "falcon_wsgi.models.negation", "tokenize"),
        ("TypeNode", "falcon_wsgi.models.negation", "tokenize"),
        ("ListNode", "sklearn.pipeline", "Pipeline"),
        ("FunctionNode", "numpy", "fromfile"),
        ("FunctionNode", "os", "system"),
        ("MethodNode", "sklearn.pipeline", "Pipeline"),
        ("OperatorFuncNode", "operator", "methodcaller"),
        ("BytesNode", "builtins", "bytes"),
        ("ObjectNode", "sklearn.utils._mocking", "CheckingClassifier"),
    ],
)
def test_a_type_is_trusted_in_its_own_role_only(loader: str, module: str, name: str) -> None:
    node = {"__loader__": loader, "__module__": module, "__class__": name, "content": {}, "attrs": {}}
    schema = {
        "protocol": 2,
        "__loader__": "ListNode",
        "__module__": "builtins",
        "__class__": "list",
        "content": [node],
    }
    refused(zipped({"schema.json": json.dumps(schema).encode()}), f"Untrusted types .*{module}.{name}")


def test_randomly_changed_models_never_end_the_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", mutated_models.__name__, str(CHANGED_COPIES), "20240229"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    ends: collections.Counter[str] = collections.Counter()
    for each in json.loads(ran.stdout).values():
        ends.update(each)
    assert set(ends) <= mutated_models.HARMLESS
    assert ends.total() == CHANGED_COPIES
    assert ends["refused"] > CHANGED_COPIES / 4
