"""Answers of the protocol's routes: tensors, errors, the log, replays, and control of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from falcon_wsgi.errors import ModelControlRefused
from falcon_wsgi.http.protocol.binary import HEADER
from tests.unit.http.protocol.models import mixed_row, tensor
from tests.unit.http.protocol.site import NO_MASTER, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def texts(*values: str, **more: Any) -> dict[str, Any]:
    return {"inputs": [tensor("text", [len(values)], "BYTES", values)], **more}


def binary(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "parameters": {"binary_data": True}} for name in names]


def parts(answer: Any) -> tuple[dict[str, Any], bytes]:
    length = int(answer.headers[HEADER])
    return orjson.loads(answer.data[:length]), answer.data[length:]


def test_server_metadata_has_two_paths(site: Site) -> None:
    for path in ("/v2", "/v2/"):
        answer = site.client.get(path)
        assert answer.json["name"] == "falcon"
        assert answer.json["extensions"] == ["binary_tensor_data", "model_repository"]


def test_readiness_fails_where_the_instance_is_not_ready_and_liveness_does_not(site: Site) -> None:
    assert site.client.get("/v2/health/ready").json == {"ready": True, "live": True}
    assert site.client.get("/v2/models/tone/ready").json == {"name": "tone", "ready": True}
    site.ready = False
    for path in ("/v2/health/ready", "/v2/models/tone/ready"):
        answer = site.client.get(path)
        assert (answer.status_code, answer.json["error"]) == (503, site.condition)
        assert "Retry-After" in answer.headers
    assert site.client.get("/v2/health/live").json == {"live": True}


def test_model_metadata_is_the_signature_as_tensors(site: Site) -> None:
    found = site.client.get("/v2/models/mix/versions/1.2.3").json
    assert (found["name"], found["versions"], found["platform"]) == ("mix", ["1.2.3"], "sklearn_skops")
    optional = {"parameters": {"optional": True}}
    assert found["inputs"] == [
        {"name": "size", "datatype": "FP64", "shape": [-1, 1], **optional},
        {"name": "count", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "new", "datatype": "BOOL", "shape": [-1, 1]},
        {"name": "colour", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "grade", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "note", "datatype": "BYTES", "shape": [-1, 1], **optional},
    ]
    assert found["outputs"] == [{"name": "predict", "datatype": "BOOL", "shape": [-1, 1]}]
    assert site.client.get("/v2/models/tone").json["outputs"][1] == {
        "name": "predict_proba",
        "datatype": "FP64",
        "shape": [-1, 2],
        "parameters": {"labels": ["even", "odd"]},
    }
    assert site.client.get("/v2/models/tone/versions/9.9.9").status_code == 404


def test_an_answer_names_model_version_and_request_and_echoes_the_id(site: Site) -> None:
    answer = site.infer("tone", texts("a", "bb", id="my id"), X_Request_ID="r-1").json
    assert answer == {
        "model_name": "tone",
        "model_version": "1.2.3",
        "id": "my id",
        "parameters": {"request_id": "r-1", "cache_hits": 0},
        "outputs": [
            {
                "name": "predict",
                "datatype": "BYTES",
                "shape": [2, 1],
                "parameters": {"content_type": "str"},
                "data": ["odd", "even"],
            },
            {
                "name": "predict_proba",
                "datatype": "FP64",
                "shape": [2, 2],
                "parameters": {"content_type": "np"},
                "data": [0.25, 0.75, 0.75, 0.25],
            },
        ],
    }
    assert "id" not in site.infer("tone", texts("a")).json


def test_hits_are_counted_and_each_row_is_logged(site: Site) -> None:
    site.infer("tone", texts("a"))
    assert site.infer("tone", texts("b", "a", "a")).json["parameters"]["cache_hits"] == 2
    logged = site.rows.written[1:]
    assert [row["batch_index"] for row in logged] == [0, 1, 2]
    assert [row["cache_hit"] for row in logged] == [False, True, True]
    assert [(row["model"], row["prediction"], row["confidence"]) for row in logged] == [
        ("tone", "odd", 0.75)
    ] * 3


def test_a_refusal_is_logged_with_its_model(site: Site) -> None:
    assert site.infer("tone", texts(" ")).status_code == 422
    assert site.infer("unknown", texts("a")).status_code == 404
    first, second = site.rows.written
    assert (first["model"], first["error_type"]) == ("tone", "validation_failed")
    assert (second.get("model"), second["error_type"]) == (None, "unknown_model")


@pytest.mark.parametrize(
    ("model", "body", "name", "datatype", "raw"),
    [
        ("tone", texts("a", "bb"), "predict", "BYTES", b"\x03\0\0\0odd\x04\0\0\0even"),
        ("tone", texts("a"), "predict_proba", "FP64", np.array([0.25, 0.75]).tobytes()),
        ("mix", mixed_row(), "predict", "BOOL", b"\x01"),
        (
            "sum",
            {"inputs": [tensor("x", [1, 2], "INT8", [1, 2])]},
            "predict",
            "FP64",
            np.array([3.0]).tobytes(),
        ),
    ],
)
def test_outputs_as_binary_data(
    site: Site, model: str, body: dict[str, Any], name: str, datatype: str, raw: bytes
) -> None:
    answer = site.infer(model, {**body, "outputs": binary(name)})
    assert answer.content_type == "application/octet-stream"
    head, attached = parts(answer)
    (found,) = head["outputs"]
    assert (found["name"], found["datatype"], found["parameters"]) == (
        name,
        datatype,
        {"binary_data_size": len(raw)},
    )
    assert "data" not in found
    assert attached == raw


def test_one_answer_mixes_json_and_binary_data(site: Site) -> None:
    outputs = [{"name": "predict"}, *binary("predict_proba")]
    head, attached = parts(site.infer("tone", texts("a", outputs=outputs)))
    assert head["outputs"][0]["data"] == ["odd"]
    assert np.frombuffer(attached).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [{"name": "predict"}],
        [{"name": "predict_proba"}],
        binary("predict"),
        binary("predict_proba", "predict"),
        [{"name": "predict_proba"}, *binary("predict")],
    ],
    ids=str,
)
def test_a_replay_is_the_same_bytes_and_headers_and_is_logged_for_each_row(
    site: Site, outputs: list[Any]
) -> None:
    body = texts("a", "bb", id='}{"\u00e9"', outputs=outputs)
    first, second = (site.infer("tone", body, Idempotency_Key="k") for _ in range(2))
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.data == first.data
    for name in (HEADER, "Content-Type"):
        assert second.headers.get(name) == first.headers.get(name)
    logged = site.rows.written[2:]
    assert [(row["prediction"], row["idempotency_hit"]) for row in logged] == [("odd", True), ("even", True)]
    names = {output["name"] for output in outputs}
    told = 0.75 if not names or "predict_proba" in names else None
    assert [row["confidence"] for row in logged] == [told] * 2


def test_a_replay_of_a_number_is_logged_too(site: Site) -> None:
    body = {"inputs": [tensor("x", [1, 2], "INT8", [1, 2])]}
    for _ in range(2):
        assert site.infer("sum", body, Idempotency_Key="k").status_code == 200
    assert [row["prediction"] for row in site.rows.written] == ["3.0", "3.0"]


def test_a_key_used_with_other_options_is_refused(site: Site) -> None:
    assert site.infer("tone", texts("a"), Idempotency_Key="k").status_code == 200
    assert site.infer("tone", texts("a", id="2"), Idempotency_Key="k").status_code == 422
    assert site.infer("tone", texts("a"), "/versions/1.2.3", Idempotency_Key="k").status_code == 422


def test_the_index_shows_what_is_served_and_what_only_lies_in_the_store(site: Site) -> None:
    (site.store / "tone" / "2.0.0").mkdir(parents=True)
    whole = site.client.post("/v2/repository/index").json
    assert [(entry["name"], entry["version"], entry["state"]) for entry in whole] == [
        ("mix", "1.2.3", "READY"),
        ("sum", "1.2.3", "READY"),
        ("tone", "1.2.3", "READY"),
        ("tone", "2.0.0", "UNAVAILABLE"),
    ]
    ready = site.client.post("/v2/repository/index", json={"ready": True}).json
    assert {entry["state"] for entry in ready} == {"READY"}


@pytest.mark.parametrize(("body", "status"), [(b"[]", 422), (b"{", 400), (b'{"ready": 1}', 422)])
def test_an_index_request_that_is_none_is_refused(site: Site, body: bytes, status: int) -> None:
    assert site.client.post("/v2/repository/index", data=body).status_code == status


@pytest.mark.parametrize("action", ["load", "unload"])
def test_models_are_an_administrators_to_load_and_unload(site: Site, action: str) -> None:
    url = f"/v2/repository/models/tone/{action}"
    assert site.client.post(url).status_code == 403  # there are no keys
    site.keys = object()
    assert site.client.post(url).status_code == 403
    assert site.taken_over == []


@pytest.mark.parametrize(
    ("page", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_a_page_of_another_site_cannot_use_the_browsers_key(site: Site, page: str, status: int) -> None:
    site.keys, site.admin = object(), True
    answer = site.client.post("/v2/repository/models/tone/load", headers={"Sec-Fetch-Site": page})
    assert answer.status_code == status


def test_a_load_asks_the_instance_and_says_what_it_says(site: Site) -> None:
    site.keys, site.admin = object(), True
    url = "/v2/repository/models/tone/load"
    for body in (b"", b"{}", b'{"parameters": null}', b'{"parameters": {}}'):
        assert site.client.post(url, data=body).status_code == 200
    assert site.taken_over == ["tone"] * 4
    assert site.client.post(url, json={"parameters": {"config": "{}"}}).status_code == 400
    assert site.client.post(url, json={"parameters": [1]}).status_code == 422
    for error, status in ((ModelControlRefused("it is damaged"), 400), (NO_MASTER, 503)):
        site.refuses = error
        answer = site.client.post(url)
        assert (answer.status_code, answer.json["error"]) == (status, str(error))


def test_an_unload_is_refused_with_what_to_do(site: Site) -> None:
    site.keys, site.admin = object(), True
    answer = site.client.post("/v2/repository/models/tone/unload")
    assert answer.status_code == 400
    assert "remove the model from the store" in answer.json["error"]
    assert site.client.post("/v2/repository/models/unknown/unload").status_code == 404
