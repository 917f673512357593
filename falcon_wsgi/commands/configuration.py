"""`falcon config`, and docs/SETTINGS.md."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from falcon_wsgi import resources
from falcon_wsgi import settings as configuration
from falcon_wsgi.settings import Settings, VersionShare

_TYPES = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "URL",
    tuple: "networks, comma-separated",
    VersionShare: "versions with shares",
}
_BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}

_PREAMBLE = """# Settings

Read once at the start from the environment, or from a file `.env` in the current folder; a variable that is
set wins over the file, an empty one counts as not set. A value that is not accepted stops the start with one
line that names the variable. `falcon config` shows what is in effect.

This page is written by `make docs` from `falcon_wsgi/settings.py`; a test fails if it is out of date.

| variable | accepts | default | meaning |
|---|---|---|---|
"""


def rendered(form: str | None) -> str:
    """The effective settings as text or JSON, or the reference of all of them as Markdown."""
    if form == "markdown":
        return _PREAMBLE + "\n".join(_row(name, field) for name, field in Settings.model_fields.items())
    shown = configuration.load().masked()
    if form == "json":
        return json.dumps(shown, indent=2)
    width = max(map(len, shown))
    return "\n".join(f"{name:<{width}}  {_plain(value)}" for name, value in shown.items())


def _plain(value: Any) -> str:
    if value is None:
        return "(not set)"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name.upper()}`", _accepted(field), _default(name, field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _accepted(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    plain = VersionShare if VersionShare in get_args(kind) else get_origin(kind) or kind
    text = _TYPES[plain] if isinstance(plain, type) and plain in _TYPES else str(plain)
    bounds = [
        words.format(getattr(rule, bound))
        for rule in field.metadata
        for bound, words in _BOUNDS.items()
        if hasattr(rule, bound)
    ]
    return " ".join([text, *bounds])


def _default(name: str, field: FieldInfo) -> str:
    """The default as the same text on every machine: not this one's cores or folders."""
    if name == "workers":
        return "usable cores"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == ():
        return "not set"
    if isinstance(value, Path) and value.is_relative_to(resources.ROOT):
        return f"`{value.relative_to(resources.ROOT)}` in a checkout"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return f"`{_plain(value)}`"
