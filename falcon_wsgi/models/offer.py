"""Files of a model, its signature and its examples, as a user hands them over: read, checked, explained.

Faults name the file and, where there is one, the place in it as a JSON pointer (RFC 6901).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from falcon_wsgi.errors import CandidateInvalid
from falcon_wsgi.models.forms import form_of, issues_of, pointer_step
from falcon_wsgi.models.prediction import Label
from falcon_wsgi.models.signature import Signature, TabularSignature, TextSignature

_PARTS = frozenset({"input", "prediction", "probabilities"})
_SIGNATURE: TypeAdapter[TextSignature | TabularSignature] = TypeAdapter(Signature)


@dataclass(frozen=True, slots=True)
class Expectation:
    """One example: an input, and the answer that the user expects, as far as it is given.

    Attributes:
        where: file and pointer, for messages.
    """

    input: Any
    where: str
    prediction: Any = None
    probabilities: dict[str, float] | None = None


def contents(path: Path) -> bytes:
    """Raises CandidateInvalid where the file cannot be read, or is empty."""
    try:
        found = path.read_bytes()
    except OSError as error:
        raise CandidateInvalid(f"{path.name} cannot be read: {error.strerror}") from None
    if not found:
        raise CandidateInvalid(f"{path.name} is empty")
    return found


def signature(path: Path) -> TextSignature | TabularSignature:
    """Raises CandidateInvalid."""
    return parsed(_json(path), path.name)


def parsed(raw: Any, called: str) -> TextSignature | TabularSignature:
    """A signature from decoded JSON, or as it is. Raises CandidateInvalid, which calls the document `called`."""
    if isinstance(raw, TextSignature | TabularSignature):
        return raw
    try:
        return _SIGNATURE.validate_json(json.dumps(raw), strict=True)
    except TypeError as error:
        raise CandidateInvalid(f"{called} is not of JSON's types: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        pointer = _pointer(raw, first["loc"], first["type"])
        message = first["msg"].removeprefix("Value error, ")
        raise CandidateInvalid(f"{_where(called, pointer)}: {message}") from None


def examples(path: Path, described: TextSignature | TabularSignature) -> list[Expectation]:
    """One example, or a list of them. Raises CandidateInvalid."""
    raw = _json(path)
    several = isinstance(raw, list)
    if several and not raw:
        raise CandidateInvalid(f"{path.name}: there must be at least one example")
    form = form_of(described)
    found = []
    for i, each in enumerate(raw if several else [raw]):
        at = f"/{i}" if several else ""
        wrapped = isinstance(each, dict) and "input" in each and each.keys() <= _PARTS
        expected = _expectation(each, path, at) if wrapped else Expectation(each, _where(path.name, at))
        try:
            form.validate(expected.input)
        except ValidationError as error:
            issue = issues_of(error.errors(include_url=False), f"{at}/input" if wrapped else at)[0]
            raise CandidateInvalid(f"{_where(path.name, issue['pointer'])}: {issue['message']}") from None
        found.append(expected)
    return found


def labels(text: str | None) -> tuple[Label, ...] | None:
    """From the value of `--labels`. Raises CandidateInvalid."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(label, bool | int | str) for label in found):
        raise CandidateInvalid(
            '--labels: give a JSON array of texts, whole numbers, or true and false: ["no", "yes"]'
        )
    return tuple(found)


def _where(called: str, pointer: str) -> str:
    return f"{called}: {pointer}" if pointer else called


def _expectation(each: dict[str, Any], path: Path, at: str) -> Expectation:
    prediction, probabilities = each.get("prediction"), each.get("probabilities")
    if not isinstance(prediction, bool | int | float | str | None):
        raise CandidateInvalid(
            f"{path.name}: {at}/prediction: Input should be a number, a text, true or false"
        )
    if probabilities is not None and not _are_probabilities(probabilities):
        raise CandidateInvalid(
            f"{path.name}: {at}/probabilities: Input should be an object of numbers by class"
        )
    if probabilities is not None and prediction is None:
        raise CandidateInvalid(f"{path.name}: {at}/prediction: Field required where there are probabilities")
    return Expectation(each["input"], _where(path.name, at), prediction, probabilities)


def _are_probabilities(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(p, int | float) and not isinstance(p, bool) for p in value.values()
    )


def _json(path: Path) -> Any:
    text = contents(path)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise CandidateInvalid(
            f"{path.name} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CandidateInvalid(f"{path.name} is not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON; leave the field out, or send null, if it is missing")


def _pointer(raw: Any, places: Sequence[int | str], kind: str) -> str:
    """Where in the document it is; pydantic's places also name the types that it tried."""
    node, found = raw, ""
    for i, part in enumerate(places):
        last = i == len(places) - 1
        if isinstance(node, dict) and part in node:
            node = node[str(part)]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif not (last and kind == "missing"):
            continue
        found += pointer_step(part)
    return f"{found}/type" if kind.startswith("union_tag") else found
