"""Which inputs that one version accepts another one would refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from falcon_wsgi.models.manifest import Manifest

_Dumped = Mapping[str, Any]

# These say nothing about which inputs are accepted: `input` and `dtype` are of the model's side.
_SILENT = {"name", "description", "dtype", "input"}
_LOWER_IS_WIDER = {"minimum", "min_length"}
_HIGHER_IS_WIDER = {"maximum", "max_length"}


def narrowings(old: Manifest, new: Manifest) -> list[str]:
    """In what `new` accepts less than `old`, a phrase each; empty if it takes all that `old` takes."""
    if old.kind != new.kind:
        return [f"its kind is {new.kind}, not {old.kind}"]
    return list(_of_signature(old.signature.model_dump(mode="json"), new.signature.model_dump(mode="json")))


def _of_signature(old: _Dumped, new: _Dumped) -> Iterator[str]:
    fields = {field["name"]: field for field in new.get("fields", ())}
    known = {field["name"]: field for field in old.get("fields", ())}
    for name, field in known.items():
        if name in fields:
            yield from _of_rules(field, fields[name], f"{name}: ")
        else:
            yield f"{name} is no longer a field"
    for name, field in fields.items():
        if name not in known and not field.get("nullable"):
            yield f"{name} is a new field that has to be given"
    yield from _of_rules({**old, "fields": None}, {**new, "fields": None}, "")


def _of_rules(old: _Dumped, new: _Dumped, where: str) -> Iterator[str]:
    """The rules of a field, or of a text."""
    if old.get("type") != new.get("type") and (old.get("type"), new.get("type")) != ("integer", "number"):
        yield f"{where}its type is {new.get('type')}, not {old.get('type')}"
        return
    for rule in sorted((old.keys() | new.keys()) - _SILENT - {"type"}):
        before, after = old.get(rule), new.get(rule)
        if before != after and not _widens(rule, before, after):
            yield f"{where}{rule} is {_brief(after)}, not {_brief(before)}"


def _widens(rule: str, before: Any, after: Any) -> bool:
    if rule == "nullable":
        return bool(after)
    if rule == "categories":
        return set(before) <= set(after)
    if after is None or before is None:  # no bound accepts more than any
        return after is None and rule in _LOWER_IS_WIDER | _HIGHER_IS_WIDER
    if rule in _LOWER_IS_WIDER:
        return bool(after < before)
    return rule in _HIGHER_IS_WIDER and bool(after > before)


def _brief(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
