"""The Open Inference Protocol's routes. `infer` has a path of its own for each model: each takes other tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from falcon_wsgi.http.openapi.facts import Facts
from falcon_wsgi.http.openapi.inference import STATUSES, answer_headers, request_headers
from falcon_wsgi.http.openapi.inputs import MAX_EXAMPLES, Described
from falcon_wsgi.http.openapi.parts import Json, json_content, parameter, problems, ref, response
from falcon_wsgi.http.protocol import binary
from falcon_wsgi.http.protocol.inputs import TEXT_INPUT, described
from falcon_wsgi.models.signature import NumberField, TextSignature

_TAG = "Open Inference Protocol"
_BODY_STATUSES = (400, 408, 413, 415, 422)
_BINARY = "application/octet-stream"


def paths(facts: Facts) -> Json:
    models = facts.models
    return {
        "/v2": _get("serverMetadata", "The server and its extensions", "ServerMetadata"),
        "/v2/": _get("serverMetadataSlash", "The same, as some clients ask for it", "ServerMetadata"),
        "/v2/health/live": _get("serverLive", "Whether the server is alive", "Live"),
        "/v2/health/ready": _get("serverReady", "Whether the server is ready", "Ready", 503),
        **_about_models(models, "/v2/models/{name}", "", [_name(models)]),
        **_about_models(
            models, "/v2/models/{name}/versions/{version}", "Version", [_name(models), _version(models)]
        ),
        **{path: operation for model in models for path, operation in _infer_paths(facts, model).items()},
        **_repository(models),
    }


def _about_models(models: Sequence[Described], base: str, suffix: str, parameters: list[Json]) -> Json:
    """Metadata and readiness of a model, by a path with or without a version."""
    about = _get(f"model{suffix}Metadata", "The model's tensors", "ModelMetadata", 404, parameters=parameters)
    ready = _get(
        f"model{suffix}Ready", "Whether the model is ready", "ModelReady", 404, 503, parameters=parameters
    )
    return {base: about, f"{base}/ready": ready}


def _infer_paths(facts: Facts, model: Described) -> Json:
    version = model.manifest.version
    return {
        f"/v2/models/{model.name}/infer": _infer(facts, model, f"infer_{model.name}", model.name),
        f"/v2/models/{model.name}/versions/{version}/infer": _infer(
            facts, model, f"infer_{model.name}_{version}", f"{model.name} {version}"
        ),
    }


def _infer(facts: Facts, model: Described, operation_id: str, title: str) -> Json:
    length = parameter(
        binary.HEADER,
        "header",
        "Length of the JSON part in bytes, where binary data follows it.",
        pattern="^[0-9]{1,10}$",
    )
    answer = json_content(ref("schemas", "InferenceAnswer")) | {_BINARY: {"schema": {}}}
    body = {
        **json_content(ref("schemas", "InferenceBody"), examples=_examples(model)),
        _BINARY: {"schema": {}},
    }
    return {
        "post": {
            "tags": [_TAG],
            "operationId": operation_id.replace("-", "_").replace(".", "_"),
            "summary": f"Predict with {title}",
            "description": _shape_rules(model),
            "parameters": [*request_headers(facts), length],
            "requestBody": {"required": True, "content": body},
            "responses": {
                "200": response(
                    "The requested outputs; all of them by default.",
                    answer,
                    *answer_headers(facts),
                    binary.HEADER,
                ),
                **problems(*STATUSES),
            },
        }
    }


def _shape_rules(model: Described) -> str:
    if isinstance(model.manifest.signature, TextSignature):
        what = "One BYTES tensor of the shape [rows] or [rows, 1]."
    else:
        what = (
            "A tensor of the shape [rows] or [rows, 1] for each field, under the field's name, or one tensor of the "
            "shape [rows, fields] with the fields in the order of the model's metadata."
        )
    return f"{what} At most 1000 rows. Tensors may follow the JSON part as binary data."


def _examples(model: Described) -> Json:
    manifest = model.manifest
    golden = manifest.golden[0].input
    shown = {model.name: {"summary": f"{model.name}: one row", "value": {"inputs": _tensors(model, golden)}}}
    if isinstance(manifest.signature, TextSignature):
        texts = [example.input for example in manifest.golden[:MAX_EXAMPLES]]
        several = {
            "id": "42",
            "inputs": [{"name": TEXT_INPUT, "datatype": "BYTES", "shape": [len(texts), 1], "data": texts}],
            "outputs": [{"name": "predict"}],
        }
        shown[f"{model.name}.rows"] = {"summary": f"{model.name}: several rows, one output", "value": several}
    elif len(manifest.signature.fields) > 1 and all(
        isinstance(field, NumberField) and not field.nullable for field in manifest.signature.fields
    ):
        rows = [
            [example.input[n] for n in manifest.signature.names] for example in manifest.golden[:MAX_EXAMPLES]
        ]
        shape = [len(rows), len(manifest.signature.fields)]
        matrix = {"inputs": [{"name": "rows", "datatype": "FP64", "shape": shape, "data": rows}]}
        shown[f"{model.name}.rows"] = {
            "summary": f"{model.name}: several rows as one tensor",
            "value": matrix,
        }
    return shown


def _tensors(model: Described, golden: Any) -> list[Json]:
    """One row, as a tensor for each input of the model's metadata. null is a missing value."""
    values = {TEXT_INPUT: golden} if isinstance(golden, str) else golden
    return [
        {
            "name": tensor["name"],
            "datatype": tensor["datatype"],
            "shape": [1, 1],
            "data": [values.get(tensor["name"])],
        }
        for tensor in described(model.manifest)
    ]


def _repository(models: Sequence[Described]) -> Json:
    index = _post("repositoryIndex", "The versions there are", "RepositoryIndex", *_BODY_STATUSES)
    index["post"]["requestBody"] = {
        "content": json_content(
            {
                "type": "object",
                "properties": {"ready": {"type": "boolean", "description": "Only those that are served."}},
            }
        )
    }
    control = (*_BODY_STATUSES, 403, 404, 500, 503, 504)
    body = {"content": json_content({"type": "object", "properties": {"parameters": {"type": "object"}}})}
    found = {"/v2/repository/index": index}
    for action, summary in (
        ("load", "Serve the versions that the store holds now; with an administrator's key"),
        ("unload", "Always refused: an instance serves every model of its store"),
    ):
        operation = _post(f"repository{action.capitalize()}", summary, "Done", *control)
        operation["post"] |= {"parameters": [_name(models)], "requestBody": body}
        if action == "unload":
            del operation["post"]["responses"]["200"]
        found[f"/v2/repository/models/{{name}}/{action}"] = operation
    return found


def _name(models: Sequence[Described]) -> Json:
    names = {"enum": [model.name for model in models]} if models else {}
    return parameter("name", "path", "The model.", **names) | {"required": True}


def _version(models: Sequence[Described]) -> Json:
    """With several models, a version that one of them has may be 404 for another."""
    versions = sorted({model.manifest.version for model in models})
    return parameter("version", "path", "The version.", **({"enum": versions} if versions else {})) | {
        "required": True
    }


def _get(operation_id: str, summary: str, schema: str, *statuses: int, **more: Any) -> Json:
    return {"get": _operation(operation_id, summary, schema, *statuses, **more)}


def _post(operation_id: str, summary: str, schema: str, *statuses: int) -> Json:
    return {"post": _operation(operation_id, summary, schema, *statuses)}


def _operation(operation_id: str, summary: str, schema: str, *statuses: int, **more: Any) -> Json:
    answer = response(f"{summary}.", json_content(ref("schemas", schema)))
    responses = dict(sorted({"200": answer, **problems(*statuses)}.items()))
    return {"tags": [_TAG], "operationId": operation_id, "summary": summary, **more, "responses": responses}
