"""Versions that are never loaded, for tests of the store itself."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from falcon_wsgi.models.manifest import MODEL_FILE, GoldenExample, Manifest, StoredFile
from falcon_wsgi.models.signature import TextSignature
from falcon_wsgi.models.store import ModelStore


def manifest(version: str, contents: bytes = b"a model", name: str = "toy", **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "format": 1,
        "name": name,
        "version": version,
        "kind": "text_classification",
        "signature": TextSignature(),
        "labels": ("a", "b"),
        "files": {MODEL_FILE: StoredFile(sha256=hashlib.sha256(contents).hexdigest(), bytes=len(contents))},
        "libraries": {},
        "trained_at": datetime(2026, 1, 1, tzinfo=UTC),
        "metrics": {},
        "data": {},
        "golden": (GoldenExample(input="x", prediction="a", probabilities={"a": 1.0, "b": 0.0}),),
    }
    return Manifest(**(fields | changes))


def store_with(root: Path, *versions: str, **changes: Any) -> ModelStore:
    """A store with these versions of `toy`."""
    store = ModelStore(root)
    for version in versions:
        store.write(manifest(version, **changes), {MODEL_FILE: b"a model"})
    return store
